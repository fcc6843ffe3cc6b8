//! One run of a scenario on real agents by the clock: each step at the file's own moment, on a network that behaves as the
//! file says. What is measured is what the simulator measures.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dunlin_sim::Sample;
use dunlin_sim::scenario::Scenario;

use super::counts::Counts;
use super::flock::Flock;
use super::plan::{Deed, Step};
use super::tell::{Done, Story, Told};
use super::watch::{Agreement, Events, Stale, now_ms};
use crate::cluster::Cluster;
use crate::netns::{Lost, Network, Relayed};

/// Between two looks at what is outstanding; the simulator's own.
const LOOK: Duration = Duration::from_millis(50);
/// How long a flock has been calm when the clock starts: exchanges of views and first syncs are over.
const CALM: Duration = Duration::from_secs(10);

/// What one run showed.
#[derive(Clone, Debug, Default)]
pub struct Real {
    /// From the events.
    pub told: Told,
    /// From a change of who is there to everyone knowing it.
    pub membership: Vec<Sample>,
    /// From a write or a heal to equal states.
    pub state: Vec<Sample>,
    /// From a host's death to its address going from an observer's answers.
    pub dns_stale_ms: Vec<u64>,
    /// What all agents put out.
    pub counts: Counts,
    /// Bytes that each node sent in a second, headers included.
    pub bytes_per_node_s: Vec<u64>,
    /// What the relay did.
    pub relayed: Relayed,
    /// What iptables threw away.
    pub lost: Lost,
}

/// Runs it.
///
/// # Panics
/// If the flock does not come up, a step does not bite, or a promise is broken in the end.
#[must_use]
pub fn run(scenario: &Scenario, steps: &[Step], nodes: u8, seed: u64) -> Real {
    let network = Network::relayed(nodes, scenario.network.clone(), seed);
    let (cpus, memory) = (scenario.capacity.cpu_milli / 1_000, scenario.capacity.memory_bytes >> 20);
    let cluster = Cluster::with(nodes, Some(network), [&cpus.to_string(), &format!("{memory}M")]);
    let mut flock = Flock::new(cluster, scenario.clone());
    let mut run =
        Clock { events: Events::default(), done: Vec::new(), stale: Stale::default(), agree: Agreement::default() };
    run.events.follow(&flock);
    flock.begin();
    run.pass(&mut flock, Instant::now() + CALM);

    let (before, lost) = (Counts::of(&flock), flock.cluster.network.as_ref().map(Network::lost).unwrap_or_default());
    let (start, start_ms) = (Instant::now(), now_ms());
    for step in steps {
        run.pass(&mut flock, start + step.at);
        run.step(&mut flock, &step.deed);
    }
    let end = Duration::from_nanos(scenario.end);
    run.pass(&mut flock, start + end);
    let mut real = run.result(&flock, start_ms);
    real.counts = Counts::of(&flock).since(&before);
    real.bytes_per_node_s = real.counts.bytes.iter().map(|bytes| bytes / end.as_secs().max(1)).collect();
    if let Some(network) = &flock.cluster.network {
        (real.relayed, real.lost) = (network.relay(), network.lost());
        real.lost = Lost { lost: real.lost.lost - lost.lost, came: real.lost.came - lost.came };
    }
    flock.settle("the end");
    real
}

/// What is under way in a run.
struct Clock {
    events: Events,
    done: Vec<Done>,
    stale: Stale,
    agree: Agreement,
}

impl Clock {
    /// Lets time pass, and looks at what is outstanding.
    fn pass(&mut self, flock: &mut Flock, end: Instant) {
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            let began = Instant::now();
            let wakes = flock.wake();
            if self.stale.is_open() {
                self.stale.look(flock);
            }
            if self.agree.is_open() {
                self.agree.look(flock);
            }
            let busy = self.stale.is_open() || self.agree.is_open() || wakes.is_some();
            let pause = if busy { LOOK.saturating_sub(began.elapsed()) } else { LOOK * 4 };
            std::thread::park_timeout(pause.min(left));
        }
    }

    fn step(&mut self, flock: &mut Flock, deed: &Deed) {
        let done = flock.act(deed);
        let at_ms = done.at_ms;
        match &done.deed {
            Deed::CrashHosts(hosts) => {
                self.stale.died(flock, hosts, &flock.services(), at_ms);
                self.agree.members_changed(at_ms);
            }
            Deed::CrashAgents(_) | Deed::Partition(_) | Deed::Mute(_) => self.agree.members_changed(at_ms),
            Deed::Restart => {
                self.stale.close();
                self.events.follow(flock);
                self.agree.members_changed(at_ms);
            }
            Deed::Heal => {
                self.agree.members_changed(at_ms);
                self.agree.state_changed(at_ms);
            }
            Deed::Deploy { .. } | Deed::Scale { .. } | Deed::Remove => self.agree.state_changed(at_ms),
            Deed::CrashBusyHosts(_) | Deed::KillProcesses(_) | Deed::Pause(..) | Deed::Network(_) => {}
        }
        self.done.push(done);
    }

    fn result(&mut self, flock: &Flock, start_ms: u64) -> Real {
        let names: Vec<String> = flock.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        let replicas: BTreeSet<String> = flock.replicas().collect();
        let seen = self.events.all();
        let story = Story { seen: &seen, done: &self.done, names: &names, replicas: &replicas, start_ms };
        Real {
            told: story.told(),
            membership: samples(&self.agree.members, start_ms),
            state: samples(&self.agree.state, start_ms),
            dns_stale_ms: std::mem::take(&mut self.stale.gone),
            ..Real::default()
        }
    }
}

/// Spans of time as samples, counted from the start.
fn samples(spans: &[(u64, u64)], start_ms: u64) -> Vec<Sample> {
    let seconds = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    let sample = |(from, to): &(u64, u64)| Sample { at_s: seconds(to - start_ms), value_s: seconds(to - from) };
    spans.iter().map(sample).collect()
}
