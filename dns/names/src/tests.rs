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
    let mut zone = Zone::new("dunlin.internal", "c1", 1).seen_from(NodeId([1; 16]));
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
        Answer::Found { answers, .. } => {
            let mut texts: Vec<_> = answers
                .iter()
                .map(|r| match &r.data {
                    Data::Address(a) => a.to_string(),
                    Data::Srv { port, target, .. } => alloc::format!("{port} {target}"),
                    Data::Ns(n) | Data::Ptr(n) => n.to_string(),
                    Data::Txt(t) => t.join(","),
                    Data::Soa { primary, .. } => primary.to_string(),
                    Data::Service { priority, port, target, .. } => alloc::format!("{priority} {port} {target}"),
                })
                .collect();
            texts.sort();
            texts
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
    check("_http._udp.web.shop.dunlin.internal", Wanted::Srv, &["NoName"]);
    check("_nosuch._tcp.web.shop.dunlin.internal", Wanted::Srv, &["NoName"]);
    check("_udp.web.shop.dunlin.internal", Wanted::Srv, &["NoName"]);
    check("_http._tcp.idle.shop.dunlin.internal", Wanted::Srv, &["NoData"]);
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

/// Three nodes in two zones, with labels, and replicas of `web` on the second and third.
fn labelled() -> Zone {
    let mut zone = zone();
    let node = |n: u8, labels: &[(&str, &str)]| NameChange::Node {
        node: NodeId([n; 16]),
        name: NodeName::new(&alloc::format!("n{n}")).unwrap(),
        address: Some(IpAddr::from([10, 0, 0, n])),
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    };
    zone.apply(&node(1, &[("zone", "a"), ("disk", "SSD")]));
    zone.apply(&node(2, &[("zone", "a"), ("dns-weight", "9")]));
    zone.apply(&node(3, &[("zone", "b")]));
    let all = vec![instance(2, Some(8002)), instance(3, Some(8003))];
    zone.apply(&NameChange::Service { service: key("web"), instances: all });
    zone
}

fn check(zone: &Zone, name: &str, wanted: Wanted, expected: &[&str]) {
    assert_eq!(found(zone, &alloc::format!("{name}.dunlin.internal"), wanted), expected, "{name}");
}

#[test]
fn instances_are_chosen_by_nearness_label_node_and_chance() {
    let mut zone = labelled();
    check(&zone, "nearest.web.shop", Wanted::A, &["10.0.0.2"]);
    let near = ["8002 2.web.shop.dunlin.internal.", "8003 3.web.shop.dunlin.internal."];
    check(&zone, "nearest.web.shop", Wanted::Srv, &near);
    let Answer::Found { answers, .. } = ask(&zone, "_http._tcp.nearest.web.shop.dunlin.internal", Wanted::Srv) else {
        panic!("no answer");
    };
    let ranks: BTreeMap<u16, (u16, u16)> = answers
        .iter()
        .filter_map(|r| match r.data {
            Data::Srv { priority, weight, port, .. } => Some((port, (priority, weight))),
            _ => None,
        })
        .collect();
    assert_eq!(
        ranks,
        BTreeMap::from([(8002, (1, 9)), (8003, (2, 1))]),
        "this node, this zone, the rest; weights by label"
    );
    check(&zone, "b.zone.web.shop", Wanted::A, &["10.0.0.3"]);
    check(&zone, "zone.web.shop", Wanted::A, &["NoData"]);
    check(&zone, "c.zone.web.shop", Wanted::A, &["NoName"]);
    check(&zone, "ssd.disk.web.shop", Wanted::A, &["NoName"]);
    check(&zone, "web.shop.n3.node", Wanted::A, &["10.0.0.3"]);
    check(&zone, "web.shop.n1.node", Wanted::A, &["NoName"]);
    check(&zone, "shop.n3.node", Wanted::A, &["NoData"]);
    check(&zone, "_web._tcp.shop", Wanted::Srv, &near);
    check(&zone, "_web._udp.shop", Wanted::Srv, &["NoName"]);
    check(&zone, "_none._tcp.shop", Wanted::Srv, &["NoName"]);
    check(&zone, "_tcp.shop", Wanted::Srv, &["NoData"]);
    check(&zone, "_tcp.nostack", Wanted::Srv, &["NoName"]);
    check(&zone, "x.2.web.shop", Wanted::A, &["NoName"]);
    check(&zone, "rr.nearest.web.shop", Wanted::A, &["NoName"]);
    check(&zone, "web.shop", Wanted::Txt, &["stack=shop,service=web,instances=2"]);
    check(&zone, "2.web.shop", Wanted::Txt, &["node=n2,port.http=8002/tcp"]);
    check(
        &zone,
        "_http._tcp.web.shop",
        Wanted::Svcb,
        &["1 8002 2.web.shop.dunlin.internal.", "1 8003 3.web.shop.dunlin.internal."],
    );
    check(&zone, "web.shop", Wanted::Https, &["NoData"]);
    check(&zone, "ns", Wanted::A, &["10.0.0.1"]);
    let mut seen: Vec<_> = Vec::new();
    for seed in 0..40 {
        match zone.answer(&Fqdn::parse("rr.web.shop.dunlin.internal"), Wanted::Srv, &mut Seed(seed).rng()) {
            Answer::Found { answers, additional } => {
                assert_eq!((answers.len(), additional.len()), (1, 1));
                seen.extend(answers);
            }
            other => panic!("{other:?}"),
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2, "each in its turn");
    zone.apply(&NameChange::Service {
        service: key("web"),
        instances: vec![instance(1, Some(1)), instance(2, Some(2))],
    });
    check(&zone, "nearest.web.shop", Wanted::A, &["10.0.0.1"]);
    check(&zone, "ssd.disk.web.shop", Wanted::A, &["10.0.0.1"]);
}

#[test]
fn beyond_the_own_zone_the_shorter_round_trip_is_nearer() {
    let mut zone = Zone::new("dunlin.internal", "c1", 1).seen_from(NodeId([1; 16]));
    for (n, place) in [(1, "a"), (2, "b"), (3, "c"), (4, "c"), (5, "d")] {
        zone.apply(&NameChange::Node {
            node: NodeId([n; 16]),
            name: NodeName::new(&alloc::format!("n{n}")).unwrap(),
            address: Some(IpAddr::from([10, 0, 0, n])),
            labels: BTreeMap::from([("zone".to_string(), place.to_string())]),
        });
    }
    let all = (2..=5).map(|n| instance(n, Some(8_000 + u16::from(n)))).collect();
    zone.apply(&NameChange::Service { service: key("web"), instances: all });
    let ranks = |zone: &Zone| {
        let found = ask(zone, "nearest.web.shop.dunlin.internal", Wanted::Srv);
        let Answer::Found { answers, .. } = found else { panic!("{found:?}") };
        let rank = |r: &Record| if let Data::Srv { priority, port, .. } = r.data { (port, priority) } else { (0, 0) };
        answers.iter().map(rank).collect::<BTreeMap<u16, u16>>()
    };
    assert_eq!(ranks(&zone), BTreeMap::from([(8002, 2), (8003, 2), (8004, 2), (8005, 2)]), "nothing is measured");
    let ms = core::time::Duration::from_millis;
    let measured = BTreeMap::from([(NodeId([2; 16]), ms(30)), (NodeId([3; 16]), ms(3))]);
    assert!(zone.measure(&measured) && !zone.measure(&measured));
    // The fourth is as far as the third, of the same zone; of the fifth nobody knows.
    assert_eq!(ranks(&zone), BTreeMap::from([(8002, 7), (8003, 4), (8004, 4), (8005, 16)]));
    check(&zone, "nearest.web.shop", Wanted::A, &["10.0.0.3", "10.0.0.4"]);
}

#[test]
fn an_address_of_its_own_leads_back_to_its_instance_and_to_nothing_once_it_is_gone() {
    let mut zone = zone();
    let own = |last: u8| Instance { address: IpAddr::from([172, 17, 0, last]), ..instance(2, Some(80)) };
    let ptr = |zone: &Zone, last: u8| found(zone, &alloc::format!("{last}.0.17.172.in-addr.arpa"), Wanted::Ptr);
    zone.apply(&NameChange::Service { service: key("web"), instances: vec![own(5)] });
    assert_eq!(ptr(&zone, 5), ["2.web.shop.dunlin.internal."]);
    assert_eq!(found(&zone, "5.0.17.172.in-addr.arpa", Wanted::A), ["NoData"]);
    zone.apply(&NameChange::Service { service: key("web"), instances: vec![own(6)] });
    assert_eq!((ptr(&zone, 5), ptr(&zone, 6)), (vec!["NotOurs".into()], vec!["2.web.shop.dunlin.internal.".into()]));
    zone.apply(&NameChange::ServiceGone(key("web")));
    assert_eq!(ptr(&zone, 6), ["NotOurs"]);
}

#[test]
fn any_is_answered_with_one_type() {
    let zone = zone();
    let Answer::Found { answers, .. } = ask(&zone, "n1.node.dunlin.internal", Wanted::Any) else { panic!("no answer") };
    assert!(matches!(answers[..], [Record { data: Data::Address(_), .. }]), "{answers:?}");
}

#[test]
fn an_exported_zone_answers_to_each_of_its_names() {
    let zone = zone();
    let records = zone.export();
    assert!(matches!(records[0].data, Data::Soa { .. }));
    for record in &records {
        let wanted = match &record.data {
            Data::Address(IpAddr::V4(_)) => Wanted::A,
            Data::Address(IpAddr::V6(_)) => Wanted::Aaaa,
            Data::Srv { .. } => Wanted::Srv,
            Data::Service { is_https: true, .. } => Wanted::Https,
            Data::Service { .. } => Wanted::Svcb,
            Data::Soa { .. } => Wanted::Soa,
            Data::Ns(_) => Wanted::Ns,
            Data::Txt(_) => Wanted::Txt,
            Data::Ptr(_) => Wanted::Ptr,
        };
        let Answer::Found { answers, .. } = ask(&zone, &record.name.to_string(), wanted) else {
            panic!("{record} is not answered");
        };
        assert!(answers.contains(record), "{record}");
    }
    let text: Vec<_> = records.iter().map(ToString::to_string).collect();
    assert!(
        text.contains(
            &"_http._tcp.web.shop.dunlin.internal. 1 IN SRV 0 1 8002 2.web.shop.dunlin.internal.".to_string()
        )
    );
}

#[test]
fn a_typed_name_is_described_with_its_service() {
    let zone = zone();
    let whole = zone.typed("web.shop");
    assert_eq!(whole, Fqdn::parse("web.shop.dunlin.internal"));
    assert_eq!(zone.typed("web.shop.dunlin.internal"), whole);
    assert_eq!(zone.typed("example.org."), Fqdn::parse("example.org"));
    let (standing, records) = zone.describe(&whole);
    assert_eq!((standing, records.len()), (Standing::Exists, 5), "two A, two SRV, one TXT: {records:?}");
    assert_eq!(zone.describe(&zone.typed("none.shop")).0, Standing::Nothing);
    assert_eq!(zone.describe(&zone.typed("example.org.")).0, Standing::NotOurs);
    let service = Some(("web".to_string(), "shop".to_string()));
    for name in ["web.shop", "9.web.shop", "_http._tcp.nearest.web.shop", "_web._tcp.shop", "web.shop.n1.node"] {
        assert_eq!(zone.service_of(&zone.typed(name)), service, "{name}");
    }
    assert_eq!(zone.service_of(&zone.typed("n1.node")), None);
}

#[test]
fn a_slot_of_a_run_has_a_name_of_its_own() {
    let mut zone = zone();
    let run = Instance { slot: Slot::Run(1_764_558_000, 1), ..instance(3, Some(8003)) };
    zone.apply(&NameChange::Service { service: key("nightly"), instances: vec![run] });
    let name = "1764558000-1.nightly.shop.dunlin.internal";
    assert_eq!(found(&zone, name, Wanted::A), ["10.0.0.3"]);
    let srv = alloc::format!("8003 {name}.");
    assert_eq!(found(&zone, "nightly.shop.dunlin.internal", Wanted::Srv), [srv]);
    assert_eq!(found(&zone, "1764558000-2.nightly.shop.dunlin.internal", Wanted::A), ["NoName"]);
}
