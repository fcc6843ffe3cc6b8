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
use crate::hlc::Hlc;
use crate::id::Actor;
use crate::limits::MAX_SIBLINGS;
use crate::wire::{Record, Stamp};

/// What a record's author had seen of its register, the record included.
fn context(record: &Record) -> VClock<Actor> {
    match record.stamp() {
        Stamp::Context { seen, .. } => seen.iter().map(|(actor, counter)| Dot::new(*actor, *counter)).collect(),
        Stamp::Sequence { .. } | Stamp::Fact { .. } => VClock::new(),
    }
}

/// What a register holds after one more record; `None` if that is what it held before.
///
/// Beyond [`MAX_SIBLINGS`] the lowest of ([is a value, HLC, author, bytes](rank)) are dropped, the same ones on every node.
pub(super) fn merge(held: &[Record], record: &Record) -> Option<Vec<Record>> {
    let clock = context(record);
    let mut register = MVReg::new();
    for sibling in held {
        let theirs = context(sibling);
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
    siblings.iter().filter(|r| r.payload().is_some()).max_by(|a, b| rank(a).cmp(&rank(b)))
}

fn rank(record: &Record) -> (bool, Hlc, Option<Actor>, &[u8]) {
    (record.payload().is_some(), record.hlc(), record.author(), record.bytes())
}

/// The stamp of a new record that supersedes all of these.
pub(super) fn stamp<'a>(author: Actor, hlc: Hlc, superseded: impl Iterator<Item = &'a Record>) -> Stamp {
    let mut clock: VClock<Actor> = VClock::new();
    for record in superseded {
        crdts::CvRDT::merge(&mut clock, context(record));
    }
    clock.apply(Dot::new(author, hlc.0));
    Stamp::Context { author, seen: clock.dots.into_iter().collect() }
}
