//! Writes: how they spread, agree, are acknowledged and refused.

use super::*;

#[test]
fn a_newcomer_copies_everything_before_it_counts_as_synced() {
    let mut world = World::new(3, 1);
    world.boot(1);
    world.run(Duration::from_secs(11));
    for n in 0..900 {
        world.put(1, &alloc::format!("s{n}"), &vec![7; 300]);
        // More than that is refused.
        if n % 25 == 24 {
            world.run(Duration::from_secs(1));
        }
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
