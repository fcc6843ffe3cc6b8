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
    DriverKind, Mode, NodeHeader, NodeName, Platform, Protocol, ReplicaKey, Resources, Service, ServiceKey,
    ServiceName, ServiceSpec, Slot, StackName, Workload,
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
    let mut services: Vec<_> = (0..replicas.min(100)).map(|at| (service((n * 7 + at) % 1_000), 1)).collect();
    services.sort();
    Host { id, header, room: allocatable.minus(&taken), services }
}

fn service_name(n: u32) -> ServiceName {
    ServiceName::new(&format!("s{n}")).expect("a name")
}

fn service(n: u32) -> ServiceKey {
    ServiceKey { stack: StackName::new("bench").expect("a name"), service: service_name(n) }
}

fn spec() -> ServiceSpec {
    let reservation = Resources { cpu_milli: 50, memory_bytes: 64 << 20 };
    ServiceSpec { reservation, ..ServiceSpec::bare(Workload::program("true")) }
}

/// Time that this thread has had a core: other work on the machine does not count. The system brings its count up to date when
/// a thread gives its core away for a moment.
fn on_core() -> Duration {
    std::thread::yield_now();
    let text =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("a Linux kernel with scheduler statistics");
    let nanos = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanos.expect("nanoseconds come first"))
}

/// How long something takes that cannot be done twice.
fn watch(work: &mut dyn FnMut()) -> Duration {
    let before = on_core();
    work();
    on_core() - before
}

/// The best of several runs, since what else is in the caches is not this code's doing.
fn timed<T>(mut work: impl FnMut() -> T) -> (T, Duration) {
    let mut done = None;
    let mut once = || watch(&mut || done = Some(work()));
    let mut best = once();
    for _ in 0..if best > LONG { 2 } else { 20 } {
        best = best.min(once());
    }
    (done.expect("it ran"), best)
}

/// What takes longer is not done as often.
const LONG: Duration = Duration::from_millis(200);

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
        let (mut took, mut moved) = (Duration::MAX, (0, 0));
        let base = flock.base();
        for _ in 0..if nodes > 1_000 { 3 } else { 10 } {
            let mut once = Duration::ZERO;
            moved = flock.lose_one(&base, &mut |work| once += watch(work));
            took = took.min(once);
        }
        let what = format!("a member goes, {replicas} replicas run: all that one node does, which claims {}", moved.1);
        row(&what, nodes, u32::try_from(moved.0).unwrap_or(u32::MAX), took);
        let lose = [Change::Lose("zone=b".to_owned())];
        let (supposed, took) = timed(|| suppose(base.view(), &lose, Instant::ZERO).expect("there is such a zone"));
        let moved = u32::try_from(supposed.moves + supposed.unplaceable).unwrap_or(u32::MAX);
        row(&format!("whatif --lose zone=b, {replicas} replicas run"), nodes, moved, took);
        let mut most = Duration::ZERO;
        let taken = flock.take_share(&mut |work| most = most.max(watch(work)));
        let what = format!("a node that came looks for its share, {replicas} replicas run: the longest call");
        row(&what, nodes, u32::try_from(taken).unwrap_or(u32::MAX), most);
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
    let base = flock.base();
    let (planned, took) = timed(|| ask(base.view(), &stack, &wanted, Instant::ZERO).expect("a plan"));
    assert_eq!(planned.changes.len(), nodes as usize, "there is room for all");
    row("`plan` of a deploy, 50000 replicas run", nodes, nodes, took);
    flock.deploy(wanted);
    let (base, mut took, mut claimed) = (flock.base(), Duration::MAX, 0);
    for _ in 0..20 {
        let mut once = Duration::ZERO;
        claimed = flock.react(&base, &mut |work| once = watch(work));
        took = took.min(once);
    }
    let what = format!("a deploy, 50000 replicas run: all that one node does, which claims {claimed}");
    row(&what, nodes, nodes, took);
}

/// How many replicas move when one of 1,000 nodes goes, and when one comes: 50 on each, which take four fifths of it.
fn moves(sizes: [u64; 2], what: &str) {
    let (nodes, of_each, services) = (1_000, 100, 500);
    let header = |n: u32| (host(n, 0).id, host(n, 0).header);
    let mut flock = flock::Flock::new((0..nodes).map(header).collect());
    let of = |n: u32| {
        let cpu_milli = sizes[n as usize % 2];
        let reservation = Resources { cpu_milli, memory_bytes: cpu_milli << 22 };
        (service_name(n), Service { mode: Mode::Replicated(of_each), spec: ServiceSpec { reservation, ..spec() } })
    };
    flock.deploy((0..services).map(of).collect());
    flock.settle();
    let base = flock.base();
    let asked = |changes: &[Change]| suppose(base.view(), changes, Instant::ZERO).expect("there are such nodes");
    let (mut left, mut least, mut taken, mut lost) = (0, 0, 0, 0);
    let trials = 10;
    for trial in 0..trials {
        let (id, header) = header(trial * 97);
        let supposed = asked(&[Change::Lose(format!("node={}", header.name))]);
        left += supposed.moves;
        lost += supposed.unplaceable;
        least += base.view().nodes().get(&id).map_or(0, |known| known.allocations.len());
        taken += asked(&[Change::Add { like: header.name.to_string(), count: 1 }]).moves;
    }
    let mean = |sum: usize| sum as f64 / f64::from(trials);
    let share = f64::from(of_each * services) / f64::from(nodes + 1);
    println!(
        "| {what}: one of {nodes} goes: moves, the minimum, without a place; one comes: moves, its share | {:.1} | {:.1} | {} | {:.1} | {share:.1} |",
        mean(left),
        mean(least),
        lost,
        mean(taken)
    );
}

/// A million replicas over 6,000 hosts, and smaller plans.
fn decisions() {
    let (spec_of, none) = (spec(), BTreeSet::new());
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
}

fn moving() {
    moves([256, 256], "replicas of one size");
    moves([128, 384], "of two sizes");
}

/// All parts, or those that are named.
fn main() {
    let parts: [(&str, fn()); 4] =
        [("decisions", decisions), ("deploys", deploys), ("flocks", flocks), ("moves", moving)];
    let named: Vec<String> = std::env::args().skip(1).collect();
    println!("| what | nodes | replicas | milliseconds on a core | a second |");
    println!("|---|---|---|---|---|");
    for (name, part) in parts {
        if named.is_empty() || named.iter().any(|other| other == name) {
            part();
        }
    }
}
