//! Desired state: a multi-value register per key, each of whose records has its own causal context.
//!
//! The law: a record goes when another comes whose author had seen it, so that what stays is the set of maximal records of
//! all that ever reached the register, in any order of arrival. These are dotted version vectors (Preguiça, Baquero et al.,
//! 2010): a record is one dot, and a context says which dots are under it. The register is rebuilt from its records for
//! each merge, as the records (bytes that nobody encodes again) are the only state there is.
//!
//! All agree even on what a faulty writer sent, whose contexts may contradict each other: a record gives way only to one
//! that is greater by (HLC, author, bytes), so that no circle of records drives each other out for ever.

use alloc::vec::Vec;

use crdts::{CmRDT as _, Dot, VClock};

use super::canonical;
use crate::canary::{Bug, planted};
use crate::hlc::Hlc;
use crate::id::Actor;
use crate::limits::MAX_SIBLINGS;
use crate::model::Asker;
use crate::wire::{Context, Record, Stamp};

/// What a record's author had seen of its register, the record included, in order of actor; and below which hour it had seen
/// everything.
fn seen(record: &Record) -> (&[(Actor, u64)], u64) {
    match record.stamp() {
        Stamp::Context(context) => (&context.seen, context.below),
        Stamp::Sequence { .. } | Stamp::Fact { .. } => (&[], 0),
    }
}

/// True if a record makes another one go: its author had seen it, or they bear one stamp (which only a faulty writer gives
/// twice) and this has the greater bytes.
fn supersedes(newer: &Record, older: &Record) -> bool {
    if newer.author() == older.author() && newer.hlc() == older.hlc() {
        return newer.bytes() > older.bytes();
    }
    let (seen, below) = seen(newer);
    let names = |actor: Actor| {
        let at = seen.binary_search_by_key(&actor, |(actor, _)| *actor).ok();
        at.and_then(|at| seen.get(at)).is_some_and(|(_, newest)| *newest >= older.hlc().0)
    };
    newer.hlc() > older.hlc() && (older.hlc().hour() < below || older.author().is_some_and(names))
}

/// What a register holds after one more record; `None` if that is what it held before.
///
/// Beyond [`MAX_SIBLINGS`] the lowest of ([is a value, HLC, author, bytes](rank)) are dropped, the same ones on every node.
pub(super) fn merge(held: &[Record], record: &Record) -> Option<Vec<Record>> {
    if planted(Bug::ArrivalDecides) {
        return (held != core::slice::from_ref(record)).then(|| Vec::from([record.clone()]));
    }
    if planted(Bug::RemovalForgotten) && record.payload().is_none() {
        return (!held.is_empty()).then(Vec::new);
    }
    if held.iter().any(|sibling| sibling == record || supersedes(sibling, record)) {
        return None;
    }
    let mut records: Vec<Record> = held.iter().filter(|sibling| !supersedes(record, sibling)).cloned().collect();
    records.push(record.clone());
    records.sort_unstable_by(|a, b| rank(b).cmp(&rank(a)));
    records.truncate(MAX_SIBLINGS);
    records.sort_unstable_by(canonical);
    (records != held).then_some(records)
}

/// The register's value: of the siblings that are no tombstones, the greatest by (HLC, author, bytes).
pub(super) fn winner(siblings: &[Record]) -> Option<&Record> {
    siblings
        .iter()
        .filter(|r| r.payload().is_some())
        .max_by(|a, b| if planted(Bug::OldestWins) { rank(b).cmp(&rank(a)) } else { rank(a).cmp(&rank(b)) })
}

fn rank(record: &Record) -> (bool, Hlc, Option<Actor>, &[u8]) {
    (record.payload().is_some(), record.hlc(), record.author(), record.bytes())
}

/// The stamp of a new record that supersedes all of these. Hours below `settled` are not named dot by dot: without this a
/// register's context would grow with every boot of every node that ever wrote there.
pub(super) fn stamp<'a>(
    author: Actor,
    asker: Asker,
    hlc: Hlc,
    superseded: impl Iterator<Item = &'a Record>,
    settled: u64,
) -> Stamp {
    let mut clock: VClock<Actor> = VClock::new();
    let mut below = settled;
    for record in superseded.filter(|_| !planted(Bug::ContextForgotten)) {
        let (dots, theirs) = seen(record);
        dots.iter().for_each(|(actor, counter)| clock.apply(Dot::new(*actor, *counter)));
        below = below.max(theirs);
    }
    clock.apply(Dot::new(author, hlc.0));
    let counts = |(actor, counter): &(Actor, u64)| *actor == author || Hlc(*counter).hour() >= below;
    let seen = clock.dots.into_iter().filter(counts).collect();
    Context { author, asker, seen, below }.into()
}
