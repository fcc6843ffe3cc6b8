//! What placement costs on one core: `cargo run --release -p dunlin-core --example cost`. Prints a table; decides nothing.

mod flock;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use dunlin_core::place::{Candidate, Room, Scene, Waiting, heads, order_key, plan, rank};
use dunlin_core::query::ask::{Change, plan as ask, suppose};
use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    DriverKind, Exec, Mode, NodeHeader, NodeName, Platform, Prefer, Protocol, ReplicaKey, Resources, RestartCondition,
    RestartPolicy, Service, ServiceKey, ServiceName, ServiceSpec, Slot, StackName, StopPolicy, Workload,
};
use dunlin_gossip::time::Instant;

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
    let services = (0..replicas.min(100)).map(|at| (service((n * 7 + at) % 1_000), 1)).collect();
    Host { id, header, room: allocatable.minus(&taken), services }
}

fn service_name(n: u32) -> ServiceName {
    ServiceName::new(&format!("s{n}")).expect("a name")
}

fn service(n: u32) -> ServiceKey {
    ServiceKey { stack: StackName::new("bench").expect("a name"), service: service_name(n) }
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

/// Time that this thread had a core, where the system tells it: other work on the machine does not count.
fn on_core() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The clock measures the code, and the code never sees it. Of what is short the best of several runs counts, of what is long
/// the time on a core.
#[allow(clippy::disallowed_methods, reason = "a stopwatch around pure functions")]
fn timed<T>(mut work: impl FnMut() -> T) -> (T, Duration) {
    let mut once = || {
        let (begin, before) = (std::time::Instant::now(), on_core());
        let done = work();
        let took = begin.elapsed();
        let long = on_core().zip(before).map(|(after, before)| after.saturating_sub(before)).filter(|_| took > SHORT);
        (done, long.unwrap_or(took))
    };
    let (done, mut best) = once();
    for _ in 0..if best > SHORT { 0 } else { 20 } {
        best = best.min(once().1);
    }
    (done, best)
}

/// How long something takes that cannot be done twice.
#[allow(clippy::disallowed_methods, reason = "a stopwatch around pure functions")]
fn watch(work: &mut dyn FnMut()) -> Duration {
    let begin = std::time::Instant::now();
    work();
    begin.elapsed()
}

/// The system's count of time on a core is too coarse for what takes less.
const SHORT: Duration = Duration::from_millis(200);

fn candidates<'a>(hosts: &'a [Host], none: &'a BTreeSet<(Protocol, u16)>) -> Vec<Candidate<'a>> {
    let candidate = |host: &'a Host| Candidate {
        node: host.id,
        header: &host.header,
        room: Room { base: host.room, ..Room::default() },
        units: &[],
        taken: none,
        services: &host.services,
        orders: dunlin_gossip::model::NodeOrders::none(),
        hash: rank::node_hash(host.id),
        weight: rank::weight(&host.header.allocatable),
    };
    hosts.iter().map(candidate).collect()
}

fn row(what: &str, nodes: u32, replicas: u32, took: Duration) {
    let (ms, rate) = (took.as_secs_f64() * 1e3, f64::from(replicas) / took.as_secs_f64().max(1e-9));
    println!("| {what} | {nodes} | {replicas} | {ms:.1} | {rate:.0} |");
}

/// A node's whole way from "that member is gone" to its own claims, and what it answers when it is asked.
fn flocks() {
    for (nodes, replicas) in [(1_000, 50_000), (1_000, 100_000), (10_000, 1_000_000)] {
        let zone = |n: u32| BTreeMap::from([("zone".to_owned(), ["a", "b", "c"][n as usize % 3].to_owned())]);
        let header = |n: u32| {
            let host = host(n, 0);
            (host.id, NodeHeader { labels: zone(n), ..host.header })
        };
        let mut flock = flock::Flock::new((0..nodes).map(header).collect());
        let each = OF_A_SERVICE.max(replicas / 1_000);
        let of = |_| Service { mode: Mode::Replicated(each), spec: spec() };
        flock.deploy((0..replicas / each).map(|n| (service_name(n), of(n))).collect());
        flock.settle();
        let mut took = Duration::ZERO;
        let mut lost = 0;
        for _ in 0..if nodes > 1_000 { 3 } else { 10 } {
            let mut once = Duration::ZERO;
            lost = flock.lose_one(&mut |work| once = watch(work));
            took = if took.is_zero() { once } else { took.min(once) };
        }
        let what = format!("a member goes, {replicas} replicas run: all that one node does about it");
        row(&what, nodes, u32::try_from(lost).unwrap_or(u32::MAX), took);
        let base = flock.base(None);
        let lose = [Change::Lose("zone=b".to_owned())];
        let (supposed, took) = timed(|| suppose(base.view(), &lose, Instant::ZERO).expect("there is such a zone"));
        let moved = u32::try_from(supposed.moves + supposed.unplaceable).unwrap_or(u32::MAX);
        row(&format!("whatif --lose zone=b, {replicas} replicas run"), nodes, moved, took);
        let mut most = Duration::ZERO;
        flock.take_share(&mut |work| most = most.max(watch(work)));
        row(
            &format!("a node that came looks for its share, {replicas} replicas run: the longest call"),
            nodes,
            1,
            most,
        );
    }
}

/// A deploy of one replica for each node, asked about and then done.
fn deploys() {
    let nodes = 1_000;
    let header = |n: u32| (host(n, 0).id, host(n, 0).header);
    let mut flock = flock::Flock::new((0..nodes).map(header).collect());
    let of = |n| (service_name(n), Service { mode: Mode::Replicated(OF_A_SERVICE), spec: spec() });
    flock.deploy((100..600).map(of).collect());
    flock.settle();
    let wanted: BTreeMap<ServiceName, Service> = (100..600).chain(0..nodes / OF_A_SERVICE).map(of).collect();
    let stack = StackName::new("bench").expect("a name");
    let base = flock.base(None);
    let (planned, took) = timed(|| ask(base.view(), &stack, &wanted, Instant::ZERO).expect("a plan"));
    assert_eq!(planned.changes.len(), nodes as usize, "there is room for all");
    row("`plan` of a deploy, 50000 replicas run", nodes, nodes, took);
    flock.deploy(wanted);
    let (base, mut took) = (flock.base(None), Duration::ZERO);
    for _ in 0..20 {
        let mut once = Duration::ZERO;
        flock.react(&base, None, flock::BOOT_HOLD, &mut |work| once = watch(work));
        took = if took.is_zero() { once } else { took.min(once) };
    }
    row("a deploy: all that one node does about it, 50000 replicas run", nodes, nodes, took);
}

fn main() {
    let (spec_of, none) = (spec(), BTreeSet::new());
    println!("| what | nodes | replicas placed | milliseconds | a second |");
    println!("|---|---|---|---|---|");
    let cases = [
        ("a member goes: what it ran, placed by one node", 1_000, 100, 100),
        ("a member goes: what it ran, placed by one node", 10_000, 100, 100),
        ("a deploy: placed by one node", 1_000, 20, 1_000),
        ("everything, placed by one node", 6_000, 0, 1_000_000),
    ];
    for (what, nodes, before, wanted) in cases {
        let hosts: Vec<Host> = (0..nodes).map(|n| host(n, before)).collect();
        let specs: Vec<ServiceSpec> = (0..u32::div_ceil(wanted, OF_A_SERVICE)).map(|_| spec_of.clone()).collect();
        let replica = |n: u32| ReplicaKey { service: service((n / OF_A_SERVICE) % 10_000), slot: Slot::Number(n) };
        let replicas: Vec<ReplicaKey> = (0..wanted).map(replica).collect();
        let waiting = replicas.iter().zip(0..wanted).map(|(replica, n)| Waiting {
            replica,
            spec: &specs[(n / OF_A_SERVICE) as usize],
            refused_by: &[],
        });
        let waiting: Vec<Waiting<'_>> = waiting.collect();
        let (placed, took) = timed(|| {
            let (nodes, mut waiting) = (candidates(&hosts, &none), waiting.clone());
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
    deploys();
    flocks();
}
