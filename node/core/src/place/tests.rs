use super::*;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec;
use core::net::{IpAddr, Ipv4Addr};

use dunlin_gossip::model::{
    Constraint, ConstraintOp, DriverKind, NodeHeader, NodeName, Platform, PortSpec, Protocol, Resources, ServiceKey,
    ServiceName, Slot, StackName, Workload,
};

struct Host {
    node: NodeId,
    header: NodeHeader,
    room: Resources,
    taken: BTreeSet<(Protocol, u16)>,
    services: Vec<(ServiceKey, u32)>,
}

impl Host {
    fn new(n: u8) -> Self {
        let header = header_of(n);
        Self { node: NodeId([n; 16]), room: header.allocatable, header, taken: BTreeSet::new(), services: Vec::new() }
    }

    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            node: self.node,
            header: &self.header,
            room: Room { base: self.room, ..Room::default() },
            units: &[],
            taken: &self.taken,
            services: &self.services,
            orders: dunlin_gossip::model::NodeOrders::none(),
            hash: rank::node_hash(self.node),
            weight: rank::weight(&self.header.allocatable),
        }
    }
}

/// A node's header with nothing special in it.
pub(super) fn header_of(n: u8) -> NodeHeader {
    let allocatable = Resources { cpu_milli: 4_000, memory_bytes: 8 << 30 };
    NodeHeader {
        name: NodeName::new(&alloc::format!("n{n}")).unwrap(),
        addresses: vec![],
        service_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        labels: BTreeMap::from([("disk".to_string(), if n.is_multiple_of(2) { "ssd" } else { "hdd" }.to_string())]),
        allocatable,
        drivers: vec![DriverKind::Exec],
        platform: Platform { os: "linux".to_string(), arch: "amd64".to_string() },
        version: "0".to_string(),
        certificate: Default::default(),
        adopted: vec![],
        supply: Default::default(),
    }
}

pub(super) fn service_key(name: &str) -> ServiceKey {
    let stack = StackName::new("shop").unwrap();
    ServiceKey { stack, service: ServiceName::new(name).unwrap() }
}

pub(super) fn port_of(number: u16) -> PortSpec {
    PortSpec { name: "http".to_string(), target: None, published: Some(number), protocol: Protocol::Tcp }
}

pub(super) fn spec() -> ServiceSpec {
    ServiceSpec::bare(Workload::program("true"))
}

fn replica(n: u32) -> ReplicaKey {
    let service = ServiceKey { stack: StackName::new("shop").unwrap(), service: ServiceName::new("web").unwrap() };
    ReplicaKey { service, slot: Slot::Number(n) }
}

fn hosts(n: u8) -> Vec<Host> {
    (1..=n).map(Host::new).collect()
}

/// Hosts of three sizes.
fn mixed_hosts(n: u8) -> Vec<Host> {
    let resize = |mut host: Host| {
        host.header.allocatable.cpu_milli += 2_000 * u64::from(host.node.0[0] % 3);
        host.room = host.header.allocatable;
        host
    };
    hosts(n).into_iter().map(resize).collect()
}

#[test]
fn every_node_computes_the_same_ladder_and_its_own_place_on_it() {
    let hosts = mixed_hosts(20);
    let nodes: Vec<_> = hosts.iter().map(Host::candidate).collect();
    let (spec, replica) = (spec(), replica(1));
    let waiting = Waiting { replica: &replica, spec: &spec, refused_by: &[] };
    let ladder = ladder(&waiting, Scene::of(&nodes));
    assert_eq!(ladder.len(), 20);
    for (at, node) in ladder.iter().enumerate() {
        assert_eq!(position(*node, &waiting, Scene::of(&nodes)), Some(at));
    }
}

#[test]
fn a_plan_spreads_a_service_over_as_many_nodes_as_there_are() {
    let hosts = hosts(5);
    let nodes: Vec<_> = hosts.iter().map(Host::candidate).collect();
    let spec = spec();
    let replicas: Vec<_> = (1..=5).map(replica).collect();
    let waiting: Vec<_> = replicas.iter().map(|r| Waiting { replica: r, spec: &spec, refused_by: &[] }).collect();
    let owners: BTreeSet<_> = heads(&waiting, Scene::of(&nodes)).into_iter().flatten().collect();
    assert_eq!(owners.len(), 5);
    let mine: usize = hosts
        .iter()
        .map(|h| plan(h.node, &waiting, Scene::of(&nodes), |_| true).iter().filter(|p| **p == Some(0)).count())
        .sum();
    assert_eq!(mine, 5, "each replica has exactly one head");
}

#[test]
fn a_full_node_is_not_on_the_ladder_and_the_plan_counts_what_it_gave_away() {
    let mut hosts = hosts(2);
    hosts[0].room = Resources { cpu_milli: 150, memory_bytes: 1 << 30 };
    hosts[1].room = Resources { cpu_milli: 100, memory_bytes: 1 << 30 };
    let nodes: Vec<_> = hosts.iter().map(Host::candidate).collect();
    let spec = spec();
    let replicas: Vec<_> = (1..=3).map(replica).collect();
    let waiting: Vec<_> = replicas.iter().map(|r| Waiting { replica: r, spec: &spec, refused_by: &[] }).collect();
    let owners = heads(&waiting, Scene::of(&nodes));
    assert_eq!(owners.iter().flatten().count(), 2);
    assert_eq!(owners[2], None);
}

#[test]
fn each_misfit_has_its_name() {
    let host = Host::new(1);
    let replica = replica(1);
    let check = |spec: &ServiceSpec, replica: &ReplicaKey, host: &Host, refused: &[NodeId]| {
        misfit(&Waiting { replica, spec, refused_by: refused }, &host.candidate())
    };
    let with = |attribute: &str, op, value: &str| {
        let mut s = spec();
        s.constraints.push(Constraint { attribute: attribute.to_string(), op, value: value.to_string() });
        s
    };
    assert_eq!(check(&spec(), &replica, &host, &[]), None);
    assert_eq!(check(&with("node.labels.disk", ConstraintOp::Equal, "hdd"), &replica, &host, &[]), None);
    assert_eq!(check(&with("node.hostname", ConstraintOp::NotEqual, "n2"), &replica, &host, &[]), None);
    assert_eq!(
        check(&with("node.labels.disk", ConstraintOp::Equal, "ssd"), &replica, &host, &[]),
        Some(Misfit::Constraint("node.labels.disk==ssd".to_string()))
    );
    assert_eq!(check(&spec(), &replica, &host, &[host.node]), Some(Misfit::Refused));
    let elsewhere = ReplicaKey { slot: Slot::Node(NodeId([9; 16])), ..replica.clone() };
    assert_eq!(check(&spec(), &elsewhere, &host, &[]), Some(Misfit::NotThisNode));
    let mut big = spec();
    big.reservation.cpu_milli = 5_000;
    assert_eq!(check(&big, &replica, &host, &[]), Some(Misfit::NoRoom));
    let mut port = spec();
    port.ports.push(PortSpec { name: "http".to_string(), target: None, published: Some(80), protocol: Protocol::Tcp });
    let mut busy = Host::new(1);
    busy.taken.insert((Protocol::Tcp, 80));
    assert_eq!(check(&port, &replica, &busy, &[]), Some(Misfit::PortTaken(80)));
    let mut engineless = Host::new(1);
    engineless.header.drivers.clear();
    assert_eq!(check(&spec(), &replica, &engineless, &[]), Some(Misfit::NoDriver(DriverKind::Exec)));
}

#[test]
fn places_beyond_the_first_k_are_told_apart_of_old_replicas_only() {
    let hosts = mixed_hosts(30);
    let nodes: Vec<_> = hosts.iter().map(Host::candidate).collect();
    let (spec, replicas) = (spec(), (1..=40).map(replica).collect::<Vec<_>>());
    let waiting: Vec<_> = replicas.iter().map(|r| Waiting { replica: r, spec: &spec, refused_by: &[] }).collect();
    for host in &hosts {
        let exact = plan(host.node, &waiting, Scene::of(&nodes), |_| true);
        let mixed = plan(host.node, &waiting, Scene::of(&nodes), |index| index % 2 == 0);
        assert!(exact.iter().flatten().any(|place| *place > K));
        for (index, (exact, mixed)) in exact.into_iter().zip(mixed).enumerate() {
            assert_eq!(mixed, if index % 2 == 0 { exact } else { exact.map(|place| place.min(K)) });
        }
    }
}

#[test]
fn losing_one_node_changes_the_rank_of_no_other() {
    let hosts = mixed_hosts(30);
    let nodes: Vec<_> = hosts.iter().map(Host::candidate).collect();
    let spec = spec();
    for n in 1..50 {
        let replica = replica(n);
        let hash = replica_hash(&replica);
        let mut before: Vec<_> = nodes.iter().map(|c| (rank::rank(hash, c.hash, c.weight), c.node)).collect();
        before.sort_unstable();
        let waiting = Waiting { replica: &replica, spec: &spec, refused_by: &[] };
        let without: Vec<_> = nodes.iter().filter(|c| c.node != before[0].1).copied().collect();
        let first_k: BTreeSet<_> = ladder(&waiting, Scene::of(&without)).into_iter().take(K).collect();
        let expected: BTreeSet<_> = before.iter().skip(1).take(K).map(|(_, n)| *n).collect();
        assert_eq!(first_k, expected);
    }
}

#[test]
fn priority_then_constraints_then_size_then_hash() {
    let (mut urgent, mut picky, mut big, plain) = (spec(), spec(), spec(), spec());
    urgent.priority = 1;
    picky.constraints.push(Constraint {
        attribute: "node.id".to_string(),
        op: ConstraintOp::NotEqual,
        value: "x".to_string(),
    });
    big.reservation.cpu_milli = 2_000;
    let replicas: Vec<_> = (1..=4).map(replica).collect();
    let mut waiting: Vec<_> = [&plain, &big, &picky, &urgent]
        .iter()
        .zip(&replicas)
        .map(|(spec, replica)| Waiting { replica, spec, refused_by: &[] })
        .collect();
    waiting.sort_by(order);
    let specs: Vec<_> = waiting.iter().map(|w| w.spec).collect();
    assert_eq!(specs, [&urgent, &picky, &big, &plain]);
}
