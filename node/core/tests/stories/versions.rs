//! Nodes of two versions in one flock: each reads what it knows, keeps what it does not, and says who may edit it.

use dunlin_core::face::{Ack, ProblemKind, Reply, Request};
use dunlin_gossip::engine::Gossip;
use dunlin_gossip::face::GossipInput;
use dunlin_gossip::time::Duration;
use dunlin_gossip::wire::{Grasp, RecordId, WireVersion, rehearsal};

use crate::flock::{Flock, id, key, service, stack};
use crate::{refused, written};

fn gossip(flock: &Flock, n: usize) -> &Gossip {
    flock.hosts[n].node.as_ref().expect("its agent runs").gossip()
}

fn start_as(flock: &mut Flock, n: usize, wire: WireVersion) {
    flock.kill_agent(n);
    flock.hosts[n].wire = wire;
    flock.hosts[n].header.version = format!("{}.0.0", wire.0);
    flock.boot(n);
    flock.until("all that run hold the same, and know what it speaks", 60, |f| {
        let up: Vec<usize> = (0..f.hosts.len()).filter(|m| f.hosts[*m].node.is_some()).collect();
        let root = gossip(f, n).state().root();
        up.iter().all(|m| gossip(f, *m).state().root() == root && gossip(f, *m).declared_by(id(n)) == wire)
    });
}

fn scale(flock: &mut Flock, n: usize, replicas: u32) -> Reply {
    let (ack, timeout) = (Ack::Default, Duration::from_secs(5));
    let request = flock.request(n, Request::Scale { service: key("web"), replicas, ack, timeout });
    flock.reply(request)
}

/// What the kind that only the next version knows says of the stack, at a node.
fn beside_the_stack(flock: &Flock, n: usize) -> Option<u64> {
    gossip(flock, n).state().value(&rehearsal::of_stack(&stack())).and_then(|r| rehearsal::read(r.payload()?))
}

#[test]
fn an_old_node_runs_what_a_newer_one_wrote_and_keeps_what_it_does_not_know() {
    let mut flock = Flock::new(3);
    start_as(&mut flock, 0, WireVersion::NEXT);
    written(&flock.deploy(0, &[("web", service(6))]));
    flock.until("all replicas run and are named everywhere", 20, |f| f.is_up("web", 6));
    let on_old = flock.placed("web").iter().filter(|(_, n)| *n > 0).count();
    assert!(on_old > 0, "old nodes take part");
    let is_told = |n: usize| flock.hosts[n].events.iter().any(|event| event.text.contains("does not know"));
    assert_eq!([0, 1, 2].map(is_told), [false, true, true], "an old node says that it does not know all of it");
    let revisions: std::collections::BTreeSet<_> = (0..3).flat_map(|n| flock.ps(n)).map(|row| row.revision).collect();
    assert_eq!(revisions.len(), 1, "all name the revision alike");
    // The newer one is gone, and the others come back from their disks alone.
    flock.kill_agent(0);
    for n in [1, 2] {
        flock.kill_agent(n);
        flock.boot(n);
    }
    flock.until("they are back", 30, |f| (1..3).all(|n| gossip(f, n).is_synced()));
    let record = gossip(&flock, 1).state().value(&RecordId::service(&key("web"))).cloned().expect("the service");
    assert_eq!(WireVersion::CURRENT.grasp(&record), Grasp::Part);
    assert_eq!(WireVersion::NEXT.grasp(&record), Grasp::Whole);
    let kept = beside_the_stack(&flock, 1);
    assert!(kept.is_some() && kept == beside_the_stack(&flock, 2));
    start_as(&mut flock, 2, WireVersion::NEXT);
    assert_eq!(beside_the_stack(&flock, 2), kept, "a newer one reads it again");
}

#[test]
fn an_edit_that_would_drop_fields_is_refused_and_names_who_may() {
    let mut flock = Flock::new(3);
    start_as(&mut flock, 1, WireVersion::NEXT);
    written(&flock.deploy(1, &[("web", service(2))]));
    flock.until("it runs", 20, |f| f.is_up("web", 2));
    let (kind, text) = refused(&scale(&mut flock, 0, 3));
    assert_eq!(kind, ProblemKind::Unavailable);
    assert!(text.contains("service shop/web") && text.contains("ask node n1, which runs dunlin 2.0.0"), "{text}");
    written(&scale(&mut flock, 1, 3));
    flock.until("it is scaled where it may be", 20, |f| f.is_up("web", 3));
    // Nobody knows the fields any more: the answer says so, and a whole file still goes.
    start_as(&mut flock, 1, WireVersion::CURRENT);
    let (_, text) = refused(&scale(&mut flock, 1, 1));
    assert!(text.contains("no node that runs here knows them") && text.contains("deploy"), "{text}");
    written(&flock.deploy(0, &[("web", service(1))]));
    written(&scale(&mut flock, 2, 2));
    flock.until("edits go again", 20, |f| f.is_up("web", 2));
}

#[test]
fn nothing_reaches_a_node_that_it_does_not_speak() {
    let mut flock = Flock::new(4);
    start_as(&mut flock, 0, WireVersion::NEXT);
    start_as(&mut flock, 1, WireVersion::NEXT);
    flock.run(Duration::from_secs(10));
    assert!(gossip(&flock, 0).rehearsed() + gossip(&flock, 1).rehearsed() > 0, "new ones speak the new way");
    let unreadable: u64 = (0..4).map(|n| gossip(&flock, n).unreadable()).sum();
    assert_eq!(unreadable, 0, "and to nobody else");
    start_as(&mut flock, 0, WireVersion::CURRENT);
    flock.run(Duration::from_secs(10));
    let foreign: u64 = (0..4).map(|n| gossip(&flock, n).foreign_frames()).sum();
    assert_eq!(foreign, 0, "a node that went back is spoken to as before");
    // What speaks the next version without being asked to is dropped and counted.
    let (link, _) = gossip(&flock, 2).links().next().expect("a link");
    let frame = GossipInput::Frame { link, frame: vec![2, 0, 0, 0, 2, 13, 7].into() };
    flock.later(2, Duration::ZERO, dunlin_core::face::Input::Gossip(frame));
    flock.run(Duration::from_secs(1));
    assert_eq!(gossip(&flock, 2).foreign_frames(), 1);
}
