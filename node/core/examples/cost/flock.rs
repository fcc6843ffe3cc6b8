//! A flock that runs, as records: what every node of it holds. Put together by the code that nodes run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use dunlin_core::face::{Ack, Adopted, DriverEvent, Input, NodeConfig, Output, Outputs, Request, RequestId};
use dunlin_core::place::{self, Scene, Waiting};
use dunlin_core::{Base, Node, claim};
use dunlin_gossip::face::{Boot, GossipInput, GossipOutput, PersistOp};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, ClusterId, Generation, NodeId};
use dunlin_gossip::model::{
    Asker, Epoch, Mode, NodeHeader, Phase, ReplicaKey, RosterEntry, Service, ServiceName, Slot, StackName,
};
use dunlin_gossip::rng::Seed;
use dunlin_gossip::state::State;
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Kind, Record, RecordId, Stamp, WireVersion, codec};

const WALL: Wall = Wall(1_800_000_000_000);
const GENERATION: Generation = Generation(1_799_999_000_000);
/// When something happens.
const SOON: Duration = Duration::from_millis(100);
/// A refusal is believed after a second; who has heard nobody for two takes nothing displaced over, and here nobody speaks.
const BELIEVED: Duration = Duration::from_millis(1_800);
/// A node that came takes nothing for so long.
const CALM: Duration = Duration::from_secs(30);
const SLICES: u32 = 10;

/// All nodes and what they hold.
pub(crate) struct Flock {
    headers: Vec<(NodeId, NodeHeader)>,
    state: State,
}

impl Flock {
    /// Nodes that know each other.
    pub(crate) fn new(headers: Vec<(NodeId, NodeHeader)>) -> Self {
        let mut state = State::new(Actor { node: NodeId([0; 16]), generation: Generation(0) });
        let hlc = Hlc::from_wall(WALL);
        for (node, header) in &headers {
            let entry = RosterEntry {
                node: *node,
                name: header.name.clone(),
                certificate: Vec::new(),
                seal_key: [0; 32],
                addresses: vec![SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 7400)],
                admitted_by: None,
                token: None,
                at: WALL,
            };
            let fact = Stamp::Fact { author: Actor { node: headers[0].0, generation: Generation(0) } };
            state.restore(Record::write(RecordId::roster(*node), fact, hlc, Some(&codec::encode(&entry))));
            let stamp = Stamp::Sequence { generation: GENERATION, sequence: 1 };
            state.restore(Record::write(RecordId::header(*node), stamp, hlc, Some(&codec::encode(header))));
        }
        Self { headers, state }
    }

    /// What every node holds.
    pub(crate) fn base(&self) -> Base {
        let alive: Vec<NodeId> = self.headers.iter().map(|(node, _)| *node).collect();
        Base::new(self.state.clone(), &alive, WALL)
    }

    /// The first node, whose drivers found what it claims.
    fn one(&self, generation: Generation, base: &Base, out: &mut Outputs) -> Node {
        let (me, header) = self.headers[0].clone();
        let config = NodeConfig {
            me,
            cluster: ClusterId([0; 16]),
            header,
            wire: WireVersion(1),
            timing: Default::default(),
            port_range: 20_000..=29_999,
            rebalance: 6,
            skip: Default::default(),
            at_hand: Default::default(),
        };
        let alive = self.headers.iter().map(|(node, _)| (*node, GENERATION)).collect();
        let boot = Boot { base: None, records: Vec::new(), first: false, generation, alive };
        let mut node = Node::upon(base, config, boot, Seed(1), Instant::ZERO, WALL, out);
        let known = base.view().nodes().get(&me).into_iter().flat_map(|known| known.allocations.keys());
        let found = known.map(|alloc| Adopted { alloc: *alloc, attempt: 0, instance: None, exit: None }).collect();
        node.handle(Instant::ZERO, WALL, Input::Driver(DriverEvent::Adopted(found)), out);
        node
    }

    /// The first node takes a deploy.
    pub(crate) fn deploy(&mut self, services: BTreeMap<ServiceName, Service>) {
        let mut out = Outputs::default();
        let mut node = self.one(GENERATION, &self.base(), &mut out);
        out.list.clear();
        let stack = StackName::new("bench").expect("a name");
        let (policies, timeout) = (BTreeMap::new(), Duration::from_secs(1));
        let deploy = Request::Deploy { stack, services, policies, waves: None, ack: Ack::Default, timeout };
        node.handle(Instant::ZERO, WALL, Input::Request(RequestId(0), Asker::default(), deploy), &mut out);
        for output in out.list {
            let Output::Gossip(GossipOutput::Persist { ops, .. }) = output else { continue };
            for op in ops {
                let PersistOp::Put { bytes, .. } = op else { continue };
                self.state.restore(Record::read(&bytes).expect("it was just written"));
            }
        }
    }

    /// Everything that is wanted runs where the plan has it.
    pub(crate) fn settle(&mut self) {
        let base = self.base();
        let mut replicas = Vec::new();
        for (service, force) in base.view().services() {
            let Mode::Replicated(count) = force.service.mode else { continue };
            let replica = |n| ReplicaKey { service: service.clone(), slot: Slot::Number(n) };
            replicas.extend((1..=count).map(|n| (replica(n), force)));
        }
        let waiting = |(replica, force)| -> Waiting<'_> {
            let force: &&dunlin_core::view::InForce = force;
            Waiting { replica, spec: &force.service.spec, refused_by: &[] }
        };
        let mut waiting: Vec<Waiting<'_>> = replicas.iter().map(|(r, f)| waiting((r, f))).collect();
        waiting.sort_by_cached_key(place::order_key);
        let heads = place::heads(&waiting, Scene::of(&base.view().candidates()));
        for (at, (head, waiting)) in heads.into_iter().zip(waiting).enumerate() {
            let node = head.expect("there is room");
            let force = &base.view().services()[&waiting.replica.service];
            let epoch = Epoch(Hlc::from_wall(WALL).0);
            let (id, mut claim) = claim::first(node, waiting.replica, force, Vec::new(), Vec::new(), epoch, WALL);
            (claim.phase, claim.ready, claim.ready_once) = (Phase::Healthy, true, true);
            let stamp = Stamp::Sequence { generation: GENERATION, sequence: 2 + at as u64 };
            let id = RecordId::allocation(node, id);
            self.state.restore(Record::write(id, stamp, Hlc::from_wall(WALL), Some(&codec::encode(&claim))));
        }
    }

    /// Deals with all that is due up to a moment. How many claims come of it.
    fn until(node: &mut Node, at: Duration, out: &mut Outputs, timed: &mut impl FnMut(&mut dyn FnMut())) -> usize {
        let before = claims(node);
        let end = Instant::ZERO + at;
        timed(&mut || {
            while let Some(now) = node.next_deadline().filter(|now| *now <= end) {
                node.handle(now, WALL.plus(now.since(Instant::ZERO)), Input::Deadline, out);
            }
        });
        claims(node) - before
    }

    /// A node sees another refuse, holds it for dead a second later, and does all that follows. How many replicas that one had,
    /// and how many of them this one claims.
    pub(crate) fn lose_one(&self, base: &Base, timed: &mut impl FnMut(&mut dyn FnMut())) -> (usize, usize) {
        let victim = self.headers[self.headers.len() / 2].0;
        let mut out = Outputs::default();
        let mut node = self.one(GENERATION, base, &mut out);
        Self::until(&mut node, SOON, &mut out, &mut |work| work());
        out.list.clear();
        let (now, wall) = (Instant::ZERO + SOON, WALL.plus(SOON));
        timed(&mut || node.handle(now, wall, Input::Gossip(GossipInput::Refused { node: victim }), &mut out));
        let claimed = Self::until(&mut node, BELIEVED, &mut out, timed);
        (base.view().nodes().get(&victim).map_or(0, |known| known.allocations.len()), claimed)
    }

    /// A node does all that follows from what it holds: what lacks an owner is placed, and some of it is claimed. How much.
    pub(crate) fn react(&self, base: &Base, timed: &mut impl FnMut(&mut dyn FnMut())) -> usize {
        let mut out = Outputs::default();
        let mut node = self.one(GENERATION, base, &mut out);
        out.list.clear();
        Self::until(&mut node, SOON, &mut out, timed)
    }

    /// A node that came back after long without anything, half a minute later: it looks for its share. Each call is timed. How
    /// many it takes, of those that it may take in that time.
    pub(crate) fn take_share(&mut self, timed: &mut impl FnMut(&mut dyn FnMut())) -> usize {
        let me = self.headers[0].0;
        let own: Vec<RecordId> = self.state.of_writer(me, Kind::ALLOCATION).map(|(id, _)| id.clone()).collect();
        let stamp = Stamp::Sequence { generation: GENERATION, sequence: u64::MAX };
        own.into_iter().for_each(|id| self.state.restore(Record::write(id, stamp.clone(), Hlc::from_wall(WALL), None)));
        let (base, mut out, came) = (self.base(), Outputs::default(), WALL.plus(Duration::from_secs(7_200)));
        let mut node = self.one(Generation(came.0), &base, &mut out);
        // What it had waits for an owner, and is placed in the first calls.
        Self::until(&mut node, SOON, &mut out, &mut |work| work());
        let (before, begin) = (claims(&node), Instant::ZERO + CALM);
        for slice in 0..SLICES {
            let now = begin + Duration::from_millis(100) * slice;
            timed(&mut || node.handle(now, came.plus(now.since(Instant::ZERO)), Input::Deadline, &mut out));
            out.list.clear();
        }
        claims(&node) - before
    }
}

/// How many replicas a node claims.
fn claims(node: &Node) -> usize {
    let me = node.view().me();
    node.view().nodes().get(&me).map_or(0, |known| known.allocations.len())
}
