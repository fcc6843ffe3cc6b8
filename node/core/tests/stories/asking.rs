//! Placement is a function, hence it can be asked: before it happens, on any node, with the same answer.

use std::collections::BTreeMap;

use dunlin_core::face::Input;
use dunlin_core::query::ask::{self, Change};
use dunlin_gossip::model::{
    Affinity, Constraint, ConstraintOp, DeviceGroup, DeviceRequest, Service, ServiceName, Skew, Supply, Tail,
};
use dunlin_gossip::time::{Duration, Instant};

use crate::flock::{Flock, service, stack};

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).expect("a name")
}

fn file(services: &[(&str, Service)]) -> BTreeMap<ServiceName, Service> {
    services.iter().map(|(text, service)| (name(text), service.clone())).collect()
}

/// The answer of each node, as it would be printed.
fn everywhere(flock: &Flock, ask: impl Fn(&dunlin_core::view::View) -> String) -> Vec<String> {
    flock.hosts.iter().filter_map(|host| host.node.as_ref()).map(|node| ask(node.view())).collect()
}

fn only(mut answers: Vec<String>) -> String {
    let first = answers.pop().expect("a node");
    assert!(answers.iter().all(|answer| *answer == first), "nodes answer differently: {answers:#?} {first}");
    first
}

fn text<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// The replica and where it goes, of each change with this word.
fn targets(changes: &[ask::Move], action: &str) -> Vec<(String, usize)> {
    let slot = |change: &ask::Move| change.replica.rsplit('.').next().unwrap_or_default().to_string();
    let host = |change: &ask::Move| change.to.trim_start_matches('n').parse().expect("a node of the flock");
    let mut found: Vec<_> =
        changes.iter().filter(|change| change.action == action).map(|change| (slot(change), host(change))).collect();
    found.sort();
    found
}

const LATER: Instant = Instant::from_millis(1 << 40);

#[test]
fn what_a_plan_says_is_what_the_deploy_does_and_every_node_says_it() {
    let mut flock = Flock::new(4);
    flock.deploy(0, &[("db", service(2))]);
    flock.until("db is up", 3, |f| f.is_up("db", 2));
    flock.run(Duration::from_secs(5));
    let wanted = [("db", service(2)), ("web", service(3))];
    let plan = |view: &dunlin_core::view::View| ask::plan(view, &stack(), &file(&wanted), LATER);
    only(everywhere(&flock, |view| text(&plan(view).expect("a plan"))));
    let planned = plan(flock.hosts[2].node.as_ref().expect("it runs").view()).expect("a plan");
    assert_eq!((planned.keep, planned.waiting, planned.changes.len()), (2, 0, 3));
    flock.deploy(1, &wanted);
    flock.until("web is up", 3, |f| f.is_up("web", 3));
    assert_eq!(flock.placed("web"), targets(&planned.changes, "start"));
    let mut newer = service(3);
    newer.spec.environment.insert("A".into(), "1".into());
    let changed = [("web", newer)];
    let view = flock.hosts[0].node.as_ref().expect("it runs").view();
    let planned = ask::plan(view, &stack(), &file(&changed), LATER).expect("a plan");
    let words: Vec<&str> = planned.changes.iter().map(|change| change.action).collect();
    assert_eq!(words, ["stop", "stop", "replace", "replace", "replace"], "{planned:?}");
    let mut huge = service(1);
    huge.spec.reservation.cpu_milli = 99_000;
    let planned = ask::plan(view, &stack(), &file(&[("web", huge)]), LATER).expect("a larger node may come");
    assert_eq!(planned.waiting, 1);
    let warned = planned.warnings.join("\n");
    assert!(warned.contains("shop/web: reserves 99 cpus, and the largest of 4 nodes has 1"), "{warned}");
    assert!(warned.contains("nearest miss: 4 nodes: not enough cpu: asks 99, 1 left"), "{warned}");
}

#[test]
fn what_a_loss_would_move_is_what_it_moves() {
    let mut flock = Flock::new(4);
    flock.deploy(0, &[("web", service(4))]);
    flock.until("web is up", 3, |f| f.is_up("web", 4));
    flock.run(Duration::from_secs(5));
    let before = flock.placed("web");
    let lost = before[0].1;
    let change = [Change::Lose(format!("node=n{lost}"))];
    only(everywhere(&flock, |view| text(&ask::suppose(view, &change, LATER).expect("an answer"))));
    let view = flock.hosts[lost].node.as_ref().expect("it runs").view();
    let supposed = ask::suppose(view, &change, LATER).expect("an answer");
    let by_zone = ask::suppose(view, &[Change::Drain(format!("zone=z{lost}"))], LATER).expect("an answer");
    assert_eq!((supposed.moves, supposed.unplaceable, &by_zone.changes), (1, 0, &supposed.changes));
    assert_eq!(supposed.headroom.nodes, 3);
    let nobody = ask::suppose(view, &[Change::Lose("zone=mars".into())], LATER).expect_err("no such zone");
    assert!(nobody.contains("no node has the label zone=mars"), "{nobody}");
    let all: Vec<String> = (0..4).map(|n| format!("n{n}")).collect();
    let end = ask::suppose(view, &[Change::Lose(format!("node={}", all.join(",")))], LATER).expect("an answer");
    assert_eq!((end.moves, end.unplaceable, end.names_empty.as_slice()), (0, 4, ["shop/web".to_string()].as_slice()));
    let more = [change[0].clone(), Change::Add { like: "n1".into(), count: 2 }];
    assert_eq!(ask::suppose(view, &more, LATER).expect("an answer").headroom.nodes, 5);
    flock.kill(lost);
    flock.until("all four are up elsewhere", 30, |f| f.is_up("web", 4));
    let moved: Vec<_> = flock.placed("web").into_iter().filter(|place| !before.contains(place)).collect();
    assert_eq!(moved, targets(&supposed.changes, "move"));
}

#[test]
fn what_nodes_that_come_would_take_for_their_share_is_told() {
    let mut flock = Flock::new(3);
    let mut settled = service(3);
    settled.spec.placing.tolerance.demand.standing.stays = Tail(true);
    flock.deploy(0, &[("web", service(9)), ("db", settled)]);
    flock.until("all is up", 3, |f| f.is_up("web", 9) && f.is_up("db", 3));
    flock.run(Duration::from_secs(5));
    let add = |count| [Change::Add { like: "n1".into(), count }];
    only(everywhere(&flock, |view| text(&ask::suppose(view, &add(1), LATER).expect("an answer"))));
    let view = flock.hosts[0].node.as_ref().expect("it runs").view();
    let one = ask::suppose(view, &add(1), LATER).expect("an answer");
    // Twelve replicas of one size over four nodes.
    assert_eq!((one.moves, one.unplaceable), (3, 0), "{one:?}");
    let is_share =
        |change: &ask::Move| change.action == "move" && change.to == "new-1" && change.replica.starts_with("shop/web.");
    assert!(one.changes.iter().all(is_share), "{one:?}");
    assert_eq!(one.changes[0].why, ["its share of what runs"]);
    let from: std::collections::BTreeSet<&str> = one.changes.iter().map(|change| change.from.as_str()).collect();
    assert_eq!(from.len(), 3, "each gives one: {one:?}");
    assert_eq!(ask::suppose(view, &add(3), LATER).expect("an answer").moves, 6);
}

#[test]
fn an_explanation_names_the_rule_and_a_label_can_be_tried() {
    let mut flock = Flock::new(3);
    let mut picky = service(1);
    let (attribute, op) = ("node.labels.zone".to_string(), ConstraintOp::In);
    picky.spec.constraints = vec![Constraint { attribute, op, value: "z1, z9".into() }];
    flock.deploy(0, &[("web", picky)]);
    flock.until("web is up", 3, |f| f.is_up("web", 1));
    flock.run(Duration::from_secs(5));
    let explain = |view: &dunlin_core::view::View| ask::explain(view, "web.1", LATER);
    only(everywhere(&flock, |view| text(&explain(view).expect("an answer"))));
    let view = flock.hosts[0].node.as_ref().expect("it runs").view();
    let why = explain(view).expect("an answer");
    assert_eq!(why.on, ["n1"]);
    assert_eq!((why.nodes[0].place, why.nodes[0].here, why.nodes[0].score.is_some()), (Some(0), true, true));
    assert_eq!(why.nodes[1].refused.as_deref(), Some("constraint node.labels.zone in z1, z9; it has z0"));
    assert!(ask::explain(view, "web.7", LATER).expect_err("no such replica").contains("no replica web.7"));
    let label = |value: &str| [Change::Label { node: "n1".into(), label: "zone".into(), value: value.into() }];
    let gone = ask::suppose(view, &label("z5"), LATER).expect("an answer");
    assert_eq!((gone.moves, gone.unplaceable), (0, 1));
    assert_eq!(gone.changes[0].why, ["3 nodes: constraint node.labels.zone in z1, z9"]);
    assert_eq!(ask::suppose(view, &label("z9"), LATER).expect("an answer").changes, []);
}

#[test]
fn devices_are_given_once_and_told_by_number() {
    let mut flock = Flock::new(2);
    let devices = vec![
        DeviceGroup { kind: "fpga".into(), model: String::new(), count: 1 },
        DeviceGroup { kind: "gpu".into(), model: "T4".into(), count: 2 },
    ];
    let mut header = flock.hosts[1].header.clone();
    header.supply = Tail(Supply { devices, ..Supply::default() });
    flock.later(1, Duration::ZERO, Input::Host(header));
    flock.run(Duration::from_secs(2));
    let asks = |count, milli| {
        let mut service = service(2);
        let models = vec!["T4".into()];
        service.spec.placing.devices = vec![DeviceRequest { kind: "gpu".into(), models, count, milli }];
        service
    };
    flock.deploy(0, &[("web", asks(1, 600))]);
    flock.until("both have a part", 3, |f| f.is_up("web", 2));
    assert!(flock.placed("web").iter().all(|(_, host)| *host == 1));
    let told = |f: &Flock| -> Vec<String> {
        let specs = f.hosts[1].running.values();
        let mut all: Vec<_> = specs.filter_map(|spec| spec.environment.get("DUNLIN_DEVICE_GPU").cloned()).collect();
        all.sort();
        all
    };
    assert_eq!(told(&flock), ["0", "1"], "600 and 600 thousandths do not fit on one");
    flock.deploy(0, &[("web", asks(1, 600)), ("whole", asks(1, 1_000))]);
    flock.run(Duration::from_secs(5));
    assert!(flock.placed("whole").is_empty());
    let waiting: Vec<_> = flock.ps(0).into_iter().filter(|row| row.phase == "waiting").collect();
    assert_eq!(waiting[0].detail, "2 nodes: not enough devices: 1 gpu (T4)");
}

#[test]
fn rules_about_others_hold_or_the_replica_waits_and_says_why() {
    let mut flock = Flock::new(3);
    let near = |anti| Affinity { stack: None, service: name("db"), label: None, anti, weight: None };
    let (mut cache, mut web, mut even) = (service(1), service(3), service(4));
    cache.spec.placing.affinities = vec![near(false)];
    web.spec.placing.affinities = vec![near(true)];
    web.spec.placing.max_per_node = Some(1);
    even.spec.placing.skews = vec![Skew { label: "zone".into(), most: 1 }];
    flock.deploy(0, &[("db", service(1))]);
    flock.until("db is up", 3, |f| f.is_up("db", 1));
    flock.deploy(1, &[("db", service(1)), ("cache", cache), ("web", web), ("even", even)]);
    flock.until("what can be is", 5, |f| f.is_up("cache", 1) && f.is_up("even", 4) && f.placed("web").len() == 2);
    flock.run(Duration::from_secs(10));
    let db = flock.placed("db")[0].1;
    assert_eq!(flock.placed("cache")[0].1, db);
    assert!(flock.placed("web").len() == 2 && flock.placed("web").iter().all(|(_, host)| *host != db));
    let waiting: Vec<_> = flock.ps(0).into_iter().filter(|row| row.phase == "waiting").collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].detail, "1 node: must keep away from shop/db; 2 nodes: max_replicas_per_node 1");
    let on: Vec<usize> = flock.placed("even").into_iter().map(|(_, host)| host).collect();
    assert!((0..3).all(|host| on.iter().filter(|at| **at == host).count() <= 2), "{on:?}");
    let mut circle = [service(1), service(1)];
    circle[0].spec.placing.affinities = vec![Affinity { service: name("b"), ..near(false) }];
    circle[1].spec.placing.affinities = vec![Affinity { service: name("a"), ..near(false) }];
    let [a, b] = circle;
    let refused = format!("{:?}", flock.deploy(0, &[("a", a), ("b", b)]));
    assert!(refused.contains("shop/a: must be near b, which must be near to what must be near to it"), "{refused}");
}

#[test]
fn what_makes_way_is_told_before_and_after_by_every_node() {
    let mut flock = Flock::new(2);
    let sized = |replicas, priority, cpu_milli| {
        let mut service = service(replicas);
        (service.spec.priority, service.spec.reservation.cpu_milli) = (priority, cpu_milli);
        service
    };
    let bulk = sized(4, 0, 500);
    flock.deploy(0, &[("bulk", bulk.clone())]);
    flock.until("both hosts are full", 5, |f| f.is_up("bulk", 4));
    let wanted = [("bulk", bulk), ("web", sized(1, 7, 400))];
    let plan = |view: &dunlin_core::view::View| ask::plan(view, &stack(), &file(&wanted), LATER);
    only(everywhere(&flock, |view| text(&plan(view).expect("a plan"))));
    let planned = plan(flock.hosts[1].node.as_ref().expect("it runs").view()).expect("a plan");
    let made: Vec<(&str, bool)> =
        planned.changes.iter().map(|c| (c.action, c.why.iter().any(|why| why.starts_with("pre-empted by")))).collect();
    assert_eq!(made, [("wait", true), ("start", false)], "{planned:#?}");
    let (waits, starts) = (planned.changes[0].replica.clone(), planned.changes[1].to.clone());
    flock.deploy(1, &wanted);
    flock.until("what matters is up", 20, |f| f.is_up("web", 1));
    flock.run(Duration::from_secs(5));
    for host in &flock.hosts {
        let rows = dunlin_core::query::allocations(host.node.as_ref().expect("it runs"));
        let web = rows.iter().find(|row| row.replica.ends_with("/web.1")).expect("it is there");
        let ended = rows.iter().find(|row| row.phase == "waiting").expect("one waits");
        assert_eq!((&web.node, &ended.replica), (&starts, &waits), "{}", flock.describe());
        assert!(ended.detail.contains(&format!("pre-empted by {}", web.replica)), "{}", ended.detail);
        assert_eq!(rows.iter().filter(|row| row.ready).count(), 4, "nothing else has ended: {}", flock.describe());
    }
    let asked = only(everywhere(&flock, |view| text(&ask::explain(view, "web.1", LATER).expect("it runs"))));
    assert!(asked.contains("would make way"), "{asked}");
}
