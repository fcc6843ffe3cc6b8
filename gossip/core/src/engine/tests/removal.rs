//! A node that was removed: dropped by all, told so, and never gossiped back by those who had not heard.

use super::*;
use crate::face::REMOVED;
use crate::model::{AllocId, Asker, Removal, RemovalKind};

fn revoke(world: &mut World, by: u8, who: u8) {
    world.act(by, |gossip, now, wall, out| {
        let removal = Removal { node: node(who), kind: RemovalKind::Revoked, by: node(by), at: wall, token: None };
        gossip.state_fact(now, wall, RecordId::removal(node(who)), codec::encode(&removal), out);
    });
}

fn removed(who: u8) -> impl Fn(&GossipEvent) -> bool {
    move |event| *event == GossipEvent::Peer(PeerChange::Removed { node: node(who) })
}

#[test]
fn it_is_dropped_everywhere_told_and_knows_after_its_next_boot() {
    let mut world = World::running(4, 21);
    let alloc = RecordId::allocation(node(4), AllocId(1));
    let claimed = alloc.clone();
    world.act(4, |gossip, now, wall, out| {
        gossip.publish(now, wall, vec![(claimed, Some(b"a claim".to_vec()))], out);
    });
    world.run(Duration::from_secs(1));
    assert!(world.gossip(1).state().value(&alloc).is_some());
    let began = world.now;
    revoke(&mut world, 1, 4);
    world.run(Duration::from_secs(2));
    for n in 1..=3 {
        assert!(world.has_event(n, removed(4)), "{n} drops it");
        let (after, reason) = world.told(n, 4, MemberState::Left, began).expect("told");
        assert!(after < Duration::from_millis(200) && reason == MemberReason::Left, "{after:?}");
        assert!(world.gossip(n).links().all(|(_, peer)| peer != node(4)));
        assert_eq!(world.gossip(n).state().value(&alloc), None, "its claims are void on {n}");
    }
    assert!(world.has_event(4, removed(4)), "it was told");
    assert!(world.gossip(4).state().value(&alloc).is_some(), "it keeps its own claims, to stop what runs by them");
    world.act(4, |gossip, now, wall, out| {
        let written = gossip.write(now, wall, &Asker::default(), vec![(service("web"), Some(b"late".to_vec()))], out);
        assert_eq!(written.map(drop), Err(WriteError::Leaving), "it accepts nothing any more");
    });
    world.kill(4);
    world.boot(4);
    world.run(Duration::from_secs(30));
    assert!(world.gossip(4).roster().is_removed(node(4)));
    assert!((1..=3).all(|n| world.gossip(n).member_state(node(4)).is_none()));
}

#[test]
fn who_had_not_heard_does_not_bring_it_back() {
    let mut world = World::running(5, 22);
    // The removal is known on one side; the node itself and its friend are on the other.
    world.partition(&[1, 2, 3], &[4, 5]);
    world.run(Duration::from_secs(20));
    revoke(&mut world, 1, 5);
    world.run(Duration::from_secs(10));
    assert_eq!(world.gossip(4).member_state(node(5)), Some(MemberState::Alive));
    let healed = world.now;
    world.cut.clear();
    world.run(Duration::from_secs(60));
    for n in 1..=4 {
        assert!(world.has_event(n, removed(5)) && world.gossip(n).member_state(node(5)).is_none(), "{n}");
        let back = world.told(n, 5, MemberState::Alive, healed);
        assert!(back.is_none() || n == 4, "{n} took it back: {back:?}");
    }
    assert!(world.has_event(5, removed(5)), "it was told");
}

#[test]
fn only_a_member_can_tell_a_node_that_it_was_removed() {
    let mut world = World::running(2, 23);
    world.input(Duration::ZERO, 1, GossipInput::Expelled { by: node(9) });
    world.run(Duration::from_secs(1));
    assert!(!world.has_event(1, removed(1)));
    world.input(Duration::ZERO, 1, GossipInput::Expelled { by: node(2) });
    world.run(Duration::from_secs(1));
    assert!(world.has_event(1, removed(1)));
}

#[test]
fn facts_told_outside_a_link_are_taken_and_nothing_else_is() {
    let mut world = World::running(2, 24);
    let stamp = crate::wire::Stamp::Fact { author: Actor { node: node(1), generation: Generation(1) } };
    let removal = Removal { node: node(7), kind: RemovalKind::Revoked, by: node(1), at: Wall(EPOCH), token: None };
    let hlc = Hlc::from_wall(Wall(EPOCH));
    let fact = Record::write(RecordId::removal(node(7)), stamp.clone(), hlc, Some(&codec::encode(&removal)));
    let other = RecordId::new(Class::GrowOnly, Kind(900), b"x");
    let foreign = Record::write(other.clone(), stamp, hlc, Some(b"y"));
    world.input(Duration::ZERO, 1, GossipInput::Facts(vec![fact, foreign]));
    world.run(Duration::from_secs(5));
    for n in [1, 2] {
        assert!(world.gossip(n).roster().is_removed(node(7)));
        assert_eq!(world.gossip(n).state().value(&other), None);
    }
    assert_eq!(REMOVED, "the peer was removed from the cluster", "shells act upon it");
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
