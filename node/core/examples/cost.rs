//! What placement costs on one core: `cargo run --release -p dunlin-core --example cost`. Prints a table; decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dunlin_core::place::{Candidate, Room, Scene, Waiting, heads, order_key, plan, rank};
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    DriverKind, Exec, NodeHeader, NodeName, Platform, Prefer, Protocol, ReplicaKey, Resources, RestartCondition,
    RestartPolicy, ServiceKey, ServiceName, ServiceSpec, Slot, StackName, StopPolicy, Workload,
};

/// Replicas of one service.
const OF_A_SERVICE: u32 = 100;

struct Host {
    id: NodeId,
    header: NodeHeader,
    room: Resources,
    services: Vec<(ServiceKey, u32)>,
}

fn host(n: u32, replicas: u32) -> Host {
    let allocatable = Resources { cpu_milli: 16_000, memory_bytes: 64 << 30 };
    let header = NodeHeader {
        name: NodeName::new(&format!("n{n}")).expect("a name"),
        addresses: Vec::new(),
        service_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        labels: BTreeMap::new(),
        allocatable,
        drivers: vec![DriverKind::Exec],
        platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned() },
        version: String::new(),
        certificate: Default::default(),
        adopted: Vec::new(),
        supply: Default::default(),
    };
    let seed = hash64(&n.to_be_bytes());
    let id = NodeId(((u128::from(seed) << 64) | u128::from(mix(seed, 1))).to_be_bytes());
    let taken = Resources { cpu_milli: u64::from(replicas) * 50, memory_bytes: u64::from(replicas) << 26 };
    let services = (0..replicas.min(100)).map(|at| (service(n * 7 + at), 1)).collect();
    Host { id, header, room: allocatable.minus(&taken), services }
}

fn service(n: u32) -> ServiceKey {
    let stack = StackName::new("bench").expect("a name");
    ServiceKey { stack, service: ServiceName::new(&format!("s{}", n % 1_000)).expect("a name") }
}

fn spec() -> ServiceSpec {
    ServiceSpec {
        workload: Workload::Exec(Exec { argv: vec!["true".to_owned()], working_dir: None }),
        environment: BTreeMap::new(),
        ports: Vec::new(),
        health: None,
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: None,
            window: Duration::from_secs(30),
        },
        stop: StopPolicy { signal: "SIGTERM".to_owned(), grace: Duration::from_secs(10) },
        reservation: Resources { cpu_milli: 50, memory_bytes: 64 << 20 },
        limits: Resources::default(),
        constraints: Vec::new(),
        priority: 0,
        prefer: Prefer::Ready,
        placing: Default::default(),
    }
}

/// The clock measures the code, and the code never sees it.
#[allow(clippy::disallowed_methods, reason = "a stopwatch around pure functions")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = std::time::Instant::now();
    let done = work();
    (done, begin.elapsed())
}

fn candidates<'a>(hosts: &'a [Host], none: &'a BTreeSet<(Protocol, u16)>) -> Vec<Candidate<'a>> {
    let candidate = |host: &'a Host| Candidate {
        node: host.id,
        header: &host.header,
        room: Room { base: host.room, ..Room::default() },
        units: &[],
        taken: none,
        services: &host.services,
        hash: rank::node_hash(host.id),
        weight: rank::weight(&host.header.allocatable),
    };
    hosts.iter().map(candidate).collect()
}

fn main() {
    let (spec_of, none) = (spec(), BTreeSet::new());
    println!("| what | nodes | replicas placed | milliseconds | a second |");
    println!("|---|---|---|---|---|");
    let row = |what: &str, nodes: u32, replicas: u32, took: Duration| {
        let (ms, rate) = (took.as_secs_f64() * 1e3, f64::from(replicas) / took.as_secs_f64().max(1e-9));
        println!("| {what} | {nodes} | {replicas} | {ms:.1} | {rate:.0} |");
    };
    let cases = [
        ("a member goes: what it ran, placed by one node", 1_000, 100, 100),
        ("a member goes: what it ran, placed by one node", 10_000, 100, 100),
        ("a deploy: placed by one node", 1_000, 20, 1_000),
        ("everything, placed by one node", 6_000, 0, 1_000_000),
    ];
    for (what, nodes, before, wanted) in cases {
        let hosts: Vec<Host> = (0..nodes).map(|n| host(n, before)).collect();
        let specs: Vec<ServiceSpec> = (0..u32::div_ceil(wanted, OF_A_SERVICE)).map(|_| spec_of.clone()).collect();
        let replica = |n: u32| ReplicaKey { service: service(n / OF_A_SERVICE), slot: Slot::Number(n) };
        let replicas: Vec<ReplicaKey> = (0..wanted).map(replica).collect();
        let waiting = replicas.iter().zip(0..wanted).map(|(replica, n)| Waiting {
            replica,
            spec: &specs[(n / OF_A_SERVICE) as usize],
            refused_by: &[],
        });
        let mut waiting: Vec<Waiting<'_>> = waiting.collect();
        let (placed, took) = timed(|| {
            let nodes = candidates(&hosts, &none);
            waiting.sort_by_cached_key(order_key);
            if wanted > 100_000 {
                heads(&waiting, Scene::of(&nodes)).into_iter().flatten().count()
            } else {
                plan(hosts[0].id, &waiting, Scene::of(&nodes), |_| false).len()
            }
        });
        assert_eq!(placed, wanted as usize, "there is room for all");
        row(what, nodes, wanted, took);
    }
}
