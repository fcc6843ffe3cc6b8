use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::net::IpAddr;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{NodeName, Protocol, PublishedPort, Reach, ServiceKey, ServiceName, Slot, StackName};
use dunlin_gossip::rng::Seed;

use crate::*;

fn key(service: &str) -> ServiceKey {
    ServiceKey { stack: StackName::new("shop").unwrap(), service: ServiceName::new(service).unwrap() }
}

fn instance(n: u8, port: Option<u16>) -> Instance {
    let ports = port.map(|outer| PublishedPort {
        name: "http".to_string(),
        protocol: Protocol::Tcp,
        inner: 80,
        outer,
        reach: Reach::Flock,
    });
    Instance {
        slot: Slot::Number(n.into()),
        node: NodeId([n; 16]),
        address: IpAddr::from([10, 0, 0, n]),
        ports: ports.into_iter().collect(),
    }
}

fn zone() -> Zone {
    let mut zone = Zone::new("dunlin.internal", "c1", 1);
    for n in 1..=3 {
        zone.apply(&NameChange::Node {
            node: NodeId([n; 16]),
            name: NodeName::new(&alloc::format!("N{n}")).unwrap(),
            address: Some(IpAddr::from([10, 0, 0, n])),
            labels: BTreeMap::from([("zone".to_string(), "a".to_string())]),
        });
    }
    let instances = vec![instance(1, Some(8001)), instance(2, Some(8002))];
    zone.apply(&NameChange::Service { service: key("Web"), instances });
    zone.apply(&NameChange::Service { service: key("worker"), instances: vec![instance(3, None)] });
    zone.apply(&NameChange::Service { service: key("idle"), instances: vec![] });
    zone
}

fn ask(zone: &Zone, name: &str, wanted: Wanted) -> Answer {
    zone.answer(&Fqdn::parse(name), wanted, &mut Seed(1).rng())
}

fn found(zone: &Zone, name: &str, wanted: Wanted) -> Vec<alloc::string::String> {
    match ask(zone, name, wanted) {
        Answer::Found { mut answers, .. } => {
            answers.sort();
            answers
                .iter()
                .map(|r| match &r.data {
                    Data::Address(a) => a.to_string(),
                    Data::Srv { port, target } => alloc::format!("{port} {target}"),
                    Data::Ns(n) | Data::Ptr(n) => n.to_string(),
                    Data::Txt(t) => t.join(","),
                    Data::Soa { primary, .. } => primary.to_string(),
                })
                .collect()
        }
        other => vec![alloc::format!("{other:?}").split('(').next().unwrap_or_default().to_string()],
    }
}

#[test]
fn every_form_of_name_answers() {
    let zone = zone();
    let check = |name: &str, wanted, expected: &[&str]| assert_eq!(found(&zone, name, wanted), expected, "{name}");
    check("web.shop.dunlin.internal", Wanted::A, &["10.0.0.1", "10.0.0.2"]);
    check("WEB.SHOP.DUNLIN.INTERNAL.", Wanted::A, &["10.0.0.1", "10.0.0.2"]);
    check("web.shop.dunlin.internal", Wanted::Aaaa, &["NoData"]);
    let both = ["8001 1.web.shop.dunlin.internal.", "8002 2.web.shop.dunlin.internal."];
    check("web.shop.dunlin.internal", Wanted::Srv, &both);
    check("_http._tcp.web.shop.dunlin.internal", Wanted::Srv, &both);
    check("_80._tcp.web.shop.dunlin.internal", Wanted::Srv, &both);
    check("_http._udp.web.shop.dunlin.internal", Wanted::Srv, &["NoData"]);
    check("_http._tcp.web.shop.dunlin.internal", Wanted::A, &["NoData"]);
    check("_tcp.web.shop.dunlin.internal", Wanted::A, &["NoData"]);
    check("2.web.shop.dunlin.internal", Wanted::A, &["10.0.0.2"]);
    check("9.web.shop.dunlin.internal", Wanted::A, &["NoName"]);
    check("worker.shop.dunlin.internal", Wanted::A, &["NoData"]);
    check("idle.shop.dunlin.internal", Wanted::A, &["NoData"]);
    check("none.shop.dunlin.internal", Wanted::A, &["NoName"]);
    check("shop.dunlin.internal", Wanted::A, &["NoData"]);
    check("nostack.dunlin.internal", Wanted::A, &["NoName"]);
    check("n1.node.dunlin.internal", Wanted::A, &["10.0.0.1"]);
    check("n1.node.dunlin.internal", Wanted::Txt, &["zone=a"]);
    check("n9.node.dunlin.internal", Wanted::A, &["NoName"]);
    check("node.dunlin.internal", Wanted::A, &["NoData"]);
    check("dunlin.internal", Wanted::Soa, &["ns.dunlin.internal."]);
    check("dunlin.internal", Wanted::Txt, &["cluster=c1"]);
    check("dunlin.internal", Wanted::A, &["NoData"]);
    check("web.shop.dunlin.internal", Wanted::Other, &["NoData"]);
    check("2.0.0.10.in-addr.arpa", Wanted::Ptr, &["n2.node.dunlin.internal."]);
    check("9.0.0.10.in-addr.arpa", Wanted::Ptr, &["NotOurs"]);
    check("example.org", Wanted::A, &["NotOurs"]);
    assert_eq!(found(&zone, "dunlin.internal", Wanted::Ns).len(), 3);
}

#[test]
fn srv_brings_the_addresses_of_its_targets_and_they_resolve() {
    let zone = zone();
    let Answer::Found { answers, additional } = ask(&zone, "web.shop.dunlin.internal", Wanted::Srv) else {
        panic!("no answer");
    };
    for record in &answers {
        let Data::Srv { target, .. } = &record.data else { panic!("not an SRV") };
        assert!(additional.iter().any(|r| r.name == *target));
        assert!(matches!(ask(&zone, &target.to_string(), Wanted::A), Answer::Found { .. }));
    }
}

#[test]
fn what_is_gone_is_no_name_and_a_node_without_address_no_data() {
    let mut zone = zone();
    zone.apply(&NameChange::ServiceGone(key("web")));
    assert_eq!(found(&zone, "web.shop.dunlin.internal", Wanted::A), ["NoName"]);
    zone.apply(&NameChange::Node {
        node: NodeId([1; 16]),
        name: NodeName::new("n1").unwrap(),
        address: None,
        labels: BTreeMap::new(),
    });
    assert_eq!(found(&zone, "n1.node.dunlin.internal", Wanted::A), ["NoData"]);
    zone.apply(&NameChange::NodeGone(NodeId([1; 16])));
    assert_eq!(found(&zone, "n1.node.dunlin.internal", Wanted::A), ["NoName"]);
}

#[test]
fn two_nodes_of_one_name_answer_the_same_whatever_the_order() {
    let change = |n: u8| NameChange::Node {
        node: NodeId([n; 16]),
        name: NodeName::new("twin").unwrap(),
        address: Some(IpAddr::from([10, 0, 0, n])),
        labels: BTreeMap::new(),
    };
    let build = |order: &[u8]| {
        let mut zone = Zone::new("d", "c", 1);
        order.iter().for_each(|n| zone.apply(&change(*n)));
        found(&zone, "twin.node.d", Wanted::A)
    };
    assert_eq!(build(&[7, 8]), build(&[8, 7]));
}

#[test]
fn serials_grow_and_answers_are_shuffled_by_the_given_generator() {
    let mut zone = zone();
    let before = zone.soa();
    zone.apply(&NameChange::ServiceGone(key("idle")));
    assert_ne!(zone.soa(), before);
    let order = |seed| match zone.answer(&Fqdn::parse("web.shop.dunlin.internal"), Wanted::A, &mut Seed(seed).rng()) {
        Answer::Found { answers, .. } => answers,
        other => panic!("{other:?}"),
    };
    assert_eq!(order(1), order(1));
    assert!((0..20).any(|seed| order(seed) != order(1)), "never shuffled");
}

#[test]
fn places_told_one_by_one_equal_a_service_told_whole() {
    let key = key("web");
    let at = |n: u8, port: u16| instance(n, Some(port));
    let place = |i: &Instance| (i.slot, i.node);
    let mut zone = zone();
    zone.apply(&NameChange::Service { service: key.clone(), instances: vec![at(1, 11), at(3, 13), at(5, 15)] });
    // One comes between, one moves to another port, one goes, and one that never was goes too.
    let come = [at(2, 12), at(3, 33)];
    let gone = [at(4, 14), at(5, 15)];
    for (places, instances) in [(&come[..], come.to_vec()), (&gone[..], Vec::new())] {
        let places = places.iter().map(place).collect();
        zone.apply(&NameChange::Places { service: key.clone(), places, instances });
    }
    assert_eq!(zone.instances(&key), Some(&[at(1, 11), at(2, 12), at(3, 33)][..]));
    zone.apply(&NameChange::ServiceGone(key.clone()));
    zone.apply(&NameChange::Places { service: key.clone(), places: vec![place(&come[0])], instances: come.to_vec() });
    assert_eq!(zone.instances(&key), None, "what is no service does not come back by a place of it");
}
