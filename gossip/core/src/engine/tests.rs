//! Several engines in one small world: an event queue, latency, loss, cuts, disks. Minutes pass in milliseconds.

mod behind;
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
use crate::id::ClusterId;
use crate::model::{Asker, NodeName, RosterEntry};
use crate::rng::Ratio;
use crate::wire::{Kind, codec};

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
        let config =
            GossipConfig { me: node(n), cluster: ClusterId([9; 16]), timing: self.timing, seeds: vec![node(1)] };
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

#[test]
fn a_newcomer_copies_everything_before_it_counts_as_synced() {
    let mut world = World::new(3, 1);
    world.boot(1);
    world.run(Duration::from_secs(11));
    for n in 0..900 {
        world.put(1, &alloc::format!("s{n}"), &vec![7; 300]);
    }
    world.run(Duration::from_secs(1));
    world.boot(2);
    world.run(Duration::from_secs(2));
    assert!(world.gossip(2).is_synced());
    assert!(world.has_event(2, |event| *event == GossipEvent::Synced { with: Some(node(1)) }));
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.hosts[&2].disk.len(), world.hosts[&1].disk.len(), "the copy is on disk");
}

#[test]
fn a_write_reaches_all_and_is_acknowledged_by_those_that_keep_it() {
    let mut world = World::running(5, 2);
    let hlc = world.put(3, "web", b"v1");
    assert_eq!(world.value(3, "web"), None, "not before it is durable");
    world.run(Duration::from_millis(200));
    for n in 1..=5 {
        assert_eq!(world.value(n, "web").as_deref(), Some(&b"v1"[..]));
    }
    for by in [1, 2, 4, 5] {
        assert!(world.has_event(3, |event| *event == GossipEvent::Stored { hlc, by: node(by) }));
    }
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn concurrent_writes_end_in_one_state() {
    let mut world = World::running(10, 3);
    for n in 1..=10 {
        world.put(n, "web", &[n]);
    }
    world.run(Duration::from_secs(15));
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.gossip(1).state().siblings(&service("web")).len(), 10);
}

#[test]
fn a_dead_agent_is_suspect_at_once_and_down_after_the_window() {
    let mut world = World::running(5, 4);
    let died = world.now;
    world.kill(5);
    world.run(Duration::from_secs(6));
    for n in 1..=4 {
        let (suspect, _) = world.told(n, 5, MemberState::Suspect, died).expect("suspected");
        let (down, _) = world.told(n, 5, MemberState::Down, died).expect("down");
        assert!(suspect < Duration::from_secs(1) && down < Duration::from_secs(2), "{suspect:?} {down:?}");
        assert!(down - suspect >= Duration::from_millis(900));
    }
    world.settled();
    world.boot(5);
    world.run(Duration::from_secs(3));
    world.settled();
    assert!(world.told(1, 5, MemberState::Alive, died).is_some());
}

#[test]
fn an_agent_that_restarts_within_the_window_is_never_down() {
    let mut world = World::running(5, 5);
    let died = world.now;
    world.kill(5);
    world.run(Duration::from_millis(500));
    world.boot(5);
    world.run(Duration::from_secs(10));
    for n in 1..=4 {
        assert_eq!(world.told(n, 5, MemberState::Down, died), None);
    }
    world.settled();
    assert_eq!(world.roots().len(), 1);
}

/// Without another question before the window's end, one that has not heard that an agent is back gives it up, now and then.
#[test]
fn a_flock_whose_agents_restart_one_by_one_loses_nobody() {
    for seed in 1..=4 {
        let mut world = World::running(20, seed);
        let began = world.now;
        for n in 1..=20 {
            world.kill(n);
            world.run(Duration::from_millis(500));
            world.boot(n);
            world.run(Duration::from_millis(2_500));
        }
        for (n, about) in (1..=20).flat_map(|n| (1..=20).map(move |about| (n, about))) {
            assert_eq!(world.told(n, about, MemberState::Down, began), None, "seed {seed}: {n} about {about}");
        }
    }
}

#[test]
fn a_large_flock_starts_cold_and_a_death_reaches_everybody() {
    let mut world = World::running(60, 16);
    let degree = |n| world.gossip(n).links().count();
    assert!((1..=60).all(|n| (4..=20).contains(&degree(n))), "{:?}", (1..=60).map(degree).collect::<Vec<_>>());
    world.put(7, "web", b"v1");
    world.run(Duration::from_secs(1));
    assert!((1..=60).all(|n| world.value(n, "web").is_some()));
    let died = world.now;
    world.kill(9);
    world.run(Duration::from_secs(8));
    world.settled();
    let slowest = (1..=60).filter(|n| *n != 9).filter_map(|n| world.told(n, 9, MemberState::Down, died)).max();
    assert!(slowest.is_some_and(|(after, _)| after < Duration::from_secs(4)), "{slowest:?}");
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn silence_is_found_out_and_a_long_partition_heals() {
    let mut world = World::running(6, 6);
    let cut = world.now;
    world.partition(&[1, 2], &[3, 4, 5, 6]);
    world.run(Duration::from_secs(8));
    let (down, reason) = world.told(3, 1, MemberState::Down, cut).expect("down");
    assert!(down < Duration::from_secs(7), "{down:?}");
    assert!(matches!(reason, MemberReason::Silence | MemberReason::Gossip));
    world.put(1, "left", b"l");
    world.put(4, "right", b"r");
    world.run(Duration::from_secs(300));
    assert!(world.roots().len() > 1);
    world.cut.clear();
    world.run(Duration::from_secs(30));
    world.settled();
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.value(6, "left").as_deref(), Some(&b"l"[..]));
}

#[test]
fn what_the_other_side_believed_kills_nobody_on_this_side() {
    let mut wrong = Vec::new();
    for seed in 0..6 {
        let mut world = World::running(16, 70 + seed);
        let (left, right): (Vec<u8>, Vec<u8>) = (1..=16).partition(|n| *n <= 8);
        world.partition(&left, &right);
        world.run(Duration::from_secs(60));
        let healed = world.now;
        world.cut.clear();
        world.run(Duration::from_secs(30));
        world.settled();
        for side in [&left, &right] {
            let pairs = side.iter().flat_map(|n| side.iter().map(move |about| (*n, *about)));
            wrong.extend(pairs.filter(|(n, about)| world.told(*n, *about, MemberState::Down, healed).is_some()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn halves_of_a_large_flock_grow_together_again() {
    let mut world = World::running(40, 90);
    let (left, right): (Vec<u8>, Vec<u8>) = (1..=40).partition(|n| *n <= 13);
    world.partition(&left, &right);
    world.run(Duration::from_secs(60));
    world.put(1, "left", b"l");
    world.put(40, "right", b"r");
    world.run(Duration::from_secs(5));
    assert_eq!(world.roots().len(), 2, "each half has all the links that it wants");
    world.cut.clear();
    world.run(Duration::from_secs(45));
    world.settled();
    assert_eq!(world.roots().len(), 1);
    let degree = |n| world.gossip(n).links().count();
    assert!((1..=40).all(|n| degree(n) <= 20), "{:?}", (1..=40).map(degree).collect::<Vec<_>>());
}

fn under_loss(seed: u64) -> (u64, usize) {
    let mut world = World::new(10, seed);
    world.loss = Ratio::percent(20);
    (1..=10).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(200));
    let renewals = world.hosts.values().filter_map(|host| host.gossip.as_ref()).map(Gossip::renewals).sum();
    let down = |host: &Host| {
        host.events
            .iter()
            .filter(|(_, event)| matches!(event, GossipEvent::Member { state: MemberState::Down, .. }))
            .count()
    };
    (renewals, world.hosts.values().map(down).sum())
}

#[test]
fn healthy_nodes_are_not_given_up_and_do_not_renew_under_loss() {
    let runs: Vec<(u64, usize)> = (1..=3).map(under_loss).collect();
    assert_eq!(runs, [(0, 0); 3]);
}

#[test]
fn an_old_disk_is_noticed_dropped_and_filled_again() {
    let mut world = World::running(3, 8);
    world.put(3, "old", b"1");
    world.run(Duration::from_secs(1));
    let (disk, generation) = (world.hosts[&3].disk.clone(), world.hosts[&3].generation);
    world.kill(3);
    world.run(Duration::from_secs(5));
    world.boot(3);
    world.run(Duration::from_secs(15));
    let newest = world.hosts[&3].generation.expect("booted");
    world.put(3, "new", b"2");
    world.run(Duration::from_secs(2));
    world.kill(3);
    // The disk of the boot before, and a clock that went back with it.
    let host = world.hosts.get_mut(&3).expect("a host");
    host.disk = disk;
    world.boot_at(3, Generation(generation.expect("booted").0 + 1));
    world.run(Duration::from_secs(3));
    assert!(world.has_event(3, |event| *event == GossipEvent::DiskIsOld { newest }));
    let left = world.hosts[&3].disk.values().filter_map(|bytes| Record::read(bytes).ok());
    assert!(left.into_iter().all(|record| record.id().class == Class::GrowOnly));
    world.kill(3);
    world.hosts.get_mut(&3).expect("a host").generation = Some(newest);
    world.run(Duration::from_secs(5));
    world.boot(3);
    world.run(Duration::from_secs(10));
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.value(3, "new").as_deref(), Some(&b"2"[..]));
    world.settled();
}

impl World {
    /// Boots under a generation, whatever the clock says.
    fn boot_at(&mut self, n: u8, generation: Generation) {
        let (now, wall) = (self.now, Wall(generation.0));
        let host = self.hosts.get_mut(&n).expect("a host");
        host.generation = Some(generation);
        host.boot += 1;
        host.woken = Instant::MAX;
        let records = host.disk.values().map(|bytes| Record::read(bytes).expect("what we wrote")).collect();
        let config =
            GossipConfig { me: node(n), cluster: ClusterId([9; 16]), timing: Timing::default(), seeds: Vec::new() };
        let mut out = GossipOutputs::default();
        let boot = Boot { base: None, records, first: false, generation, alive: Vec::new() };
        let gossip = Gossip::new(config, boot, Seed(1), now, wall, &mut out);
        host.gossip = Some(gossip);
        self.carry_out(n, out);
    }
}

#[test]
fn a_process_that_takes_over_from_another_of_its_boot_knows_all_at_once() {
    let mut world = World::new(12, 16);
    let generation = Generation(EPOCH);
    let alive: Vec<_> = (1..=12).map(|n| (node(n), generation)).collect();
    for n in 1..=12 {
        let (now, wall) = (world.now, world.wall());
        let host = world.hosts.get_mut(&n).expect("a host");
        host.boot += 1;
        host.generation = Some(generation);
        let records = host.disk.values().map(|bytes| Record::read(bytes).expect("what we wrote")).collect();
        let config =
            GossipConfig { me: node(n), cluster: ClusterId([9; 16]), timing: Timing::default(), seeds: Vec::new() };
        let boot = Boot { base: None, records, first: false, generation, alive: alive.clone() };
        let mut out = GossipOutputs::default();
        let gossip = Gossip::new(config, boot, Seed(u64::from(n)), now, wall, &mut out);
        host.gossip = Some(gossip);
        let packets = out.list.iter().filter(|output| matches!(output, GossipOutput::Packet { .. })).count();
        assert_eq!(packets, 0, "nobody needs to be introduced");
        world.carry_out(n, out);
    }
    world.settled();
    world.put(3, "web", b"v1");
    world.run(Duration::from_secs(30));
    world.settled();
    assert!((1..=12).all(|n| world.value(n, "web").as_deref() == Some(b"v1")));
    assert!(world.told(1, 2, MemberState::Suspect, Instant::ZERO).is_none(), "and nobody is suspected");
}

#[test]
fn what_peers_tell_of_an_earlier_boot_never_lies_over_what_this_one_writes() {
    let mut world = World::running(2, 12);
    let id = RecordId::new(Class::OneWriter, Kind(99), &[[1; 16].as_slice(), b"x"].concat());
    let stamp = crate::wire::Stamp::Sequence { generation: Generation(1), sequence: 7 };
    let older = Record::write(id.clone(), stamp, Hlc::from_wall(Wall(EPOCH)), None);
    let slot = older.slot();
    world.act(1, |gossip, now, wall, out| {
        gossip.publish(now, wall, vec![(id, Some(b"new".to_vec()))], out);
        gossip.take(wall, older, Origin::Rider, out);
    });
    world.run(Duration::from_secs(2));
    let on_disk = world.hosts[&1].disk.get(&slot).and_then(|bytes| Record::read(bytes).ok());
    assert_eq!(on_disk.and_then(|record| record.payload().map(<[u8]>::to_vec)), Some(b"new".to_vec()));
}

#[test]
fn two_pairs_that_each_agree_find_that_they_differ() {
    let mut world = World::running(4, 13);
    let id = RecordId::new(Class::OneWriter, Kind(99), &[[1; 16].as_slice(), b"x"].concat());
    let stamp = crate::wire::Stamp::Sequence { generation: world.gossip(1).generation(), sequence: 9 };
    let record = Record::write(id, stamp, Hlc::from_wall(Wall(EPOCH)), Some(b"x"));
    // Two hold a record that never reached the others.
    for n in [1, 2] {
        let record = record.clone();
        world.act(n, |gossip, _, wall, _| drop(gossip.state.merge(record, wall)));
    }
    assert_eq!(world.roots().len(), 2);
    world.run(Duration::from_secs(40));
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn all_agents_killed_at_once_come_back_with_their_state() {
    let mut world = World::running(5, 9);
    world.put(2, "web", b"v1");
    world.run(Duration::from_secs(1));
    (1..=5).for_each(|n| world.kill(n));
    world.run(Duration::from_secs(1));
    (1..=5).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(12));
    world.settled();
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.value(5, "web").as_deref(), Some(&b"v1"[..]));
}

#[test]
fn a_node_that_leaves_is_left_at_once_by_all() {
    let mut world = World::running(4, 10);
    let left = world.now;
    world.act(4, Gossip::leave);
    world.run(Duration::from_millis(100));
    world.kill(4);
    world.run(Duration::from_secs(3));
    for n in 1..=3 {
        assert!(world.told(n, 4, MemberState::Left, left).is_some_and(|(after, _)| after < Duration::from_millis(100)));
        assert_eq!(world.told(n, 4, MemberState::Down, left), None);
    }
}

#[test]
fn a_removed_node_is_cut_off_and_an_admitted_one_joins() {
    let mut world = World::running(3, 11);
    world.act(1, |gossip, now, wall, out| {
        gossip.state_fact(now, wall, RecordId::removal(node(3)), b"gone".to_vec(), out);
    });
    world.run(Duration::from_secs(2));
    for n in [1, 2] {
        assert_eq!(world.gossip(n).member_state(node(3)), None);
        assert!(world.has_event(n, |event| *event == GossipEvent::Peer(PeerChange::Removed { node: node(3) })));
        assert!(world.gossip(n).links().all(|(_, peer)| peer != node(3)));
    }
}

#[test]
fn whose_admission_is_lost_to_the_others_makes_itself_known() {
    let mut world = World::new(3, 11);
    for n in [1, 2] {
        world.hosts.get_mut(&n).expect("a host").disk.remove(&fact(3).slot());
    }
    world.partition(&[3], &[1, 2]);
    (1..=3).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(20));
    assert_eq!(world.gossip(3).member_state(node(1)), Some(MemberState::Down));
    world.cut.clear();
    world.run(Duration::from_secs(40));
    world.settled();
}

#[test]
fn records_ride_on_packets_where_no_link_stands() {
    let mut world = World::new(3, 12);
    world.no_links = true;
    (1..=3).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(12));
    world.act(1, |gossip, now, wall, out| {
        gossip.publish(now, wall, vec![(RecordId::header(node(1)), Some(b"unreadable here".to_vec()))], out);
    });
    world.run(Duration::from_secs(5));
    for n in 1..=3 {
        assert!(world.gossip(n).state().value(&RecordId::header(node(1))).is_some(), "at {n}");
    }
}

#[test]
fn writes_are_refused_with_a_wrong_clock_a_failed_disk_or_too_much() {
    let mut world = World::running(3, 13);
    let write = vec![(service("x"), Some(vec![1]))];
    world.act(1, |gossip, now, wall, out| {
        let big = vec![(service("x"), Some(vec![1; crate::limits::MAX_RECORD]))];
        assert!(matches!(gossip.write(now, wall, &Asker::default(), big, out), Err(WriteError::TooLarge { .. })));
        gossip.membership.set_offset(node(2), 400_000);
        gossip.membership.set_offset(node(3), 400_000);
        assert!(matches!(
            gossip.write(now, wall, &Asker::default(), write.clone(), out),
            Err(WriteError::ClockOff { ahead: false, .. })
        ));
        gossip.handle(now, wall, GossipInput::PersistFailed(String::from("full")), out);
        assert_eq!(gossip.write(now, wall, &Asker::default(), write, out), Err(WriteError::DiskFailed));
    });
    assert!(world.has_event(1, |event| matches!(event, GossipEvent::Fatal(_))));
}

#[test]
fn noise_changes_nothing() {
    let mut world = World::running(3, 14);
    world.put(1, "web", b"v1");
    let mut rng = Seed(99).rng();
    for _ in 0..3_000 {
        let length = usize::try_from(rng.below(80)).unwrap_or(0);
        let mut bytes: Vec<u8> = (0..length).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        if let [version, flags, ..] = &mut bytes[..] {
            (*version, *flags) = (1, *flags & 7);
        }
        let link = world.gossip(1).links().next().map_or(LinkId(0), |(link, _)| link);
        world.input(Duration::ZERO, 1, GossipInput::Packet { from: node(2), bytes: bytes.clone() });
        world.input(Duration::ZERO, 1, GossipInput::Frame { link, frame: bytes.into() });
    }
    world.run(Duration::from_secs(20));
    assert_eq!(world.roots().len(), 1);
    assert_eq!(world.value(3, "web").as_deref(), Some(&b"v1"[..]));
    assert!(world.gossip(1).unreadable() > 1_000);
    world.settled();
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let run = |seed| {
        let mut world = World::running(5, seed);
        world.put(1, "web", b"v1");
        world.kill(2);
        world.run(Duration::from_secs(10));
        world.trace
    };
    assert_eq!(run(20), run(20));
    assert_ne!(run(20), run(21));
}

#[test]
fn an_idle_node_is_quiet() {
    let mut world = World::running(5, 15);
    let before = world.sent[&1];
    world.run(Duration::from_secs(60));
    let rate = (world.sent[&1] - before) / 60;
    assert!(rate <= 500, "{rate} bytes/s");
}

/// A minute and a half of kills, boots, cuts, loss and writes, then peace.
fn chaos(seed: u64) {
    let mut world = World::running(6, seed);
    let mut rng = Seed(seed).split("chaos").rng();
    for step in 0..60_u64 {
        let n = u8::try_from(1 + rng.below(6)).unwrap_or(1);
        let runs = world.hosts[&n].gossip.is_some();
        match rng.below(6) {
            0 if runs => world.kill(n),
            0 | 1 if !runs => world.boot(n),
            2 => world.partition(&[n], &[1 + n % 6]),
            3 => world.cut.clear(),
            4 => world.loss = Ratio::percent(u32::try_from(rng.below(30)).unwrap_or(0)),
            _ if runs && world.gossip(n).is_synced() => drop(world.put(n, &alloc::format!("s{}", step % 5), &[n])),
            _ => {}
        }
        world.run(Duration::from_millis(200 + rng.below(3_000)));
    }
    world.cut.clear();
    world.loss = Ratio::ZERO;
    for n in 1..=6 {
        if world.hosts[&n].gossip.is_none() {
            world.boot(n);
        }
    }
    world.run(Duration::from_secs(40));
    world.settled();
    assert_eq!(world.roots().len(), 1, "seed {seed}");
    for host in world.hosts.values() {
        let held = host.gossip.as_ref().expect("it runs").state().snapshot().records().count();
        assert_eq!(host.disk.len(), held, "seed {seed}: the disk holds what the state holds");
    }
}

#[test]
fn after_any_faults_all_agree_again() {
    (100..120).for_each(chaos);
}
