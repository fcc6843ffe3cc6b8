//! Scenarios: hosts, faults over time, workload, and what to check, as data. The built-in ones are the files under
//! `scenarios/`; the same files drive real agents in the parity tests.

mod parse;
mod yaml;

use dunlin_gossip::model::Resources;

pub use parse::parse;

use crate::net::Conditions;
use crate::queue::Nanos;
use crate::workload::Behaviour;

/// The built-in scenarios by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("cold-start", include_str!("../../scenarios/cold-start.yaml")),
    ("steady", include_str!("../../scenarios/steady.yaml")),
    ("kill-one", include_str!("../../scenarios/kill-one.yaml")),
    ("partition-heal", include_str!("../../scenarios/partition-heal.yaml")),
    ("lossy", include_str!("../../scenarios/lossy.yaml")),
    ("stale-disk", include_str!("../../scenarios/stale-disk.yaml")),
    ("conflicting-writes", include_str!("../../scenarios/conflicting-writes.yaml")),
];

/// Names of the built-in scenarios.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// The text of a built-in scenario.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    BUILT_IN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A whole scenario.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// What it tries, in one line.
    pub about: String,
    /// How many hosts, unless told otherwise.
    pub hosts: u32,
    /// How they begin.
    pub start: Start,
    /// What each of them has.
    pub capacity: Resources,
    /// Wall clocks are off by up to so much, either way.
    pub skew_ms: u64,
    /// Clocks run fast or slow by up to so many millionths.
    pub drift_ppm: u64,
    /// The network at the beginning.
    pub network: Conditions,
    /// The services of the one stack that it deploys.
    pub services: Vec<ServiceLine>,
    /// What happens when, ascending.
    pub timeline: Vec<Step>,
    /// After the last fault and write everything must be settled within this time.
    pub settle: Nanos,
    /// How long it runs.
    pub end: Nanos,
}

/// How the hosts begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// All are rostered and have each other's entries on disk; their agents boot at about the same moment.
    Warm,
    /// They have been running for long: each holds every other alive, and its header. Their agents take over from earlier
    /// ones of the same boot; links are the first thing that they make.
    Joined,
    /// One begins; the others are admitted by it, one after the other, within this time.
    Cold {
        /// From the first to the last admission.
        within: Nanos,
    },
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceLine {
    /// Its name.
    pub name: String,
    /// How many replicas.
    pub replicas: Count,
    /// How its processes behave.
    pub behaviour: Behaviour,
}

/// A number that may depend on the number of hosts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// So many.
    Fixed(u32),
    /// So many for each host.
    PerHost(u32),
    /// So many in a hundred hosts, at least one.
    Percent(u32),
}

impl Count {
    /// How many that is among so many hosts.
    #[must_use]
    pub fn among(self, hosts: u32) -> u32 {
        match self {
            Self::Fixed(n) => n,
            Self::PerHost(n) => n.saturating_mul(hosts),
            Self::Percent(n) => (u64::from(hosts) * u64::from(n) / 100).max(1).try_into().unwrap_or(u32::MAX),
        }
    }
}

/// One line of the timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// When.
    pub at: Nanos,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// All services are deployed at one node.
    Deploy,
    /// So many operators deploy different versions at different nodes at the same moment.
    Conflict {
        /// How many.
        writers: u32,
    },
    /// A service gets another number of replicas.
    Scale {
        /// Which.
        service: String,
        /// How many.
        replicas: Count,
    },
    /// The stack is removed.
    Remove,
    /// Agents die; their hosts and workloads live on.
    CrashAgents(Count),
    /// Hosts die with everything on them.
    CrashHosts(Count),
    /// Whatever is dead starts again.
    Restart(DiskFate),
    /// Images of the disks are taken, for `restart: old-disk`; the same hosts are the first to crash.
    SaveDisks(Count),
    /// Agents stand still for a time.
    Pause {
        /// How many.
        hosts: Count,
        /// How long.
        time: Nanos,
    },
    /// So many hosts are cut off from the others.
    Partition(Count),
    /// Nothing gets out of so many hosts.
    Mute(Count),
    /// The network is whole again.
    Heal,
    /// The network's conditions change.
    Network(Conditions),
    /// So many processes are killed.
    KillProcesses(Count),
}

/// What a host finds on its disk when it starts again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskFate {
    /// What was safe.
    Kept,
    /// What was there when the images were taken.
    Old,
    /// The same, and its wall clock is behind by two minutes, as on a restored machine without a time server.
    OldAndSlow,
}

impl Scenario {
    /// The moment from which on nothing disturbs any more.
    #[must_use]
    pub fn quiet_from(&self) -> Nanos {
        let end_of = |step: &Step| match step.action {
            Action::Pause { time, .. } => step.at + time,
            _ => step.at,
        };
        let steps = self.timeline.iter().map(end_of).max().unwrap_or(0);
        match self.start {
            Start::Warm | Start::Joined => steps,
            Start::Cold { within } => steps.max(within),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_scenario_parses_under_its_own_name() {
        for name in names() {
            let parsed = parse(name, text(name).unwrap_or_default());
            assert_eq!(parsed.map(|s| s.name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn errors_name_file_line_and_key() {
        let bad = "name: x\nabout: y\nhosts: 3\nend: 10s\nsettle: 5s\ntimeline:\n  - at: 1s\n    exlode: 3\n";
        let error = parse("x.yaml", bad).expect_err("the key is unknown");
        assert!(error.starts_with("x.yaml:8: timeline[0].exlode: "), "{error}");
        let error = parse("x.yaml", "name: x\nabout: y\nhosts: many\n").expect_err("no number");
        assert!(error.starts_with("x.yaml:3: hosts: "), "{error}");
    }
}
