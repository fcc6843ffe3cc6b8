//! A few nodes wired by hand: one queue of (time, sequence), links that stand at once, disks that confirm after a
//! millisecond, drivers that do as they are told. Everything is deterministic.

#![allow(dead_code, reason = "each story uses some of the verbs")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use dunlin_core::Node;
use dunlin_core::face::{
    Ack, Adopted, DriverCommand, DriverEvent, Event, Exit, Input, NodeConfig, Output, Outputs, ProbeOutcome, Reply,
    Request, RequestId, StartFailure, StartSpec,
};
use dunlin_core::query::{self, AllocationRow};
use dunlin_core::skip::AtHand;
use dunlin_gossip::face::{Boot, GossipEvent, GossipInput, GossipOutput, INITIAL_CREDIT, LinkId, PersistOp, REMOVED};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, Generation, NodeId};
use dunlin_gossip::model::{
    AllocId, Asker, DriverKind, Mode, NodeHeader, NodeName, Platform, PortSpec, Protocol, Resources, RestartCondition,
    RestartPolicy, RolloutPolicy, RosterEntry, Service, ServiceKey, ServiceName, ServiceSpec, StackName, StopPolicy,
    Workload,
};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Kind, Record, RecordId, Stamp, WireVersion, codec};
use dunlin_names::NameChange;

const EPOCH_MS: u64 = 1_700_000_000_000;
const LATENCY: Duration = Duration::from_millis(1);

pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) node: Option<Node>,
    pub(crate) header: NodeHeader,
    /// The version of the wire that its agent speaks.
    pub(crate) wire: WireVersion,
    boot: u64,
    pub(crate) disk: BTreeMap<Vec<u8>, Vec<u8>>,
    links: BTreeMap<LinkId, (usize, LinkId)>,
    /// What runs, by allocation: the attempt and what was asked for.
    pub(crate) running: BTreeMap<AllocId, StartSpec>,
    ended: BTreeMap<AllocId, (u32, Exit)>,
    pub(crate) unhealthy: bool,
    pub(crate) busy_ports: BTreeSet<u16>,
    pub(crate) broken: bool,
    /// What runs does not end when told to.
    pub(crate) stubborn: bool,
    pub(crate) deaf_disk: bool,
    pub(crate) starts: Vec<StartSpec>,
    pub(crate) names: BTreeMap<ServiceKey, Vec<(NodeId, u16)>>,
    instances: BTreeMap<ServiceKey, Vec<dunlin_names::Instance>>,
    pub(crate) events: Vec<Event>,
    /// What an agent said that stopped itself.
    pub(crate) last_words: Option<String>,
}

pub(crate) struct Flock {
    pub(crate) hosts: Vec<Host>,
    pub(crate) now: Instant,
    queue: BTreeMap<(Instant, u64), (usize, u64, Input)>,
    sequence: u64,
    links: u64,
    pub(crate) replies: BTreeMap<RequestId, Reply>,
    requests: u64,
    pub(crate) cut: BTreeSet<(usize, usize)>,
    /// How long drivers take to tell what they found.
    pub(crate) look_around: Duration,
    /// How many replicas a minute agents that start from now on may take for their share.
    pub(crate) rebalance: u32,
}

pub(crate) fn header(n: usize) -> NodeHeader {
    NodeHeader {
        name: NodeName::new(&format!("n{n}")).expect("a name"),
        addresses: vec![format!("10.0.0.{}:7400", n + 1).parse().expect("an address")],
        service_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(n + 1).expect("few nodes"))),
        labels: BTreeMap::from([("zone".to_string(), format!("z{n}"))]),
        allocatable: Resources { cpu_milli: 1_000, memory_bytes: 1 << 30 },
        drivers: vec![DriverKind::Exec],
        platform: Platform { os: "linux".to_string(), arch: "amd64".to_string() },
        version: "test".to_string(),
        certificate: Default::default(),
        adopted: Vec::new(),
        supply: Default::default(),
    }
}

pub(crate) fn service(replicas: u32) -> Service {
    let spec = ServiceSpec {
        ports: vec![PortSpec { name: "http".to_string(), target: None, published: None, protocol: Protocol::Tcp }],
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(1),
            max_attempts: None,
            window: Duration::from_secs(30),
        },
        stop: StopPolicy { signal: "SIGTERM".to_string(), grace: Duration::from_secs(2) },
        reservation: Resources { cpu_milli: 100, memory_bytes: 64 << 20 },
        ..ServiceSpec::bare(Workload::program("server"))
    };
    Service { mode: Mode::Replicated(replicas), spec }
}

pub(crate) fn key(name: &str) -> ServiceKey {
    ServiceKey { stack: stack(), service: ServiceName::new(name).expect("a name") }
}

pub(crate) fn stack() -> StackName {
    StackName::new("shop").expect("a name")
}

pub(crate) fn id(n: usize) -> NodeId {
    NodeId([u8::try_from(n + 1).expect("few nodes"); 16])
}

pub(crate) fn entry(n: usize) -> RosterEntry {
    RosterEntry {
        node: id(n),
        name: NodeName::new(&format!("n{n}")).expect("a name"),
        certificate: vec![1],
        seal_key: [0; 32],
        addresses: header(n).addresses,
        admitted_by: None,
        token: None,
        at: Wall(EPOCH_MS),
    }
}

fn roster(n: usize) -> Record {
    let entry = entry(n);
    let author = Actor { node: id(0), generation: Generation(1) };
    Record::write(RecordId::roster(id(n)), Stamp::Fact { author }, Hlc(n as u64 + 1), Some(&codec::encode(&entry)))
}

impl Flock {
    /// So many nodes, started, joined and synced.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut flock = Self {
            hosts: Vec::new(),
            now: Instant::from_millis(1_000),
            queue: BTreeMap::new(),
            sequence: 0,
            links: 0,
            replies: BTreeMap::new(),
            requests: 0,
            cut: BTreeSet::new(),
            look_around: LATENCY,
            rebalance: 0,
        };
        for n in 0..nodes {
            let disk = (0..nodes).map(roster).map(|r| (r.slot(), r.bytes().to_vec())).collect();
            flock.hosts.push(Host {
                id: id(n),
                node: None,
                header: header(n),
                boot: 0,
                disk,
                wire: WireVersion::CURRENT,
                links: BTreeMap::new(),
                running: BTreeMap::new(),
                ended: BTreeMap::new(),
                unhealthy: false,
                busy_ports: BTreeSet::new(),
                broken: false,
                stubborn: false,
                deaf_disk: false,
                starts: Vec::new(),
                names: BTreeMap::new(),
                instances: BTreeMap::new(),
                events: Vec::new(),
                last_words: None,
            });
        }
        (0..nodes).for_each(|n| flock.boot(n));
        flock.until("all are synced and see each other", 20, |f| {
            f.hosts.iter().all(|h| {
                let status = h.node.as_ref().map(|n| query::status(n, Instant::ZERO, Wall(0)));
                status.is_some_and(|s| s.synced && s.members.alive == nodes)
                    && h.node.as_ref().is_some_and(|n| n.view().candidates().len() == nodes)
            })
        });
        flock
    }

    pub(crate) fn wall(&self) -> Wall {
        Wall(EPOCH_MS + self.now.as_millis())
    }

    /// Starts an agent on what its disk holds; the driver then tells what it finds.
    pub(crate) fn boot(&mut self, n: usize) {
        let (now, wall) = (self.now, self.wall());
        let host = &mut self.hosts[n];
        host.boot += 1;
        host.deaf_disk = false;
        let records = host.disk.values().map(|bytes| Record::read(bytes).expect("own bytes")).collect();
        let boot =
            Boot { base: None, records, first: host.boot == 1, generation: Generation(wall.0), alive: Vec::new() };
        let config = NodeConfig {
            me: host.id,
            cluster: ClusterId([9; 16]),
            header: host.header.clone(),
            wire: host.wire,
            timing: dunlin_gossip::engine::Timing::default(),
            port_range: 20_000..=20_099,
            rebalance: self.rebalance,
            skip: BTreeSet::new(),
            at_hand: AtHand::default(),
        };
        let mut out = Outputs::default();
        host.node = Some(Node::new(config, boot, Seed(n as u64), now, wall, &mut out));
        let found = host.running.iter().map(|(alloc, spec)| (*alloc, spec.attempt, None));
        let ended = host.ended.iter().map(|(alloc, (attempt, exit))| (*alloc, *attempt, Some(*exit)));
        let found =
            found.chain(ended).map(|(alloc, attempt, exit)| Adopted { alloc, attempt, instance: None, exit }).collect();
        self.outputs(n, out);
        self.later(n, self.look_around, Input::Driver(DriverEvent::Adopted(found)));
    }

    /// Kills the agent; workloads stay.
    pub(crate) fn kill_agent(&mut self, n: usize) {
        self.hosts[n].node = None;
        self.hosts[n].boot += 1;
        for link in self.hosts[n].links.keys().copied().collect::<Vec<_>>() {
            self.hang_up(n, link);
        }
    }

    /// The disk holds no claim of its own node any more.
    pub(crate) fn forget_claims(&mut self, n: usize) {
        let is_claim = |bytes: &[u8]| Record::read(bytes).expect("own bytes").id().kind == Kind::ALLOCATION;
        self.hosts[n].disk.retain(|_, bytes| !is_claim(bytes));
    }

    /// Kills agent and workloads.
    pub(crate) fn kill(&mut self, n: usize) {
        self.kill_agent(n);
        self.hosts[n].running.clear();
    }

    /// A process ends.
    pub(crate) fn exit(&mut self, n: usize, alloc: AllocId, exit: Exit) {
        let spec = self.hosts[n].running.remove(&alloc).expect("it runs");
        let event = DriverEvent::Exited { alloc, attempt: spec.attempt, exit };
        match self.hosts[n].node {
            Some(_) => self.later(n, LATENCY, Input::Driver(event)),
            None => drop(self.hosts[n].ended.insert(alloc, (spec.attempt, exit))),
        }
    }

    pub(crate) fn later(&mut self, n: usize, after: Duration, input: Input) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), (n, self.hosts[n].boot, input));
    }

    pub(crate) fn request(&mut self, n: usize, request: Request) -> RequestId {
        self.requests += 1;
        let request_id = RequestId(self.requests);
        self.later(n, Duration::ZERO, Input::Request(request_id, Asker::new("ann"), request));
        request_id
    }

    /// Deploys and waits for the reply.
    pub(crate) fn deploy(&mut self, n: usize, services: &[(&str, Service)]) -> Reply {
        self.deploy_so(n, services, RolloutPolicy::default())
    }

    /// Deploys services that all go over to their revisions like this, and waits for the reply.
    pub(crate) fn deploy_so(&mut self, n: usize, services: &[(&str, Service)], policy: RolloutPolicy) -> Reply {
        let named = |name: &str| ServiceName::new(name).expect("a name");
        let policies = services.iter().map(|(name, _)| (named(name), policy)).collect();
        let services = services.iter().map(|(name, s)| (named(name), s.clone())).collect();
        let timeout = Duration::from_secs(5);
        let (waves, ack) = (None, Ack::Default);
        let id = self.request(n, Request::Deploy { stack: stack(), services, policies, waves, ack, timeout });
        self.reply(id)
    }

    pub(crate) fn reply(&mut self, id: RequestId) -> Reply {
        self.until("the reply", 10, |f| f.replies.contains_key(&id));
        self.replies[&id].clone()
    }

    /// Runs until something holds, or fails after so many virtual seconds.
    pub(crate) fn until(&mut self, what: &str, seconds: u64, holds: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(seconds);
        let mut steps = 0_u64;
        while !holds(self) {
            steps += 1;
            assert!(steps < 5_000_000, "no progress while waiting: {what}\n{}", self.describe());
            assert!(self.step(end), "not within {seconds} s: {what}\n{}", self.describe());
        }
    }

    /// Runs for a while.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
        self.now = end;
    }

    /// The next thing that happens, if it does before the end.
    fn step(&mut self, end: Instant) -> bool {
        let timer =
            self.hosts.iter().enumerate().filter_map(|(n, h)| Some((h.node.as_ref()?.next_deadline()?, n))).min();
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let timer_first = timer.is_some_and(|(at, _)| queued.is_none_or(|q| at < q));
        let (at, n, input) = if timer_first {
            let (at, n) = timer.expect("it is first");
            (at, n, Input::Deadline)
        } else {
            let Some(at) = queued.filter(|at| *at <= end) else { return false };
            let (n, boot, input) = self.queue.pop_first().expect("it is queued").1;
            if boot != self.hosts[n].boot {
                return true;
            }
            (at, n, input)
        };
        if at > end {
            return false;
        }
        self.now = self.now.max(at);
        let (now, wall) = (self.now, self.wall());
        let mut out = Outputs::default();
        if let Some(node) = &mut self.hosts[n].node {
            node.handle(now, wall, input, &mut out);
        }
        self.outputs(n, out);
        true
    }

    fn outputs(&mut self, n: usize, out: Outputs) {
        for output in out.list {
            match output {
                Output::Gossip(output) => self.gossip(n, output),
                Output::Reply(id, reply) => assert!(self.replies.insert(id, reply).is_none(), "{id:?} answered twice"),
                Output::Driver(command) => self.driver(n, command),
                Output::Names(change) => self.name(n, change),
                Output::Event(event) => self.hosts[n].events.push(event),
            }
        }
    }

    fn name(&mut self, n: usize, change: NameChange) {
        let Host { names, instances: lists, .. } = &mut self.hosts[n];
        let service = match change {
            NameChange::Service { service, instances } => {
                lists.insert(service.clone(), instances);
                service
            }
            NameChange::Places { service, places, instances } => {
                dunlin_names::restate(lists.get_mut(&service).expect("told whole before"), &places, &instances);
                service
            }
            NameChange::ServiceGone(service) => {
                lists.remove(&service);
                return drop(names.remove(&service));
            }
            NameChange::Node { .. } | NameChange::NodeGone(_) => return,
        };
        let ports = |i: &dunlin_names::Instance| i.ports.first().map_or(0, |p| p.outer);
        let now = lists[&service].iter().map(|i| (i.node, ports(i))).collect();
        names.insert(service, now);
    }

    fn gossip(&mut self, n: usize, output: GossipOutput) {
        let position = |f: &Self, id: NodeId| f.hosts.iter().position(|h| h.id == id);
        match output {
            GossipOutput::Packet { to, bytes } => {
                let Some(to) = position(self, to) else { return };
                if self.hosts[to].node.is_none() {
                    let node = self.hosts[to].id;
                    self.later(n, LATENCY, Input::Gossip(GossipInput::Refused { node }));
                } else if !self.is_cut(n, to) {
                    let from = self.hosts[n].id;
                    self.later(to, LATENCY, Input::Gossip(GossipInput::Packet { from, bytes }));
                }
            }
            GossipOutput::Frame { link, frame, .. } => {
                if let Some((to, theirs)) = self.hosts[n].links.get(&link).copied()
                    && !self.is_cut(n, to)
                {
                    let size = frame.bytes().len() as u64;
                    self.later(n, LATENCY, Input::Gossip(GossipInput::Credit { link, bytes: size }));
                    let frame = GossipInput::Frame { link: theirs, frame: frame.bytes().to_vec().into() };
                    self.later(to, LATENCY, Input::Gossip(frame));
                }
            }
            GossipOutput::Dial { peer } => {
                if let Some(to) = position(self, peer) {
                    self.dial(n, to);
                }
            }
            GossipOutput::Hangup { link, reason } => {
                if reason == REMOVED
                    && let Some((to, _)) = self.hosts[n].links.get(&link).copied()
                {
                    let by = self.hosts[n].id;
                    self.later(to, LATENCY, Input::Gossip(GossipInput::Expelled { by }));
                }
                self.hang_up(n, link);
            }
            GossipOutput::Persist { seq, ops } => {
                if self.hosts[n].deaf_disk {
                    return;
                }
                for op in ops {
                    match op {
                        PersistOp::Put { slot, bytes } => drop(self.hosts[n].disk.insert(slot, bytes.to_vec())),
                        PersistOp::Delete { slot } => drop(self.hosts[n].disk.remove(&slot)),
                    }
                }
                self.later(n, LATENCY, Input::Gossip(GossipInput::Persisted(seq)));
            }
            GossipOutput::Event(GossipEvent::Fatal(text)) => self.hosts[n].last_words = Some(text),
            GossipOutput::Event(_) => {}
        }
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a, b)) || self.cut.contains(&(b, a))
    }

    fn dial(&mut self, n: usize, to: usize) {
        let peer = self.hosts[to].id;
        if self.hosts[to].node.is_none() || self.is_cut(n, to) {
            let down = GossipInput::LinkDown { link: None, peer, reason: "nobody listens".to_string() };
            self.later(n, LATENCY, Input::Gossip(down));
            return;
        }
        assert_eq!(INITIAL_CREDIT, 1 << 20);
        self.links += 2;
        let (mine, theirs) = (LinkId(self.links), LinkId(self.links + 1));
        self.hosts[n].links.insert(mine, (to, theirs));
        self.hosts[to].links.insert(theirs, (n, mine));
        self.later(n, LATENCY, Input::Gossip(GossipInput::LinkUp { link: mine, peer, inbound: false }));
        let peer = self.hosts[n].id;
        self.later(to, LATENCY, Input::Gossip(GossipInput::LinkUp { link: theirs, peer, inbound: true }));
    }

    fn hang_up(&mut self, n: usize, link: LinkId) {
        let Some((to, theirs)) = self.hosts[n].links.remove(&link) else { return };
        self.hosts[to].links.remove(&theirs);
        let peer = self.hosts[n].id;
        let down = GossipInput::LinkDown { link: Some(theirs), peer, reason: "closed".to_string() };
        self.later(to, LATENCY, Input::Gossip(down));
    }

    fn driver(&mut self, n: usize, command: DriverCommand) {
        let host = &mut self.hosts[n];
        let event = match command {
            DriverCommand::Start(spec) => {
                host.starts.push((*spec).clone());
                let (alloc, attempt) = (spec.alloc, spec.attempt);
                let busy = spec.ports.iter().map(|p| p.outer).find(|p| host.busy_ports.contains(p));
                if let Some(port) = busy {
                    DriverEvent::StartFailed { alloc, attempt, failure: StartFailure::PortTaken(port) }
                } else if host.broken {
                    let failure = StartFailure::Other("no such program".to_string());
                    DriverEvent::StartFailed { alloc, attempt, failure }
                } else {
                    host.running.insert(alloc, *spec);
                    DriverEvent::Started { alloc, attempt, instance: None }
                }
            }
            DriverCommand::Stop { .. } if host.stubborn => return,
            DriverCommand::Stop { alloc, .. } => {
                let attempt = host.running.remove(&alloc).map_or(0, |spec| spec.attempt);
                DriverEvent::Exited { alloc, attempt, exit: Exit::Signal(15) }
            }
            DriverCommand::Probe { alloc, token, .. } => {
                let well = !host.unhealthy;
                let outcome = if well { ProbeOutcome::Passed } else { ProbeOutcome::Failed("503".to_string()) };
                DriverEvent::Probed { alloc, token, outcome }
            }
            DriverCommand::Extend { .. } => return,
            DriverCommand::Forget { alloc } => {
                host.ended.remove(&alloc);
                return;
            }
        };
        self.later(n, LATENCY, Input::Driver(event));
    }

    /// What a node says of all allocations.
    pub(crate) fn ps(&self, n: usize) -> Vec<AllocationRow> {
        self.hosts[n].node.as_ref().map(query::allocations).unwrap_or_default()
    }

    /// Replicas of a service that really run, with their hosts, in order.
    pub(crate) fn placed(&self, service: &str) -> Vec<(String, usize)> {
        let mut out = Vec::new();
        for (n, host) in self.hosts.iter().enumerate() {
            let running = host.running.values().filter(|s| s.replica.service == key(service));
            out.extend(running.map(|s| (s.replica.slot.to_string(), n)));
        }
        out.sort();
        out
    }

    /// True if exactly so many replicas run, and every node with an agent says that they are ready, and names all.
    pub(crate) fn is_up(&self, service: &str, replicas: usize) -> bool {
        let agents = || self.hosts.iter().enumerate().filter(|(_, h)| h.node.is_some());
        let mut slots: Vec<String> = self.placed(service).into_iter().map(|(slot, _)| slot).collect();
        slots.dedup();
        self.placed(service).len() == replicas
            && slots.len() == replicas
            && agents().all(|(n, host)| {
                let rows = self.ps(n);
                let ready = rows.iter().filter(|r| r.service == key(service).to_string() && r.ready);
                ready.count() == replicas && host.names.get(&key(service)).map_or(0, Vec::len) == replicas
            })
    }

    pub(crate) fn describe(&self) -> String {
        let mut out = String::new();
        for (n, host) in self.hosts.iter().enumerate() {
            out += &format!("n{n} at {:?}: runs {:?}\n", self.now, host.running.keys());
            for row in self.ps(n) {
                out += &format!("  {} on {} {} ready={} {}\n", row.replica, row.node, row.phase, row.ready, row.detail);
            }
            for event in host.events.iter().rev().take(8).rev() {
                out += &format!("  {} {:?} {:?} {}\n", event.at.0 - EPOCH_MS, event.node, event.replica, event.text);
            }
        }
        out
    }
}
