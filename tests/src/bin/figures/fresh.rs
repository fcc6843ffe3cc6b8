//! An instance dies or turns sick: how long until no DNS server names it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, PATIENCE, kill9, processes_in, text};
use dunlin_tests::wait::until;

use crate::calm;
use crate::report::Figure;

/// Nodes, and replicas of the service.
const NODES: usize = 5;
/// Between two looks.
const LOOK: Duration = Duration::from_millis(2);
/// A run that ends in its first seconds counts as a failed start, whose repetition is slowed down.
const WELL: Duration = Duration::from_secs(6);
/// Of the health check: how often it is made. One that fails is enough.
const INTERVAL: Duration = Duration::from_millis(100);

/// Each replica serves only a second after its start, so that one that is restarted is not back before it was missed; and it
/// is sick while there is a file of its node's name.
fn compose(folder: &str) -> String {
    format!(
        "services:
  web:
    command: [sh, -c, 'sleep 1; exec ${{DUNLIN}} hello']
    ports: [{{target: 8080, name: http}}]
    stop_grace_period: 2s
    healthcheck:
      test: [CMD-SHELL, 'test ! -e {folder}/$$DUNLIN_NODE && test -e /proc/net/tcp && grep -qi \":$$(printf %04X $$PORT) .* 0A \" /proc/net/tcp']
      interval: {}ms
      timeout: 2s
      retries: 1
    deploy:
      mode: global
      resources: {{reservations: {{cpus: '0.05', memory: 8M}}}}
",
        INTERVAL.as_millis()
    )
}

/// Kills a process, and makes a health check fail, so many times each.
pub(crate) fn figures(runs: usize) -> [Figure; 2] {
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::start(5);
    let deployed = cluster.deploy(0, &compose(&folder.path().display().to_string()), &["--wait"]);
    assert!(deployed.status.success(), "{}", text(&deployed.stderr));
    let (mut killed, mut sick) = (Vec::new(), Vec::new());
    for run in 0..runs {
        let n = run % NODES;
        let victim = all_ready(&cluster, n);
        let process = serving(&cluster, n, victim);
        let start = Instant::now();
        kill9(process);
        killed.push(gone(&cluster, victim, start));
        let victim = all_ready(&cluster, n);
        let file = folder.path().join(&cluster.nodes[n].name);
        let start = Instant::now();
        std::fs::write(&file, "").expect("a file");
        sick.push(gone(&cluster, victim, start));
        std::fs::remove_file(&file).expect("it was there");
    }
    [
        Figure::new("kill -9 of a process: gone from all DNS", "s", [None, Some(0.5)], killed),
        Figure::new(
            "a check each 0.1 s would fail from now on: gone from all DNS",
            "s",
            [None, Some(0.5 + INTERVAL.as_secs_f64())],
            sick,
        ),
    ]
}

/// Waits until every server names all, and gives the instance of a node.
fn all_ready(cluster: &Cluster, n: usize) -> SocketAddr {
    let found = |n: usize| -> Result<BTreeSet<SocketAddr>, String> {
        ask::instances(ask::server(cluster, n), "web").map(BTreeSet::from_iter).map_err(|error| error.to_string())
    };
    let instances = until("every server to name all", PATIENCE, || {
        let all = (0..NODES).map(found).collect::<Result<Vec<_>, _>>()?;
        if all.iter().all(|found| found.len() == NODES) { Ok(all[0].clone()) } else { Err(format!("{all:?}")) }
    });
    calm(WELL);
    let address = cluster.nodes[n].address;
    instances.into_iter().find(|instance| instance.ip() == address).expect("an instance of the node")
}

/// The process of a node's workload that serves there.
fn serving(cluster: &Cluster, n: usize, at: SocketAddr) -> u32 {
    let port = format!("PORT={}", at.port());
    let serves = |pid: &u32| {
        let read = |file: &str| text(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
        read("cmdline").split('\0').nth(1) == Some("hello") && read("environ").split('\0').any(|v| v == port)
    };
    processes_in(&cluster.nodes[n].dir).into_iter().find(serves).expect("the workload's process")
}

/// Seconds until none of all servers names it; infinite if one does for ever.
fn gone(cluster: &Cluster, victim: SocketAddr, start: Instant) -> f64 {
    let mut naming: Vec<usize> = (0..NODES).collect();
    while start.elapsed() < PATIENCE {
        naming
            .retain(|n| ask::instances(ask::server(cluster, *n), "web").map_or(true, |found| found.contains(&victim)));
        if naming.is_empty() {
            return start.elapsed().as_secs_f64();
        }
        calm(LOOK);
    }
    f64::INFINITY
}
