//! Who is alive: deaths, restarts, silence, partitions, loss, leaves.

use super::*;

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
