//! A flock that runs, as records: what every node of it holds. Put together by the code that nodes run.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use dunlin_core::face::{Ack, DriverEvent, Input, NodeConfig, Output, Outputs, Request, RequestId};
use dunlin_core::place::{self, Scene, Waiting};
use dunlin_core::{Base, Node, claim};
use dunlin_gossip::face::{Boot, GossipOutput, PersistOp};
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
pub(crate) const BOOT_HOLD: Duration = Duration::from_secs(10);
/// Who hears nobody takes nothing displaced over for less than this, and here nobody says anything.
const QUIET: Duration = Duration::from_secs(31);
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

    /// What every node holds, where all but one are known to be alive.
    pub(crate) fn base(&self, without: Option<NodeId>) -> Base {
        let alive: Vec<NodeId> = self.alive(without).map(|(node, _)| node).collect();
        Base::new(self.state.clone(), &alive, WALL)
    }

    fn alive(&self, without: Option<NodeId>) -> impl Iterator<Item = (NodeId, Generation)> {
        self.headers.iter().map(|(node, _)| (*node, GENERATION)).filter(move |(node, _)| Some(*node) != without)
    }

    /// A node that has been running, and whose drivers found nothing.
    pub(crate) fn node(&self, base: &Base, without: Option<NodeId>, out: &mut Outputs) -> Node {
        self.one(0, GENERATION, base, without, out)
    }

    fn one(&self, at: usize, generation: Generation, base: &Base, without: Option<NodeId>, out: &mut Outputs) -> Node {
        let (me, header) = self.headers[at].clone();
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
        let alive = self.alive(without).collect();
        let boot = Boot { base: None, records: Vec::new(), first: false, generation, alive };
        let mut node = Node::upon(base, config, boot, Seed(1), Instant::ZERO, WALL, out);
        node.handle(Instant::ZERO, WALL, Input::Driver(DriverEvent::Adopted(Vec::new())), out);
        node
    }

    /// The first node takes a deploy.
    pub(crate) fn deploy(&mut self, services: BTreeMap<ServiceName, Service>) {
        let mut out = Outputs::default();
        let mut node = self.node(&self.base(None), None, &mut out);
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
        let base = self.base(None);
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

    /// A node is told that another is gone, and does all that follows. How many replicas that one had.
    pub(crate) fn lose_one(&self, timed: &mut impl FnMut(&mut dyn FnMut())) -> usize {
        let victim = self.headers[self.headers.len() / 2].0;
        let base = self.base(Some(victim));
        self.react(&base, Some(victim), QUIET, timed);
        base.view().nodes().get(&victim).map_or(0, |known| known.allocations.len())
    }

    /// A node does all that follows from what it holds: what lacks an owner is placed, and some of it is claimed.
    pub(crate) fn react(
        &self,
        base: &Base,
        without: Option<NodeId>,
        after: Duration,
        timed: &mut impl FnMut(&mut dyn FnMut()),
    ) {
        let mut out = Outputs::default();
        let mut node = self.node(base, without, &mut out);
        node.handle(Instant::ZERO, WALL, Input::Deadline, &mut out);
        out.list.clear();
        let now = Instant::ZERO + after;
        let wall = WALL.plus(after);
        timed(&mut || {
            while node.next_deadline().is_some_and(|at| at <= now) {
                node.handle(now, wall, Input::Deadline, &mut out);
            }
        });
    }

    /// A node that came back after long without anything, half a minute later: it looks for its share. Each call is timed.
    pub(crate) fn take_share(&mut self, timed: &mut impl FnMut(&mut dyn FnMut())) {
        let me = self.headers[0].0;
        let own: Vec<RecordId> = self.state.of_writer(me, Kind::ALLOCATION).map(|(id, _)| id.clone()).collect();
        let stamp = Stamp::Sequence { generation: GENERATION, sequence: u64::MAX };
        own.into_iter().for_each(|id| self.state.restore(Record::write(id, stamp.clone(), Hlc::from_wall(WALL), None)));
        let (base, mut out, came) = (self.base(None), Outputs::default(), WALL.plus(Duration::from_secs(7_200)));
        let mut node = self.one(0, Generation(came.0), &base, None, &mut out);
        let begin = Instant::ZERO + BOOT_HOLD * 3;
        // What it had waits for an owner by then, and is placed in the first call.
        node.handle(begin - Duration::from_millis(100), came, Input::Deadline, &mut out);
        for slice in 0..SLICES {
            let now = begin + Duration::from_millis(100) * slice;
            timed(&mut || node.handle(now, came.plus(now.since(Instant::ZERO)), Input::Deadline, &mut out));
            out.list.clear();
        }
    }
}
