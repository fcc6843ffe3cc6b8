mod collect;
mod liars;
mod removed;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;

use proptest::prelude::*;

use super::hours::settled_id;
use super::walk::{self, Walk};
use super::*;
use crate::face::PersistOp;
use crate::id::Generation;
use crate::limits::MAX_SIBLINGS;
use crate::model::{AllocId, Asker, NodeHeader, NodeName, Platform, Resources};
use crate::time::{Instant, Wall};
use crate::wire::{Context, Stamp, codec};

const HOUR: u64 = 3_600_000;
const NOW: Wall = Wall(1_000 * HOUR);

fn node(n: u8) -> NodeId {
    NodeId([n; 16])
}

fn actor(n: u8, generation: u64) -> Actor {
    Actor { node: node(n), generation: Generation(generation) }
}

fn key(n: u8) -> RecordId {
    RecordId::new(Class::ManyWriters, Kind::SERVICE, &[n])
}

fn header(adopted: &[u64]) -> Vec<u8> {
    codec::encode(&NodeHeader {
        name: NodeName::new("n").unwrap(),
        addresses: Vec::new(),
        service_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        labels: BTreeMap::new(),
        allocatable: Resources::default(),
        drivers: Vec::new(),
        platform: Platform { os: "linux".into(), arch: "amd64".into() },
        version: "1".into(),
        certificate: Default::default(),
        adopted: adopted.iter().map(|id| AllocId(*id)).collect(),
        supply: Default::default(),
    })
}

/// Stages one desired write and makes it durable.
fn write(state: &mut State, wall: Wall, id: RecordId, payload: Option<&[u8]>) -> Record {
    let (_, records) = state.stage_desired(wall, &Asker::default(), &[(id, payload.map(Vec::from))]);
    let record = records.into_iter().next().unwrap();
    assert!(matches!(state.merge(record.clone(), wall), Merge::Changed { .. }));
    record
}

fn payload(state: &State, id: &RecordId) -> Option<Vec<u8>> {
    state.value(id).and_then(Record::payload).map(Vec::from)
}

fn contents(state: &State) -> Vec<Record> {
    state.snapshot().records().cloned().collect()
}

fn merge_all<'a>(state: &mut State, records: impl IntoIterator<Item = &'a Record>) {
    for record in records {
        let _any = state.merge(record.clone(), NOW);
    }
}

/// Everything that is derived beside the trie, recomputed the slow way.
fn check_derived(state: &State) {
    let mut slow: BTreeMap<RecordId, Vec<Record>> = BTreeMap::new();
    for record in state.snapshot().records() {
        slow.entry(record.id().clone()).or_default().push(record.clone());
    }
    assert_eq!(state.len(), slow.len());
    for (id, records) in &slow {
        assert!(records.is_sorted_by(|a, b| canonical(a, b).is_lt()));
        assert_eq!(state.siblings(id), records.as_slice());
        let value = state.value(id);
        assert_eq!(value.is_some(), state.of_kind(id.class, id.kind).any(|(found, _)| found == id));
        if id.class == Class::ManyWriters {
            assert_eq!(value.is_some(), records.iter().any(|r| r.payload().is_some()));
        }
    }
    let mut digests = hours::Ledger::default();
    slow.values().flatten().for_each(|r| digests.add(r));
    if state.value(&settled_id()).is_none() {
        assert_eq!(digests.publish(0, u64::MAX), state.ledger.clone().publish(0, u64::MAX));
    }
}

/// One step of a random history of three writers.
#[derive(Clone, Debug)]
enum Step {
    Write { writer: u8, key: u8, payload: Option<u8> },
    Alloc { writer: u8, alloc: u64, live: bool },
    Fact { writer: u8, key: u8 },
    Deliver { to: u8, record: prop::sample::Index },
    Reboot { writer: u8, keep: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_u8..3, 0_u8..4, prop::option::of(0_u8..3)).prop_map(|(writer, key, payload)| Step::Write { writer, key, payload }),
        3 => (0_u8..3, 0_u64..4, any::<bool>()).prop_map(|(writer, alloc, live)| Step::Alloc { writer, alloc, live }),
        1 => (0_u8..3, 0_u8..3).prop_map(|(writer, key)| Step::Fact { writer, key }),
        6 => (0_u8..3, any::<prop::sample::Index>()).prop_map(|(to, record)| Step::Deliver { to, record }),
        1 => (0_u8..3, 0_u8..16).prop_map(|(writer, keep)| Step::Reboot { writer, keep }),
    ]
}

/// Plays a history and returns every record that was ever written in it.
fn history(steps: &[Step]) -> Vec<Record> {
    let mut writers: Vec<State> = (0..3).map(|n| State::new(actor(n, 1))).collect();
    let mut log: Vec<Record> = Vec::new();
    for (tick, step) in steps.iter().enumerate() {
        let wall = Wall(NOW.0 + tick as u64 % 7);
        match step {
            Step::Write { writer, key: k, payload } => {
                let state = &mut writers[usize::from(*writer)];
                log.push(write(state, wall, key(*k), payload.as_ref().map(core::slice::from_ref)));
            }
            Step::Alloc { writer, alloc, live } => {
                let state = &mut writers[usize::from(*writer)];
                let id = RecordId::allocation(state.me().node, AllocId(*alloc));
                log.push(state.stage_actual(wall, id, live.then_some(&[*writer])));
                merge_all(state, log.last());
            }
            Step::Fact { writer, key } => {
                let state = &mut writers[usize::from(*writer)];
                log.push(state.stage_fact(wall, RecordId::roster(node(*key)), &[*writer]));
                merge_all(state, log.last());
            }
            Step::Deliver { to, record } if !log.is_empty() => {
                let record = record.get(&log).clone();
                let _any = writers[usize::from(*to)].merge(record, wall);
            }
            Step::Deliver { .. } => {}
            Step::Reboot { writer, keep } => {
                let old = &writers[usize::from(*writer)];
                let me = old.me();
                let mut new = State::new(Actor { generation: Generation(me.generation.0 + 1), ..me });
                contents(old).into_iter().for_each(|r| new.restore(r));
                let adopted: Vec<u64> = (0..4).filter(|a| keep & (1 << a) != 0).collect();
                log.push(new.stage_actual(wall, RecordId::header(me.node), Some(&header(&adopted))));
                merge_all(&mut new, log.last());
                for alloc in adopted {
                    let id = RecordId::allocation(me.node, AllocId(alloc));
                    log.push(new.stage_actual(wall, id, Some(&[9])));
                    merge_all(&mut new, log.last());
                }
                writers[usize::from(*writer)] = new;
            }
        }
    }
    log
}

/// What is left of a log when some records never left their dead authors.
fn survivors(log: Vec<Record>, lost: &[u8]) -> Vec<Record> {
    log.into_iter().zip(lost.iter().cycle()).filter(|(_, lost)| **lost > 0).map(|(record, _)| record).collect()
}

/// Walks from one state to the other until nothing is said any more. Returns metadata bytes and records sent.
fn converse(a: &mut State, b: &mut State, budget: usize) -> (usize, usize) {
    let (mut metadata, mut pushed) = (0, 0);
    let mut talk = vec![(true, walk::start(a))];
    while let Some((to_b, message)) = talk.pop() {
        let bytes = codec::encode(&message);
        metadata += bytes.len();
        let message: Walk = codec::decode(&bytes).unwrap();
        let reply = walk::step(if to_b { b } else { a }, message, budget, &|_| false);
        pushed += reply.push.len();
        merge_all(if to_b { a } else { b }, &reply.push);
        talk.extend(reply.messages.into_iter().map(|m| (!to_b, m)));
    }
    (metadata, pushed)
}

proptest! {
    #![proptest_config(ProptestConfig {
        rng_seed: proptest::test_runner::RngSeed::Fixed(1),
        ..ProptestConfig::with_cases(96)
    })]

    #[test]
    fn any_order_any_repetition_one_state(
        steps in prop::collection::vec(step(), 0..80),
        lost in prop::collection::vec(0_u8..4, 200),
        orders in prop::collection::vec(any::<prop::sample::Index>(), 160),
    ) {
        let log: Vec<Record> = survivors(history(&steps), &lost);
        let mut straight = State::new(actor(9, 1));
        merge_all(&mut straight, &log);
        check_derived(&straight);
        let mut shuffled: Vec<&Record> = log.iter().chain(&log).collect();
        for (i, index) in orders.iter().enumerate().take(shuffled.len()) {
            let j = index.index(shuffled.len());
            shuffled.swap(i, j);
        }
        let mut other = State::new(actor(8, 1));
        merge_all(&mut other, shuffled);
        check_derived(&other);
        prop_assert_eq!(contents(&straight), contents(&other));
        prop_assert_eq!(straight.root(), other.root());
        prop_assert_eq!(straight.sync_root(), other.sync_root());
        let before = contents(&straight);
        for record in &log {
            let merge = straight.merge(record.clone(), NOW);
            prop_assert!(!matches!(merge, Merge::Changed { .. }), "{record:?} changed a state that had seen it");
        }
        prop_assert_eq!(before, contents(&straight));
    }

    #[test]
    fn states_join_like_sets(steps in prop::collection::vec(step(), 0..80), sides in prop::collection::vec(0_u8..4, 200)) {
        let log = survivors(history(&steps), &sides);
        let (mut a, mut b, mut whole) = (State::new(actor(7, 1)), State::new(actor(8, 1)), State::new(actor(9, 1)));
        for (record, side) in log.iter().zip(sides.iter().filter(|side| **side > 0).cycle()) {
            if *side > 1 {
                merge_all(&mut a, [record]);
            }
            if *side < 3 {
                merge_all(&mut b, [record]);
            }
        }
        merge_all(&mut whole, &log);
        let mut rounds = 0;
        while a.sync_root() != b.sync_root() {
            converse(&mut a, &mut b, usize::MAX);
            rounds += 1;
            prop_assert!(rounds <= 3, "the walk does not end");
        }
        prop_assert_eq!(contents(&a), contents(&b));
        prop_assert_eq!(contents(&a), contents(&whole));
        prop_assert_eq!(a.root(), b.root());
    }

    #[test]
    fn the_disk_restores_the_state(steps in prop::collection::vec(step(), 0..80)) {
        let mut disk: BTreeMap<Vec<u8>, Arc<[u8]>> = BTreeMap::new();
        let mut state = State::new(actor(9, 1));
        for record in history(&steps) {
            if let Merge::Changed { persist, .. } = state.merge(record, NOW) {
                for op in persist {
                    match op {
                        PersistOp::Put { slot, bytes } => drop(disk.insert(slot, bytes)),
                        PersistOp::Delete { slot } => prop_assert!(disk.remove(&slot).is_some(), "deletes what is not there"),
                    }
                }
            }
        }
        let mut again = State::new(actor(9, 2));
        disk.values().for_each(|bytes| again.restore(Record::read(bytes).unwrap()));
        // Evidence of boots that never completed shares one slot; all else is there.
        let several = |r: &Record| r.id().kind == Kind::HEADER && state.siblings(r.id()).len() > 1;
        let whole: Vec<Record> = contents(&state).into_iter().filter(|r| !several(r)).collect();
        let restored: Vec<Record> = contents(&again).into_iter().filter(|r| !several(r)).collect();
        prop_assert_eq!(restored, whole);
        prop_assert!(again.clock() >= state.snapshot().records().map(Record::hlc).max().unwrap_or_default());
        // In other hands it is what those hands would have restored.
        for me in [actor(1, 1), actor(2, 3), actor(9, 2)] {
            let (mut other, mut handed) = (State::new(me), again.held_by(me));
            again.snapshot().records().for_each(|record| other.restore(record.clone()));
            prop_assert_eq!(contents(&handed), contents(&other));
            prop_assert_eq!(handed.generation_of(me.node), other.generation_of(me.node));
            prop_assert_eq!(handed.publish_hours(NOW), other.publish_hours(NOW));
            let id = RecordId::header(me.node);
            prop_assert_eq!(handed.stage_actual(NOW, id.clone(), None), other.stage_actual(NOW, id, None));
        }
    }

    #[test]
    fn any_bytes_of_a_walk_are_answered_in_bounds(
        keys in prop::collection::vec(0_u8..255, 0..60),
        prefix: u64, depth: u8, leaves in prop::collection::vec((any::<[u8; 8]>(), any::<[u8; 8]>()), 0..20),
    ) {
        let mut state = State::new(actor(1, 1));
        keys.iter().for_each(|k| drop(write(&mut state, NOW, key(*k), Some(b"x"))));
        let reply = walk::step(&state, Walk::Leaves { prefix, depth, leaves: leaves.clone() }, 1_000, &|_| false);
        prop_assert!(reply.push.len() <= 60);
        let wants = leaves.into_iter().map(|l| l.0).collect();
        prop_assert!(walk::step(&state, Walk::Want(wants), 1_000, &|_| false).messages.is_empty());
    }
}

#[test]
fn ten_differences_in_a_hundred_thousand_cost_little() {
    let mut a = State::new(actor(1, 1));
    for n in 0..100_000_u32 {
        let id = RecordId::allocation(node(1), AllocId(u64::from(n)));
        let record = a.stage_actual(NOW, id, Some(b"runs"));
        merge_all(&mut a, [&record]);
    }
    let mut b = a.clone();
    for n in 0..10_u64 {
        let id = RecordId::allocation(node(1), AllocId(n * 9_973));
        let side = if n % 2 == 0 { &mut a } else { &mut b };
        let record = side.stage_actual(NOW, id, (n % 3 != 0).then_some(b"changed".as_slice()));
        merge_all(side, [&record]);
    }
    let (metadata, pushed) = converse(&mut a, &mut b, usize::MAX);
    assert_eq!((a.root(), a.sync_root()), (b.root(), b.sync_root()));
    assert!(metadata <= 8_192, "{metadata} bytes");
    assert!(pushed <= 20, "{pushed} records for 10 differences");
}

#[test]
fn a_walk_keeps_its_budget_and_leaves_fresh_records_out() {
    let (mut a, mut b) = (State::new(actor(1, 1)), State::new(actor(2, 1)));
    for n in 0..200 {
        write(&mut a, NOW, key(n), Some(&[0; 100]));
    }
    let mut rounds = 0;
    while a.root() != b.root() {
        let (_, pushed) = converse(&mut a, &mut b, 2_000);
        assert!(pushed > 0 && rounds < 100, "every walk gets on");
        rounds += 1;
    }
    assert!(rounds > 1, "the budget bites");
    let fresh = write(&mut a, NOW, key(201), Some(b"new"));
    let reply = walk::step(&b, walk::start(&a), 2_000, &|_| false);
    for message in reply.messages {
        assert_eq!(walk::step(&a, message, 2_000, &|r| *r == fresh).push, Vec::new());
    }
}

#[test]
fn a_staged_write_is_unseen_and_yet_superseded_by_the_next() {
    let mut state = State::new(actor(1, 1));
    let (first_hlc, first) =
        state.stage_desired(NOW, &Asker::default(), &[(key(1), Some(vec![1])), (key(2), Some(vec![1]))]);
    let (second_hlc, second) =
        state.stage_desired(NOW, &Asker::default(), &[(key(1), Some(vec![2])), (key(1), Some(vec![3]))]);
    assert!(second_hlc > first_hlc && state.is_empty());
    assert_eq!((first.len(), second.len()), (2, 1), "one record a key, the last write of a batch counts");
    merge_all(&mut state, second.iter().chain(&first));
    assert_eq!(state.siblings(&key(1)).len(), 1);
    assert_eq!(payload(&state, &key(1)), Some(vec![3]));
    assert_eq!(state.conflicts().count(), 0);
    assert!(state.staged.is_empty());
}

#[test]
fn an_update_beats_a_concurrent_delete_and_a_later_delete_beats_it() {
    let (mut a, mut b) = (State::new(actor(1, 1)), State::new(actor(2, 1)));
    let base = write(&mut a, NOW, key(1), Some(b"base"));
    merge_all(&mut b, [&base]);
    let update = write(&mut a, NOW, key(1), Some(b"update"));
    let delete = write(&mut b, Wall(NOW.0 + 1_000), key(1), None);
    merge_all(&mut a, [&delete]);
    merge_all(&mut b, [&update, &base]);
    assert_eq!(contents(&a), contents(&b));
    assert_eq!(payload(&a, &key(1)), Some(b"update".to_vec()));
    assert_eq!(a.conflicts().count(), 1);
    let gone = write(&mut b, NOW, key(1), None);
    merge_all(&mut a, [&gone, &update]);
    assert_eq!((a.value(&key(1)), a.siblings(&key(1))), (None, [gone].as_slice()));
    assert_eq!(a.root(), 0, "a tombstone is nothing to P1");
    assert_ne!(a.sync_root(), 0);
}

#[test]
fn equal_siblings_are_no_conflict() {
    let mut reader = State::new(actor(9, 1));
    for n in 0..3 {
        let record = write(&mut State::new(actor(n, 1)), NOW, key(1), Some(b"same"));
        merge_all(&mut reader, [&record]);
    }
    assert_eq!(reader.siblings(&key(1)).len(), 3);
    assert_eq!(reader.conflicts().count(), 0);
}

#[test]
fn too_many_siblings_are_cut_the_same_way_everywhere() {
    let mut records: Vec<Record> = (0..40_u8)
        .map(|n| {
            let wall = Wall(NOW.0 + u64::from(n) * 7 % 40);
            write(&mut State::new(actor(n, 1)), wall, key(1), (n % 5 != 0).then_some(&[n]))
        })
        .collect();
    let mut kept: Option<Vec<Record>> = None;
    for turn in 0..40 {
        records.rotate_left(1);
        records.swap(turn, (turn * 3) % 40);
        let mut state = State::new(actor(99, 1));
        merge_all(&mut state, &records);
        let siblings = state.siblings(&key(1)).to_vec();
        assert_eq!(siblings.len(), MAX_SIBLINGS);
        assert!(siblings.iter().all(|r| r.payload().is_some()), "deletions go first");
        assert_eq!(kept.get_or_insert_with(|| siblings.clone()), &siblings);
        check_derived(&state);
    }
}

#[test]
fn a_new_boot_voids_the_old_only_once_it_is_complete() {
    let me = node(1);
    let alloc = |n| RecordId::allocation(me, AllocId(n));
    let mut old = State::new(actor(1, 1));
    let mut records = vec![old.stage_actual(NOW, RecordId::header(me), Some(&header(&[])))];
    records.extend([1, 2, 3].map(|n| old.stage_actual(NOW, alloc(n), Some(b"old"))));
    let mut new = State::new(actor(1, 2));
    let publication = [
        new.stage_actual(NOW, RecordId::header(me), Some(&header(&[1, 2]))),
        new.stage_actual(NOW, alloc(1), Some(b"new")),
        new.stage_actual(NOW, alloc(2), None),
    ];
    let mut peer = State::new(actor(5, 1));
    merge_all(&mut peer, &records);
    merge_all(&mut peer, &publication[..2]);
    assert_eq!(peer.generation_of(me), Some(Generation(2)));
    assert_eq!(payload(&peer, &alloc(3)), Some(b"old".to_vec()), "the old claim stands until then");
    let Merge::Changed { ids, persist } = peer.merge(publication[2].clone(), NOW) else { panic!("nothing changed") };
    assert_eq!(ids.first(), Some(&alloc(2)));
    assert!(ids.contains(&alloc(3)) && ids.contains(&RecordId::header(me)) && !ids.contains(&alloc(1)));
    assert!(persist.contains(&PersistOp::Delete { slot: records[3].slot() }));
    assert!(
        !persist.contains(&PersistOp::Delete { slot: publication[0].slot() }),
        "the header's slot holds the new one"
    );
    assert_eq!(peer.value(&alloc(3)), None);
    assert_eq!(peer.merge(records[3].clone(), NOW), Merge::Refused(MergeRefusal::Voided));
    assert_eq!(peer.of_writer(me, Kind::ALLOCATION).count(), 1);
    assert_eq!(peer.of_writer(me, Kind::HEADER).count(), 1);
    check_derived(&peer);
}

#[test]
fn a_boot_that_completed_counts_even_where_a_newer_one_did_not() {
    let me = node(1);
    let alloc = |n| RecordId::allocation(me, AllocId(n));
    let (mut first, mut second, mut third) =
        (State::new(actor(1, 1)), State::new(actor(1, 2)), State::new(actor(1, 3)));
    let mut records = [
        first.stage_actual(NOW, alloc(7), Some(b"old")),
        second.stage_actual(NOW, RecordId::header(me), Some(&header(&[1]))),
        third.stage_actual(NOW, RecordId::header(me), Some(&header(&[1, 2]))),
        third.stage_actual(NOW, alloc(1), Some(b"new")),
    ];
    for turn in 0..24 {
        records.swap(turn % 4, (turn / 4) % 4);
        records.rotate_left(turn % 3);
        let mut peer = State::new(actor(5, 1));
        merge_all(&mut peer, &records);
        assert_eq!(peer.value(&alloc(7)), None, "the third boot's record of 1 completes the second boot");
        assert_eq!(peer.siblings(&RecordId::header(me)).len(), 2, "the second header is the evidence");
    }
}

/// Nodes 1..=n, rostered, with one state each.
#[test]
fn of_kind_and_of_writer_are_in_order_and_exact() {
    let mut state = State::new(actor(2, 1));
    for n in [3, 1, 2] {
        write(&mut state, NOW, key(n), Some(&[n]));
        for alloc in [9, 4] {
            let mut writer = State::new(actor(n, 1));
            let record = writer.stage_actual(NOW, RecordId::allocation(node(n), AllocId(alloc)), Some(b"x"));
            merge_all(&mut state, [&record]);
        }
    }
    write(&mut state, NOW, key(2), None);
    let keys: Vec<&[u8]> = state.of_kind(Class::ManyWriters, Kind::SERVICE).map(|(id, _)| &*id.key).collect();
    assert_eq!(keys, [[1].as_slice(), &[3]]);
    let allocs: Vec<_> = state.of_writer(node(2), Kind::ALLOCATION).filter_map(|(id, _)| id.alloc_id()).collect();
    assert_eq!(allocs, [AllocId(4), AllocId(9)]);
    assert_eq!(state.of_kind(Class::OneWriter, Kind::ALLOCATION).count(), 6);
}
