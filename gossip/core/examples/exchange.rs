//! What replicated state costs: `cargo run --release -p dunlin-gossip --example exchange`. Prints two tables; decides nothing.
//!
//! The first is a sync over an established link: 100,000 allocation records on either side, of which 10 differ. Bytes are those
//! of the frames; time is what both sides compute, reading and writing the messages and merging the records included.
//!
//! The second is memory: what the process grows by while it takes so many records, less the bytes of the records themselves. Pages
//! are counted as Linux counts them, so what the allocator adds is part of it.

#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a program for people, that measures")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use dunlin_gossip::hash::{hash64, mix};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::{Actor, Generation, NodeId};
use dunlin_gossip::model::{
    AllocId, Allocation, DriverKind, Endpoint, Epoch, NodeHeader, NodeName, Phase, Platform, Protocol, PublishedPort,
    Reach, ReplicaKey, Resources, RevisionId, RosterEntry, ServiceKey, ServiceName, Slot, StackName,
};
use dunlin_gossip::state::State;
use dunlin_gossip::state::walk::{self, Walk};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Record, RecordId, Stamp, codec};

const RECORDS: u32 = 100_000;
const NODES: u32 = 1_000;
const DIFFERENT: u32 = 10;
const RUNS: u32 = 20;
const MEMBERS: u32 = 10_000;
/// A frame's version and the length of its head.
const PREFIX: usize = 5;
const EPOCH: u64 = 1_800_000_000_000;

fn node(n: u32) -> NodeId {
    let seed = hash64(&n.to_be_bytes());
    NodeId(((u128::from(seed) << 64) | u128::from(mix(seed, 1))).to_be_bytes())
}

/// An allocation's record as its owner writes it, at this position in its boot.
fn allocation(n: u32, sequence: u64) -> Record {
    let owner = node(n % NODES);
    let service = ServiceKey {
        stack: StackName::new("shop").expect("a name"),
        service: ServiceName::new(&format!("s{}", n % 100)).expect("a name"),
    };
    let replica = ReplicaKey { service, slot: Slot::Number(n / 100 + 1) };
    let port = PublishedPort {
        name: "http".to_owned(),
        protocol: Protocol::Tcp,
        inner: 8_080,
        outer: u16::try_from(20_000 + n % 10_000).unwrap_or(1),
        reach: Reach::Flock,
    };
    let epoch = Epoch(Hlc::from_wall(Wall(EPOCH)).0 + u64::from(n));
    let id = RecordId::allocation(owner, AllocId::of(&replica, epoch, owner));
    let value = Allocation {
        replica,
        revision: RevisionId(mix(1, 2)),
        epoch,
        reservation: Resources { cpu_milli: 100, memory_bytes: 64 << 20 },
        ports: vec![port.clone()],
        ready_once: true,
        phase: Phase::Healthy,
        ready: true,
        endpoint: Some(Endpoint { instance: None, node: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), ports: vec![port] }),
        restarts: 0,
        since: Wall(EPOCH),
        detail: String::new(),
        held: Default::default(),
    };
    let stamp = Stamp::Sequence { generation: Generation(EPOCH), sequence };
    Record::write(id, stamp, Hlc::from_wall(Wall(EPOCH + sequence)), Some(&codec::encode(&value)))
}

fn state(me: u32, records: &[Record]) -> State {
    let mut state = State::new(Actor { node: node(me), generation: Generation(EPOCH) });
    // As a node holds them: each read from bytes of its own.
    for record in records {
        let read = Record::read(record.bytes()).expect("its own bytes");
        state.merge(read, Wall(EPOCH));
    }
    state
}

/// Brings two states together: bytes on the wire, messages, what both sides computed for it.
fn sync(mine: &mut State, theirs: &mut State) -> (usize, usize, Duration) {
    let (mut bytes, mut frames) = (0, 1);
    let begun = Instant::now();
    let mut messages = vec![walk::start(mine)];
    bytes += PREFIX + 1 + codec::encode(&messages).len();
    let mut at_theirs = true;
    while !messages.is_empty() {
        let holder = if at_theirs { &*theirs } else { &*mine };
        let (mut answers, mut push) = (Vec::new(), Vec::new());
        for message in messages {
            let reply = walk::step(holder, message, usize::MAX, &|_| false);
            answers.extend(reply.messages);
            push.extend(reply.push);
        }
        let wire = codec::encode(&answers);
        bytes += PREFIX + 1 + wire.len();
        frames += 1;
        messages = codec::decode::<Vec<Walk>>(&wire).expect("its own bytes");
        if !push.is_empty() {
            bytes += PREFIX + 2 + push.iter().map(|record| record.bytes().len() + 4).sum::<usize>();
            frames += 1;
        }
        let other = if at_theirs { &mut *mine } else { &mut *theirs };
        for record in push {
            other.merge(Record::read(record.bytes()).expect("its own bytes"), Wall(EPOCH));
        }
        at_theirs = !at_theirs;
    }
    (bytes, frames, begun.elapsed())
}

/// What the process holds in memory, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4_096
}

fn member(n: u32) -> [Record; 2] {
    let name = NodeName::new(&format!("host-{n:05}")).expect("a name");
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n)), 7_400);
    let header = NodeHeader {
        name: name.clone(),
        addresses: vec![address],
        service_address: address.ip(),
        labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
        allocatable: Resources { cpu_milli: 16_000, memory_bytes: 64 << 30 },
        drivers: vec![DriverKind::Exec, DriverKind::Docker],
        platform: Platform { os: "linux".to_owned(), arch: "amd64".to_owned() },
        version: "0.1.0".to_owned(),
        certificate: Default::default(),
        adopted: Vec::new(),
        supply: Default::default(),
    };
    let entry = RosterEntry {
        node: node(n),
        name,
        certificate: vec![7; 450],
        seal_key: [7; 32],
        addresses: vec![address],
        admitted_by: Some(node(0)),
        token: None,
        at: Wall(EPOCH),
    };
    let (hlc, generation) = (Hlc::from_wall(Wall(EPOCH)), Generation(EPOCH));
    let author = Actor { node: node(0), generation };
    [
        Record::write(
            RecordId::header(node(n)),
            Stamp::Sequence { generation, sequence: 1 },
            hlc,
            Some(&codec::encode(&header)),
        ),
        Record::write(RecordId::roster(node(n)), Stamp::Fact { author }, hlc, Some(&codec::encode(&entry))),
    ]
}

/// What each of so many things takes in memory beyond the bytes of its records, which are made one by one.
fn beyond_payload(things: u32, make: impl Fn(u32) -> Vec<Record>) -> (usize, usize, State) {
    let before = resident();
    let mut state = State::new(Actor { node: node(u32::MAX), generation: Generation(EPOCH) });
    let mut payload = 0;
    for n in 0..things {
        for record in make(n) {
            payload += record.bytes().len();
            state.merge(Record::read(record.bytes()).expect("its own bytes"), Wall(EPOCH));
        }
    }
    let all = resident().saturating_sub(before);
    let count = usize::try_from(things).unwrap_or(1);
    (payload / count, all.saturating_sub(payload) / count, state)
}

fn main() {
    // Memory first, and nothing of it is freed: the allocator would give that again.
    println!("| in memory | bytes of its records | beyond them | goal |\n|---|---|---|---|");
    let (payload, beyond, _kept) = beyond_payload(RECORDS, |n| vec![allocation(n, 1)]);
    println!("| a replica's record, of {RECORDS} | {payload} | {beyond} | 200 |");
    let (payload, beyond, _too) = beyond_payload(MEMBERS, |n| member(n).into());
    println!("| a member's header and roster entry, of {MEMBERS} | {payload} | {beyond} | 500 |");

    let records: Vec<Record> = (0..RECORDS).map(|n| allocation(n, 1)).collect();
    let (mut mine, base) = (state(NODES + 1, &records), state(NODES + 2, &records));
    let (mut bytes, mut frames, mut times) = (0, 0, Vec::new());
    for run in 0..RUNS {
        let mut theirs = base.clone();
        // Half of what differs is newer on one side, half on the other.
        for n in 0..DIFFERENT {
            let changed = allocation(n * 9_973 + run * 31, u64::from(run) + 2);
            let newer = if n % 2 == 0 { &mut theirs } else { &mut mine };
            newer.merge(changed, Wall(EPOCH));
        }
        let differ = mine.sync_root() != theirs.sync_root();
        let (one_bytes, one_frames, time) = sync(&mut mine, &mut theirs);
        assert!(differ && mine.sync_root() == theirs.sync_root(), "they differed, and do no more");
        // What one side has learnt it forgets again, for the next run.
        mine = state_again(&base, NODES + 1);
        (bytes, frames) = (bytes.max(one_bytes), frames.max(one_frames));
        times.push(time);
    }
    times.sort_unstable();
    let median = times[times.len() / 2];
    println!("\n| {RECORDS} records, {DIFFERENT} differ | | goal |\n|---|---|---|");
    println!("| on the wire, the most of {RUNS} runs | {bytes} bytes in {frames} frames | 8,192 |");
    println!("| computed by both sides, the median | {:.3} ms | 0.5 |", median.as_secs_f64() * 1_000.0);
}

fn state_again(base: &State, me: u32) -> State {
    base.held_by(Actor { node: node(me), generation: Generation(EPOCH) })
}
