//! A node dies or is cut off: how long until its replicas are healthy elsewhere, and until no DNS server names it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::{Duration, Instant};

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, PATIENCE, processes_in, text};
use dunlin_tests::wait::until;
use dunlin_tests::web;

use crate::calm;
use crate::report::Figure;

/// Nodes, and replicas of the service.
const NODES: u8 = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// Steady state before each fault.
const CALM: Duration = Duration::from_secs(3);

/// A cluster in which so many replicas are ready.
pub(crate) fn ready_cluster(replicas: usize, network: bool) -> Cluster {
    let cluster = if network { Cluster::start_on_network(NODES) } else { Cluster::start(NODES) };
    let deployed = cluster.deploy(0, &web::compose(replicas), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    cluster
}

/// Kills (or with `silence` cuts off) a busy node, so many times.
pub(crate) fn figures(runs: usize, silence: bool) -> [Figure; 2] {
    let mut cluster = ready_cluster(usize::from(NODES), silence);
    let (mut healthy, mut names) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (whole, dead) = round(&mut cluster, silence);
        healthy.push(whole);
        names.push(dead);
    }
    let (how, goals_healthy, goals_names) = if silence {
        ("a node is cut off", [Some(4.0), Some(7.0)], [Some(3.0), Some(7.0)])
    } else {
        ("kill -9 of all of a node", [Some(2.0), Some(4.0)], [Some(1.5), Some(4.0)])
    };
    [
        Figure::new(&format!("{how}: all replicas healthy elsewhere"), "s", goals_healthy, healthy),
        Figure::new(&format!("{how}: its address gone from all DNS"), "s", goals_names, names),
    ]
}

/// One fault and its repair; seconds to healthy and to gone from DNS, infinite if that did not happen in time.
fn round(cluster: &mut Cluster, silence: bool) -> (f64, f64) {
    let rows = until("all replicas", PATIENCE, || {
        let rows = ask::ready(cluster, 0, "")?;
        if rows.len() == usize::from(NODES) { Ok(rows) } else { Err(format!("{} ready", rows.len())) }
    });
    let all = usize::from(NODES);
    let victim = (1..all).find(|n| rows.iter().any(|r| r["node"] == cluster.nodes[*n].name)).expect("a busy node");
    let others: Vec<usize> = (0..all).filter(|n| *n != victim).collect();
    calm(CALM);
    let death = Instant::now();
    if silence {
        cluster.network.as_ref().expect("a network").cut(&others, &[victim]);
    } else {
        kill_at_once(&processes_in(&cluster.nodes[victim].dir));
    }
    let result = watch(cluster, victim, &others, death);
    if silence {
        cluster.network.as_ref().expect("a network").heal();
    } else {
        cluster.kill_node(victim);
        cluster.start_agent(victim);
    }
    cluster.wait_for_all_alive();
    result
}

fn watch(cluster: &Cluster, victim: usize, others: &[usize], death: Instant) -> (f64, f64) {
    let (name, address): (_, Ipv4Addr) = (&cluster.nodes[victim].name, cluster.nodes[victim].address);
    let is_gone =
        |n: &usize| ask::addresses(ask::server(cluster, *n), "web").is_ok_and(|found| !found.contains(&address));
    let (mut dead, mut whole) = (None, None);
    while (dead.is_none() || whole.is_none()) && death.elapsed() < PATIENCE {
        if dead.is_none() && others.iter().all(is_gone) {
            dead = Some(death.elapsed());
        }
        if whole.is_none() && ask::ready(cluster, 0, name).is_ok_and(|rows| rows.len() == usize::from(NODES)) {
            whole = Some(death.elapsed());
        }
        calm(LOOK);
    }
    let seconds = |time: Option<Duration>| time.map_or(f64::INFINITY, |t| t.as_secs_f64());
    (seconds(whole), seconds(dead))
}

/// One command for all, so that they die together.
fn kill_at_once(processes: &[u32]) {
    let status = Command::new("kill").arg("-9").args(processes.iter().map(ToString::to_string)).status();
    assert!(status.is_ok(), "kill: {status:?}");
}
