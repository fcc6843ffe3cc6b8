//! What is measured: for each row a scenario, and what of its outcome counts.
//!
//! Never: a scenario that is drawn; equal code must give equal figures, so that a difference means something.

use std::fmt::Write as _;

use crate::report::json::Outcome;

/// One row: a world, and what is read off it.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Of so many hosts.
    pub(super) scenario: fn(u32) -> String,
    pub(super) read: fn(&Outcome) -> Vec<Reading>,
}

/// One figure of an outcome.
pub(super) struct Reading {
    pub(super) name: &'static str,
    pub(super) value: Option<f64>,
    /// The goal: at most this.
    pub(super) most: Option<f64>,
}

fn reading(name: &'static str, value: Option<f64>, most: Option<f64>) -> Reading {
    Reading { name, value, most }
}

#[expect(clippy::cast_precision_loss, reason = "counts and bytes of a run are far below 2^52")]
fn count(name: &'static str, value: u64, most: Option<f64>) -> Reading {
    reading(name, Some(value as f64), most)
}

/// One to five milliseconds one way.
const NEAR: &str = "latency: [1ms, 2ms, 3ms, 4ms, 5ms]";
const HOUR: u32 = 3_600;

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "spread",
        about: "a change known at all, 1 % lost",
        scenario: |hosts| spread(hosts, &format!("{NEAR}, loss: 1%")),
        read: |o| known(o, 0.5),
    },
    Row {
        name: "spread-wan",
        about: "the same, 50 to 150 ms one way",
        scenario: |hosts| spread(hosts, "latency: [50ms, 75ms, 100ms, 125ms, 150ms], loss: 1%"),
        read: |o| known(o, 2.0),
    },
    Row {
        name: "deaths",
        about: "a host's crash known at all",
        scenario: deaths,
        read: |o| {
            vec![
                reading("p50 s", o.detect_s.p50, Some(3.5)),
                reading("p99 s", o.detect_s.p99, Some(5.0)),
                reading("max s", o.detect_s.max, None),
                // What is suspect is left out of answers, so this is less than what it may be: detection and 0.2 s.
                reading("names p99 s", o.dns_stale_s.p99, Some(5.2)),
                reading("names max s", o.dns_stale_s.max, None),
            ]
        },
    },
    Row {
        name: "names",
        about: "a process's death: its instance gone from the answers of all",
        scenario: names,
        read: |o| {
            vec![
                reading("p50 s", o.dns_stale_s.p50, None),
                reading("p99 s", o.dns_stale_s.p99, Some(0.5)),
                reading("max s", o.dns_stale_s.max, None),
            ]
        },
    },
    Row {
        name: "cold-start",
        about: "all start at once and know one seed: all know all",
        scenario: cold_start,
        read: |o| vec![reading("s", o.membership_converge_s.max, Some(10.0))],
    },
    Row {
        name: "loss-5",
        about: "an hour with 5 % lost",
        scenario: |hosts| hour(hosts, &format!("{NEAR}, loss: 5%"), &mut |_, _| None),
        read: peace,
    },
    Row {
        name: "loss-10",
        about: "an hour with 10 % lost",
        scenario: |hosts| hour(hosts, &format!("{NEAR}, loss: 10%"), &mut |_, _| None),
        read: peace,
    },
    Row {
        name: "stalls",
        about: "an hour with 5 % lost; each minute another hundredth stands still for 10 s",
        scenario: |hosts| {
            hour(hosts, &format!("{NEAR}, loss: 5%"), &mut |second, _| {
                second.is_multiple_of(60).then(|| "pause: {hosts: 1%, time: 10s}".to_owned())
            })
        },
        // Who stands still for 10 s may lose its own work.
        read: |o| peace(o).into_iter().filter(|reading| reading.name != "moves").collect(),
    },
    Row {
        name: "black-holes",
        about: "an hour in which as many pairs as there are hosts lose each other",
        scenario: |hosts| hour(hosts, NEAR, &mut |second, last| at_ends(second, last)),
        read: peace,
    },
    Row {
        name: "one-way-links",
        about: "an hour in which of as many pairs as there are hosts one does not hear the other",
        scenario: |hosts| {
            hour(hosts, NEAR, &mut |second, last| match second {
                60 => Some("half-sever: 100%".to_owned()),
                _ if second == last => Some("heal: ".to_owned()),
                _ => None,
            })
        },
        read: peace,
    },
    Row {
        name: "flip-flop-links",
        about: "an hour in which such pairs lose each other for 20 s of 40",
        scenario: |hosts| {
            hour(hosts, NEAR, &mut |second, last| match second % 40 {
                _ if second == last => Some("heal: ".to_owned()),
                0 => Some("sever: 100%".to_owned()),
                20 => Some("heal: ".to_owned()),
                _ => None,
            })
        },
        read: peace,
    },
    Row {
        name: "flipping-host",
        about: "one host is cut off for 20 s of 40, for an hour",
        scenario: |hosts| {
            hour(hosts, NEAR, &mut |second, _| {
                (second == 60).then(|| "flip-flop: {hosts: [1], on: 20s, off: 20s, times: 88}".to_owned())
            })
        },
        read: |o| vec![count("moves", o.moves, Some(4.0)), count("false positives", o.false_positives, Some(0.0))],
    },
    Row {
        name: "idle",
        about: "nothing happens, ten replicas a host",
        scenario: idle,
        read: |o| {
            vec![
                count("p50 B/s", o.bytes_per_node_s.p50, Some(2_048.0)),
                count("p99 B/s", o.bytes_per_node_s.p99, Some(2_048.0)),
            ]
        },
    },
    Row {
        name: "split",
        about: "halves for an hour, a thousand writes a side: states equal after the heal",
        scenario: split,
        read: |o| {
            let last = o.samples.state_converge.last().map(|sample| sample.value_s);
            vec![reading("s", last, Some(10.0)), count("false positives", o.false_positives, Some(0.0))]
        },
    },
];

/// The slowest only: a look between a write and its reaching its own node's state finds all states equal too soon.
fn known(outcome: &Outcome, most: f64) -> Vec<Reading> {
    vec![reading("slowest of 20 s", outcome.state_converge_s.max, Some(most))]
}

/// Nobody who is healthy is given up, nobody has to renew itself, nothing moves.
fn peace(outcome: &Outcome) -> Vec<Reading> {
    vec![
        count("false positives", outcome.false_positives, Some(0.0)),
        count("moves", outcome.moves, Some(0.0)),
        count("B/s a node", outcome.bytes_per_node_s.p50, None),
    ]
}

const STACK: &str = "services:\n  - {name: web, replicas: 2/host, cpu-milli: 100, memory: 64MiB}\n";

/// A scenario's text. What a row measures is not also promised, or a run that misses its goal would not be measured.
fn text(hosts: u32, name: &str, start: &str, network: &str, services: &str, timeline: &[String], end: u32) -> String {
    let mut text = format!(
        "name: {name}\nabout: measured\nhosts: {hosts}\nstart: {start}\nnetwork: {{{network}}}\n{services}faults-may-miss: true\nsettle: 30s\n"
    );
    text.push_str(if timeline.is_empty() { "timeline: []\n" } else { "timeline:\n" });
    for line in timeline {
        let _ = writeln!(text, "  - {{{line}}}");
    }
    let _ = writeln!(text, "end: {end}s");
    text
}

/// A stack of no replicas: a new version of it is one change, and nothing follows from it.
fn spread(hosts: u32, network: &str) -> String {
    let timeline: Vec<String> = (0..20).map(|n| format!("at: {}s, deploy: ", 20 + 5 * n)).collect();
    text(hosts, "spread", "running", network, "services:\n  - {name: web, replicas: 0}\n", &timeline, 150)
}

fn deaths(hosts: u32) -> String {
    let rounds = (0..5_u32).map(|round| 25 + 25 * round);
    let lines =
        rounds.flat_map(|at| [format!("at: {at}s, crash-hosts: 1"), format!("at: {}s, restart: kept-disk", at + 13)]);
    text(hosts, "deaths", "running", NEAR, STACK, &lines.collect::<Vec<_>>(), 170)
}

/// A process that is started again is ready so late that its death is missed everywhere before.
fn names(hosts: u32) -> String {
    let services = "services:\n  - {name: web, replicas: 2/host, ready: 4s, cpu-milli: 100, memory: 64MiB}\n";
    let timeline: Vec<String> = (0..50).map(|n| format!("at: {}s, kill-processes: 1", 20 + n)).collect();
    text(hosts, "names", "running", &format!("{NEAR}, loss: 1%"), services, &timeline, 110)
}

fn cold_start(hosts: u32) -> String {
    text(hosts, "cold-start", "{cold: {within: 100ms}}", NEAR, "", &[], 60)
}

fn idle(hosts: u32) -> String {
    let services = "services:\n  - {name: web, replicas: 10/host, cpu-milli: 100, memory: 64MiB}\n";
    text(hosts, "idle", "running", NEAR, services, &[], 600)
}

/// An hour at rest but for what is said of each of its seconds; the last one ends what is under way.
fn hour(hosts: u32, network: &str, line: &mut dyn FnMut(u32, u32) -> Option<String>) -> String {
    let last = HOUR - 60;
    let lines = (60..=last).filter_map(|second| Some(format!("at: {second}s, {}", line(second, last)?)));
    text(hosts, "hour", "running", network, STACK, &lines.collect::<Vec<_>>(), HOUR + 60)
}

fn at_ends(second: u32, last: u32) -> Option<String> {
    match second {
        60 => Some("sever: 100%".to_owned()),
        _ if second == last => Some("heal: ".to_owned()),
        _ => None,
    }
}

/// Each half writes a thousand records: ten versions of a hundred services.
fn split(hosts: u32) -> String {
    let mut services = "services:\n".to_owned();
    for n in 0..100 {
        let _ = writeln!(services, "  - {{name: s{n}, replicas: 0}}");
    }
    let half: Vec<String> = (0..hosts).step_by(2).map(|host| host.to_string()).collect();
    let mut lines = vec![format!("at: 30s, partition: [{}]", half.join(", "))];
    for n in 0..10 {
        lines.push(format!("at: {}s, deploy: {{at: [0]}}", 60 + 340 * n));
        lines.push(format!("at: {}s, deploy: {{at: [1]}}", 61 + 340 * n));
    }
    lines.push(format!("at: {}s, heal: ", HOUR + 30));
    text(hosts, "split", "running", NEAR, &services, &lines, HOUR + 90)
}
