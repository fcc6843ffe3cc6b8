//! What an agent costs that has nothing to do: memory, processor, wake-ups, traffic. And what a keeper costs.

use std::time::{Duration, Instant};

use dunlin_tests::ask;
use dunlin_tests::cluster::{Cluster, processes_in, text};

use crate::calm;
use crate::failover::ready_cluster;
use crate::report::Figure;

/// Until the flock has settled.
const SETTLE: Duration = Duration::from_secs(20);
/// The time measured.
const SPAN: Duration = Duration::from_secs(60);
/// Clock ticks a second of `/proc/PID/stat`: the kernel's interface to programs has 100 on every architecture.
pub(crate) const TICKS: f64 = 100.0;

/// Counters of one agent.
struct Count {
    ticks: f64,
    switches: f64,
    sent: f64,
}

pub(crate) fn status_line(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
}

/// User and system time of all threads.
pub(crate) fn ticks(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|word| word.parse::<f64>().ok()).sum()
}

/// Voluntary switches of all threads: how often they woke up.
fn switches(pid: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let ids = threads.filter_map(|thread| thread.file_name().to_str()?.parse().ok());
    ids.map(|thread| status_line(thread, "voluntary_ctxt_switches")).sum()
}

fn count(cluster: &Cluster, n: usize) -> Count {
    let pid = cluster.nodes[n].pid().expect("an agent");
    let status = ask::agent(cluster, n, "status").unwrap_or_default();
    let sent = status["network"]["bytes_sent"].as_f64().unwrap_or(f64::NAN);
    Count { ticks: ticks(pid), switches: switches(pid), sent }
}

/// Five idle agents, each a sample.
pub(crate) fn figures() -> Vec<Figure> {
    let cluster = Cluster::start(5);
    calm(SETTLE);
    let start = Instant::now();
    let before: Vec<Count> = (0..5).map(|n| count(&cluster, n)).collect();
    calm(SPAN);
    let seconds = start.elapsed().as_secs_f64();
    let after: Vec<Count> = (0..5).map(|n| count(&cluster, n)).collect();
    let rate = |of: fn(&Count) -> f64| -> Vec<f64> {
        before.iter().zip(&after).map(|(b, a)| (of(a) - of(b)) / seconds).collect()
    };
    let resident = |key: &str| -> Vec<f64> {
        cluster.nodes.iter().filter_map(|n| n.pid()).map(|pid| status_line(pid, key) / 1_024.0).collect()
    };
    let idle = |what: &str| format!("idle agent of five: {what}");
    let cpu = rate(|c| c.ticks).into_iter().map(|per_second| per_second / TICKS * 100.0).collect();
    vec![
        Figure::new(&idle("resident"), "MiB", [Some(25.0), None], resident("VmRSS")),
        Figure::new(&idle("of that its own (not the program's file)"), "MiB", [None, None], resident("RssAnon")),
        Figure::new(&idle("processor"), "% of a core", [Some(0.3), None], cpu),
        Figure::new(&idle("wake-ups"), "1/s", [None, None], rate(|c| c.switches)),
        Figure::new(&idle("sent"), "bytes/s", [Some(600.0), None], rate(|c| c.sent)),
        keepers(),
    ]
}

/// Keepers of running workloads.
fn keepers() -> Figure {
    let cluster = ready_cluster(5, false);
    let is_keeper = |pid: &u32| {
        text(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).split('\0').nth(1) == Some("keep")
    };
    let all = cluster.nodes.iter().flat_map(|node| processes_in(&node.dir)).filter(is_keeper);
    let resident = all.map(|pid| status_line(pid, "VmRSS") / 1_024.0).collect();
    Figure::new("a keeper: resident", "MiB", [Some(2.0), None], resident)
}
