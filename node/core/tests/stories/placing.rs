//! Where a replica may be: what does not fit, what is refused, what waits and says for what.

use super::*;

use dunlin_core::query::ask;
use dunlin_gossip::model::{Canary, PortRange, Promotion, RolloutPolicy, Service};
use dunlin_gossip::time::Instant;

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

/// A service whose port comes from these numbers.
fn ranged(replicas: u32, first: u16, last: u16) -> Service {
    let mut ranged = service(replicas);
    ranged.spec.placing.tolerance.demand.ranges = vec![PortRange { port: 0, first, last }];
    ranged
}

#[test]
fn a_range_that_is_used_up_lets_the_rest_wait_for_a_number() {
    let mut flock = Flock::new(2);
    flock.deploy(0, &[("web", ranged(5, 500, 501))]);
    flock.until("all numbers are in use", 10, |f| f.placed("web").len() == 4);
    flock.run(Duration::from_secs(10));
    let waiting: Vec<_> = flock.ps(1).into_iter().filter(|row| row.phase == "waiting").collect();
    assert_eq!(waiting.len(), 1, "{}", flock.describe());
    assert_eq!(waiting[0].detail, "2 nodes: the ports 500-501 are taken");
    flock.deploy(1, &[("web", ranged(4, 500, 501))]);
    flock.until("nothing waits", 10, |f| f.is_up("web", 4));
}

#[test]
fn what_waits_is_explained_node_by_node() {
    let mut flock = Flock::new(2);
    let (mut large, mut picky) = (service(1), service(1));
    large.spec.reservation.cpu_milli = 64_000;
    picky.spec.constraints = vec![zone(ConstraintOp::Equal, "mars")];
    flock.deploy(0, &[("large", large), ("picky", picky), ("web", ranged(3, 500, 500))]);
    flock.until("both numbers are in use", 10, |f| f.placed("web").len() == 2);
    flock.run(Duration::from_secs(5));
    let slot = flock.ps(0).into_iter().find(|row| row.phase == "waiting" && row.service.ends_with("/web"));
    let rules = |replica: &str| -> Vec<String> {
        let view = flock.hosts[1].node.as_ref().expect("it runs").view();
        let why = ask::explain(view, replica, Instant::from_millis(1 << 40)).expect("it waits");
        why.nodes.into_iter().map(|row| row.refused.unwrap_or_default()).collect()
    };
    let ports = "the ports 500-500 are taken";
    assert_eq!(rules(&slot.expect("one waits").replica), [ports, ports]);
    let constraint = |has: &str| format!("constraint node.labels.zone==mars; it has {has}");
    assert_eq!(rules("picky.1"), [constraint("z0"), constraint("z1")]);
    assert!(
        rules("large.1").iter().all(|rule| rule.starts_with("not enough cpu: asks 64, ")),
        "{:?}",
        rules("large.1")
    );
}

#[test]
fn more_canaries_than_replicas_are_refused_whole() {
    let mut flock = Flock::new(2);
    let canary = Some(Canary { count: 3, promotion: Promotion::ByHand });
    let policy = RolloutPolicy { canary, ..RolloutPolicy::default() };
    let (kind, text) = refused(&flock.deploy_so(0, &[("web", service(2))], policy));
    assert_eq!(kind, ProblemKind::BadRequest);
    assert!(text.contains("shop/web: 3 canaries of 2 replicas; have fewer canaries or more replicas"), "{text}");
    flock.run(Duration::from_secs(2));
    assert!(flock.ps(0).is_empty(), "nothing half applied");
}
