//! Facts: of two for one key the greater (HLC, bytes) stays; but a removal for good stands over any other removal, or a node
//! could be revoked on one side of a partition and welcome after it. An admission is taken back by its tombstone (the node
//! was forgotten) and given again by a later admission; a removal is never taken back.

use crate::hlc::Hlc;
use crate::model::{Removal, RemovalKind};
use crate::wire::{Class, Kind, Record};

/// True if a record takes the place of the one held.
pub(super) fn supersedes(held: Option<&Record>, record: &Record) -> bool {
    held.is_none_or(|held| order(held) < order(record))
}

fn order(record: &Record) -> (bool, Hlc, &[u8]) {
    (revokes(record), record.hlc(), record.bytes())
}

/// True for the fact that a node was removed for good.
fn revokes(record: &Record) -> bool {
    let removal = || record.read_as::<Removal>();
    record.id().class == Class::GrowOnly
        && record.id().kind == Kind::REMOVAL
        && removal().is_some_and(|removal| removal.kind == RemovalKind::Revoked)
}
