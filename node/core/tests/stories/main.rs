//! What a flock of a few nodes does, told as incident reports.

mod acks;
mod asking;
mod conflicts;
mod crons;
mod flock;
mod jobs;
mod learning;
mod naming;
mod removal;
mod rollouts;
mod tokens;
mod versions;
mod waves;

use std::collections::BTreeMap;

use dunlin_core::face::{Ack, Exit, Input, ProblemKind, Reply, Request};
use dunlin_gossip::face::GossipInput;
use dunlin_gossip::model::{
    Constraint, ConstraintOp, HealthCheck, Mode, Probe, Resources, RestartCondition, RosterEntry, Token, TokenId,
};
use dunlin_gossip::time::{Duration, Wall};
use flock::{Flock, key, service, stack};

fn written(reply: &Reply) -> &dunlin_core::face::Written {
    match reply {
        Reply::Written(written) => written,
        other => panic!("{other:?}"),
    }
}

fn refused(reply: &Reply) -> (ProblemKind, String) {
    match reply {
        Reply::Problem(problem) => (problem.kind, problem.text.clone()),
        other => panic!("{other:?}"),
    }
}

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
fn a_killed_process_is_started_again_at_once_and_a_loop_is_slowed_down() {
    let mut flock = Flock::new(1);
    flock.deploy(0, &[("web", service(1))]);
    flock.until("it is up", 2, |f| f.is_up("web", 1));
    let alloc = *flock.hosts[0].running.keys().next().expect("it runs");
    let before = flock.now;
    flock.exit(0, alloc, Exit::Signal(9));
    flock.until("it is up again", 1, |f| f.is_up("web", 1) && f.ps(0)[0].restarts == 1);
    assert!(flock.now.since(before) < Duration::from_millis(50));
    let before = flock.now;
    flock.exit(0, alloc, Exit::Signal(9));
    flock.until("it is up again", 3, |f| f.is_up("web", 1) && f.ps(0)[0].restarts == 2);
    assert!(flock.now.since(before) >= Duration::from_secs(1));
}

#[test]
fn what_ends_for_good_stays_ended() {
    let mut flock = Flock::new(2);
    let mut once = service(1);
    once.spec.restart.condition = RestartCondition::OnFailure;
    flock.deploy(0, &[("web", once)]);
    flock.until("it is up", 2, |f| f.is_up("web", 1));
    let (_, n) = flock.placed("web")[0];
    let alloc = *flock.hosts[n].running.keys().next().expect("it runs");
    flock.exit(n, alloc, Exit::Code(0));
    flock.run(Duration::from_secs(20));
    assert!(flock.placed("web").is_empty());
    assert_eq!(flock.ps(0)[0].phase, "exited");
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), 1);
}

#[test]
fn a_dead_node_is_replaced_and_its_names_go() {
    let mut flock = Flock::new(4);
    flock.deploy(0, &[("web", service(4))]);
    flock.until("four are up", 2, |f| f.is_up("web", 4));
    let before = flock.now;
    flock.kill(3);
    flock.until("four are up on three nodes", 10, |f| f.is_up("web", 4));
    assert!(flock.now.since(before) < Duration::from_secs(4), "{:?}", flock.now.since(before));
    flock.boot(3);
    flock.run(Duration::from_secs(15));
    assert!(flock.is_up("web", 4), "{}", flock.describe());
    assert!(flock.placed("web").iter().all(|(_, n)| *n != 3), "what runs well stays where it is");
}

#[test]
fn an_agent_that_comes_back_adopts_what_runs() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(4))]);
    flock.until("four are up", 2, |f| f.is_up("web", 4));
    let starts: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    let placed = flock.placed("web");
    let killed = *flock.hosts[1].running.keys().next().expect("it runs");
    flock.kill_agent(1);
    flock.run(Duration::from_millis(300));
    flock.boot(1);
    flock.run(Duration::from_secs(10));
    assert!(flock.is_up("web", 4), "{}", flock.describe());
    assert_eq!(flock.placed("web"), placed);
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), starts);
    // And again, this time with an exit that nobody watched.
    flock.kill_agent(1);
    flock.exit(1, killed, Exit::Code(1));
    flock.run(Duration::from_millis(300));
    flock.boot(1);
    flock.until("the ended one runs again", 5, |f| f.is_up("web", 4));
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), starts + 1);
    assert!(flock.hosts[1].running.contains_key(&killed), "under the same claim");
}

#[test]
fn all_agents_killed_at_once_come_back_with_their_services() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    (0..3).for_each(|n| flock.kill(n));
    (0..3).for_each(|n| flock.boot(n));
    flock.until("three are up again", 15, |f| f.is_up("web", 3));
}

#[test]
fn after_a_boot_of_all_nothing_that_runs_is_touched_and_lost_work_waits_ten_seconds() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    let starts = |f: &Flock| f.hosts.iter().map(|h| h.starts.len()).sum::<usize>();
    let (before, kept) = (starts(&flock), flock.placed("web"));
    flock.kill(2);
    (0..2).for_each(|n| flock.kill_agent(n));
    (0..2).for_each(|n| flock.boot(n));
    let booted = flock.now;
    let adopted = |f: &Flock, n: usize| f.ps(n).iter().filter(|r| r.ready && r.node != "n2").count() == 2;
    flock.until("what runs is adopted at once", 2, |f| adopted(f, 0) && adopted(f, 1));
    flock.run(Duration::from_secs(8) - flock.now.since(booted));
    assert_eq!(starts(&flock), before, "nobody was up before to tell whether the third is only slow");
    flock.until("the lost replica is taken over", 5, |f| f.is_up("web", 3));
    assert!(flock.now.since(booted) < Duration::from_secs(12), "{:?}", flock.now.since(booted));
    assert_eq!(starts(&flock), before + 1);
    assert!(kept.iter().filter(|(_, n)| *n != 2).all(|stayed| flock.placed("web").contains(stayed)));
}

#[test]
fn a_claim_of_an_older_disk_is_not_taken_back_when_peers_know_its_end() {
    let mut flock = Flock::new(2);
    let mut large = service(2);
    large.spec.reservation.cpu_milli = 600;
    flock.deploy(0, &[("web", large)]);
    flock.until("one is up on each node", 3, |f| f.is_up("web", 2));
    let second = flock.placed("web")[1].1;
    let older = flock.hosts[second].disk.clone();
    let timeout = Duration::from_secs(5);
    let id = flock.request(0, Request::Scale { service: key("web"), replicas: 1, ack: Ack::Default, timeout });
    written(&flock.reply(id));
    flock.until("the second is gone", 3, |f| f.is_up("web", 1));
    flock.kill(second);
    flock.hosts[second].disk = older;
    flock.look_around = Duration::from_secs(2);
    flock.boot(second);
    flock.run(Duration::from_secs(10));
    assert_eq!(flock.hosts[second].starts.len(), 1, "{}", flock.describe());
    assert!(flock.is_up("web", 1));
}

#[test]
fn nothing_starts_beside_what_was_found_running_without_a_claim() {
    let mut flock = Flock::new(1);
    let mut large = service(1);
    large.spec.reservation.cpu_milli = 600;
    flock.deploy(0, &[("web", large)]);
    flock.until("it is up", 3, |f| f.is_up("web", 1));
    flock.kill_agent(0);
    flock.forget_claims(0);
    flock.hosts[0].stubborn = true;
    flock.boot(0);
    flock.run(Duration::from_secs(20));
    assert_eq!(flock.hosts[0].starts.len(), 1, "there is no room for two: {}", flock.describe());
    flock.hosts[0].stubborn = false;
    flock.until("it is told again, and makes way", 40, |f| f.hosts[0].starts.len() == 2 && f.is_up("web", 1));
}

#[test]
fn an_agent_away_for_too_long_gives_its_surplus_up_when_it_is_back() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 2, |f| f.is_up("web", 3));
    flock.kill_agent(1);
    flock.until("its replica is taken over, beside the one that runs on", 5, |f| f.placed("web").len() == 4);
    flock.run(Duration::from_secs(20));
    let elsewhere: Vec<_> = flock.placed("web").into_iter().filter(|(_, n)| *n != 1).collect();
    flock.boot(1);
    flock.until("the surplus is gone", 5, |f| f.is_up("web", 3));
    assert_eq!(flock.placed("web"), elsewhere, "the newer claim wins, on every node");
    flock.run(Duration::from_secs(20));
    assert!(flock.is_up("web", 3) && flock.placed("web") == elsewhere, "{}", flock.describe());
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
fn after_a_partition_one_of_two_claims_yields() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", service(2))]);
    flock.until("two are up", 2, |f| f.is_up("web", 2));
    flock.cut.insert((0, 1));
    flock.until("both sides run everything", 60, |f| f.placed("web").len() == 4);
    flock.cut.clear();
    flock.until("the surplus is gone", 30, |f| f.is_up("web", 2));
    flock.run(Duration::from_secs(10));
    assert!(flock.is_up("web", 2));
}

#[test]
fn a_port_held_by_a_stranger_is_avoided_and_a_fixed_one_refused() {
    let mut flock = Flock::new(2);
    flock.hosts[0].busy_ports = (20_000..20_050).collect();
    flock.hosts[1].busy_ports = flock.hosts[0].busy_ports.clone();
    flock.deploy(0, &[("web", service(4))]);
    flock.until("four are up", 10, |f| f.is_up("web", 4));
    let mut fixed = service(1);
    fixed.spec.ports[0].published = Some(80);
    flock.hosts[0].busy_ports.insert(80);
    flock.deploy(0, &[("web", service(4)), ("door", fixed)]);
    flock.until("the door is on the other node", 5, |f| f.is_up("door", 1));
    assert_eq!(flock.placed("door"), [("1".to_string(), 1)]);
}

#[test]
fn what_does_not_start_is_refused_everywhere_and_says_why() {
    let mut flock = Flock::new(2);
    flock.hosts.iter_mut().for_each(|h| h.broken = true);
    flock.deploy(0, &[("web", service(1))]);
    flock.until("both have refused", 5, |f| {
        let rows = f.ps(1);
        rows.len() == 1
            && rows[0].phase == "waiting"
            && rows[0].detail.contains("2 nodes: did not start: no such program")
    });
    let starts: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    assert_eq!(starts, 2);
    flock.hosts.iter_mut().for_each(|h| h.broken = false);
    flock.until("it is up once the refusals end", 15, |f| f.is_up("web", 1));
}

#[test]
fn a_refusal_outlives_its_agent() {
    let mut flock = Flock::new(2);
    flock.hosts.iter_mut().for_each(|h| h.broken = true);
    flock.deploy(0, &[("web", service(1))]);
    let is_refused = |f: &Flock, n: usize| f.ps(n).iter().any(|r| r.detail.contains("2 nodes: did not start"));
    flock.until("both have refused", 5, |f| is_refused(f, 1));
    flock.kill_agent(0);
    flock.boot(0);
    flock.until("the agent is back", 5, |f| f.ps(0).len() == 1);
    flock.run(Duration::from_secs(4));
    assert!(is_refused(&flock, 0) && is_refused(&flock, 1), "{}", flock.describe());
    assert_eq!(flock.hosts.iter().map(|h| h.starts.len()).sum::<usize>(), 2, "not tried again before its time");
    flock.hosts.iter_mut().for_each(|h| h.broken = false);
    flock.until("it is up once the refusals end", 15, |f| f.is_up("web", 1));
}

#[test]
fn no_node_takes_more_than_it_has() {
    let mut flock = Flock::new(2);
    let mut large = service(5);
    large.spec.reservation.cpu_milli = 400;
    flock.deploy(0, &[("web", large)]);
    flock.run(Duration::from_secs(10));
    assert_eq!(flock.placed("web").len(), 4, "two on each of two nodes");
    let waiting: Vec<_> = flock.ps(0).into_iter().filter(|r| r.phase == "waiting").collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].detail, "2 nodes: not enough cpu: asks 0.4, 0.2 left");
    let mut less = flock.hosts[0].header.clone();
    less.allocatable = Resources { cpu_milli: 500, ..less.allocatable };
    flock.later(0, Duration::ZERO, Input::Host(less));
    flock.run(Duration::from_secs(5));
    assert_eq!(flock.hosts[0].running.len(), 1, "a node that shrinks sheds");
}

fn zone(op: ConstraintOp, value: &str) -> Constraint {
    Constraint { attribute: "node.labels.zone".to_string(), op, value: value.to_string() }
}

#[test]
fn a_deploy_that_no_flock_could_run_is_refused_whole() {
    let mut flock = Flock::new(2);
    let mut torn = service(1);
    torn.spec.constraints = vec![zone(ConstraintOp::Equal, "mars"), zone(ConstraintOp::NotEqual, "mars")];
    let (kind, text) = refused(&flock.deploy(0, &[("web", service(1)), ("torn", torn)]));
    assert_eq!(kind, ProblemKind::BadRequest);
    let expected =
        "shop/torn: no node can meet these constraints together: node.labels.zone==mars, node.labels.zone!=mars";
    assert!(text.contains(expected), "{text}");
    flock.run(Duration::from_secs(2));
    assert!(flock.ps(0).is_empty(), "nothing half applied");
}

#[test]
fn what_no_node_can_run_yet_waits_visibly_and_runs_once_one_can() {
    let mut flock = Flock::new(2);
    let mut large = service(1);
    large.spec.reservation.cpu_milli = 64_000;
    let mut picky = service(1);
    picky.spec.constraints = vec![zone(ConstraintOp::Equal, "mars")];
    let warnings = written(&flock.deploy(0, &[("large", large), ("picky", picky)])).warnings.join("\n");
    assert!(warnings.contains("shop/large: reserves 64 cpus, and the largest of 2 nodes has 1"), "{warnings}");
    assert!(warnings.contains("no node meets the constraint node.labels.zone==mars; the nodes have"), "{warnings}");
    assert!(warnings.contains("z0, z1"), "{warnings}");
    flock.run(Duration::from_secs(2));
    let details: Vec<String> = flock.ps(1).into_iter().map(|row| format!("{}: {}", row.phase, row.detail)).collect();
    let expected =
        ["waiting: 2 nodes: not enough cpu: asks 64, 1 left", "waiting: 2 nodes: constraint node.labels.zone==mars"];
    assert_eq!(details, expected);
    let mut header = flock.hosts[1].header.clone();
    header.labels.insert("zone".to_string(), "mars".to_string());
    header.allocatable.cpu_milli = 64_500;
    flock.later(1, Duration::ZERO, Input::Host(header));
    flock.until("both run", 5, |f| f.is_up("large", 1) && f.is_up("picky", 1));
}

#[test]
fn a_slip_in_a_constraint_of_a_new_revision_stops_one_replica_and_not_all() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("all are up", 3, |f| f.is_up("web", 3));
    let mut slip = service(3);
    slip.spec.constraints = vec![zone(ConstraintOp::Equal, "mars")];
    flock.deploy(0, &[("web", slip)]);
    flock.run(Duration::from_secs(30));
    let running = flock.hosts.iter().map(|host| host.running.len()).sum::<usize>();
    assert_eq!(running, 2, "the first slot waits, and those behind it for their turn");
}

#[test]
fn a_constraint_that_ceases_to_hold_moves_the_replica() {
    let mut flock = Flock::new(2);
    let mut picky = service(1);
    let constraint =
        Constraint { attribute: "node.labels.disk".to_string(), op: ConstraintOp::NotEqual, value: "slow".to_string() };
    picky.spec.constraints = vec![constraint];
    flock.deploy(0, &[("web", picky)]);
    flock.until("it is up", 3, |f| f.is_up("web", 1));
    let (_, n) = flock.placed("web")[0];
    let mut header = flock.hosts[n].header.clone();
    header.labels.insert("disk".to_string(), "slow".to_string());
    flock.later(n, Duration::ZERO, Input::Host(header));
    flock.until("it is up on the other node", 5, |f| f.is_up("web", 1) && f.placed("web")[0].1 != n);
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
fn health_decides_who_is_named_and_long_illness_ends_in_a_restart() {
    let mut flock = Flock::new(2);
    let mut checked = service(2);
    checked.spec.health = Some(HealthCheck {
        probe: Probe::Tcp { port: "http".to_string() },
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        retries: 2,
        start_period: Duration::ZERO,
    });
    flock.deploy(0, &[("web", checked)]);
    flock.until("both are healthy", 3, |f| f.is_up("web", 2));
    assert!(flock.ps(0).iter().all(|r| r.phase == "healthy"));
    let starts: usize = flock.hosts.iter().map(|h| h.starts.len()).sum();
    flock.hosts[0].unhealthy = true;
    let sick = flock.hosts[0].id;
    flock.until("no name points there", 5, |f| {
        f.hosts.iter().all(|h| h.names[&key("web")].iter().all(|(n, _)| *n != sick))
    });
    assert_eq!(flock.placed("web").len(), 2, "it still runs");
    flock.until("it is started again", 20, |f| f.hosts.iter().map(|h| h.starts.len()).sum::<usize>() > starts);
    flock.hosts[0].unhealthy = false;
    flock.until("both are healthy again", 10, |f| f.is_up("web", 2));
}

#[test]
fn a_failed_disk_ends_acceptance() {
    let mut flock = Flock::new(2);
    flock.later(0, Duration::ZERO, Input::Gossip(GossipInput::PersistFailed("no space left".to_string())));
    let (kind, text) = refused(&flock.deploy(0, &[("web", service(1))]));
    assert_eq!(kind, ProblemKind::Unavailable);
    assert!(text.contains("disk failed"), "{text}");
    assert!(matches!(flock.deploy(1, &[("web", service(2))]), Reply::Written(_)));
    flock.run(Duration::from_secs(3));
    assert!(flock.hosts[0].starts.is_empty());
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

#[test]
fn each_change_of_a_member_is_told_with_its_reason() {
    use dunlin_gossip::face::{MemberReason, MemberState};
    let mut flock = Flock::new(2);
    let told = |f: &Flock| -> Vec<(MemberState, MemberReason)> {
        f.hosts[0].events.iter().filter_map(|event| event.member).collect()
    };
    flock.hosts[0].events.clear();
    flock.cut.insert((0, 1));
    flock.until("it is doubted", 10, |f| told(f) == [(MemberState::Suspect, MemberReason::Silence)]);
    flock.cut.clear();
    let refuted = [(MemberState::Suspect, MemberReason::Silence), (MemberState::Alive, MemberReason::Refuted)];
    flock.until("it answers after all", 10, |f| told(f) == refuted);

    flock.hosts[0].events.clear();
    flock.cut.insert((0, 1));
    let lost = [(MemberState::Suspect, MemberReason::Silence), (MemberState::Down, MemberReason::Silence)];
    flock.until("it is given up", 20, |f| told(f) == lost);
    flock.cut.clear();
    flock.until("it is back", 30, |f| told(f).get(2).is_some_and(|(state, _)| *state == MemberState::Alive));

    flock.hosts[0].events.clear();
    flock.request(1, Request::Leave);
    flock.until("it said goodbye", 10, |f| told(f).contains(&(MemberState::Left, MemberReason::Left)));
    let words: Vec<&str> = flock.hosts[0].events.iter().map(|event| event.text.as_str()).collect();
    assert!(words.contains(&"left (said goodbye)"), "{words:?}");
}

#[test]
fn a_node_that_leaves_hands_its_work_over() {
    let mut flock = Flock::new(3);
    flock.deploy(0, &[("web", service(3))]);
    flock.until("three are up", 3, |f| f.is_up("web", 3));
    let id = flock.request(2, Request::Leave);
    assert_eq!(flock.reply(id), Reply::Held);
    flock.run(Duration::from_millis(100));
    flock.kill(2);
    flock.until("three are up on two nodes", 5, |f| f.is_up("web", 3));
}

#[test]
fn a_token_is_good_until_it_ends_or_is_removed() {
    let mut flock = Flock::new(2);
    let token = |n: u64, expires: u64| Token {
        id: TokenId(n),
        secret_hash: [7; 32],
        issuer: flock::id(0),
        label: "test".to_string(),
        created: Wall(0),
        expires: Wall(expires),
        uses: None,
    };
    let now = flock.wall().0;
    // The last one ended more than a day ago: nobody keeps it.
    for token in [token(1, u64::MAX), token(2, now), token(3, now - 25 * 3_600_000)] {
        let id = flock.request(0, Request::CreateToken(token));
        written(&flock.reply(id));
    }
    let mut check = |n: u64, secret: u8| {
        let id =
            flock.request(1, Request::CheckToken { id: TokenId(n), secret_hash: [secret; 32], node: flock::id(9) });
        flock.reply(id)
    };
    assert_eq!(check(1, 7), Reply::TokenGood);
    for (reply, word) in [(check(1, 8), "secret"), (check(2, 7), "expired"), (check(3, 7), "unknown")] {
        let (kind, text) = refused(&reply);
        assert_eq!(kind, ProblemKind::Denied);
        assert!(text.contains(word), "{text}");
    }
    let id = flock.request(1, Request::RemoveToken(TokenId(1)));
    written(&flock.reply(id));
    let id = flock.request(1, Request::CheckToken { id: TokenId(1), secret_hash: [7; 32], node: flock::id(9) });
    assert_eq!(refused(&flock.reply(id)).0, ProblemKind::Denied);
}

#[test]
fn a_newcomer_gets_the_roster_and_a_namesake_is_refused() {
    let mut flock = Flock::new(2);
    let id = flock.request(0, Request::Admit(flock::entry(5)));
    let Reply::Admitted(admission) = flock.reply(id) else { panic!("admitted") };
    assert_eq!(admission.records.len(), 3);
    let namesake = RosterEntry { node: flock::id(6), ..flock::entry(1) };
    let id = flock.request(0, Request::Admit(namesake));
    let (kind, text) = refused(&flock.reply(id));
    assert_eq!(kind, ProblemKind::Denied);
    assert!(text.contains("is named n1 already; choose another with --name"), "{text}");
}
