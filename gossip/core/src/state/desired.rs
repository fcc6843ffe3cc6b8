//! Desired state: a multi-value register per key, each with its own causal context.
//!
//! The law: what a register holds is the set of maximal records, by causality, of all that ever reached it, so any order
//! of arrival gives the same. Causality is `crdts`' vector clock comparison; the register is rebuilt from its records for
//! each merge, as the records (bytes that nobody encodes again) are the only state there is. Containers of `crdts` are
//! never kept, sent or hashed: they are not canonical.
//!
//! Two records with one clock can only come from a faulty writer; the greater bytes stay, so that even then all agree.

use alloc::vec::Vec;

use crdts::mvreg::Op;
use crdts::{CmRDT as _, Dot, MVReg, VClock};

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

/// Of these dots the ones that a record's author had seen.
///
/// Only the dots of the records at hand count: of settled hours a context names none, as everybody has seen all of them.
fn context(record: &Record, dots: &[(Actor, u64)]) -> VClock<Actor> {
    let (seen, below) = seen(record);
    let covers = |(actor, counter): &&(Actor, u64)| {
        let at = seen.binary_search_by_key(actor, |(actor, _)| *actor);
        let is_named = at.ok().and_then(|at| seen.get(at)).is_some_and(|(_, newest)| newest >= counter);
        is_named || Hlc(*counter).hour() < below
    };
    dots.iter().filter(covers).map(|(actor, counter)| Dot::new(*actor, *counter)).collect()
}

fn dot(record: &Record) -> Option<(Actor, u64)> {
    Some((record.author()?, record.hlc().0))
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
    let dots: Vec<(Actor, u64)> = held.iter().chain([record]).filter_map(dot).collect();
    let clock = context(record, &dots);
    let mut register = MVReg::new();
    for sibling in held {
        let theirs = context(sibling, &dots);
        if theirs == clock && sibling.bytes() >= record.bytes() {
            return None;
        }
        register.apply(Op::Put { clock: theirs, val: sibling.clone() });
    }
    register.apply(Op::Put { clock, val: record.clone() });
    let mut records = register.read().val;
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
