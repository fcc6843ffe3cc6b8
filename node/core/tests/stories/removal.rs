//! Removing a node for good: its work moves, it stops what it runs and ends, and no later boot of it gets anywhere.

use dunlin_core::face::{Ack, ProblemKind, Reply, Request};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::time::Duration;

use crate::flock::{self, Flock, service};
use crate::refused;

fn remove(flock: &mut Flock, at: usize, who: usize) -> Reply {
    let timeout = Duration::from_secs(5);
    let id = flock.request(at, Request::RemoveNode { node: flock::id(who), ack: Ack::All, timeout });
    flock.reply(id)
}

#[test]
fn its_work_moves_it_stops_what_it_runs_and_ends() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    assert_eq!(flock.hosts[2].running.len(), 1);
    let reply = remove(&mut flock, 0, 2);
    let Reply::Written(written) = reply else { panic!("{reply:?}") };
    assert_eq!((written.wanted, written.durable_on.len()), (2, 2), "who goes is not waited for");
    flock.until("it ended", 5, |f| f.hosts[2].last_words.is_some());
    flock.kill_agent(2);
    assert!(flock.hosts[2].running.is_empty(), "nothing of it runs any more");
    let last = flock.hosts[2].last_words.clone().unwrap_or_default();
    assert!(last.contains("was removed from the cluster") && last.contains("empty --data-dir"), "{last}");
    flock.until("three are up on two nodes", 5, |f| f.is_up("web", 3));
    for n in [0, 1] {
        let node = flock.hosts[n].node.as_ref().expect("it runs");
        assert_eq!(node.gossip().member_state(flock::id(2)), None);
        assert!(node.view().nodes().get(&flock::id(2)).is_none_or(|view| view.allocations.is_empty()));
        assert!(flock.ps(n).iter().all(|row| row.node_id != flock::id(2).to_string()));
    }
}

#[test]
fn its_next_boot_knows_stops_what_was_left_and_ends() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    // The agent dies before it has stopped anything; nobody can tell it more than that it was removed.
    flock.hosts[2].stubborn = true;
    remove(&mut flock, 0, 2);
    flock.run(Duration::from_secs(1));
    flock.kill_agent(2);
    flock.hosts[2].stubborn = false;
    assert_eq!(flock.hosts[2].running.len(), 1);
    flock.cut.extend([(0, 2), (1, 2)]);
    flock.boot(2);
    flock.until("it ended again", 20, |f| f.hosts[2].last_words.is_some());
    assert!(flock.hosts[2].running.is_empty());
}

#[test]
fn one_that_was_away_learns_it_when_it_returns() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    flock.kill_agent(2);
    flock.run(Duration::from_secs(20));
    remove(&mut flock, 1, 2);
    flock.run(Duration::from_secs(1));
    assert!(flock.ps(0).iter().all(|row| row.node != "n2"));
    flock.boot(2);
    flock.until("it ended", 30, |f| f.hosts[2].last_words.is_some());
    assert!(flock.hosts[2].running.is_empty());
    let node = flock.hosts[0].node.as_ref().expect("it runs");
    assert_ne!(node.gossip().member_state(flock::id(2)), Some(MemberState::Alive));
}

#[test]
fn what_makes_no_sense_is_refused_and_asking_again_is_not() {
    let mut flock = Flock::new(3);
    let (kind, text) = refused(&remove(&mut flock, 0, 0));
    assert!(kind == ProblemKind::BadRequest && text.contains("ask another node"), "{text}");
    let (kind, text) = refused(&remove(&mut flock, 0, 9));
    assert!(kind == ProblemKind::NotFound && text.contains("never admitted"), "{text}");
    assert!(matches!(remove(&mut flock, 0, 2), Reply::Written(_)));
    assert!(matches!(remove(&mut flock, 1, 2), Reply::Written(_)));
}
