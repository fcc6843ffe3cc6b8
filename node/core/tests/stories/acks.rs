//! On which disks a write is, said truly: when enough of them have it, and when time is up before.

use std::collections::BTreeSet;

use std::collections::BTreeMap;

use dunlin_core::face::{Ack, Reply, Request, Written};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::model::ServiceName;
use dunlin_gossip::time::Duration;

use crate::flock::{Flock, id, service, stack};

fn deploy(flock: &mut Flock, n: usize, ack: Ack, timeout: Duration) -> Written {
    let services = [(ServiceName::new("web").expect("a name"), service(1))].into();
    let policies = BTreeMap::new();
    let request = flock.request(n, Request::Deploy { stack: stack(), services, policies, waves: None, ack, timeout });
    let Reply::Written(written) = flock.reply(request) else { panic!("refused") };
    written
}

/// How many links a node has.
fn links(flock: &Flock, n: usize) -> usize {
    flock.hosts[n].node.as_ref().map_or(0, |node| node.gossip().links().count())
}

#[test]
fn as_many_nodes_as_asked_for_keep_a_write_however_few_are_linked() {
    let mut flock = Flock::new(24);
    flock.run(Duration::from_secs(5));
    let before = links(&flock, 3);
    assert!(before < 20, "each links to some only: {before}");
    for (ack, wanted) in [(Ack::Nodes(20), 20), (Ack::All, 24)] {
        let written = deploy(&mut flock, 3, ack, Duration::from_secs(5));
        let on: BTreeSet<_> = written.durable_on.iter().copied().collect();
        assert!(on.len() >= wanted && on.len() == written.durable_on.len(), "{} of {wanted}", on.len());
        assert_eq!((written.durable_on[0], written.wanted as usize), (id(3), wanted));
    }
    flock.until("no more links than before are dialled", 30, |f| links(f, 3) <= before + 4);
}

#[test]
fn when_time_is_up_a_write_says_where_it_is_and_goes_on_spreading() {
    let mut flock = Flock::new(2);
    flock.cut.insert((0, 1));
    let began = flock.now;
    let late = deploy(&mut flock, 0, Ack::Default, Duration::from_secs(1));
    assert_eq!((late.durable_on.as_slice(), late.wanted), ([id(0)].as_slice(), 2));
    assert!(flock.now >= began + Duration::from_secs(1), "it waited as long as it was let");
    let is_down = |f: &Flock| {
        let state = f.hosts[0].node.as_ref().and_then(|node| node.gossip().member_state(id(1)));
        state == Some(MemberState::Down)
    };
    flock.until("the other one counts as down", 30, is_down);
    for ack in [Ack::Default, Ack::All] {
        let alone = deploy(&mut flock, 0, ack, Duration::from_secs(1));
        assert_eq!((alone.durable_on.len(), alone.wanted), (1, 1), "there is nobody else");
    }
    let two = deploy(&mut flock, 0, Ack::Nodes(2), Duration::from_secs(1));
    assert_eq!((two.durable_on.len(), two.wanted), (1, 2), "two were asked for");
    flock.cut.clear();
    flock.until("it is in force at the other one as well", 60, |f| {
        f.hosts[1].node.as_ref().is_some_and(|node| node.view().services().len() == 1)
    });
    let both = deploy(&mut flock, 1, Ack::All, Duration::from_secs(5));
    assert_eq!((both.durable_on.as_slice(), both.wanted), ([id(1), id(0)].as_slice(), 2));
}

#[test]
fn a_node_that_comes_back_while_a_write_waits_for_it_acknowledges_it() {
    let mut flock = Flock::new(2);
    flock.kill_agent(1);
    let services = [(ServiceName::new("web").expect("a name"), service(1))].into();
    let (ack, timeout) = (Ack::Nodes(2), Duration::from_secs(300));
    let policies = BTreeMap::new();
    let first = flock.request(0, Request::Deploy { stack: stack(), services, policies, waves: None, ack, timeout });
    flock.run(Duration::from_secs(60));
    let _other = deploy(&mut flock, 0, Ack::Nodes(1), Duration::from_secs(1));
    flock.run(Duration::from_secs(1));
    flock.boot(1);
    flock.until("it is acknowledged", 60, |f| f.replies.contains_key(&first));
    let Reply::Written(written) = flock.reply(first) else { panic!("refused") };
    assert_eq!(written.durable_on, [id(0), id(1)]);
}
