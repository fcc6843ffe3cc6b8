//! Noise, chaos, and what must hold whatever comes.

use super::*;

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
