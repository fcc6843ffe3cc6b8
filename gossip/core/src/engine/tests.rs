//! Several engines in one small world: an event queue, latency, loss, cuts, disks. Minutes pass in milliseconds.

mod behind;
mod boots;
mod hostile;
mod members;
mod records;
mod removal;
mod tree;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::face::{MemberReason, PeerChange};
use crate::hash::{hash64, mix};
use crate::hlc::Hlc;
use crate::id::{Actor, ClusterId};
use crate::model::{Asker, NodeName, RosterEntry};
use crate::rng::Ratio;
use crate::wire::{Kind, RecordId, WireVersion, codec};

const EPOCH: u64 = 1_800_000_000_000;

enum Ev {
    Input(u8, u64, GossipInput),
    Wake(u8, u64),
    Dialled { from: u8, to: u8 },
}

struct Host {
    gossip: Option<Gossip>,
    /// Counts boots; what is addressed to an earlier one is lost.
    boot: u64,
    disk: BTreeMap<Vec<u8>, Arc<[u8]>>,
    generation: Option<Generation>,
    events: Vec<(Instant, GossipEvent)>,
    woken: Instant,
}

struct World {
    now: Instant,
    sequence: u64,
    queue: BTreeMap<(Instant, u64), Ev>,
    hosts: BTreeMap<u8, Host>,
    /// Both ends of every link: (node, link) to (node, link).
    links: BTreeMap<(u8, LinkId), (u8, LinkId)>,
    next_link: u64,
    cut: BTreeSet<(u8, u8)>,
    loss: Ratio,
    rng: Rng,
    trace: u64,
    no_links: bool,
    timing: Timing,
    /// Bytes of packets on the wire, headers and sealing included.
    sent: BTreeMap<u8, u64>,
}

fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

fn fact(n: u8) -> Record {
    let entry = RosterEntry {
        node: node(n),
        name: NodeName::new(&alloc::format!("n{n}")).expect("a fine name"),
        certificate: Vec::new(),
        seal_key: [n; 32],
        addresses: Vec::new(),
        admitted_by: None,
        token: None,
        at: Wall(EPOCH),
    };
    let author = Actor { node: node(1), generation: Generation(1) };
    let stamp = crate::wire::Stamp::Fact { author };
    Record::write(RecordId::roster(node(n)), stamp, Hlc::from_wall(Wall(EPOCH)), Some(&codec::encode(&entry)))
}

fn service(name: &str) -> RecordId {
    RecordId::new(Class::ManyWriters, Kind::SERVICE, name.as_bytes())
}

impl World {
    /// Hosts 1 to n, rostered everywhere, none booted.
    fn new(n: u8, seed: u64) -> Self {
        let roster: BTreeMap<Vec<u8>, Arc<[u8]>> =
            (1..=n).map(fact).map(|record| (record.slot(), record.bytes().clone())).collect();
        let host = |_| Host {
            gossip: None,
            boot: 0,
            disk: roster.clone(),
            generation: None,
            events: Vec::new(),
            woken: Instant::MAX,
        };
        Self {
            now: Instant::from_millis(1),
            sequence: 0,
            queue: BTreeMap::new(),
            hosts: (1..=n).map(|n| (n, host(n))).collect(),
            links: BTreeMap::new(),
            next_link: 1,
            cut: BTreeSet::new(),
            loss: Ratio::ZERO,
            rng: Seed(seed).split("world").rng(),
            trace: seed,
            no_links: false,
            timing: Timing::default(),
            sent: BTreeMap::new(),
        }
    }

    /// All booted and synced.
    fn running(n: u8, seed: u64) -> Self {
        let mut world = Self::new(n, seed);
        (1..=n).for_each(|n| world.boot(n));
        world.run(Duration::from_secs(12));
        world.settled();
        world
    }

    fn settled(&self) {
        for (n, host) in &self.hosts {
            let Some(gossip) = &host.gossip else { continue };
            assert!(gossip.is_synced(), "{n} has synced");
            for (other, state) in gossip.members() {
                let up = self.hosts[&other.0[0]].gossip.is_some();
                let wanted = if up { MemberState::Alive } else { MemberState::Down };
                assert_eq!(state, wanted, "{n} about {other} at {:?}", self.now);
            }
        }
    }

    fn wall(&self) -> Wall {
        Wall(EPOCH + self.now.as_millis())
    }

    fn boot(&mut self, n: u8) {
        let (now, wall) = (self.now, self.wall());
        let host = self.hosts.get_mut(&n).expect("a host");
        let generation = Generation::next(host.generation, wall.0, 0);
        let first = host.generation.is_none();
        host.generation = Some(generation);
        host.boot += 1;
        host.woken = Instant::MAX;
        let records = host.disk.values().map(|bytes| Record::read(bytes).expect("what we wrote")).collect();
        let config = GossipConfig {
            me: node(n),
            cluster: ClusterId([9; 16]),
            wire: WireVersion::CURRENT,
            timing: self.timing,
            seeds: vec![node(1)],
        };
        let mut out = GossipOutputs::default();
        let boot = Boot { base: None, records, first, generation, alive: Vec::new() };
        let gossip = Gossip::new(config, boot, Seed(self.trace).nth(u64::from(n)), now, wall, &mut out);
        host.gossip = Some(gossip);
        self.carry_out(n, out);
    }

    /// The agent dies; its host lives and refuses.
    fn kill(&mut self, n: u8) {
        let host = self.hosts.get_mut(&n).expect("a host");
        host.gossip = None;
        host.boot += 1;
        let ends: Vec<_> = self.links.iter().filter(|((a, _), _)| *a == n).map(|(a, b)| (*a, *b)).collect();
        for (near, far) in ends {
            self.links.remove(&near);
            self.links.remove(&far);
            // The others notice by and by.
            self.input(
                Duration::from_millis(800),
                far.0,
                GossipInput::LinkDown { link: Some(far.1), peer: node(n), reason: String::from("reset") },
            );
        }
    }

    fn at(&mut self, after: Duration, event: Ev) {
        self.sequence += 1;
        self.queue.insert((self.now + after, self.sequence), event);
    }

    fn input(&mut self, after: Duration, to: u8, input: GossipInput) {
        let boot = self.hosts[&to].boot;
        self.at(after, Ev::Input(to, boot, input));
    }

    fn is_cut(&self, a: u8, b: u8) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn partition(&mut self, left: &[u8], right: &[u8]) {
        for a in left {
            for b in right {
                self.cut.insert((*a.min(b), *a.max(b)));
            }
        }
        let broken: Vec<_> = self.links.iter().map(|(a, b)| (*a, *b)).filter(|(a, b)| self.is_cut(a.0, b.0)).collect();
        for ((n, link), far) in broken {
            self.links.remove(&(n, link));
            let peer = node(far.0);
            self.input(
                Duration::from_secs(4),
                n,
                GossipInput::LinkDown { link: Some(link), peer, reason: String::new() },
            );
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some((&(at, _), _)) = self.queue.first_key_value()
            && at <= end
        {
            let Some((_, event)) = self.queue.pop_first() else { break };
            self.now = at;
            match event {
                Ev::Input(n, boot, input) => self.give(n, boot, input),
                Ev::Wake(n, boot) => {
                    let host = self.hosts.get_mut(&n).expect("a host");
                    host.woken = Instant::MAX;
                    self.give(n, boot, GossipInput::Deadline);
                }
                Ev::Dialled { from, to } => self.dialled(from, to),
            }
        }
        self.now = end;
    }

    fn give(&mut self, n: u8, boot: u64, input: GossipInput) {
        let (now, wall) = (self.now, self.wall());
        let host = self.hosts.get_mut(&n).expect("a host");
        if host.boot != boot {
            return;
        }
        let Some(gossip) = host.gossip.as_mut() else { return };
        let mut out = GossipOutputs::default();
        gossip.handle(now, wall, input, &mut out);
        self.carry_out(n, out);
    }

    fn act(&mut self, n: u8, action: impl FnOnce(&mut Gossip, Instant, Wall, &mut GossipOutputs)) {
        let (now, wall) = (self.now, self.wall());
        let mut out = GossipOutputs::default();
        action(self.hosts.get_mut(&n).and_then(|host| host.gossip.as_mut()).expect("it runs"), now, wall, &mut out);
        self.carry_out(n, out);
    }

    fn latency(&mut self) -> Duration {
        Duration::from_micros(500 + self.rng.below(4_500))
    }

    fn carry_out(&mut self, n: u8, out: GossipOutputs) {
        for output in out.list {
            self.trace = mix(self.trace, hash64(alloc::format!("{n} {:?} {output:?}", self.now).as_bytes()));
            match output {
                GossipOutput::Packet { to, bytes } => self.packet(n, to.0[0], bytes),
                GossipOutput::Frame { link, frame, .. } => {
                    if let Some((far, far_link)) = self.links.get(&(n, link)).copied() {
                        let bytes = frame.bytes();
                        let size = bytes.len() as u64;
                        assert!(bytes.len() <= crate::limits::MAX_FRAME);
                        // One latency for all: links keep order.
                        let after = Duration::from_millis(3);
                        self.input(after, far, GossipInput::Frame { link: far_link, frame: bytes.to_vec().into() });
                        self.input(after * 2, n, GossipInput::Credit { link, bytes: size });
                    }
                }
                GossipOutput::Dial { peer } => {
                    self.at(Duration::from_millis(6), Ev::Dialled { from: n, to: peer.0[0] });
                }
                GossipOutput::Hangup { link, reason } => {
                    if let Some(far) = self.links.remove(&(n, link)) {
                        if reason == crate::face::REMOVED {
                            self.input(Duration::from_millis(3), far.0, GossipInput::Expelled { by: node(n) });
                        }
                        self.links.remove(&far);
                        let gone = |link, peer| GossipInput::LinkDown { link: Some(link), peer, reason: String::new() };
                        self.input(Duration::from_millis(3), far.0, gone(far.1, node(n)));
                        self.input(Duration::ZERO, n, gone(link, node(far.0)));
                    }
                }
                GossipOutput::Persist { seq, ops } => {
                    let host = self.hosts.get_mut(&n).expect("a host");
                    for op in ops {
                        match op {
                            PersistOp::Put { slot, bytes } => drop(host.disk.insert(slot, bytes)),
                            PersistOp::Delete { slot } => drop(host.disk.remove(&slot)),
                        }
                    }
                    self.input(Duration::from_millis(2), n, GossipInput::Persisted(seq));
                }
                GossipOutput::Event(event) => {
                    let now = self.now;
                    self.hosts.get_mut(&n).expect("a host").events.push((now, event));
                }
            }
        }
        let host = &self.hosts[&n];
        let (boot, woken) = (host.boot, host.woken);
        if let Some(next) = host.gossip.as_ref().and_then(Gossip::next_deadline)
            && next < woken
        {
            let after = next.since(self.now);
            self.hosts.get_mut(&n).expect("a host").woken = self.now + after;
            self.at(after, Ev::Wake(n, boot));
        }
    }

    fn packet(&mut self, from: u8, to: u8, bytes: Vec<u8>) {
        assert!(bytes.len() <= crate::limits::MAX_PACKET, "{}", bytes.len());
        *self.sent.entry(from).or_default() += bytes.len() as u64 + 28 + 41;
        let after = self.latency();
        if self.is_cut(from, to) || self.rng.chance(self.loss) {
            return;
        }
        if self.hosts[&to].gossip.is_none() {
            self.input(after * 2, from, GossipInput::Refused { node: node(to) });
        } else {
            self.input(after, to, GossipInput::Packet { from: node(from), bytes });
        }
    }

    fn dialled(&mut self, from: u8, to: u8) {
        if self.hosts[&to].gossip.is_none() || self.is_cut(from, to) || self.no_links {
            let failed = GossipInput::LinkDown { link: None, peer: node(to), reason: String::from("no answer") };
            return self.input(Duration::from_millis(3), from, failed);
        }
        let (a, b) = (LinkId(self.next_link), LinkId(self.next_link + 1));
        self.next_link += 2;
        self.links.insert((from, a), (to, b));
        self.links.insert((to, b), (from, a));
        self.input(Duration::ZERO, to, GossipInput::LinkUp { link: b, peer: node(from), inbound: true });
        self.input(Duration::ZERO, from, GossipInput::LinkUp { link: a, peer: node(to), inbound: false });
    }

    fn gossip(&self, n: u8) -> &Gossip {
        self.hosts[&n].gossip.as_ref().expect("it runs")
    }

    fn put(&mut self, n: u8, name: &str, value: &[u8]) -> Hlc {
        let mut stamp = None;
        let value = value.to_vec();
        self.act(n, |gossip, now, wall, out| {
            stamp = gossip
                .write(now, wall, &Asker::default(), vec![(service(name), Some(value))], out)
                .ok()
                .map(|(hlc, _)| hlc);
        });
        stamp.expect("accepted")
    }

    fn value(&self, n: u8, name: &str) -> Option<Vec<u8>> {
        self.gossip(n).state().value(&service(name)).and_then(|record| record.payload()).map(<[u8]>::to_vec)
    }

    fn roots(&self) -> BTreeSet<u64> {
        self.hosts.values().filter_map(|host| host.gossip.as_ref()).map(|gossip| gossip.state().sync_root()).collect()
    }

    /// When `n` was told that `about` is so, counted from `since`.
    fn told(&self, n: u8, about: u8, wanted: MemberState, since: Instant) -> Option<(Duration, MemberReason)> {
        self.hosts[&n].events.iter().find_map(|(at, event)| match event {
            GossipEvent::Member { node: who, state, reason }
                if *who == node(about) && *state == wanted && *at >= since =>
            {
                Some((at.since(since), *reason))
            }
            _ => None,
        })
    }

    fn has_event(&self, n: u8, wanted: impl Fn(&GossipEvent) -> bool) -> bool {
        self.hosts[&n].events.iter().any(|(_, event)| wanted(event))
    }
}
