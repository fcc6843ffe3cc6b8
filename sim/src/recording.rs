//! What a run looked like over time, for the report: a bounded series of samples and where each replica ran.
//!
//! It reads the world between two events and never changes it, puts nothing into the queue and draws nothing: a run takes
//! the same course, event by event, with it and without it. Its size is bounded whatever the scenario does.

use std::collections::{BTreeMap, BTreeSet};

use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Mode, ReplicaKey, ServiceKey};
use serde::Serialize;

use crate::answers::{Answers, Place};
use crate::chronicle::{Chronicle, Kind};
use crate::host::Host;
use crate::inside;
use crate::invariant::p3_progress;
use crate::measure::seconds;
use crate::net::{Conditions, HostNo};
use crate::queue::{MS, Nanos, SECOND};
use crate::scenario::Step;
use crate::world::World;

/// At most so many samples are taken of a run, at equal distances.
const MAX_SAMPLES: u64 = 600;
/// Not closer to each other than this.
const LEAST_STEP: Nanos = 10 * MS;
/// So many nodes are asked whom they hold alive; more would cost more than the run itself.
const MAX_OBSERVERS: usize = 100;
/// So many nodes have a row of their own in the map of states.
const MAX_HEAT: u32 = 60;
/// So many stays are kept; a scenario whose processes crash all the time has more.
const MAX_STAYS: usize = 50_000;

/// Samples at equal distances, a column a figure. Values are those of the moment, those that end in `_per_s` of the time
/// since the sample before.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Series {
    /// When, in virtual seconds.
    pub(crate) at_s: Vec<f64>,
    /// Nodes whose agent runs.
    pub(crate) nodes_up: Vec<u64>,
    /// Replicas that should run, as the flock has agreed.
    pub(crate) wanted: Vec<u64>,
    /// Of these: run somewhere.
    pub(crate) running: Vec<u64>,
    /// Of these: are ready somewhere.
    pub(crate) ready: Vec<u64>,
    /// Processes beyond one for each wanted replica.
    pub(crate) surplus: Vec<u64>,
    /// How many different states the nodes hold.
    pub(crate) states: Vec<u64>,
    /// How many nodes hold the state that most of them hold.
    pub(crate) agree: Vec<u64>,
    /// How many members a node holds alive, itself included: the node that holds the fewest,
    pub(crate) alive_min: Vec<u64>,
    /// the one in the middle,
    pub(crate) alive_median: Vec<u64>,
    /// and the one that holds the most.
    pub(crate) alive_max: Vec<u64>,
    /// What all nodes send, headers included.
    pub(crate) bytes_per_s: Vec<u64>,
    /// Of these: probes of membership and what rides on them,
    pub(crate) probe_bytes_per_s: Vec<u64>,
    /// greetings and acknowledgements on links,
    pub(crate) control_bytes_per_s: Vec<u64>,
    /// fresh records,
    pub(crate) push_bytes_per_s: Vec<u64>,
    /// anti-entropy and full copies,
    pub(crate) sync_bytes_per_s: Vec<u64>,
    /// and what links cost to make and to keep.
    pub(crate) link_bytes_per_s: Vec<u64>,
    /// Answers, over all nodes, with an instance that is not ready.
    pub(crate) stale: Vec<u64>,
    /// Instances that are ready and missing in a node's answers, over all nodes.
    pub(crate) missing: Vec<u64>,
}

/// One process from its start to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stay {
    pub(crate) alloc: AllocId,
    pub(crate) host: HostNo,
    pub(crate) from: Nanos,
    pub(crate) ready: Option<Nanos>,
    pub(crate) to: Option<Nanos>,
}

/// Where each replica ran, in order of the starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stays {
    pub(crate) of: BTreeMap<ReplicaKey, Vec<Stay>>,
    pub(crate) left_out: u64,
    kept: usize,
}

impl Stays {
    /// A process runs.
    pub(crate) fn started(&mut self, at: Nanos, replica: &ReplicaKey, host: HostNo, alloc: AllocId) {
        if self.kept == MAX_STAYS {
            self.left_out += 1;
            return;
        }
        self.kept += 1;
        let stay = Stay { alloc, host, from: at, ready: None, to: None };
        self.of.entry(replica.clone()).or_default().push(stay);
    }

    /// It would pass its probe.
    pub(crate) fn ready(&mut self, at: Nanos, replica: &ReplicaKey, alloc: AllocId) {
        if let Some(stay) = self.open(replica, alloc) {
            stay.ready.get_or_insert(at);
        }
    }

    /// It is gone.
    pub(crate) fn ended(&mut self, at: Nanos, replica: &ReplicaKey, alloc: AllocId) {
        if let Some(stay) = self.open(replica, alloc) {
            stay.to = Some(at);
        }
    }

    fn open(&mut self, replica: &ReplicaKey, alloc: AllocId) -> Option<&mut Stay> {
        self.of.get_mut(replica)?.iter_mut().rev().find(|stay| stay.alloc == alloc && stay.to.is_none())
    }
}

/// Which nodes held the commonest state when: a letter a sample, `.` for those that do, `x` for those that hold another, and a
/// space while no agent runs there.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub(crate) struct Heat {
    /// The hosts that are looked at, of many some at equal distances.
    pub(crate) hosts: Vec<HostNo>,
    /// For each of them the letters of all samples.
    pub(crate) letters: Vec<String>,
}

/// Takes the samples.
#[derive(Debug)]
pub(crate) struct Recorder {
    step: Nanos,
    next: Nanos,
    /// Bytes up to the last sample: all, and by kind.
    bytes_before: (u64, BTreeMap<Kind, u64>),
    series: Series,
    heat: Heat,
}

/// What was recorded of a run.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    /// The scenario's line on what it tries.
    pub(crate) about: String,
    pub(crate) end: Nanos,
    /// The network at the beginning.
    pub(crate) network: Conditions,
    /// From here on nothing disturbs,
    pub(crate) quiet_from: Nanos,
    /// and from here on everything must be settled.
    pub(crate) settle_by: Nanos,
    pub(crate) series: Series,
    pub(crate) heat: Heat,
    pub(crate) stays: Stays,
    /// What passed between hosts.
    pub(crate) chronicle: Chronicle,
    /// The timeline as it happened.
    pub(crate) script: Vec<Step>,
}

impl Recorder {
    /// For a run of such a length.
    pub(crate) fn new(end: Nanos, hosts: u32) -> Self {
        let step = end.div_ceil(MAX_SAMPLES).next_multiple_of(LEAST_STEP).max(LEAST_STEP);
        let each = usize::try_from(hosts.div_ceil(MAX_HEAT).max(1)).unwrap_or(1);
        let hosts: Vec<HostNo> = (0..hosts).step_by(each).collect();
        let heat = Heat { letters: vec![String::new(); hosts.len()], hosts };
        Self { step, next: step, bytes_before: (0, BTreeMap::new()), series: Series::default(), heat }
    }
}

impl World {
    /// From now on it is recorded what happens.
    pub(crate) fn start_recording(&mut self) {
        self.recorder = Some(Recorder::new(self.scenario.end, self.scenario.hosts));
        self.chronicle = Some(Box::default());
        let mut stays = Stays::default();
        for (replica, run) in
            self.truth.runs.iter().flat_map(|(replica, runs)| runs.iter().map(move |run| (replica, run)))
        {
            stays.started(self.now, replica, run.host, run.alloc);
            if run.ready {
                stays.ready(self.now, replica, run.alloc);
            }
        }
        self.truth.stays = Some(stays);
    }

    /// Takes the samples that are due before something happens at `at`.
    pub(crate) fn record_until(&mut self, at: Nanos) {
        let Some(mut recorder) = self.recorder.take() else { return };
        while recorder.next <= at {
            self.sample(&mut recorder);
            recorder.next += recorder.step;
        }
        self.recorder = Some(recorder);
    }

    /// What was recorded, once the run is over.
    pub(crate) fn take_recording(&mut self) -> Option<Recording> {
        let recorder = self.recorder.take()?;
        let quiet_from = self.scenario.quiet_from();
        Some(Recording {
            about: self.scenario.about.clone(),
            end: self.now,
            network: self.scenario.network.clone(),
            quiet_from,
            settle_by: quiet_from + self.scenario.settle,
            series: recorder.series,
            heat: recorder.heat,
            chronicle: self.chronicle.take().map(|chronicle| *chronicle).unwrap_or_default(),
            stays: self.truth.stays.take().unwrap_or_default(),
            script: self.faults.script.clone(),
        })
    }

    fn sample(&self, recorder: &mut Recorder) {
        self.sample_bytes(recorder);
        let series = &mut recorder.series;
        series.at_s.push(seconds(recorder.next));
        self.sample_replicas(series);
        self.sample_agreement(series, &mut recorder.heat);
        self.sample_names(series);
    }

    fn sample_bytes(&self, recorder: &mut Recorder) {
        let all = self.hosts.iter().map(|host| host.bytes()).sum::<u64>();
        let sent = self.chronicle.as_ref().map(|chronicle| chronicle.sent.clone()).unwrap_or_default();
        let (before, sent_before) = std::mem::replace(&mut recorder.bytes_before, (all, sent.clone()));
        let a_second = |bytes: u64| bytes * (SECOND / MS) / (recorder.step / MS);
        let of = |kind| a_second(sent.get(&kind).copied().unwrap_or(0) - sent_before.get(&kind).copied().unwrap_or(0));
        let series = &mut recorder.series;
        let all = a_second(all - before);
        series.bytes_per_s.push(all);
        let [probes, control, push, sync] = [Kind::Probes, Kind::Control, Kind::Push, Kind::Sync].map(of);
        series.probe_bytes_per_s.push(probes);
        series.control_bytes_per_s.push(control);
        series.push_bytes_per_s.push(push);
        series.sync_bytes_per_s.push(sync);
        series.link_bytes_per_s.push(all.saturating_sub(probes + control + push + sync));
    }

    fn sample_replicas(&self, series: &mut Series) {
        let services: BTreeMap<ServiceKey, Mode> =
            p3_progress::wanted(self).into_iter().map(|(key, service)| (key, service.mode)).collect();
        let (mut running, mut ready, mut processes) = (0, 0, 0);
        for (replica, runs) in &self.truth.runs {
            let judged = || runs.iter().filter(|run| self.faults.is_judged(run.host));
            let is_wanted =
                services.get(&replica.service).is_some_and(|mode| p3_progress::is_wanted(*mode, replica.slot));
            processes += judged().count() as u64;
            running += u64::from(is_wanted && judged().next().is_some());
            ready += u64::from(is_wanted && judged().any(|run| run.ready));
        }
        series.wanted.push(u64::from(self.wanted_replicas()));
        series.running.push(running);
        series.ready.push(ready);
        series.surplus.push(processes - running);
    }

    fn sample_agreement(&self, series: &mut Series, heat: &mut Heat) {
        let nodes: Vec<_> = self.judged().filter_map(|host| host.node.as_ref()).collect();
        let mut states: BTreeMap<u64, u64> = BTreeMap::new();
        nodes.iter().for_each(|node| *states.entry(inside::state_hash(node)).or_default() += 1);
        let commonest = states.iter().max_by_key(|(_, nodes)| **nodes).map(|(state, _)| *state);
        for (no, letters) in heat.hosts.iter().zip(&mut heat.letters) {
            let state =
                self.hosts.get(*no as usize).and_then(|host| host.node.as_ref()).map(|node| inside::state_hash(node));
            letters.push(state.map_or(' ', |state| if Some(state) == commonest { '.' } else { 'x' }));
        }
        series.nodes_up.push(nodes.len() as u64);
        series.states.push(states.len() as u64);
        series.agree.push(states.into_values().max().unwrap_or(0));
        let observers = nodes.iter().step_by(nodes.len().div_ceil(MAX_OBSERVERS).max(1));
        let count = |node: &dunlin_core::Node| {
            node.gossip().members().filter(|(_, state)| *state == MemberState::Alive).count() as u64
        };
        let mut alive: Vec<u64> = observers.map(|node| count(node)).collect();
        alive.sort_unstable();
        series.alive_min.push(alive.first().copied().unwrap_or(0));
        series.alive_median.push(alive.get(alive.len() / 2).copied().unwrap_or(0));
        series.alive_max.push(alive.last().copied().unwrap_or(0));
    }

    /// Nodes that answer alike are counted once and multiplied: while nothing changes, all do.
    fn sample_names(&self, series: &mut Series) {
        let ready = self.ready_places();
        let mut groups: BTreeMap<u64, (&Answers, u64)> = BTreeMap::new();
        for host in self.judged().filter(|host: &&Host| host.is_up()) {
            groups.entry(host.names.digest()).or_insert((&host.names, 0)).1 += 1;
        }
        let (mut stale, mut missing) = (0, 0);
        for (names, nodes) in groups.into_values() {
            let (more, less) = difference(names, &ready);
            stale += more * nodes;
            missing += less * nodes;
        }
        series.stale.push(stale);
        series.missing.push(missing);
    }

    /// What names should answer with.
    fn ready_places(&self) -> BTreeMap<&ServiceKey, BTreeSet<Place>> {
        let mut ready: BTreeMap<&ServiceKey, BTreeSet<Place>> = BTreeMap::new();
        for (replica, runs) in &self.truth.runs {
            for run in runs.iter().filter(|run| run.ready && self.faults.is_judged(run.host)) {
                let on: NodeId = self.hosts[run.host as usize].id;
                ready.entry(&replica.service).or_default().insert((replica.slot, on));
            }
        }
        ready
    }
}

/// How many of the answers are not ready, and how many instances that are ready are not among them.
fn difference(names: &Answers, ready: &BTreeMap<&ServiceKey, BTreeSet<Place>>) -> (u64, u64) {
    let (mut stale, mut right) = (0, 0);
    for service in names.services() {
        let should = ready.get(service);
        for place in names.of(service).into_iter().flat_map(|places| places.keys()) {
            let is_right = should.is_some_and(|should| should.contains(place));
            right += u64::from(is_right);
            stale += u64::from(!is_right);
        }
    }
    let all: usize = ready.values().map(BTreeSet::len).sum();
    (stale, all as u64 - right)
}
