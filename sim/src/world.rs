//! A world: hosts, network and time. Events happen in order of (time, sequence); nothing else moves.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use dunlin_core::Node;
use dunlin_core::face::{DriverEvent, Exit, Input, Outputs};
use dunlin_gossip::face::GossipInput;
use dunlin_gossip::hash::mix;
use dunlin_gossip::id::{ClusterId, NodeId};
use dunlin_gossip::model::{AllocId, ReplicaKey};
use dunlin_gossip::rng::{Rng, Seed};

use crate::chronicle::Chronicle;
use crate::clock::Clock;
use crate::disk::Image;
use crate::event::Event;
use crate::fault::Faults;
use crate::host::Host;
use crate::invariant::{Checks, p3_drain, p4_overcommit, p5_abandoned, p5_jobs, p6_at_most_one, p7_share, p8_answers};
use crate::net::{HostNo, Net};
use crate::operator::Operator;
use crate::parting::Partings;
use crate::queue::{MS, Nanos, Queue, SECOND};
use crate::recording::Recorder;
use crate::scenario::{Scenario, Start, Step};
use crate::start::{Past, by_slot, roster};
use crate::truth::{Run, Truth};
use crate::workload::{Effect, ProcessStep};

/// A unit of counted cost is about a microsecond on a fast core.
const COST: Nanos = 1_000;
/// An agent that ends itself is started again after so long, as by systemd.
pub(crate) const SUPERVISED: Nanos = SECOND;

/// A world.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) scenario: Arc<Scenario>,
    pub(crate) seed: Seed,
    pub(crate) cluster: ClusterId,
    pub(crate) now: Nanos,
    pub(crate) queue: Queue<Event>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) by_id: BTreeMap<NodeId, HostNo>,
    pub(crate) net: Net,
    pub(crate) truth: Truth,
    pub(crate) partings: Partings,
    pub(crate) operator: Operator,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    /// The scenario's lines, and those that they lead to while it runs.
    pub(crate) timeline: Vec<Step>,
    /// What comes out of the call that is being worked off leaves so much later: the call took that long.
    pub(crate) lag: Nanos,
    /// For what nobody else has a generator for.
    pub(crate) chance: Rng,
    pub(crate) trace: u64,
    pub(crate) events: u64,
    /// What was before the beginning, if anything was.
    pub(crate) past: Option<Past>,
    /// Only while somebody wants a report.
    pub(crate) recorder: Option<Recorder>,
    pub(crate) chronicle: Option<Box<Chronicle>>,
    outputs: Outputs,
}

impl World {
    /// A world at its beginning.
    pub(crate) fn new(scenario: Arc<Scenario>, seed: Seed) -> Self {
        let scenario = if scenario.churn.is_some() { Arc::new(scenario.with_churn_of(seed)) } else { scenario };
        let mut clocks = seed.split("clocks").rng();
        let mut clock = || {
            let mut off = |by: u64| clocks.below(2 * by + 1).cast_signed() - by.cast_signed();
            Clock::new(off(scenario.skew_ms), off(scenario.drift_ppm))
        };
        let hosts: Vec<Host> = (0..scenario.hosts).map(|no| Host::new(no, seed, &scenario, clock())).collect();
        let zone_of = (0..scenario.hosts).map(|no| scenario.zone_of(no)).collect();
        let mut world = Self {
            seed,
            cluster: ClusterId([7; 16]),
            now: 0,
            queue: Queue::new(),
            by_id: hosts.iter().map(|host| (host.id, host.no)).collect(),
            net: Net::new(scenario.network.clone(), scenario.zones.latency.clone(), zone_of, seed.split("net").rng()),
            truth: Truth::default(),
            partings: Partings::default(),
            operator: Operator::default(),
            faults: Faults::default(),
            checks: Checks::new(&scenario),
            timeline: scenario.timeline.clone(),
            lag: 0,
            chance: seed.split("chance").rng(),
            trace: mix(seed.0, hosts.len() as u64),
            events: 0,
            past: None,
            recorder: None,
            chronicle: None,
            outputs: Outputs::default(),
            hosts,
            scenario,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        let scenario = Arc::clone(&self.scenario);
        for (index, step) in scenario.timeline.iter().enumerate() {
            self.queue.push(step.at, Event::Step(index));
        }
        self.queue.push(0, Event::Look);
        let count = self.hosts.len() as u64;
        match scenario.start {
            Start::Warm => {
                let base = Arc::new(by_slot(roster(&self.hosts)));
                for host in &mut self.hosts {
                    host.disk.image = Image::with(Arc::clone(&base));
                    host.is_admitted = true;
                    let at = host.rng.below(500 * MS);
                    self.queue.push(at, Event::AgentStarts { host: host.no, power: 0 });
                }
            }
            Start::Joined | Start::Running => {
                let past = Past::of(self);
                for host in &mut self.hosts {
                    host.disk.image = Image::with(Arc::clone(past.records()));
                    host.is_admitted = true;
                    // Before the first probe of any of them, and over a whole period of probes: at whatever moment a fault
                    // comes, probes are as evenly spread around it as those of agents that started long ago.
                    let at = host.rng.below(500 * MS);
                    self.queue.push(at, Event::AgentStarts { host: host.no, power: 0 });
                }
                self.keep_promises(&past);
                self.past = Some(past);
            }
            Start::Cold { within } => {
                let base = Arc::new(by_slot(roster(&self.hosts[..1])));
                for host in &mut self.hosts {
                    let at = within * u64::from(host.no) / count.saturating_sub(1).max(1);
                    self.queue.push(at, Event::AgentStarts { host: host.no, power: 0 });
                }
                if let Some(first) = self.hosts.first_mut() {
                    first.disk.image = Image::with(base);
                    first.is_admitted = true;
                }
            }
        }
    }

    /// Runs until the scenario's end.
    pub(crate) fn run(&mut self) {
        while self.advance(self.scenario.end) {}
    }

    /// Lets so much time pass, and judges at the scenario's end; false once that has come.
    pub(crate) fn advance(&mut self, time: Nanos) -> bool {
        let end = self.scenario.end;
        let until = end.min(self.now + time);
        while self.queue.next_at().is_some_and(|at| at <= until) {
            let Some((at, event)) = self.queue.pop() else { break };
            self.record_until(at);
            self.now = at;
            self.happen(event);
        }
        self.record_until(until);
        self.now = until;
        if until < end {
            return true;
        }
        self.finish();
        false
    }

    fn happen(&mut self, event: Event) {
        let Some(event) = self.in_time(event) else { return };
        if let Event::Deadline { host } = event {
            self.deadline(host);
            return;
        }
        self.count(&event);
        match event {
            Event::Deadline { .. } => {}
            Event::Packet { from, to, lives, bytes } => self.packet_arrives((from, to), lives, bytes),
            Event::Refused { to, about } => {
                let node = self.hosts[about as usize].id;
                self.feed(to, Input::Gossip(GossipInput::Refused { node }));
            }
            Event::Frame { link, to, frame } => self.frame_arrives(link, to, frame),
            Event::Credit { link, to, bytes } => self.credit_arrives(link, to, bytes),
            Event::DialEnds { from, boot, to, in_time } => self.dial_ends(from, boot, to, in_time),
            Event::LinkLost { link, to, reason } => self.link_lost(link, to, reason),
            Event::LinkIdle { link, cut } => self.link_idle(link, cut),
            Event::Synced { host, sync } => self.synced(host, sync),
            Event::Process { host, power, alloc, attempt, step } => {
                if self.hosts[host as usize].power == power && self.hosts[host as usize].is_on {
                    self.process_step(host, alloc, attempt, step);
                }
            }
            Event::Tell { host, boot, event } => {
                if self.hosts[host as usize].boot == boot {
                    self.feed(host, Input::Driver(event));
                }
            }
            Event::Adopt { host, boot } => {
                if self.hosts[host as usize].boot == boot {
                    let found = self.hosts[host as usize].processes.adoptable();
                    self.feed(host, Input::Driver(DriverEvent::Adopted(found)));
                }
            }
            Event::AgentStarts { host, power } => self.agent_starts(host, power),
            Event::Step(index) => self.step(index),
            Event::Inbox => self.open_inbox(),
            Event::WriteAgain { host, again } => self.write_again(host, again),
            Event::Look => self.look(),
        }
    }

    /// The event, unless its agent stands still or still computes: then it waits.
    fn in_time(&mut self, event: Event) -> Option<Event> {
        let Some(host) = event.agent().and_then(|no| self.hosts.get_mut(no as usize)) else { return Some(event) };
        let until = host.paused_until.max(host.busy_until);
        if until <= self.now {
            return Some(event);
        }
        if matches!(event, Event::Deadline { .. }) {
            if host.armed != Some(self.now) {
                return None;
            }
            host.armed = Some(until);
        }
        if host.paused_until > self.now {
            self.faults.bite("pause");
        }
        self.queue.push(until, event);
        None
    }

    fn count(&mut self, event: &Event) {
        self.events += 1;
        self.trace = mix(self.trace, event.hash(self.now));
    }

    /// Deadlines are kept as one entry a host that is moved lazily: one that is no longer the earliest does nothing.
    fn deadline(&mut self, no: HostNo) {
        let host = &mut self.hosts[no as usize];
        if host.armed != Some(self.now) {
            return;
        }
        host.armed = None;
        let due = host.node.as_ref().and_then(|node| node.next_deadline());
        if due.is_some_and(|due| due <= host.clock.local(self.now)) {
            self.count(&Event::Deadline { host: no });
            self.feed(no, Input::Deadline);
        } else {
            self.arm(no);
        }
    }

    fn arm(&mut self, no: HostNo) {
        let host = &mut self.hosts[no as usize];
        let Some(due) = host.node.as_ref().and_then(|node| node.next_deadline()) else { return };
        // An immediate deadline still lets a microsecond pass, as on a real machine, so that no host can stop the world.
        let at = host.clock.world(due).max(self.now + 1_000).max(host.busy_until);
        if host.armed.is_none_or(|armed| at < armed || armed < self.now) {
            host.armed = Some(at);
            self.queue.push(at, Event::Deadline { host: no });
        }
    }

    /// Gives one input to a host's agent, if there is one, and does what it wants.
    pub(crate) fn feed(&mut self, no: HostNo, input: Input) {
        let host = &mut self.hosts[no as usize];
        let (now, wall) = (host.clock.local(self.now), host.clock.wall(self.now));
        let Some(node) = host.node.as_mut() else { return };
        let outputs = &mut self.outputs;
        // Whoever panicked is never looked into again: it is dropped, as its host's shell would do.
        if let Err(why) = catch_unwind(AssertUnwindSafe(|| node.handle(now, wall, input, outputs))) {
            return self.panicked(no, why);
        }
        self.lag = self.outputs.cost * COST * host.slow;
        host.busy_until = self.now + self.lag;
        self.drain(no);
        self.lag = 0;
    }

    /// A poison that a test has planted ends the node and not the agent: another node is made from the disk, which leaves that
    /// record's meaning out. Any other panic is a fault of the core, and ends the run.
    fn panicked(&mut self, no: HostNo, why: Box<dyn std::any::Any + Send>) {
        let is_poison = why.downcast_ref::<String>().is_some_and(|text| text.contains("poison"))
            || why.downcast_ref::<&str>().is_some_and(|text| text.contains("poison"));
        let host = &mut self.hosts[no as usize];
        let Some(record) = host.at_hand.last().filter(|_| is_poison) else { resume_unwind(why) };
        let (is_new, power) = (host.skip.insert(record), host.power);
        self.outputs = Outputs::default();
        self.faults.bite("poison");
        self.agent_ends(no);
        if !is_new {
            return self.violation("panic", format!("host {no} panics over a record that it had left out"));
        }
        self.queue.push(self.now + 50 * MS, Event::AgentStarts { host: no, power });
    }

    fn drain(&mut self, no: HostNo) {
        let mut list = std::mem::take(&mut self.outputs.list);
        self.outputs.cost = 0;
        let boot = self.hosts[no as usize].boot;
        for output in list.drain(..) {
            // What an agent wanted dies with it: a commit that reached the disk now would hold up those of the next boot.
            if self.hosts[no as usize].boot != boot {
                break;
            }
            self.perform(no, output);
        }
        self.outputs.list = list;
        self.arm(no);
    }

    /// Starts an agent, or first has it admitted.
    fn agent_starts(&mut self, no: HostNo, power: u32) {
        let zone = p8_answers::zone(self.hosts.len());
        let host = &mut self.hosts[no as usize];
        if host.power != power || !host.is_on || host.is_up() {
            return;
        }
        if !host.is_admitted {
            self.admit(no);
            return;
        }
        if host.disk.full {
            // It cannot write its generation, ends, and is started again.
            self.faults.bite("fill-disks");
            self.queue.push(self.now + SUPERVISED, Event::AgentStarts { host: no, power });
            return;
        }
        host.boot += 1;
        host.disk.failed = false;
        host.asked.clear();
        let (now, wall) = (host.clock.local(self.now), host.clock.wall(self.now));
        let seed = self.seed.split("node").nth(u64::from(no)).nth(u64::from(host.boot));
        let config = host.config(self.cluster);
        let (past, outputs) = (self.past.as_ref().filter(|_| host.boot == 1), &mut self.outputs);
        let node = catch_unwind(AssertUnwindSafe(|| match past {
            Some(past) => past.take_over(host, config, seed, now, wall, outputs),
            None => Node::new(
                config,
                host.disk.image.boot(wall, seed.split("generation").rng().next_u64()),
                seed,
                now,
                wall,
                outputs,
            ),
        }));
        let node = match node {
            Ok(node) => node,
            // What lies on its disk is poison to it.
            Err(why) => return self.panicked(no, why),
        };
        let host = &mut self.hosts[no as usize];
        host.node = Some(Box::new(node));
        // Names that an earlier process has told are told to nobody again.
        host.zone = zone.filter(|_| host.names.services().next().is_none());
        host.armed = None;
        let look_around = self.now + host.rng.range(2 * MS..10 * MS);
        self.queue.push(look_around, Event::Adopt { host: no, boot: host.boot });
        self.checks.membership_changed(self.now);
        self.drain(no);
    }

    /// An agent is gone, its host is not: what it had not made safe is lost, its links are reset, its port refuses.
    pub(crate) fn agent_ends(&mut self, no: HostNo) {
        let host = &mut self.hosts[no as usize];
        let Some(node) = host.node.take() else { return };
        host.past = host.past.plus(&node.counts());
        host.boot += 1;
        host.armed = None;
        host.disk.crash(&mut host.rng);
        host.names.clear();
        self.truth.stops_answering(no);
        self.partings.stops_answering(no);
        self.operator.forget(no);
        self.checks.membership_changed(self.now);
        self.drop_links(no);
    }

    fn process_step(&mut self, no: HostNo, alloc: AllocId, attempt: u32, step: ProcessStep) {
        let host = &mut self.hosts[no as usize];
        let ran = host.processes.all.get(&alloc).is_some_and(|p| p.runs());
        let Some((event, effects)) = host.processes.step(alloc, attempt, step, self.now, host.clock, &mut host.rng)
        else {
            return;
        };
        let Some(process) = host.processes.all.get(&alloc) else { return };
        let replica = process.replica.clone();
        let behaviour = process.behaviour;
        match step {
            ProcessStep::Up => {
                let (version, reserve) = (behaviour.version, behaviour.reserve);
                let (boot, is_lone) = (self.hosts[no as usize].boot, behaviour.lone);
                let run = Run { host: no, alloc, version, reserve, boot, ready: false, is_lone };
                p7_share::note_start(self, &replica, &run);
                self.truth.started(self.now, &replica, run);
                let now = self.now;
                self.chronicle.iter_mut().for_each(|chronicle| chronicle.started(now, &replica, no));
                p5_jobs::note(self, &replica, &behaviour);
                p6_at_most_one::check(self, &replica);
                p4_overcommit::check(self, no, &replica);
            }
            ProcessStep::Ready => {
                self.truth.ready(self.now, &replica, alloc);
                let now = self.now;
                self.chronicle.iter_mut().for_each(|chronicle| chronicle.ready(now, &replica, no));
            }
            ProcessStep::Hang => self.truth.hung(self.now, &replica, alloc),
            ProcessStep::FailsToStart => self.truth.note(self.now, &replica, "a start fails"),
            ProcessStep::End(_) if ran => {
                let was_stopped = process.is_stopping();
                let run = self.truth.run(&replica, alloc);
                self.process_ended(no, &replica, alloc, "exit");
                if step == ProcessStep::End(Exit::Code(0)) {
                    self.truth.finished(self.now, &replica, no, behaviour.version);
                }
                if was_stopped {
                    p5_abandoned::note(self, no, &replica, behaviour.version);
                    if let Some(run) = run {
                        p3_drain::note(self, no, &replica, run);
                        p7_share::note_end(self, no, &replica, run);
                    }
                }
            }
            ProcessStep::End(_) | ProcessStep::Lease => {}
        }
        self.effects(no, 0, effects);
        let Some(event) = event else { return };
        let host = &self.hosts[no as usize];
        if host.paused_until > self.now {
            self.queue.push(host.paused_until, Event::Tell { host: no, boot: host.boot, event });
        } else {
            self.feed(no, Input::Driver(event));
        }
    }

    /// A running process is gone: the truth knows, and who still answers with it is noted.
    pub(crate) fn process_ended(&mut self, no: HostNo, replica: &ReplicaKey, alloc: AllocId, why: &str) {
        self.truth.ended(self.now, replica, alloc, why);
        self.partings.ends(self.now, replica, no);
        let id = self.hosts[no as usize].id;
        let answers = |host: &&Host| host.names.has(replica, id);
        let answering: BTreeSet<HostNo> = self.hosts.iter().filter(answers).map(|host| host.no).collect();
        self.truth.stale_names(self.now, replica, no, answering);
    }

    /// Puts what a driver's command leads to into the queue.
    pub(crate) fn effects(&mut self, no: HostNo, wait: Nanos, effects: Vec<Effect>) {
        let (power, boot) = (self.hosts[no as usize].power, self.hosts[no as usize].boot);
        for effect in effects {
            let (after, event) = match effect {
                Effect::Step { after, alloc, attempt, step } => {
                    (after, Event::Process { host: no, power, alloc, attempt, step })
                }
                Effect::Tell { after, event } => (after, Event::Tell { host: no, boot, event }),
            };
            self.queue.push(self.now + self.lag + wait + after, event);
        }
    }
}
