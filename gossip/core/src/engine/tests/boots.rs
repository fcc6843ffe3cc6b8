//! What a boot brings: an old disk, another process of the same boot, what peers tell of an earlier one.

use super::*;

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
        let config = GossipConfig {
            me: node(n),
            cluster: ClusterId([9; 16]),
            wire: WireVersion::CURRENT,
            timing: Timing::default(),
            seeds: Vec::new(),
        };
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
        let config = GossipConfig {
            me: node(n),
            cluster: ClusterId([9; 16]),
            wire: WireVersion::CURRENT,
            timing: Timing::default(),
            seeds: Vec::new(),
        };
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
fn who_greeted_only_the_empty_looks_elsewhere() {
    let mut world = World::new(60, 7);
    world.boot(1);
    world.run(Duration::from_secs(11));
    world.put(1, "web", b"v1");
    world.run(Duration::from_secs(1));
    // All others begin at once and hold nothing: some find neighbours that are as empty as they are.
    (2..=60).for_each(|n| world.boot(n));
    world.run(Duration::from_secs(6));
    let waiting: Vec<u8> = (1..=60).filter(|n| !world.gossip(*n).is_synced()).collect();
    assert!(waiting.is_empty(), "still without a copy: {waiting:?}");
    assert_eq!(world.value(60, "web").as_deref(), Some(&b"v1"[..]));
}
