//! The report as JSON. These field names are stable.

use std::collections::BTreeMap;

use dunlin_core::Counts;
use serde::Serialize;

use crate::invariant::{Violation, p3_progress};
use crate::measure::{Quantiles, Sample, Samples, Spread};
use crate::truth::Figures;
use crate::world::World;

/// The outcome of one run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Outcome {
    /// Which scenario.
    pub scenario: String,
    /// How many hosts.
    pub nodes: u32,
    /// How many replicas the last writes asked for.
    pub replicas: u32,
    /// How many of these, jobs aside, were ready nowhere at the end: nothing had room for them, no host suited, or they crash.
    pub unready: u32,
    /// The seed.
    pub seed: u64,
    /// Virtual time.
    pub simulated_s: f64,
    /// Real time; not part of what a seed decides.
    pub wall_s: f64,
    /// Events that happened.
    pub events: u64,
    /// Events in a real second.
    pub events_per_s: u64,
    /// The largest memory that this process has held, in bytes.
    pub peak_rss_bytes: u64,
    /// The hash of everything that happened; equal for equal seeds everywhere.
    pub trace_hash: String,
    /// Broken promises.
    pub violations: Vec<Violation>,
    /// From a change of who is there to everyone knowing it.
    pub membership_converge_s: Quantiles,
    /// From a host's death to an observer holding it down, for each observer.
    pub detect_s: Quantiles,
    /// From a host's death to each of its replicas being ready elsewhere.
    pub failover_s: Quantiles,
    /// From a write or a heal to all states being equal.
    pub state_converge_s: Quantiles,
    /// From a deploy to all its replicas being ready.
    pub deploy_s: Quantiles,
    /// From an instance's end to its going from a node's answers, for each node that answered with it.
    pub dns_stale_s: Quantiles,
    /// How long a service had nothing ready after a fault took the last of it.
    pub dark_s: Quantiles,
    /// How long a replica ran twice at one version.
    pub duplicate_s: Quantiles,
    /// How often a node held one down that was alive and in reach.
    pub false_positives: u64,
    /// What faults did, by the word that scenario files use for them, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Replicas that came to run on another node.
    pub moves: u64,
    /// Replicas that faults displaced.
    pub moves_minimum: u64,
    /// Bytes that a node sent in a second, headers included.
    pub bytes_per_node_s: Spread,
    /// Packets and frames that a node sent in a second.
    pub messages_per_node_s: f64,
    /// What all nodes put out together, over all their boots: `packets`, `frames`, `syncs`, `driver_commands`.
    #[serde(flatten)]
    pub counts: Counts,
    /// Every sample of the figures above, for whoever holds several runs together; not part of the document.
    #[serde(skip)]
    pub samples: Timed,
}

/// Samples of one run, figure by figure.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Timed {
    /// Of `membership_converge_s`.
    pub membership_converge: Vec<Sample>,
    /// Of `detect_s`.
    pub detect: Vec<Sample>,
    /// Of `failover_s`.
    pub failover: Vec<Sample>,
    /// Of `state_converge_s`.
    pub state_converge: Vec<Sample>,
    /// Of `deploy_s`.
    pub deploy: Vec<Sample>,
    /// Of `dns_stale_s`.
    pub dns_stale: Vec<Sample>,
    /// Of `dark_s`.
    pub dark: Vec<Sample>,
    /// Of `duplicate_s`.
    pub duplicate: Vec<Sample>,
}

impl Timed {
    fn of(figures: &Figures) -> Self {
        Self {
            membership_converge: figures.membership_converge.timed(),
            detect: figures.detect.timed(),
            failover: figures.failover.timed(),
            state_converge: figures.state_converge.timed(),
            deploy: figures.deploy.timed(),
            dns_stale: figures.dns_stale.timed(),
            dark: figures.dark.timed(),
            duplicate: figures.duplicate.timed(),
        }
    }
}

impl Outcome {
    /// Judges a world that has come to its end.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub(crate) fn of(world: World, wall_s: f64) -> Self {
        let hosts = u32::try_from(world.hosts.len()).unwrap_or(u32::MAX);
        let simulated_s = crate::measure::seconds(world.now);
        let mut bytes = Samples::default();
        let (mut messages, mut counts) = (0, Counts::default());
        for host in &world.hosts {
            bytes.add(world.now, (host.bytes() as f64 / simulated_s.max(1e-9)) as u64);
            messages += host.messages_sent;
            counts = counts.plus(&host.counts());
        }
        let replicas = world.wanted_replicas();
        let unready = p3_progress::unready(&world);
        let faults = world.bites();
        let mut figures = world.truth.figures;
        let samples = Timed::of(&figures);
        Self {
            scenario: world.scenario.name.clone(),
            nodes: hosts,
            replicas,
            unready,
            seed: world.seed.0,
            simulated_s,
            wall_s,
            events: world.events,
            events_per_s: (world.events as f64 / wall_s.max(1e-9)) as u64,
            peak_rss_bytes: peak_rss(),
            trace_hash: format!("{:016x}", world.trace),
            violations: world.checks.violations,
            membership_converge_s: figures.membership_converge.seconds(),
            detect_s: figures.detect.seconds(),
            failover_s: figures.failover.seconds(),
            state_converge_s: figures.state_converge.seconds(),
            deploy_s: figures.deploy.seconds(),
            dns_stale_s: figures.dns_stale.seconds(),
            dark_s: figures.dark.seconds(),
            duplicate_s: figures.duplicate.seconds(),
            false_positives: figures.false_positives,
            faults,
            moves: figures.moves,
            moves_minimum: figures.moves_minimum,
            bytes_per_node_s: bytes.plain(),
            messages_per_node_s: messages as f64 / simulated_s.max(1e-9) / f64::from(hosts.max(1)),
            counts,
            samples,
        }
    }
}

/// The kernel's high-water mark of this process; 0 where it cannot be read.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
