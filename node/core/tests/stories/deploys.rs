//! From a deploy to what runs: kept, claimed, started, named, scaled, replaced, removed.

use super::*;

#[test]
fn a_deploy_is_kept_claimed_started_and_named() {
    let mut flock = Flock::new(3);
    let reply = flock.deploy(0, &[("web", service(3))]);
    let written = written(&reply);
    assert_eq!((written.wanted, written.warnings.len()), (2, 0));
    assert!(written.durable_on.len() >= 2 && written.durable_on[0] == flock.hosts[0].id, "{written:?}");
    flock.until("three replicas are up", 2, |f| f.is_up("web", 3));
    let spread: std::collections::BTreeSet<usize> = flock.placed("web").into_iter().map(|(_, n)| n).collect();
    assert_eq!(spread.len(), 3, "one on each node");
    let spec = flock.hosts.iter().flat_map(|h| h.running.values()).next().expect("something runs").clone();
    assert_eq!(spec.environment["DUNLIN_SERVICE"], "web");
    assert_eq!(spec.environment["PORT"], spec.ports[0].outer.to_string());
    assert_eq!(spec.environment["PORT_http"], spec.environment["PORT"]);
}

#[test]
fn nothing_starts_before_its_claim_is_on_disk() {
    let mut flock = Flock::new(1);
    flock.hosts[0].deaf_disk = true;
    let services = [("web".to_string(), service(1))];
    let services =
        services.into_iter().map(|(n, s)| (dunlin_gossip::model::ServiceName::new(&n).expect("a name"), s)).collect();
    let timeout = Duration::from_secs(1);
    let (policies, waves, ack) = (BTreeMap::new(), None, Ack::Default);
    let id = flock.request(0, Request::Deploy { stack: stack(), services, policies, waves, ack, timeout });
    assert_eq!(refused(&flock.reply(id)).0, ProblemKind::TimedOut);
    flock.run(Duration::from_secs(5));
    assert!(flock.hosts[0].starts.is_empty());
}

#[test]
fn scaling_down_stops_the_highest_slots_and_removal_everything() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(5))]);
    flock.until("five are up", 2, |f| f.is_up("web", 5));
    let timeout = Duration::from_secs(5);
    let id = flock.request(1, Request::Scale { service: key("web"), replicas: 2, ack: Ack::All, timeout });
    assert_eq!(written(&flock.reply(id)).durable_on.len(), 2);
    flock.until("two are up", 3, |f| f.is_up("web", 2));
    assert_eq!(flock.placed("web").iter().map(|(slot, _)| slot.as_str()).collect::<Vec<_>>(), ["1", "2"]);
    let id = flock.request(0, Request::Remove { stack: stack(), ack: Ack::Default, timeout });
    written(&flock.reply(id));
    flock.until("nothing runs", 3, |f| f.placed("web").is_empty() && f.ps(0).is_empty() && f.ps(1).is_empty());
    assert!(flock.hosts.iter().all(|h| !h.names.contains_key(&key("web"))));
}

#[test]
fn a_large_service_that_is_removed_is_out_of_the_names_at_once() {
    let mut flock = Flock::new(1);
    let mut many = service(40);
    many.spec.reservation = Resources { cpu_milli: 10, memory_bytes: 1 << 20 };
    flock.deploy(0, &[("web", many)]);
    flock.until("forty are up", 3, |f| f.is_up("web", 40));
    let timeout = Duration::from_secs(5);
    flock.request(0, Request::Scale { service: key("web"), replicas: 41, ack: Ack::Default, timeout });
    flock.run(Duration::from_millis(2));
    flock.request(0, Request::Remove { stack: stack(), ack: Ack::Default, timeout });
    let wants_none = |f: &Flock| f.hosts[0].node.as_ref().is_some_and(|node| node.view().services().is_empty());
    flock.until("it is not wanted", 1, wants_none);
    assert!(!flock.hosts[0].names.contains_key(&key("web")), "told whole a moment ago, it waited to be told again");
}

#[test]
fn an_equal_deploy_restarts_nothing_and_a_dropped_service_goes() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(2)), ("db", service(1))]);
    flock.until("all are up", 2, |f| f.is_up("web", 2) && f.is_up("db", 1));
    flock.deploy(1, &[("web", service(2))]);
    flock.until("db is gone", 3, |f| f.placed("db").is_empty());
    flock.run(Duration::from_secs(5));
    assert!(flock.is_up("web", 2));
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), 3);
}

#[test]
fn a_new_revision_rolls_slot_by_slot_and_stops_before_it_starts() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    let placed = flock.placed("web");
    let old: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    let mut new = service(3);
    new.spec.environment.insert("VERSION".to_string(), "2".to_string());
    flock.deploy(0, &[("web", new)]);
    let updated = |f: &Flock| {
        let new = f.hosts.iter().flat_map(|h| h.running.values()).filter(|s| s.environment.contains_key("VERSION"));
        let mut slots: Vec<String> = new.map(|s| s.replica.slot.to_string()).collect();
        slots.sort();
        slots
    };
    for done in [vec!["1"], vec!["1", "2"], vec!["1", "2", "3"]] {
        flock.until("the next slot is new", 5, |f| {
            let slots = updated(f);
            assert!(slots.len() <= done.len(), "slots in order: {slots:?}");
            slots == done
        });
        assert!(flock.placed("web").len() >= 2, "one at a time");
    }
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    assert_eq!(flock.placed("web"), placed, "each stays where it was");
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), old + 3);
}

#[test]
fn a_rollout_goes_on_when_the_owner_of_a_lower_slot_is_heard_of_through_another() {
    let mut flock = Flock::new(3);
    let mut large = service(3);
    large.spec.reservation.cpu_milli = 600;
    flock.deploy(0, &[("web", large.clone())]);
    flock.until("one is up on each node", 3, |f| f.is_up("web", 3));
    let [first, second, third] = [0, 1, 2].map(|slot| flock.placed("web")[slot].1);
    flock.cut.extend([(first, second), (second, third)]);
    flock.run(Duration::from_secs(40));
    large.spec.environment.insert("VERSION".to_string(), "2".to_string());
    flock.deploy(first, &[("web", large)]);
    let new_on = |f: &Flock, n: usize| f.hosts[n].running.values().any(|s| s.environment.contains_key("VERSION"));
    flock.until("the first slot is new", 5, |f| new_on(f, first));
    assert!(
        !new_on(&flock, second) && !new_on(&flock, third),
        "the second slot's turn is not known: {}",
        flock.describe()
    );
    flock.cut.remove(&(second, third));
    flock.until("all three are new", 60, |f| [first, second, third].iter().all(|n| new_on(f, *n)) && f.is_up("web", 3));
}

#[test]
fn a_global_service_runs_once_on_each_node() {
    let mut flock = Flock::new(3);
    let mut agent = service(0);
    agent.mode = Mode::Global;
    flock.deploy(2, &[("agent", agent)]);
    flock.until("one on each node", 3, |f| f.is_up("agent", 3));
    let nodes: Vec<usize> = flock.placed("agent").into_iter().map(|(_, n)| n).collect();
    assert_eq!(nodes.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn reading_ones_own_write_at_another_node() {
    let mut flock = Flock::new(2);
    let hlc = dunlin_gossip::hlc::Hlc(written(&flock.deploy(0, &[("web", service(1))])).hlc);
    let timeout = Duration::from_secs(5);
    let id = flock.request(1, Request::AtLeast { hlc, timeout });
    assert_eq!(flock.reply(id), Reply::Held);
    let future = dunlin_gossip::hlc::Hlc(hlc.0 + (1 << 30));
    let id = flock.request(1, Request::AtLeast { hlc: future, timeout: Duration::from_secs(1) });
    assert_eq!(refused(&flock.reply(id)).0, ProblemKind::TimedOut);
}
