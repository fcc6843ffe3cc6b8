//! Sequences of operations on replicated state: several writers write, delete, reboot, admit, remove, close hours and collect, in
//! two versions of the wire; what they wrote is given to states in different orders, more than once, and with gaps.
//!
//! The laws: any order and any repetition lead to one state (merging commutes and repeats without effect); joining two parts
//! by walking their difference is the same as having seen everything (merging associates); a state comes back from its disk
//! as it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use dunlin_gossip::face::PersistOp;
use dunlin_gossip::id::{Actor, Generation, NodeId};
use dunlin_gossip::model::{
    AllocId, Asker, NodeHeader, NodeName, Platform, Removal, RemovalKind, Resources, ServiceKey, ServiceName,
    StackName, TokenId,
};
use dunlin_gossip::rng::{Rng, Seed};
use dunlin_gossip::state::walk::{self, Walk};
use dunlin_gossip::state::{Merge, State};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Class, Kind, Record, RecordId, codec};

const WRITERS: u64 = 4;
const HOUR: u64 = 3_600_000;
const BEGIN: u64 = 1_000 * HOUR;

/// A writer, and what its disk would hold.
struct Writer {
    state: State,
    boots: u64,
    allocs: Vec<u64>,
}

fn node(n: u64) -> NodeId {
    NodeId([u8::try_from(n + 1).unwrap_or(255); 16])
}

fn actor(n: u64, boot: u64) -> Actor {
    Actor { node: node(n), generation: Generation(boot) }
}

fn register(rng: &mut Rng) -> RecordId {
    let name = ["web", "db", "queue"].get(usize::try_from(rng.below(3)).unwrap_or(0)).copied().unwrap_or("web");
    let names = StackName::new("shop").and_then(|stack| Ok((stack, ServiceName::new(name)?)));
    match (rng.below(5), names) {
        (0, _) => RecordId::new(Class::ManyWriters, Kind(0x7f00), name.as_bytes()),
        (1, Ok((stack, _))) => RecordId::stack(&stack),
        (_, Ok((stack, service))) => RecordId::service(&ServiceKey { stack, service }),
        (_, Err(_)) => RecordId::new(Class::ManyWriters, Kind::SERVICE, name.as_bytes()),
    }
}

fn header(adopted: &[u64], grown: bool) -> Vec<u8> {
    let name = NodeName::new("n").map(|name| {
        let header = NodeHeader {
            name,
            addresses: Vec::new(),
            service_address: std::net::IpAddr::from([127, 0, 0, 1]),
            labels: BTreeMap::new(),
            allocatable: Resources::default(),
            drivers: Vec::new(),
            platform: Platform { os: "linux".into(), arch: "amd64".into() },
            version: "1".into(),
            certificate: Default::default(),
            adopted: adopted.iter().map(|id| AllocId(*id)).collect(),
            supply: Default::default(),
        };
        codec::encode(&header)
    });
    let mut bytes = name.unwrap_or_default();
    if grown {
        bytes.extend_from_slice(&[1, 42]);
    }
    bytes
}

fn removal(rng: &mut Rng, about: NodeId) -> Vec<u8> {
    let kind = if rng.below(2) == 0 { RemovalKind::Left } else { RemovalKind::Revoked };
    let grown = rng.below(3) == 0;
    // Who appends a field writes all that were appended before it.
    let token = grown.then_some(TokenId(7));
    let mut bytes = codec::encode(&Removal { node: about, by: node(0), at: Wall(BEGIN), kind, token });
    if grown {
        bytes.extend_from_slice(&[1, 42]);
    }
    bytes
}

/// Merges what a writer wrote at home, and notes it.
fn keep(writer: &mut Writer, wall: Wall, records: Vec<Record>, log: &mut Vec<Record>) {
    for record in records {
        let _at_home = writer.state.merge(record.clone(), wall);
        log.push(record);
    }
}

/// A node boots anew: from a disk that may lack its last records, and publishes what it adopts.
fn reboot(rng: &mut Rng, n: u64, writer: &mut Writer, wall: Wall, log: &mut Vec<Record>) {
    writer.boots += 1;
    let mut state = State::new(actor(n, writer.boots));
    writer.state.snapshot().records().for_each(|record| state.restore(record.clone()));
    state.end_restore();
    writer.state = state;
    writer.allocs.retain(|_| rng.below(3) > 0);
    let mut records = vec![writer.state.stage_actual(
        wall,
        RecordId::header(node(n)),
        Some(&header(&writer.allocs, rng.below(2) == 0)),
    )];
    for alloc in writer.allocs.clone() {
        let id = RecordId::allocation(node(n), AllocId(alloc));
        records.push(writer.state.stage_actual(wall, id, Some(&[1])));
    }
    keep(writer, wall, records, log);
}

fn operate(rng: &mut Rng, writers: &mut [Writer], wall: Wall, log: &mut Vec<Record>) {
    let n = rng.below(writers.len() as u64);
    let Some(writer) = writers.get_mut(usize::try_from(n).unwrap_or(0)) else { return };
    match rng.below(12) {
        0..=3 => {
            let payload = (rng.below(4) > 0).then(|| vec![u8::try_from(rng.below(3)).unwrap_or(0)]);
            let batch = [(register(rng), payload), (register(rng), Some(vec![9]))];
            let (_, records) = writer.state.stage_desired(wall, &Asker::default(), &batch);
            keep(writer, wall, records, log);
        }
        4 | 5 => {
            let alloc = rng.below(5);
            let payload = (rng.below(3) > 0).then_some([7_u8]);
            writer.allocs.retain(|held| *held != alloc);
            writer.allocs.extend(payload.map(|_| alloc));
            let id = RecordId::allocation(node(n), AllocId(alloc));
            let record = writer.state.stage_actual(wall, id, payload.as_ref().map(<[u8; 1]>::as_slice));
            keep(writer, wall, vec![record], log);
        }
        6 => {
            let id = RecordId::new(Class::OneWriter, Kind(0x7f01), &node(n).0);
            let record = writer.state.stage_actual(wall, id, Some(&[3]));
            keep(writer, wall, vec![record], log);
        }
        7 => {
            let about = node(rng.below(WRITERS + 2));
            let record = writer.state.stage_fact(wall, RecordId::roster(about), &[1, 2]);
            keep(writer, wall, vec![record], log);
        }
        8 if rng.below(4) == 0 => {
            let about = node(rng.below(WRITERS + 2));
            let payload = removal(rng, about);
            let record = writer.state.stage_fact(wall, RecordId::removal(about), &payload);
            keep(writer, wall, vec![record], log);
        }
        9 => reboot(rng, n, writer, wall, log),
        _ => {
            let some = rng.below(log.len() as u64 + 1);
            for record in log.iter().skip(usize::try_from(some).unwrap_or(0)).take(6).cloned().collect::<Vec<_>>() {
                let _maybe = writer.state.merge(record, wall);
            }
        }
    }
}

fn history(rng: &mut Rng) -> Vec<Record> {
    let mut writers: Vec<Writer> =
        (0..WRITERS).map(|n| Writer { state: State::new(actor(n, 1)), boots: 1, allocs: Vec::new() }).collect();
    let mut log = Vec::new();
    for step in 0..rng.range(1..120) {
        let skew = rng.below(3) * 400;
        operate(rng, &mut writers, Wall(BEGIN + step * 500 + skew), &mut log);
    }
    log
}

fn everything(state: &State) -> Vec<Record> {
    state.snapshot().records().cloned().collect()
}

fn merge_all<'a>(state: &mut State, records: impl IntoIterator<Item = &'a Record>) {
    for record in records {
        let _any = state.merge(record.clone(), Wall(BEGIN));
    }
}

fn same(what: &str, a: &State, b: &State) -> Result<(), String> {
    if everything(a) != everything(b) {
        return Err(format!("{what}: {:?} and {:?}", everything(a), everything(b)));
    }
    let roots = (a.root() == b.root(), a.sync_root() == b.sync_root());
    if roots == (true, true) { Ok(()) } else { Err(format!("{what}: equal records, other hashes")) }
}

/// Walks until nothing is said any more.
fn converse(a: &mut State, b: &mut State) -> Result<(), String> {
    let mut talk = vec![(true, walk::start(a))];
    while let Some((to_b, message)) = talk.pop() {
        let message: Walk = codec::decode(&codec::encode(&message)).map_err(|e| e.to_string())?;
        let reply = walk::step(if to_b { b } else { a }, message, usize::MAX, &|_| false);
        merge_all(if to_b { a } else { b }, &reply.push);
        talk.extend(reply.messages.into_iter().map(|m| (!to_b, m)));
    }
    Ok(())
}

/// A state that hears everything, and its disk.
fn with_disk(log: &[Record]) -> (State, BTreeMap<Vec<u8>, Arc<[u8]>>) {
    let (mut state, mut disk) = (State::new(actor(20, 1)), BTreeMap::new());
    for record in log {
        if let Merge::Changed { persist, .. } = state.merge(record.clone(), Wall(BEGIN)) {
            for op in persist {
                match op {
                    PersistOp::Put { slot, bytes } => drop(disk.insert(slot, bytes)),
                    PersistOp::Delete { slot } => drop(disk.remove(&slot)),
                }
            }
        }
    }
    (state, disk)
}

/// One history and the laws.
pub(crate) fn case(seed: Seed) -> Result<(), String> {
    let mut rng = seed.split("ops").rng();
    let mut log = history(&mut rng);
    // Some records never left their authors.
    let lost = rng.below(4);
    log.retain(|_| rng.below(8) >= lost);
    let (straight, disk) = with_disk(&log);
    let mut shuffled: Vec<&Record> = log.iter().chain(&log).collect();
    rng.shuffle(&mut shuffled);
    let mut other = State::new(actor(21, 1));
    merge_all(&mut other, shuffled);
    same("another order is another state", &straight, &other)?;
    for record in &log {
        if matches!(other.merge(record.clone(), Wall(BEGIN)), Merge::Changed { .. }) {
            return Err(format!("{record:?} changed a state that had seen it"));
        }
    }
    let (mut a, mut b) = (State::new(actor(22, 1)), State::new(actor(23, 1)));
    for record in &log {
        let side = rng.below(3);
        merge_all(&mut a, (side != 1).then_some(record));
        merge_all(&mut b, (side != 0).then_some(record));
    }
    let mut rounds = 0;
    while a.sync_root() != b.sync_root() {
        converse(&mut a, &mut b)?;
        rounds += 1;
        if rounds > 4 {
            return Err("two states do not become one by walking".to_owned());
        }
    }
    same("parts joined are not the whole", &a, &straight)?;
    same("parts joined are not the whole", &b, &straight)?;
    let mut again = State::new(actor(20, 2));
    for bytes in disk.values() {
        again.restore(Record::read(bytes).map_err(|e| e.to_string())?);
    }
    again.end_restore();
    // Evidence of boots that never completed shares one place on the disk; peers give it again.
    merge_all(&mut again, log.iter().filter(|record| record.id().kind == Kind::HEADER));
    same("the disk holds another state", &again, &straight)
}
