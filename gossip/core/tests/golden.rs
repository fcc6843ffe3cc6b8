//! Golden bytes: what is on disks and on wires today must be readable tomorrow, byte for byte.
//!
//! A change here is a change of format. Old bytes are never edited away: a new version gets new lines beside the old ones.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, Generation, NodeId, hex};
use dunlin_gossip::model::*;
use dunlin_gossip::state::Away;
use dunlin_gossip::state::hours::{Hours, Settled};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Context, Declared, Record, RecordId, Stamp, WireVersion, codec, rehearsal};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value has these bytes, and these bytes are the value.
fn golden<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T, expected: &str) {
    assert_eq!(hex(&codec::encode(value)), expected, "the format of {value:?} changed");
    assert_eq!(codec::decode::<T>(&bytes(expected)).as_ref(), Ok(value));
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn record(record: &Record, expected: &str) {
    assert_eq!(hex(record.bytes()), expected, "the format of records changed");
    assert_eq!(Record::read(&bytes(expected)).as_ref(), Ok(record));
}

const NODE: NodeId = NodeId([0x11; 16]);
const ACTOR: Actor = Actor { node: NODE, generation: Generation(0x0190_0000_0001) };

fn service_key() -> ServiceKey {
    ServiceKey { stack: StackName::new("shop").unwrap(), service: ServiceName::new("web").unwrap() }
}

fn replica(slot: Slot) -> ReplicaKey {
    ReplicaKey { service: service_key(), slot }
}

fn port() -> PublishedPort {
    PublishedPort { name: "http".into(), protocol: Protocol::Tcp, inner: 80, outer: 8080, reach: Reach::Flock }
}

fn spec(workload: Workload) -> ServiceSpec {
    ServiceSpec {
        workload,
        environment: BTreeMap::from([("A".into(), "1".into())]),
        ports: vec![PortSpec { name: "http".into(), target: None, published: Some(80), protocol: Protocol::Udp }],
        health: Some(HealthCheck {
            probe: Probe::Http { port: "http".into(), path: "/".into() },
            interval: Duration::from_millis(1_500),
            timeout: Duration::from_secs(1),
            retries: 3,
            start_period: Duration::ZERO,
        }),
        restart: RestartPolicy {
            condition: RestartCondition::Any,
            delay: Duration::from_secs(5),
            max_attempts: Some(2),
            window: Duration::from_secs(60),
        },
        stop: StopPolicy { signal: "SIGTERM".into(), grace: Duration::from_secs(10) },
        reservation: Resources::DEFAULT_REQUEST,
        limits: Resources::default(),
        constraints: vec![Constraint {
            attribute: "node.labels.zone".into(),
            op: ConstraintOp::NotEqual,
            value: "b".into(),
        }],
        priority: -1,
        prefer: Prefer::Ready,
        placing: Tail::default(),
    }
}

#[test]
fn records() {
    let payload = b"payload".as_slice();
    let seen = vec![(ACTOR, 0x0001_0000_0002)];
    let context = Stamp::from(Context { author: ACTOR, asker: Asker::new("ann"), seen, below: 4 });
    record(
        &Record::write(RecordId::service(&service_key()), context.clone(), Hlc(0x0001_0000_0002), Some(payload)),
        "0100020873686f702f7765620011111111111111111111111111111111fd010000009001000003616e6e0111111111111111111111111111111111fd0100000090010000fd020000000100000004fd020000000100000001077061796c6f6164",
    );
    record(
        &Record::write(RecordId::token(TokenId(7)), context, Hlc(0x0001_0000_0002), None),
        "0100030800000000000000070011111111111111111111111111111111fd010000009001000003616e6e0111111111111111111111111111111111fd0100000090010000fd020000000100000004fd020000000100000000",
    );
    let sequence = Stamp::Sequence { generation: ACTOR.generation, sequence: 300 };
    record(
        &Record::write(RecordId::header(NODE), sequence.clone(), Hlc(5), Some(payload)),
        "010120101111111111111111111111111111111101fd0100000090010000fb2c010501077061796c6f6164",
    );
    record(
        &Record::write(RecordId::allocation(NODE, AllocId(9)), sequence, Hlc(5), None),
        "0101211811111111111111111111111111111111000000000000000901fd0100000090010000fb2c010500",
    );
    record(
        &Record::write(RecordId::roster(NODE), Stamp::Fact { author: ACTOR }, Hlc(5), Some(payload)),
        "01024010111111111111111111111111111111110211111111111111111111111111111111fd01000000900100000501077061796c6f6164",
    );
}

#[test]
fn places_in_the_trie_and_on_disk() {
    assert_eq!(RecordId::stack(&StackName::new("shop").unwrap()).hash(), 0xdf91030080cf7d84);
    let stamp = Stamp::from(Context { author: ACTOR, asker: Asker::default(), seen: vec![(ACTOR, 5)], below: 0 });
    let desired = Record::write(RecordId::service(&service_key()), stamp, Hlc(5), None);
    assert_eq!(hex(&desired.slot()), "00020873686f702f77656211111111111111111111111111111111fd010000009001000005");
    let fact = Record::write(RecordId::removal(NODE), Stamp::Fact { author: ACTOR }, Hlc(5), Some(b""));
    assert_eq!(hex(&fact.slot()), "02411011111111111111111111111111111111");
}

#[test]
fn services() {
    let exec = Workload::Exec(Exec { argv: vec!["hello".into(), "-p".into()], working_dir: None });
    golden(
        &Service { mode: Mode::Replicated(3), spec: spec(exec) },
        "000300020568656c6c6f022d700001014101310104687474700001500101010468747470012f01fc0065cd1d010003000002050001023c00075349475445524d0a0064fc00000004000001106e6f64652e6c6162656c732e7a6f6e650101620100",
    );
    let image = Image {
        image: "nginx:1".into(),
        entrypoint: None,
        command: Some(vec!["run".into()]),
        working_dir: Some("/srv".into()),
    };
    let mut docker = spec(Workload::Docker(image));
    docker.health = None;
    docker.prefer = Prefer::Old;
    golden(
        &Service { mode: Mode::Global, spec: docker },
        "0101076e67696e783a310001010372756e01042f7372760101410131010468747470000150010002050001023c00075349475445524d0a0064fc00000004000001106e6f64652e6c6162656c732e7a6f6e650101620102",
    );
    golden(&Probe::Command(vec!["true".into()]), "00010474727565");
    golden(&Probe::Tcp { port: "80".into() }, "02023830");
    golden(&vec![RestartCondition::None, RestartCondition::OnFailure, RestartCondition::Any], "03000102");
    golden(&vec![Prefer::Ready, Prefer::New, Prefer::Old, Prefer::Majority], "0400010203");
    let services = BTreeMap::from([(ServiceName::new("web").unwrap(), Hlc(0x0001_0000_0002))]);
    let manifest = StackManifest { deployed: Hlc(5), services: services.clone(), attached: Tail::default() };
    golden(&manifest, "050103776562fd0200000001000000");
    let wave = Wave {
        deployed: Hlc(5),
        services,
        nodes: vec![NODE],
        wait: Duration::from_secs(30),
        policies: BTreeMap::new(),
    };
    golden(&wave, "050103776562fd020000000100000001111111111111111111111111111111111e0000");
    let verdict = |outcome| Verdict { deployed: Hlc(5), outcome };
    golden(
        &[Outcome::Well, Outcome::Restarted, Outcome::LeftOut, Outcome::Refused].map(verdict).to_vec(),
        "040500050105020503",
    );
}

/// A later field costs nothing where it says nothing, and one value has one form.
#[test]
fn what_came_later() {
    let exec = Workload::Exec(Exec { argv: vec!["hello".into()], working_dir: None });
    let mut full = Service { mode: Mode::Replicated(3), spec: spec(exec) };
    let plain = codec::encode(&full);
    full.spec.placing = Tail(Placing {
        further: Further { pids: 5, disk_bytes: 6 },
        devices: vec![DeviceRequest { kind: "gpu".into(), models: vec!["T4".into()], count: 1, milli: 500 }],
        strategy: Strategy::Binpack,
        spread: vec!["zone".into()],
        max_per_node: Some(2),
        affinities: vec![Affinity {
            stack: None,
            service: ServiceName::new("db").unwrap(),
            label: Some("rack".into()),
            anti: true,
            weight: Some(7),
        }],
        skews: vec![Skew { label: "zone".into(), most: 1 }],
        tolerance: Tail::default(),
    });
    let bytes = codec::encode(&full);
    assert_eq!(bytes[..plain.len()], plain, "what old nodes know stays where it was");
    golden(
        &full.spec.placing,
        "02050601036770750102543401fbf4010201047a6f6e650102010002646201047261636b01010701047a6f6e6501",
    );
    assert_eq!(codec::decode::<Service>(&bytes).as_ref(), Ok(&full));
    assert!((plain.len() + 1..bytes.len()).all(|cut| codec::decode::<Service>(&bytes[..cut]).is_err()), "cut short");
    for tail in [[2].as_slice(), &[2, 0, 0, 0, 0, 0, 0, 0, 0]] {
        assert!(codec::decode_known::<Service>(&[&plain, tail].concat()).is_err(), "{tail:?}");
    }
    let later = codec::decode_known::<Service>(&[plain.as_slice(), &[1, 42]].concat()).map(|(service, _)| service);
    assert_eq!(later.as_ref().map(codec::encode), Ok(plain), "what a later version appends is left alone");
    let ops = [
        ConstraintOp::Matches,
        ConstraintOp::MatchesNot,
        ConstraintOp::In,
        ConstraintOp::NotIn,
        ConstraintOp::Below,
        ConstraintOp::AtMost,
        ConstraintOp::Above,
        ConstraintOp::AtLeast,
    ];
    golden(&ops.to_vec(), "080203040506070809");
    golden(&vec![Strategy::Apart, Strategy::Spread, Strategy::Binpack], "03000102");
    let devices = vec![DeviceGroup { kind: "gpu".into(), model: "T4".into(), count: 2 }];
    let supply = Supply { further: Further { pids: 5, disk_bytes: 6 }, devices, ..Supply::default() };
    golden(&Tail(supply.clone()), "020506010367707502543402");
    golden(&Tail(Supply { came: Tail(Some(Epoch(7))), ..supply }), "020506010367707502543402020107");
    let held = Held { devices: vec![DeviceHold { unit: 3, milli: 500 }], ..Held::default() };
    golden(&Tail(held.clone().boxed()), "020100000103fbf401");
    let relieved = Relieved { node: NodeId([3; 16]), alloc: AllocId(9), full: 12, mean: 55 };
    let held = Held { relieves: Tail(Some(Box::new(relieved))), ..held };
    golden(&Tail(held.boxed()), &format!("020100000103fbf4010201{}090c37", "03".repeat(16)));
    golden(&Tail(Held::default().boxed()), "");
}

#[test]
fn what_a_replica_puts_up_with() {
    let plain = codec::encode(&Placing { max_per_node: Some(2), ..Placing::default() });
    let taints = vec![
        Toleration { key: None, value: None, effect: None },
        Toleration { key: Some("gpu".into()), value: Some("old".into()), effect: Some(TaintEffect::NoExecute) },
    ];
    let standing = |preemptible| Tail(Standing { preemptible, ..Standing::default() });
    golden(&standing(Preemptible::From(-3)), "020105");
    golden(&standing(Preemptible::Never), "0202");
    golden(&standing(Preemptible::ByHigher), "");
    golden(&Tail(Standing { stays: Tail(true), ..Standing::default() }), "02000201");
    let tolerance = Tail(Tolerance { taints, ..Tolerance::default() });
    golden(&tolerance, "0202000000010367707501036f6c640101");
    let full = Placing { max_per_node: Some(2), tolerance, ..Placing::default() };
    let bytes = codec::encode(&full);
    assert_eq!(bytes[..plain.len()], plain, "what old nodes know stays where it was");
    assert_eq!(codec::decode::<Placing>(&bytes).as_ref(), Ok(&full));
    assert!((plain.len() + 1..bytes.len()).all(|cut| codec::decode::<Placing>(&bytes[..cut]).is_err()), "cut short");
}

#[test]
fn what_a_replica_demands() {
    let range = PortRange { port: 1, first: 8_000, last: 8_010 };
    let demand = Demand {
        pids_limit: 9,
        firm_cpu: true,
        firm_memory: false,
        ranges: vec![range],
        local: vec![2],
        ..Demand::default()
    };
    golden(&Tail(demand.clone()), "020901000101fb401ffb4a1f0102");
    let plain = codec::encode(&Tail(Tolerance::default()));
    assert_eq!(plain, [], "who demands nothing has the bytes that it always had");
    let tolerance = Tolerance { taints: Vec::new(), demand: Tail(demand) };
    golden(&Tail(tolerance), "0200020901000101fb401ffb4a1f0102");
}

#[test]
fn what_is_ordered() {
    let orders = NodeOrders {
        cordoned: true,
        drain: Some(Drain { since: Wall(5), deadline: Some(Duration::from_secs(600)) }),
        labels: BTreeMap::from([("disk".into(), "ssd".into())]),
        taints: vec![Taint { key: "gpu".into(), effect: TaintEffect::NoExecute, value: "old".into() }],
    };
    golden(&orders, "01010501fb58020001046469736b03737364010367707501036f6c64");
    golden(NodeOrders::none(), "00000000");
    golden(&vec![TaintEffect::NoSchedule, TaintEffect::NoExecute], "020001");
    let context = Stamp::from(Context { author: ACTOR, asker: Asker::default(), seen: vec![(ACTOR, 5)], below: 0 });
    record(
        &Record::write(RecordId::node_orders(NODE), context, Hlc(5), Some(&codec::encode(NodeOrders::none()))),
        "01000610111111111111111111111111111111110011111111111111111111111111111111fd0100000090010000000111111111111111111111111111111111fd0100000090010000050005010400000000",
    );
}

#[test]
fn work_that_is_done() {
    let timeout = Some(Duration::from_secs(60));
    let job = Job { completions: 9, parallelism: 2, backoff_limit: 1, timeout, since: Hlc(5), again: Hlc(6) };
    golden(&vec![Mode::Job(job), Mode::GlobalJob(Job::default())], "0202090201013c00050603010006000000");
    let calendar =
        Calendar { minutes: 1, hours: 8, days: 1 << 31, months: 2, weekdays: 1, either: true, floats: false };
    let (overlap, missed) = (Overlap::Forbid, Missed::Skip);
    let zone = ZoneName::new("Europe/Berlin").expect("a name");
    golden(
        &Mode::Cron(Cron { zone, overlap, missed, deadline: timeout, history: 3, ..Cron::of(calendar, job) }),
        "040108fc00000080020101000d4575726f70652f4265726c696e0100013c0003090201013c000506",
    );
    golden(&vec![Overlap::Allow, Overlap::Replace], "020002");
    golden(&vec![Missed::Skip, Missed::RunOnce], "020001");
    assert_eq!(&RecordId::finish(&replica(Slot::Run(1_764_558_000, 1))).key[..], b"shop/web.1764558000-1");
    let finish = Finish {
        replica: replica(Slot::Number(2)),
        revision: RevisionId(1),
        epoch: Epoch(5),
        succeeded: true,
        node: NODE,
        code: Some(-1),
        detail: "ok".into(),
        began: Wall(5),
        at: Wall(6),
    };
    golden(&finish, "0473686f70037765620002010501111111111111111111111111111111110101026f6b0506");
    assert_eq!(&RecordId::finish(&finish.replica).key[..], b"shop/web.2");
}

#[test]
fn what_runs() {
    let allocation = Allocation {
        replica: replica(Slot::Number(2)),
        revision: RevisionId(0xaabb),
        epoch: Epoch(0x0001_0000_0002),
        reservation: Resources { cpu_milli: 250, memory_bytes: 1 << 20 },
        ports: vec![port()],
        ready_once: true,
        phase: Phase::Healthy,
        ready: true,
        endpoint: Some(Endpoint { instance: None, node: IpAddr::V4(Ipv4Addr::LOCALHOST), ports: vec![port()] }),
        restarts: 1,
        since: Wall(1_700_000_000_000),
        detail: "ok".into(),
        held: Tail::default(),
    };
    golden(
        &allocation,
        "0473686f70037765620002fbbbaafd0200000001000000fafc000010000104687474700050fb901f010103010100007f0000010104687474700050fb901f0101fd0068e5cf8b010000026f6b",
    );
    golden(&vec![Slot::Number(1), Slot::Node(NODE), Slot::Run(9, 2)], "0300010111111111111111111111111111111111020902");
    golden(&Phase::ALL.to_vec(), "080001020304050607");
    let refusal = |reason| Refusal {
        replica: replica(Slot::Number(2)),
        revision: RevisionId(1),
        reason,
        count: 2,
        until: Wall(1_700_000_000_000),
    };
    golden(&refusal(RefusalReason::StartFailed("no".into())), "0473686f700377656200020100026e6f02fd0068e5cf8b010000");
    golden(&refusal(RefusalReason::PortTaken(80)), "0473686f7003776562000201045002fd0068e5cf8b010000");
    let others =
        [RefusalReason::RestartsExhausted, RefusalReason::NeverReady, RefusalReason::NoRoom, RefusalReason::NoDriver];
    golden(&others.to_vec(), "0401020305");
    golden(&RefusalReason::Preempted(replica(Slot::Number(2))), "060473686f70037765620002");
}

#[test]
fn who_belongs() {
    let header = NodeHeader {
        name: NodeName::new("n1").unwrap(),
        addresses: vec![SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 7400)],
        service_address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        labels: BTreeMap::from([("zone".into(), "a".into())]),
        allocatable: Resources { cpu_milli: 4_000, memory_bytes: 1 << 33 },
        drivers: vec![DriverKind::Exec, DriverKind::Docker],
        platform: Platform { os: "linux".into(), arch: "amd64".into() },
        version: "0.1.0".into(),
        certificate: CertificateInfo { holds: 7, shows: 6, until: Wall(5) },
        adopted: vec![AllocId(9)],
        supply: Tail::default(),
    };
    golden(
        &header,
        "026e31010100000000000000000000000000000001fbe81c000a00000101047a6f6e650161fba00ffd0000000002000000020001056c696e757805616d64363405302e312e300706050109",
    );
    let entry = RosterEntry {
        node: NODE,
        name: NodeName::new("n1").unwrap(),
        certificate: vec![0x30, 0x82],
        seal_key: [0x22; 32],
        addresses: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7400)],
        admitted_by: Some(NODE),
        token: Some(TokenId(7)),
        at: Wall(1_700_000_000_000),
    };
    golden(
        &entry,
        "11111111111111111111111111111111026e31023082222222222222222222222222222222222222222222222222222222222222222201007f000001fbe81c01111111111111111111111111111111110107fd0068e5cf8b010000",
    );
    let removal = |kind| Removal { node: NODE, kind, by: NODE, at: Wall(5), token: None };
    golden(&removal(RemovalKind::Left), "11111111111111111111111111111111001111111111111111111111111111111105");
    golden(
        &Removal { token: Some(TokenId(7)), ..removal(RemovalKind::Revoked) },
        "111111111111111111111111111111110211111111111111111111111111111111050107",
    );
    golden(&vec![RemovalKind::Left, RemovalKind::Forgotten, RemovalKind::Revoked], "03000102");
    let token = Token {
        id: TokenId(7),
        secret_hash: [0x33; 32],
        issuer: NODE,
        label: "ci".into(),
        created: Wall(5),
        expires: Wall(1_700_000_000_000),
        uses: None,
    };
    let unlimited = "0733333333333333333333333333333333333333333333333333333333333333331111111111111111111111111111111102636905fd0068e5cf8b010000";
    golden(&token, unlimited);
    golden(&Token { uses: Some(3), ..token.clone() }, &format!("{unlimited}0103"));
    // A limit that cannot be read must not be taken for none.
    for cut in ["01", "01fb", "0103ff"] {
        assert!(codec::decode::<Token>(&bytes(&format!("{unlimited}{cut}"))).is_err(), "{cut}");
    }
}

#[test]
fn hours() {
    golden(
        &Hours { roster: 1, remembers: 3, from: 10, below: 12, digests: vec![(10, 0xaabb), (11, 0x0001_0000_0002)] },
        "01030a0c020afbbbaa0bfd0200000001000000",
    );
    golden(&Settled { below: 472_222 }, "fc9e340700");
    golden(&Away { nodes: vec![(NODE, 3_600)] }, "0111111111111111111111111111111111fb100e");
}

#[test]
fn versions() {
    golden(&Declared { most: WireVersion(2) }, "02");
    let sequence = Stamp::Sequence { generation: ACTOR.generation, sequence: 300 };
    record(
        &Record::write(RecordId::declared(NODE), sequence.clone(), Hlc(5), Some(&[2])),
        "010125101111111111111111111111111111111101fd0100000090010000fb2c0105010102",
    );
    // A kind that this version does not know, and a value with a field that it does not know.
    record(
        &Record::write(rehearsal::of_node(NODE), sequence.clone(), Hlc(5), Some(&rehearsal::value(9))),
        "0101fb017f101111111111111111111111111111111101fd0100000090010000fb2c0105010b0972656865617273616c09",
    );
    // Who appends a field writes all that were appended before it, or its bytes would be taken for theirs.
    let removal = Removal { node: NODE, kind: RemovalKind::Revoked, by: NODE, at: Wall(7), token: Some(TokenId(7)) };
    let mut grown = codec::encode(&removal);
    grown.extend_from_slice(&[1, 42]);
    let fact = Record::write(RecordId::removal(NODE), Stamp::Fact { author: ACTOR }, Hlc(5), Some(&grown));
    assert_eq!(fact.read_as::<Removal>(), Some(removal));
    assert_eq!(codec::decode::<Removal>(&grown).ok(), None, "messages are read to their end");
}
