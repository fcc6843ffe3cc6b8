//! What was before the beginning of a world. A flock that joined long ago holds everybody's header and has settled the hours
//! that are over; one that has been running for long has also deployed its stack, and all replicas are well.
//!
//! All of it is the core's own work: the first host's agent takes the deploy, the plan that all agents share says who claims
//! what, and every agent starts and probes what it claims, alone, until it says so itself. Only the spreading is left out.
//! What comes of it is held once for all hosts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_core::face::{
    Ack, DriverCommand, DriverEvent, Input, NodeConfig, Output, Outputs, ProbeOutcome, Request, RequestId,
};
use dunlin_core::place::{self, Ground, Scene, Waiting};
use dunlin_core::view::InForce;
use dunlin_core::{Base, Node, claim};
use dunlin_gossip::face::{Boot, GossipInput, GossipOutput, PersistOp};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, Generation, NodeId};
use dunlin_gossip::model::{
    Asker, DeviceHold, MAX_VOTERS, Mode, Prefer, Protocol, ReplicaKey, RosterEntry, Slot, VoterList,
};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::state::State;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Context, Kind, Record, RecordId, Stamp, codec};
use dunlin_names::NameChange;

use crate::answers::Answers;
use crate::host::Host;
use crate::invariant::p4_overcommit;
use crate::net::HostNo;
use crate::operator::{file, policies, stack};
use crate::promise::{About, Promise};
use crate::scenario::Start;
use crate::truth::Run;
use crate::workload::{Effect, ProcessStep};
use crate::world::World;

/// The agents began so long before the world, and the stack was deployed so long before it: hours ago, in an hour that is over.
const BEGAN: u64 = 3 * 3_600_000;
const DEPLOYED: u64 = 2 * 3_600_000;
/// An agent that is alone for longer begins to doubt the others.
const ALONE: Duration = Duration::from_secs(1);

/// What lies on a disk, by slot.
pub(crate) type Slots = BTreeMap<Vec<u8>, Record>;

/// The past of a flock whose agents have been running for long.
#[derive(Debug)]
pub(crate) struct Past {
    records: Arc<Slots>,
    base: Base,
    /// Everybody, in the boot in which it has been running.
    alive: Vec<(NodeId, Generation)>,
    /// The deploy.
    deployed: Option<Promise>,
    /// What all names answer with.
    answers: Answers,
}

impl Past {
    /// The past that the scenario wants.
    pub(crate) fn of(world: &mut World) -> Self {
        let hosts = &world.hosts;
        let alive: Vec<_> = hosts.iter().map(|host| (host.id, generation(host))).collect();
        let mut held = State::new(nobody());
        let headers = hosts.iter().map(|host| header(host, world.cluster));
        roster(hosts).into_iter().chain(headers).chain(voters(hosts)).for_each(|record| held.restore(record));
        let mut deployed = None;
        if world.scenario.start == Start::Running {
            let mut prelude = Prelude { world, alive: &alive, held };
            deployed = prelude.deploy();
            prelude.claim();
            prelude.start();
            held = prelude.held;
        }
        close_hours(&world.hosts, &mut held);
        let records = held.snapshot().records().map(|record| (record.slot(), record.clone())).collect();
        let base = base(&world.hosts, held);
        let mut answers = Answers::default();
        for change in base.told() {
            if let NameChange::Service { service, instances } = change {
                answers.set(service, instances.iter().map(|i| ((i.slot, i.node), ())).collect());
            }
        }
        Self { records: Arc::new(records), base, alive, deployed, answers }
    }

    /// What lies on every disk.
    pub(crate) const fn records(&self) -> &Arc<Slots> {
        &self.records
    }

    /// The agent that has been running on a host, as a new process.
    pub(crate) fn take_over(
        &self,
        host: &mut Host,
        config: NodeConfig,
        seed: Seed,
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) -> Node {
        let generation = generation(host);
        host.disk.image.raise_generation(generation);
        host.names = self.answers.clone();
        let boot = Boot { base: None, records: Vec::new(), first: false, generation, alive: self.alive.clone() };
        Node::upon(&self.base, config, boot, seed, now, wall, out)
    }
}

impl World {
    /// What was written before the beginning is promised as well.
    pub(crate) fn keep_promises(&mut self, past: &Past) {
        let Some(first) = self.hosts.first().map(|host| host.id) else { return };
        if let Some(promise) = &past.deployed {
            self.promised(promise.clone(), &[first]);
            self.count_holders();
        }
    }
}

/// A flock on its way to where the world begins.
struct Prelude<'a> {
    world: &'a mut World,
    alive: &'a [(NodeId, Generation)],
    held: State,
}

impl Prelude<'_> {
    /// The deploy of the stack, as the first host's agent writes it.
    fn deploy(&mut self) -> Option<Promise> {
        let version = self.world.operator.next_version();
        let scenario = Arc::clone(&self.world.scenario);
        let (services, counts) = file(&scenario.services, version, scenario.hosts);
        let policies = policies(&self.world.scenario.services);
        let base = base(&self.world.hosts, self.held.clone());
        let mut agent = Agent::boot(&base, self.alive, 0, self.world);
        let host = self.world.hosts.first_mut()?;
        agent.take(
            host,
            Input::Request(
                RequestId(0),
                Asker::default(),
                Request::Deploy { stack: stack(), services, policies, waves: None, ack: Ack::Default, timeout: ALONE },
            ),
        );
        let written = agent.written;
        let hlc = written.iter().filter(|record| record.id().kind == Kind::SERVICE).map(Record::hlc).max()?;
        written.into_iter().for_each(|record| self.held.restore(record));
        let author = Actor { node: host.id, generation: generation(host) };
        let about = About::services(counts.into_keys().collect());
        Some(Promise::new(0, author, hlc.0, about))
    }

    /// Every replica is claimed by the node that the scenario names, or else by the one to which the plan gives it.
    fn claim(&mut self) {
        let base = base(&self.world.hosts, self.held.clone());
        let view = base.view();
        let mut replicas = Vec::new();
        for (service, force) in view.services() {
            // Of what one at most may run, none runs before there are leases.
            if force.service.spec.prefer == Prefer::Majority {
                continue;
            }
            let replica = |slot| (ReplicaKey { service: service.clone(), slot }, force);
            match force.service.mode {
                Mode::Replicated(count) => replicas.extend((1..=count).map(|n| replica(Slot::Number(n)))),
                Mode::Global => replicas.extend(self.world.hosts.iter().map(|host| replica(Slot::Node(host.id)))),
                // Work to be done is begun when the world does.
                _ => {}
            }
        }
        let mut waiting: Vec<Waiting<'_>> = replicas
            .iter()
            .map(|(replica, force)| Waiting { replica, spec: &force.service.spec, refused_by: &[] })
            .collect();
        waiting.sort_by_cached_key(place::order_key);
        let candidates = view.candidates();
        let named = |waiting: &Waiting<'_>| self.named(waiting.replica);
        let index_of = |node: NodeId| candidates.iter().position(|candidate| candidate.node == node);
        // Where something was said of, nobody else finds room.
        waiting.sort_by_key(|waiting| named(waiting).is_none());
        let (mut ground, mut claims) = (Ground::new(Scene::of(&candidates)), Vec::new());
        for waiting in &waiting {
            let there = named(waiting).and_then(index_of).filter(|index| ground.fits_on(*index, waiting));
            let Some(index) = there.or_else(|| ground.head(waiting)) else { continue };
            claims.push((candidates[index].node, waiting.replica, ground.take(index, waiting)));
        }
        let mut sites: BTreeMap<NodeId, Site> = BTreeMap::new();
        for (node, replica, devices) in claims {
            let Some(host) = self.world.by_id.get(&node).and_then(|no| self.world.hosts.get(*no as usize)) else {
                continue;
            };
            let Some(force) = view.services().get(&replica.service) else { continue };
            let site = sites.entry(node).or_insert_with(|| Site::new(host, self.world.cluster, &self.held));
            site.claim(replica, force, devices).into_iter().for_each(|record| self.held.restore(record));
        }
    }

    /// The host on which the scenario wants a replica to be running.
    fn named(&self, replica: &ReplicaKey) -> Option<NodeId> {
        let Slot::Number(number) = replica.slot else { return None };
        let line = self.world.scenario.services.iter().find(|line| line.name == replica.service.service.as_str())?;
        let no = line.on.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
        self.world.hosts.get(*no as usize).map(|host| host.id)
    }

    /// Every agent starts what it claims, and says so once it is well.
    fn start(&mut self) {
        let base = base(&self.world.hosts, self.held.clone());
        for no in 0..self.world.host_count() {
            let id = self.world.hosts[no as usize].id;
            if self.held.of_writer(id, Kind::ALLOCATION).next().is_none() {
                continue;
            }
            let mut agent = Agent::boot(&base, self.alive, no, self.world);
            agent.live(&mut self.world.hosts[no as usize]);
            if !agent.is_content() {
                self.world
                    .violation("start", format!("host {no} did not get what it claims to run before the beginning"));
            }
            let Agent { written, later, .. } = agent;
            written.into_iter().for_each(|record| self.held.restore(record));
            self.world.were_running(no);
            self.world.effects(no, 0, later);
        }
    }
}

/// What makes a node's claims.
struct Site {
    node: NodeId,
    state: State,
    wall: Wall,
    config: NodeConfig,
    ports: BTreeSet<(Protocol, u16)>,
}

impl Site {
    fn new(host: &Host, cluster: ClusterId, held: &State) -> Self {
        let state = held.held_by(Actor { node: host.id, generation: generation(host) });
        let (config, wall) = (host.config(cluster), before(host, DEPLOYED));
        Self { node: host.id, state, wall, config, ports: BTreeSet::new() }
    }

    /// The record of a claim; none if the node has no port for it.
    fn claim(&mut self, replica: &ReplicaKey, force: &InForce, devices: Vec<DeviceHold>) -> Option<Record> {
        let specs = &force.service.spec.ports;
        let none = BTreeSet::new();
        let range = &self.config.port_range;
        let ports =
            claim::choose_ports((specs, force.service.spec.demand()), replica, self.node, range, &self.ports, &none)
                .ok()?;
        self.ports.extend(ports.iter().map(|port| (port.protocol, port.outer)));
        let epoch = claim::next_epoch(self.state.clock().max(Hlc::from_wall(self.wall)), None);
        let (id, claim) = claim::first(self.node, replica, force, ports, devices, epoch, self.wall);
        let id = RecordId::allocation(self.node, id);
        Some(self.state.stage_actual(self.wall, id, Some(&codec::encode(&claim))))
    }
}

/// One agent, alone with its host: nobody hears it, and its disk and its drivers answer at once.
struct Agent {
    node: Node,
    now: Instant,
    since: Wall,
    inbox: VecDeque<Input>,
    out: Outputs,
    /// What it has put on disk.
    written: Vec<Record>,
    /// What will become of its processes.
    later: Vec<Effect>,
}

impl Agent {
    fn boot(base: &Base, alive: &[(NodeId, Generation)], no: HostNo, world: &World) -> Self {
        let host = &world.hosts[no as usize];
        let (now, since, mut out) = (Instant::ZERO, before(host, DEPLOYED), Outputs::default());
        let boot =
            Boot { base: None, records: Vec::new(), first: false, generation: generation(host), alive: alive.to_vec() };
        let seed = world.seed.split("past").nth(u64::from(no));
        let node = Node::upon(base, host.config(world.cluster), boot, seed, now, since, &mut out);
        out.list.clear();
        let inbox = VecDeque::from([Input::Driver(DriverEvent::Adopted(Vec::new()))]);
        Self { node, now, since, inbox, out, written: Vec::new(), later: Vec::new() }
    }

    /// Until all is well here.
    fn live(&mut self, host: &mut Host) {
        while self.now < Instant::ZERO + ALONE && !(self.inbox.is_empty() && self.is_content()) {
            let input = self.inbox.pop_front().unwrap_or_else(|| {
                self.now = self.node.next_deadline().unwrap_or(Instant::MAX).max(self.now);
                Input::Deadline
            });
            self.take(host, input);
        }
    }

    fn is_content(&self) -> bool {
        let known = self.node.view().nodes().get(&self.node.view().me());
        known.is_some_and(|known| !known.allocations.is_empty() && known.allocations.values().all(|alloc| alloc.ready))
    }

    fn take(&mut self, host: &mut Host, input: Input) {
        let wall = self.since.plus(self.now.since(Instant::ZERO));
        self.node.handle(self.now, wall, input, &mut self.out);
        for output in std::mem::take(&mut self.out.list) {
            match output {
                Output::Gossip(GossipOutput::Persist { seq, ops }) => {
                    let put = |op| if let PersistOp::Put { bytes, .. } = op { Record::read(&bytes).ok() } else { None };
                    self.written.extend(ops.into_iter().filter_map(put));
                    self.inbox.push_back(Input::Gossip(GossipInput::Persisted(seq)));
                }
                Output::Driver(command) => self.drive(host, command),
                Output::Gossip(_) | Output::Reply(..) | Output::Names(_) | Output::Event(_) => {}
            }
        }
    }

    /// Every start succeeds and every probe passes: what runs when the world begins did.
    fn drive(&mut self, host: &mut Host, command: DriverCommand) {
        if let DriverCommand::Probe { alloc, token, .. } = command {
            let event = DriverEvent::Probed { alloc, token, outcome: ProbeOutcome::Passed };
            return self.inbox.push_back(Input::Driver(event));
        }
        for effect in host.processes.command(command, 0, host.clock, &mut host.rng) {
            let Effect::Step { alloc, attempt, .. } = effect else { continue };
            let Some((event, later)) =
                host.processes.step(alloc, attempt, ProcessStep::Up, 0, host.clock, &mut host.rng)
            else {
                continue;
            };
            host.processes.settle(alloc);
            let is_ready = |effect: &Effect| matches!(effect, Effect::Step { step: ProcessStep::Ready, .. });
            self.later.extend(later.into_iter().filter(|effect| !is_ready(effect)));
            self.inbox.extend(event.map(Input::Driver));
        }
    }
}

impl World {
    /// What a host runs at the beginning.
    fn were_running(&mut self, no: HostNo) {
        let all = self.hosts[no as usize].processes.all.iter();
        let all: Vec<_> = all.map(|(alloc, process)| (*alloc, process.replica.clone(), process.behaviour)).collect();
        for (alloc, replica, behaviour) in all {
            let (version, reserve) = (behaviour.version, behaviour.reserve);
            let run = Run { host: no, alloc, version, reserve, boot: 1, ready: false, is_lone: false };
            self.truth.started(0, &replica, run);
            p4_overcommit::check(self, no, &replica);
            self.truth.ready(0, &replica, alloc);
        }
    }
}

/// What all agents hold alike.
fn base(hosts: &[Host], held: State) -> Base {
    let nodes: Vec<NodeId> = hosts.iter().map(|host| host.id).collect();
    let wall = hosts.first().map_or(Wall(0), |host| host.clock.wall(0));
    Base::new(held, &nodes, wall)
}

/// What a host's wall clock showed so many milliseconds before the beginning.
fn before(host: &Host, millis: u64) -> Wall {
    Wall(host.clock.wall(0).0.saturating_sub(millis))
}

/// Records by slot.
pub(crate) fn by_slot(records: Vec<Record>) -> Slots {
    records.into_iter().map(|record| (record.slot(), record)).collect()
}

/// The roster records of hosts that the first of them admitted.
pub(crate) fn roster(hosts: &[Host]) -> Vec<Record> {
    let Some(first) = hosts.first() else { return Vec::new() };
    let wall = first.clock.wall(0);
    let author = Actor { node: first.id, generation: Generation(0) };
    let entry = |host: &Host| {
        let by = (host.no != 0).then_some(first.id);
        let entry: RosterEntry = host.roster_entry(by, wall);
        let payload = codec::encode(&entry);
        Record::write(RecordId::roster(host.id), Stamp::Fact { author }, Hlc::from_wall(wall), Some(&payload))
    };
    hosts.iter().map(entry).collect()
}

/// The list of voters to which a flock comes that has been running for long.
fn voters(hosts: &[Host]) -> Option<Record> {
    let first = hosts.first()?;
    let most = hosts.len().min(MAX_VOTERS);
    let most = if most.is_multiple_of(2) { most - 1 } else { most };
    let last = hosts.get(..most)?.iter().skip(1);
    let list = last.fold(VoterList::first(first.id), |list, host| list.toggled(host.id));
    let author = Actor { node: first.id, generation: generation(first) };
    let hlc = Hlc::from_wall(before(first, BEGAN));
    let stamp = Context { author, asker: Asker::default(), seen: vec![(author, hlc.0)], below: 0 }.into();
    Some(Record::write(RecordId::voters(), stamp, hlc, Some(&codec::encode(&list))))
}

const fn nobody() -> Actor {
    Actor { node: NodeId([0; 16]), generation: Generation(0) }
}

/// The boot in which a host has been running when the world begins.
fn generation(host: &Host) -> Generation {
    Generation::next(None, before(host, BEGAN).0, 0)
}

fn header(host: &Host, cluster: ClusterId) -> Record {
    let header = codec::encode(&host.config(cluster).header);
    let stamp = Stamp::Sequence { generation: generation(host), sequence: 1 };
    Record::write(RecordId::header(host.id), stamp, Hlc::from_wall(before(host, BEGAN)), Some(&header))
}

/// Everybody's publication of the hours that are over, and that all agree on them.
fn close_hours(hosts: &[Host], held: &mut State) {
    let publication = |host: &Host| {
        let me = Actor { node: host.id, generation: generation(host) };
        held.held_by(me).publish_hours(host.clock.wall(0))
    };
    let published: Vec<Record> = hosts.iter().filter_map(publication).collect();
    published.iter().for_each(|record| held.restore(record.clone()));
    let settled = held.settle();
    settled.iter().for_each(|record| held.restore(record.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside;
    use crate::scenario::parse;

    const STILL: &str = "name: still\nabout: nothing happens\nhosts: 30\nstart: running\nskew: 300ms\ndrift-ppm: 100\n\
                         services:\n  - {name: web, replicas: 2/host, cpu-milli: 200, memory: 64MiB, ready: 100ms}\n  \
                         - {name: db, replicas: 3, cpu-milli: 1000, memory: 1GiB, start: 2s}\n\
                         settle: 1s\nend: 700s\n";

    #[test]
    fn a_flock_that_has_been_running_has_nothing_to_put_right() -> Result<(), String> {
        let mut world = World::new(Arc::new(parse("still", STILL)?), Seed(5));
        let root = world.past.as_ref().map(|past| past.base.state().root());
        assert_eq!(world.truth.runs.len(), 63);
        world.run();
        assert_eq!(world.checks.violations, []);
        assert!(world.settled().is_ok());
        for host in &world.hosts {
            let node = host.node.as_ref().ok_or("an agent is gone")?;
            assert_eq!(Some(inside::state_hash(node)), root, "host {} wrote something", host.no);
            assert_eq!(
                (host.processes.all.len(), host.boot),
                (node.view().nodes().get(&host.id).map_or(0, |known| known.allocations.len()), 1)
            );
        }
        Ok(())
    }
}
