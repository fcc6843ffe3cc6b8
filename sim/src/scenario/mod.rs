//! Scenarios: hosts, faults over time, workload, and what to check, as data. The built-in ones are the files under
//! `scenarios/`; the same files drive real agents in the parity tests.

mod action;
mod churn;
mod compose;
mod decimal;
mod limits;
mod matrix;
mod model;
mod node;
mod outages;
mod parse;
mod parse_action;
pub(crate) mod policy;
mod schedule;
mod waves;
mod write;
mod yaml;

use core::time::Duration;
use std::sync::Arc;

use dunlin_gossip::engine::Timing;
use dunlin_gossip::model::{Cron, Resources, RolloutPolicy, Service};

pub use action::{Action, Crash, Cut, DiskFate, Files, Order, Spoil, Step, Swallowed, Target};
pub use churn::{Churn, Source};
pub use limits::Limits;
pub use matrix::{Matrix, Unit};
pub(crate) use model::line as modelled;
pub use model::{quoted, service_text};
pub use node::NodeLine;
pub use outages::Outages;
pub use parse::{parse, parse_with};
pub(crate) use parse::{read_conditions, read_limits, read_node, read_service, read_time};
pub use waves::WaveLine;
pub(crate) use waves::read_waves;
pub(crate) use write::{conditions_text, service_line, time};

use crate::net::Conditions;
use crate::queue::Nanos;
use crate::workload::Behaviour;

/// The most hosts that a world may have.
pub(crate) const MAX_HOSTS: u32 = 10_000;
/// Zones are lettered.
const MOST_ZONES: u32 = 26;

/// The built-in scenarios by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("cold-start", include_str!("../../scenarios/cold-start.yaml")),
    ("steady", include_str!("../../scenarios/steady.yaml")),
    ("kill-one", include_str!("../../scenarios/kill-one.yaml")),
    ("mass-deploy", include_str!("../../scenarios/mass-deploy.yaml")),
    ("kill-often", include_str!("../../scenarios/kill-often.yaml")),
    ("partition-heal", include_str!("../../scenarios/partition-heal.yaml")),
    ("lossy", include_str!("../../scenarios/lossy.yaml")),
    ("stale-disk", include_str!("../../scenarios/stale-disk.yaml")),
    ("conflicting-writes", include_str!("../../scenarios/conflicting-writes.yaml")),
    ("tight", include_str!("../../scenarios/tight.yaml")),
    ("removal", include_str!("../../scenarios/removal.yaml")),
    ("blackout", include_str!("../../scenarios/blackout.yaml")),
    ("agent-restarts", include_str!("../../scenarios/agent-restarts.yaml")),
    ("crowded-starts", include_str!("../../scenarios/crowded-starts.yaml")),
    ("late-joiners", include_str!("../../scenarios/late-joiners.yaml")),
    ("skewed-writes", include_str!("../../scenarios/skewed-writes.yaml")),
    ("rollouts", include_str!("../../scenarios/rollouts.yaml")),
    ("jobs", include_str!("../../scenarios/jobs.yaml")),
    ("cron", include_str!("../../scenarios/cron.yaml")),
    ("cron-partition", include_str!("../../scenarios/cron-partition.yaml")),
    ("rolling-deploys", include_str!("../../scenarios/rolling-deploys.yaml")),
    ("over-the-hour", include_str!("../../scenarios/over-the-hour.yaml")),
    ("old-agents", include_str!("../../scenarios/old-agents.yaml")),
    ("crashing-partition", include_str!("../../scenarios/crashing-partition.yaml")),
    ("squeeze", include_str!("../../scenarios/squeeze.yaml")),
    ("half-return", include_str!("../../scenarios/half-return.yaml")),
    ("hanging", include_str!("../../scenarios/hanging.yaml")),
    ("lone-return", include_str!("../../scenarios/lone-return.yaml")),
    ("slow-disk", include_str!("../../scenarios/slow-disk.yaml")),
    ("kill-10pct", include_str!("../../scenarios/kill-10pct.yaml")),
    ("zone-outage", include_str!("../../scenarios/zone-outage.yaml")),
    ("mixed-hosts", include_str!("../../scenarios/mixed-hosts.yaml")),
    ("asymmetric-partition", include_str!("../../scenarios/asymmetric-partition.yaml")),
    ("flapping", include_str!("../../scenarios/flapping.yaml")),
    ("flipping-host", include_str!("../../scenarios/flipping-host.yaml")),
    ("writer-in-a-loop", include_str!("../../scenarios/writer-in-a-loop.yaml")),
    ("deploy-in-waves", include_str!("../../scenarios/deploy-in-waves.yaml")),
    ("poison", include_str!("../../scenarios/poison.yaml")),
    ("stalling-host", include_str!("../../scenarios/stalling-host.yaml")),
    ("rolling-restart", include_str!("../../scenarios/rolling-restart.yaml")),
    ("majority", include_str!("../../scenarios/majority.yaml")),
    ("majority-voters", include_str!("../../scenarios/majority-voters.yaml")),
    ("majority-boots", include_str!("../../scenarios/majority-boots.yaml")),
    ("majority-stalls", include_str!("../../scenarios/majority-stalls.yaml")),
    ("preemption", include_str!("../../scenarios/preemption.yaml")),
    ("drain", include_str!("../../scenarios/drain.yaml")),
    ("newcomer", include_str!("../../scenarios/newcomer.yaml")),
    ("flapping-joiner", include_str!("../../scenarios/flapping-joiner.yaml")),
    ("interrupted-joiner", include_str!("../../scenarios/interrupted-joiner.yaml")),
    ("drain-full", include_str!("../../scenarios/drain-full.yaml")),
    ("rolling-upgrade", include_str!("../../scenarios/rolling-upgrade.yaml")),
    ("clock-skew", include_str!("../../scenarios/clock-skew.yaml")),
    ("bad-disks", include_str!("../../scenarios/bad-disks.yaml")),
    ("slow-hosts", include_str!("../../scenarios/slow-hosts.yaml")),
    ("year-off", include_str!("../../scenarios/year-off.yaml")),
    ("long-away", include_str!("../../scenarios/long-away.yaml")),
    ("year-of-churn", include_str!("../../scenarios/year-of-churn.yaml")),
    ("black-hole", include_str!("../../scenarios/black-hole.yaml")),
    ("flip-flop", include_str!("../../scenarios/flip-flop.yaml")),
    ("one-way-links", include_str!("../../scenarios/one-way-links.yaml")),
    ("one-way", include_str!("../../scenarios/one-way.yaml")),
    ("lossy-host", include_str!("../../scenarios/lossy-host.yaml")),
    ("stalled-accusers", include_str!("../../scenarios/stalled-accusers.yaml")),
    ("churn-trace", include_str!("../../scenarios/churn-trace.yaml")),
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
    /// So many zones, over which the hosts are dealt in turn; one if there are none.
    pub zones: Zones,
    /// What each of them has, unless `nodes` says otherwise.
    pub capacity: Resources,
    /// Hosts that are not all alike; empty: all have `capacity` and no labels.
    pub nodes: Vec<NodeLine>,
    /// Wall clocks are off by up to so much, either way.
    pub skew_ms: u64,
    /// Clocks run fast or slow by up to so many millionths.
    pub drift_ppm: u64,
    /// After so long of most nodes' running time, a node that is away is forgotten; none: after a month.
    pub forget: Option<Nanos>,
    /// Replicas a minute that a host which came takes from fuller ones, until it has its share; 0: none.
    pub rebalance: u32,
    /// The network at the beginning.
    pub network: Conditions,
    /// Whether some hosts act on its deploys before the others; none: all at once.
    pub waves: Option<WaveLine>,
    /// The services of the one stack that it deploys.
    pub services: Vec<ServiceLine>,
    /// What happens when, ascending.
    pub timeline: Vec<Step>,
    /// Hosts that go and come back besides.
    pub churn: Option<Churn>,
    /// After the last fault and write everything must be settled within this time.
    pub settle: Nanos,
    /// What its figures may come to.
    pub limits: Limits,
    /// How long it runs.
    pub end: Nanos,
    /// True if faults were drawn and may have met nothing. In a scenario written by hand, one that does not bite is a fault
    /// of the scenario.
    pub may_miss: bool,
    /// What a run of it has shown, in a file that was written to be replayed.
    pub recorded: Option<Recorded>,
}

/// Zones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zones {
    /// How many.
    pub count: u32,
    /// One-way latencies between them, as in [`Conditions::latency`]; inside they are the network's. Empty: the same.
    pub latency: Vec<u64>,
}

impl Default for Zones {
    fn default() -> Self {
        Self { count: 1, latency: Vec::new() }
    }
}

/// What a run has shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Its seed.
    pub seed: u64,
    /// The hash of its trace.
    pub trace_hash: String,
    /// The promises that it broke.
    pub breaks: Vec<String>,
}

/// How the hosts begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// All are rostered and have each other's entries on disk; their agents boot at about the same moment.
    Warm,
    /// They have been running for long: each holds every other alive, and its header. Their agents take over from earlier
    /// ones of the same boot; links are the first thing that they make.
    Joined,
    /// The same, and the stack was deployed long ago: all its replicas run, and everybody knows where.
    Running,
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
    /// How it goes over to a new version.
    pub rollout: RolloutPolicy,
    /// Of a job: slots under way at a time; 0 means all.
    pub parallelism: u32,
    /// When it is due by the calendar, if it is.
    pub cron: Option<Cron>,
    /// Who chooses first, and may end others where nothing has room.
    pub priority: i32,
    /// What it is beyond these, as a Compose file or a flock has it.
    pub model: Option<Arc<Service>>,
    /// On which hosts its replicas run before the beginning, from the first on; the others are where the plan puts them.
    pub on: Vec<u32>,
}

impl ServiceLine {
    /// How its processes behave if nothing is said of them.
    pub(crate) fn usual(&self) -> Behaviour {
        self.model.as_deref().map_or_else(parse::ordinary, model::behaviour)
    }
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

impl Scenario {
    /// How long things take in the cores.
    pub(crate) fn timing(&self) -> Timing {
        let usual = Timing::default();
        let Some(forget) = self.forget.map(Duration::from_nanos) else { return usual };
        // Hours are looked at often enough for the counts of who is away.
        Timing { forget, hours_period: usual.hours_period.min(forget / 8), ..usual }
    }

    /// The moment from which on nothing disturbs any more.
    #[must_use]
    pub fn quiet_from(&self) -> Nanos {
        // In the calm what still went on has ended.
        let calm = self.timeline.iter().find(|step| matches!(step.action, Action::Calm { .. })).map(|step| step.at);
        let end_of = |step: &Step| (step.at + step.action.lasts()).min(calm.unwrap_or(Nanos::MAX));
        let churn = self.churn.as_ref().map_or(0, |churn| churn.to.min(calm.unwrap_or(Nanos::MAX)));
        let steps = self.timeline.iter().map(end_of).max().unwrap_or(0).max(churn);
        match self.start {
            Start::Warm | Start::Joined | Start::Running => steps,
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
