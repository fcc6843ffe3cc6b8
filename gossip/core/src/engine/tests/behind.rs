//! Nodes that were away for long: what they bring back, and what becomes of them.

use super::*;
use crate::wire::Stamp;

const MINUTE: Duration = Duration::from_secs(60);
/// Longer than hours take to be published and settled, and tombstones to be dropped.
const HOURS: Duration = Duration::from_secs(2 * 3_600 + 1_800);

impl World {
    /// Hosts that forget within half an hour.
    fn short_lived(n: u8, seed: u64) -> Self {
        let mut world = Self::new(n, seed);
        world.timing.forget = MINUTE * 30;
        world.timing.hours_period = MINUTE * 3;
        (1..=n).for_each(|n| world.boot(n));
        world.run(Duration::from_secs(12));
        world.settled();
        world
    }

    fn remove(&mut self, n: u8, name: &str) {
        self.act(n, |gossip, now, wall, out| {
            gossip.write(now, wall, &Asker::default(), vec![(service(name), None)], out).expect("accepted");
        });
    }

    /// The shell's part where an agent must begin anew: a generation above, and another start. How often that was.
    fn run_and_begin_anew(&mut self, n: u8, time: Duration) -> u32 {
        let (end, mut times) = (self.now + time, 0);
        while self.now < end {
            self.run(Duration::from_millis(100));
            let host = self.hosts.get_mut(&n).expect("a host");
            let newest = host.events.iter().find_map(|(_, event)| match event {
                GossipEvent::DiskIsOld { newest } => Some(*newest),
                _ => None,
            });
            if let Some(newest) = newest {
                host.events.clear();
                host.generation = host.generation.max(Some(newest));
                times += 1;
                self.kill(n);
                self.boot(n);
            }
        }
        times
    }

    fn kill_all(&mut self) {
        let all: Vec<u8> = self.hosts.keys().copied().collect();
        all.into_iter().for_each(|n| self.kill(n));
        self.queue.clear();
    }
}

#[test]
fn a_node_that_was_forgotten_comes_back_empty_and_resurrects_nothing() {
    let mut world = World::short_lived(4, 21);
    world.put(1, "gone", b"1");
    world.put(1, "kept", b"1");
    world.run(MINUTE);
    world.kill(4);
    world.run(MINUTE);
    world.remove(2, "gone");
    world.run(MINUTE * 70);
    for n in 1..=3 {
        assert_eq!(world.gossip(n).member_state(node(4)), None, "{n} has forgotten it");
        assert!(world.has_event(n, |event| *event == GossipEvent::Peer(PeerChange::Forgotten { node: node(4) })));
    }
    world.run(HOURS);
    for n in 1..=3 {
        assert_eq!(world.gossip(n).state().siblings(&service("gone")), [], "the deletion is forgotten");
    }
    world.boot(4);
    assert_eq!(world.run_and_begin_anew(4, MINUTE), 1);
    world.settled();
    assert_eq!(world.roots().len(), 1);
    for n in 1..=4 {
        assert_eq!((world.value(n, "gone"), world.value(n, "kept")), (None, Some(b"1".to_vec())), "at {n}");
    }
    // It belongs again: hours settle with it.
    world.put(4, "new", b"2");
    world.run(HOURS);
    let settled: BTreeSet<Hlc> = (1..=4).map(|n| world.gossip(n).state().settled_below()).collect();
    assert_eq!(settled.len(), 1);
    assert_eq!(world.run_and_begin_anew(4, MINUTE), 0);
}

#[test]
fn half_a_flock_forgets_nobody() {
    let mut world = World::short_lived(4, 22);
    world.put(1, "kept", b"1");
    world.run(MINUTE);
    world.partition(&[1, 2], &[3, 4]);
    world.run(MINUTE * 90);
    world.cut.clear();
    world.run(MINUTE * 2);
    world.settled();
    assert_eq!(world.roots().len(), 1);
    for n in 1..=4 {
        assert!(!world.has_event(n, |event| matches!(event, GossipEvent::Peer(PeerChange::Forgotten { .. }))));
    }
}

#[test]
fn a_part_that_was_cut_off_and_forgotten_comes_back_empty() {
    let mut world = World::short_lived(5, 23);
    world.put(1, "kept", b"1");
    world.run(MINUTE);
    world.partition(&[1, 2, 3, 4], &[5]);
    world.run(MINUTE * 90);
    assert_eq!(world.gossip(1).member_state(node(5)), None);
    assert_eq!(world.gossip(5).member_state(node(1)), Some(MemberState::Down), "one alone forgets nobody");
    world.cut.clear();
    assert_eq!(world.run_and_begin_anew(5, MINUTE), 1);
    world.settled();
    assert_eq!(world.roots().len(), 1);
}

#[test]
fn a_flock_that_was_off_for_a_year_comes_back_whole() {
    let mut world = World::short_lived(3, 24);
    world.put(1, "kept", b"1");
    world.put(1, "gone", b"1");
    world.run(MINUTE);
    let old = world.hosts[&3].disk.clone();
    world.remove(1, "gone");
    world.put(2, "new", b"2");
    world.run(HOURS);
    for n in 1..=3 {
        assert_eq!(world.gossip(n).state().siblings(&service("gone")), []);
    }
    world.kill_all();
    world.now += Duration::from_secs(365 * 24 * 3_600);
    // The third's disk is older than all that, and its host is the first to boot, long before the others.
    world.hosts.get_mut(&3).expect("a host").disk = old;
    world.boot(3);
    world.run(MINUTE * 20);
    assert!(world.value(3, "gone").is_some() && world.gossip(3).is_synced());
    world.boot(1);
    world.boot(2);
    assert_eq!(world.run_and_begin_anew(3, MINUTE), 1);
    world.settled();
    assert_eq!(world.roots().len(), 1);
    for n in 1..=3 {
        assert_eq!(world.value(n, "gone"), None);
        assert!(world.value(n, "kept").is_some() && world.value(n, "new").is_some());
        assert!(!world.has_event(n, |event| matches!(event, GossipEvent::Peer(PeerChange::Forgotten { .. }))));
    }
}

#[test]
fn what_comes_after_the_drop_is_not_kept() {
    let mut world = World::new(2, 27);
    (1..=2).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(12));
    let newest = world.gossip(2).generation();
    let earlier = Stamp::Sequence { generation: Generation(newest.0 - 1), sequence: 0 };
    // Of an earlier boot that had published hours which this one does not remember.
    let (roster, remembers, from, below, digests) = (7_u64, 0_u64, 0_u64, 5_u64, Vec::<(u64, u64)>::new());
    let hours = codec::encode(&(roster, remembers, from, below, digests));
    let proof = Record::write(RecordId::new(Class::OneWriter, Kind::HOURS, &node(2).0), earlier, Hlc(7), Some(&hours));
    let other = Record::write(
        RecordId::header(node(1)),
        Stamp::Sequence { generation: Generation(u64::MAX / 2), sequence: 0 },
        Hlc(8),
        Some(b"1"),
    );
    world.act(2, |gossip, _, wall, out| {
        assert!(gossip.state().siblings(other.id()).first() != Some(&other));
        gossip.take(wall, proof, Origin::Rider, out);
        assert!(gossip.dropped);
        gossip.take(wall, other.clone(), Origin::Rider, out);
        gossip.flush_persist(out);
        let is_other = |op: &PersistOp| matches!(op, PersistOp::Put { bytes, .. } if bytes == other.bytes());
        let mut asked = out.list.iter().filter_map(|output| match output {
            GossipOutput::Persist { ops, .. } => Some(ops),
            _ => None,
        });
        assert!(!asked.any(|ops| ops.iter().any(is_other)), "the next boot would find a disk that is not empty");
    });
}
