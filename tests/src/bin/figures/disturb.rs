//! Small disturbances: a deploy, a killed process, an agent that is killed and comes back.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, PATIENCE, kill9, processes_in, text};
use dunlin_tests::wait::until;
use dunlin_tests::web;
use serde_json::Value;

use crate::calm;
use crate::failover::ready_cluster;
use crate::report::Figure;

/// Replicas of the deploy.
const MANY: usize = 20;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// How long a killed agent is away.
const AWAY: Duration = Duration::from_millis(400);
/// A run that ends in its first seconds counts as a failed start, whose repetition is slowed down.
const WELL: Duration = Duration::from_secs(6);

/// Deploys of twenty replicas on five nodes, and killed processes.
pub(crate) fn deploy_and_process(runs: usize) -> [Figure; 2] {
    let cluster = Cluster::start(5);
    let (mut deploys, mut restarts) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let start = Instant::now();
        let deployed = cluster.deploy(0, &web::compose(MANY), &[]);
        assert!(deployed.status.success(), "{}", text(&deployed.stderr));
        until_running(&cluster);
        deploys.push(start.elapsed().as_secs_f64());
        restarts.push(one_process(&cluster));
        assert!(cluster.nodes[0].run(&["rm", "shop"]).status.success());
        until("nothing to run", PATIENCE, || {
            let rows = ask::agent(&cluster, 0, "allocations")?;
            if rows.as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(rows.to_string()) }
        });
    }
    [
        Figure::new("deploy of 20 replicas to 5 nodes: all running", "s", [Some(0.5), None], deploys),
        Figure::new("kill -9 of a process: running again", "s", [Some(0.15), None], restarts),
    ]
}

fn until_running(cluster: &Cluster) {
    let start = Instant::now();
    loop {
        let rows = ask::agent(cluster, 0, "allocations").unwrap_or_default();
        let up = |row: &&Value| matches!(row["phase"].as_str(), Some("running" | "healthy"));
        if rows.as_array().into_iter().flatten().filter(up).count() == MANY {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not all run: {rows}");
        calm(LOOK);
    }
}

/// Kills one workload and waits until its port answers again.
fn one_process(cluster: &Cluster) -> f64 {
    let rows = until("all to be healthy", PATIENCE, || {
        let rows = ask::ready(cluster, 0, "")?;
        if rows.len() == MANY { Ok(rows) } else { Err(format!("{} are", rows.len())) }
    });
    calm(WELL);
    let row = rows.iter().find(|r| r["node"] == cluster.nodes[0].name).expect("a replica on the first node");
    let target = ask::endpoint(row).expect("an endpoint");
    let port = format!("PORT={}", target.port());
    let serves = |pid: &u32| {
        let read = |file: &str| text(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
        read("cmdline").split('\0').nth(1) == Some("hello") && read("environ").split('\0').any(|v| v == port)
    };
    let process = processes_in(&cluster.nodes[0].dir).into_iter().find(serves).expect("the workload's process");
    let start = Instant::now();
    kill9(process);
    loop {
        if ask::workload(target).is_ok() {
            return start.elapsed().as_secs_f64();
        }
        assert!(start.elapsed() < PATIENCE, "{target} does not answer again");
        calm(LOOK);
    }
}

/// What a client of the service counts.
#[derive(Default)]
struct Client {
    stop: AtomicBool,
    sent: AtomicU32,
    lost: AtomicU32,
}

impl Client {
    /// Resolves as a host with two name servers does, and asks each instance, without pause.
    fn run(&self, servers: &[SocketAddr]) {
        for (first, second) in servers.iter().zip(servers.iter().cycle().skip(1)).cycle() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let found = ask::instances(*first, "web").or_else(|_| ask::instances(*second, "web")).unwrap_or_default();
            if found.is_empty() {
                self.count(false);
            }
            found.into_iter().for_each(|target| self.count(ask::workload(target).is_ok()));
            calm(LOOK);
        }
    }

    fn count(&self, is_well: bool) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        self.lost.fetch_add(u32::from(!is_well), Ordering::Relaxed);
    }
}

/// An agent is killed and comes back within half a second, under requests.
pub(crate) fn agent_restart(runs: usize) -> [Figure; 2] {
    let mut cluster = ready_cluster(5, false);
    let before = owners(&cluster);
    let servers: Vec<SocketAddr> = (0..5).map(|n| ask::server(&cluster, n)).collect();
    let client = Arc::new(Client::default());
    let asking = std::thread::spawn({
        let client = Arc::clone(&client);
        move || client.run(&servers)
    });
    let (mut moved, mut lost) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let lost_before = client.lost.load(Ordering::Relaxed);
        cluster.kill_agent(1);
        calm(AWAY);
        cluster.start_agent(1);
        cluster.wait_for_all_alive();
        calm(Duration::from_secs(3));
        moved.push(f64::from(u32::try_from(before.difference(&owners(&cluster)).count()).unwrap_or(u32::MAX)));
        lost.push(f64::from(client.lost.load(Ordering::Relaxed) - lost_before));
    }
    client.stop.store(true, Ordering::Relaxed);
    asking.join().expect("the client");
    let sent = client.sent.load(Ordering::Relaxed);
    let none = [Some(0.0), Some(0.0)];
    [
        Figure::new("kill -9 of an agent, back after 0.4 s: replicas moved", "replicas", none, moved),
        Figure::new(&format!("the same: requests lost (of {sent} in all)"), "requests", none, lost),
    ]
}

fn owners(cluster: &Cluster) -> BTreeSet<String> {
    let rows = ask::agent(cluster, 0, "allocations").unwrap_or_default();
    rows.as_array().into_iter().flatten().map(|r| format!("{} {}", r["replica"], r["id"])).collect()
}
