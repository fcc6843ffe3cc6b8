//! The broadcast tree between whole engines: how often a record comes, and what happens when its way is gone.

use super::*;
use crate::limits::MAX_RIDER;
use crate::wire::message::{Head, open, record_at};

const FLOCK: u8 = 24;

/// Publishes a record too large to ride on packets, so that only links carry it.
fn publish(world: &mut World, n: u8, number: u64) -> RecordId {
    let mut key = node(n).0.to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    let id = RecordId::new(Class::OneWriter, Kind(900), &key);
    let written = id.clone();
    world.act(n, |gossip, now, wall, out| {
        gossip.publish(now, wall, vec![(written, Some(vec![7; MAX_RIDER + 1]))], out);
    });
    id
}

fn holders(world: &World, id: &RecordId) -> usize {
    (1..=FLOCK).filter(|n| world.gossip(*n).state().value(id).is_some()).count()
}

/// Records in frames that are about to come in at that moment.
fn pushed(world: &World, at: Instant) -> usize {
    let count = |event: &Ev| {
        let Ev::Input(_, _, GossipInput::Frame { frame, .. }) = event else { return 0 };
        let Ok((Head::Push(_), mut at)) = open(frame.bytes(), WireVersion::CURRENT) else { return 0 };
        core::iter::from_fn(|| record_at(frame.bytes(), at).map(|(_, next)| at = next)).count()
    };
    world.queue.range(..=(at, u64::MAX)).map(|(_, event)| count(event)).sum()
}

/// Runs on, and counts records that come in.
fn run_and_count(world: &mut World, time: Duration) -> usize {
    let end = world.now + time;
    let mut records = 0;
    while let Some((&(at, _), _)) = world.queue.first_key_value()
        && at <= end
    {
        records += pushed(world, at);
        world.run(at.since(world.now));
    }
    world.run(end.since(world.now));
    records
}

/// Everybody publishes in turn; how often each record came to each node, in hundredths, and whether it came to all at once.
fn round(world: &mut World, rounds: u64, number: u64) -> (usize, bool) {
    let mut came = 0;
    let mut complete = true;
    for turn in 0..rounds {
        for n in 1..=FLOCK {
            let id = publish(world, n, number + turn);
            came += run_and_count(world, Duration::from_millis(400));
            complete &= holders(world, &id) == usize::from(FLOCK);
        }
    }
    let wanted = usize::try_from(rounds).expect("few") * usize::from(FLOCK) * usize::from(FLOCK - 1);
    (came * 100 / wanted, complete)
}

fn grown(seed: u64) -> World {
    let mut world = World::running(FLOCK, seed);
    let (_, complete) = round(&mut world, 6, 0);
    assert!(complete);
    world
}

#[test]
fn a_record_comes_about_once_to_each_node() {
    for seed in 0..2 {
        let mut world = World::running(FLOCK, 900 + seed);
        let (before, complete) = round(&mut world, 1, 0);
        assert!(complete);
        let (_, complete) = round(&mut world, 5, 1);
        assert!(complete);
        let (after, complete) = round(&mut world, 2, 6);
        assert!(complete, "each record came to all within 400 ms");
        assert!((100..200).contains(&after), "{after} of hundred, {before} at first");
    }
}

#[test]
fn where_the_tree_is_cut_the_record_is_asked_for() {
    let mut cut_off = 0;
    for seed in 0..3 {
        let mut world = grown(910 + seed);
        // Somebody with a spare link loses all others, silently: the links seem to stand.
        let spare = |n: &u8| {
            let gossip = world.gossip(*n);
            let (lazy, eager): (Vec<_>, Vec<_>) = gossip.links().partition(|(link, _)| gossip.tree.is_lazy(*link));
            (!lazy.is_empty()).then(|| (*n, eager.into_iter().map(|(_, peer)| peer.0[0]).collect::<Vec<u8>>()))
        };
        let Some((lonely, eager)) = (1..=FLOCK).find_map(|n| spare(&n)) else { continue };
        world.partition(&[lonely], &eager);
        let writer = (1..=FLOCK).find(|n| *n != lonely && !eager.contains(n)).expect("somebody else");
        cut_off += 1;
        // Below the two seconds after which roots that differ lead to a sync.
        let id = publish(&mut world, writer, 1_000);
        world.run(Duration::from_secs(1));
        assert_eq!(holders(&world, &id), usize::from(FLOCK), "seed {seed}");
        let id = publish(&mut world, writer, 1_001);
        world.run(Duration::from_millis(300));
        assert_eq!(holders(&world, &id), usize::from(FLOCK), "seed {seed}: the edge is eager now");
        let id = publish(&mut world, lonely, 1_002);
        world.run(Duration::from_millis(300));
        assert_eq!(holders(&world, &id), usize::from(FLOCK), "seed {seed}: and so is its other end");
    }
    assert!(cut_off > 0);
}

#[test]
fn a_small_flock_has_no_tree() {
    let mut world = World::running(8, 920);
    for number in 0..100 {
        let n = u8::try_from(number % 8 + 1).expect("small");
        publish(&mut world, n, number);
        world.run(Duration::from_millis(100));
    }
    let lazy = |n| world.gossip(n).links().filter(|(link, _)| world.gossip(n).tree.is_lazy(*link)).count();
    assert_eq!((1..=8).map(lazy).sum::<usize>(), 0);
}

#[test]
fn what_a_writer_waits_for_is_acknowledged_by_every_neighbour() {
    let mut world = grown(930);
    let hlc = world.put(5, "web", b"v1");
    world.run(Duration::from_millis(400));
    assert!((1..=FLOCK).all(|n| world.value(n, "web").is_some()));
    let gossip = world.gossip(5);
    assert!(gossip.links().any(|(link, _)| gossip.tree.is_lazy(link)));
    for (_, by) in gossip.links() {
        assert!(world.has_event(5, |event| *event == GossipEvent::Stored { hlc, by }), "{by:?}");
    }
}
