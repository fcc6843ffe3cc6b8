//! A world: hosts, network and time. Events happen in order of (time, sequence); nothing else moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dunlin_core::Node;
use dunlin_core::face::{DriverEvent, Input, Outputs};
use dunlin_gossip::face::{Boot, GossipInput};
use dunlin_gossip::hash::mix;
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, Generation, NodeId};
use dunlin_gossip::model::{AllocId, ReplicaKey, RosterEntry};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::state::State;
use dunlin_gossip::wire::{Record, RecordId, Stamp, codec};

use crate::clock::Clock;
use crate::disk::Image;
use crate::event::Event;
use crate::fault::Faults;
use crate::host::Host;
use crate::invariant::{Checks, p4_overcommit};
use crate::net::{HostNo, Net};
use crate::operator::Operator;
use crate::queue::{MS, Nanos, Queue};
use crate::scenario::{Scenario, Start};
use crate::truth::{Run, Truth};
use crate::workload::{Effect, ProcessStep};

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
    pub(crate) operator: Operator,
    pub(crate) faults: Faults,
    pub(crate) checks: Checks,
    /// For what operators and faults choose.
    pub(crate) chance: Rng,
    pub(crate) trace: u64,
    pub(crate) events: u64,
    outputs: Outputs,
}

impl World {
    /// A world at its beginning.
    pub(crate) fn new(scenario: Arc<Scenario>, hosts: u32, seed: Seed) -> Self {
        let mut clocks = seed.split("clocks").rng();
        let mut clock = || {
            let mut off = |by: u64| clocks.below(2 * by + 1).cast_signed() - by.cast_signed();
            Clock { skew_ms: off(scenario.skew_ms), drift_ppm: off(scenario.drift_ppm) }
        };
        let hosts: Vec<Host> = (0..hosts).map(|no| Host::new(no, seed, scenario.capacity, clock())).collect();
        let mut world = Self {
            seed,
            cluster: ClusterId([7; 16]),
            now: 0,
            queue: Queue::new(),
            by_id: hosts.iter().map(|host| (host.id, host.no)).collect(),
            net: Net::new(scenario.network.clone(), hosts.len(), seed.split("net").rng()),
            truth: Truth::default(),
            operator: Operator::default(),
            faults: Faults::default(),
            checks: Checks::new(&scenario),
            chance: seed.split("chance").rng(),
            trace: mix(seed.0, hosts.len() as u64),
            events: 0,
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
                let base = Arc::new(self.roster(self.hosts.len()));
                for host in &mut self.hosts {
                    host.disk.image = Image::with(Arc::clone(&base));
                    host.is_admitted = true;
                    let at = host.rng.below(500 * MS);
                    self.queue.push(at, Event::AgentStarts { host: host.no, power: 0 });
                }
            }
            Start::Joined => {
                let base = self.joined_base();
                for host in &mut self.hosts {
                    host.disk.image = Image::with(Arc::clone(&base));
                    host.is_admitted = true;
                    // Before the first probe of any of them.
                    let at = host.rng.below(200 * MS);
                    self.queue.push(at, Event::AgentStarts { host: host.no, power: 0 });
                }
            }
            Start::Cold { within } => {
                let base = Arc::new(self.roster(1));
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

    /// What a flock holds that joined long ago: who belongs, everybody's header, and the hours that are over, on which all agree.
    fn joined_base(&self) -> Arc<BTreeMap<Vec<u8>, Record>> {
        let mut base = self.roster(self.hosts.len());
        base.extend(self.hosts.iter().map(|host| self.joined_header(host)).map(|record| (record.slot(), record)));
        let mut held = State::new(Actor { node: NodeId([0; 16]), generation: Generation(0) });
        base.values().for_each(|record| held.restore(record.clone()));
        let publication = |host: &Host| {
            let me = Actor { node: host.id, generation: Self::joined_boot(host) };
            held.held_by(me).publish_hours(host.clock.wall(0))
        };
        let published: Vec<Record> = self.hosts.iter().filter_map(publication).collect();
        published.iter().for_each(|record| held.restore(record.clone()));
        let settled = held.settle();
        base.extend(published.into_iter().chain(settled).map(|record| (record.slot(), record)));
        Arc::new(base)
    }

    /// The boot in which a host has been running when the world begins.
    fn joined_boot(host: &Host) -> Generation {
        Generation::next(None, host.clock.wall(0).0)
    }

    fn joined_header(&self, host: &Host) -> Record {
        let header = codec::encode(&host.config(self.cluster).header);
        let stamp = Stamp::Sequence { generation: Self::joined_boot(host), sequence: 1 };
        Record::write(RecordId::header(host.id), stamp, Hlc::from_wall(host.clock.wall(0)), Some(&header))
    }

    /// What an agent starts from.
    fn boot(&mut self, no: HostNo) -> Boot {
        let wall = self.hosts[no as usize].clock.wall(self.now);
        if self.scenario.start == Start::Joined && self.hosts[no as usize].boot == 1 {
            let alive = self.hosts.iter().map(|host| (host.id, Self::joined_boot(host))).collect();
            let host = &mut self.hosts[no as usize];
            return host.disk.image.take_over(Self::joined_boot(host), alive);
        }
        self.hosts[no as usize].disk.image.boot(wall)
    }

    /// The roster records of the first so many hosts, by slot.
    fn roster(&self, count: usize) -> BTreeMap<Vec<u8>, Record> {
        let Some(first) = self.hosts.first() else { return BTreeMap::new() };
        let wall = first.clock.wall(0);
        let author = Actor { node: first.id, generation: Generation(0) };
        let entries = self.hosts.iter().take(count).map(|host| {
            let by = (host.no != 0).then_some(first.id);
            let entry: RosterEntry = host.roster_entry(by, wall);
            let payload = codec::encode(&entry);
            Record::write(RecordId::roster(host.id), Stamp::Fact { author }, Hlc::from_wall(wall), Some(&payload))
        });
        entries.map(|record| (record.slot(), record)).collect()
    }

    /// Runs until the scenario's end.
    pub(crate) fn run(&mut self) {
        let end = self.scenario.end;
        while self.queue.next_at().is_some_and(|at| at <= end) {
            let Some((at, event)) = self.queue.pop() else { break };
            self.now = at;
            self.happen(event);
        }
        self.now = end;
        self.finish();
    }

    fn happen(&mut self, event: Event) {
        if let Some(no) = event.agent()
            && let Some(host) = self.hosts.get(no as usize)
            && host.paused_until > self.now
        {
            self.faults.delayed += 1;
            self.queue.push(host.paused_until, event);
            return;
        }
        if let Event::Deadline { host } = event {
            self.deadline(host);
            return;
        }
        self.count(&event);
        match event {
            Event::Deadline { .. } => {}
            Event::Packet { from, to, bytes } => self.packet_arrives(from, to, bytes),
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
            Event::Look => self.look(),
        }
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
        let at = host.clock.world(due).max(self.now + 1_000);
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
        node.handle(now, wall, input, &mut self.outputs);
        self.drain(no);
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
        let host = &mut self.hosts[no as usize];
        if host.power != power || !host.is_on || host.is_up() {
            return;
        }
        if !host.is_admitted {
            self.admit(no);
            return;
        }
        host.boot += 1;
        let (now, wall) = (host.clock.local(self.now), host.clock.wall(self.now));
        let boot = self.boot(no);
        let host = &mut self.hosts[no as usize];
        let seed = self.seed.split("node").nth(u64::from(no)).nth(u64::from(host.boot));
        let node = Node::new(host.config(self.cluster), boot, seed, now, wall, &mut self.outputs);
        host.node = Some(Box::new(node));
        host.armed = None;
        let look_around = self.now + host.rng.range(2 * MS..10 * MS);
        self.queue.push(look_around, Event::Adopt { host: no, boot: host.boot });
        self.checks.membership_changed(self.now);
        self.drain(no);
    }

    /// An agent is gone, its host is not: what it had not made safe is lost, its links are reset, its port refuses.
    pub(crate) fn agent_ends(&mut self, no: HostNo) {
        let host = &mut self.hosts[no as usize];
        if host.node.take().is_none() {
            return;
        }
        host.boot += 1;
        host.armed = None;
        host.disk.crash(&mut host.rng);
        host.names.clear();
        self.truth.stops_answering(no);
        self.operator.forget(no);
        self.checks.membership_changed(self.now);
        self.drop_links(no);
    }

    fn process_step(&mut self, no: HostNo, alloc: AllocId, attempt: u32, step: ProcessStep) {
        let host = &mut self.hosts[no as usize];
        let ran = host.processes.all.get(&alloc).is_some_and(|p| p.runs());
        let Some((event, effects)) = host.processes.step(alloc, attempt, step, self.now) else { return };
        let Some(process) = host.processes.all.get(&alloc) else { return };
        let replica = process.replica.clone();
        let behaviour = process.behaviour;
        match step {
            ProcessStep::Up => {
                let (version, reserve) = (behaviour.version, behaviour.reserve);
                let run = Run { host: no, alloc, version, reserve, ready: false };
                self.truth.started(self.now, &replica, run);
                p4_overcommit::check(self, no, &replica);
            }
            ProcessStep::Ready => self.truth.ready(self.now, &replica, alloc),
            ProcessStep::FailsToStart => self.truth.note(self.now, &replica, "a start fails"),
            ProcessStep::End(_) if ran => self.process_ended(no, &replica, alloc, "exit"),
            ProcessStep::End(_) => {}
        }
        self.effects(no, effects);
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
        let id = self.hosts[no as usize].id;
        let answers = |host: &&Host| host.names.has(replica, id);
        let answering: BTreeSet<HostNo> = self.hosts.iter().filter(answers).map(|host| host.no).collect();
        self.truth.stale_names(self.now, replica, no, answering);
    }

    /// Puts what a driver's command leads to into the queue.
    pub(crate) fn effects(&mut self, no: HostNo, effects: Vec<Effect>) {
        let (power, boot) = (self.hosts[no as usize].power, self.hosts[no as usize].boot);
        for effect in effects {
            let (after, event) = match effect {
                Effect::Step { after, alloc, attempt, step } => {
                    (after, Event::Process { host: no, power, alloc, attempt, step })
                }
                Effect::Tell { after, event } => (after, Event::Tell { host: no, boot, event }),
            };
            self.queue.push(self.now + after, event);
        }
    }
}
