//! What the next version of the wire will be like: it appends a field to every value, writes records of kinds that this one
//! does not know, sends a new frame, and puts a new field into packets.
//!
//! No agent speaks it. The simulator upgrades flocks to it and back under faults, so that there always is a next version to
//! be compatible with, and the first real one finds a way that has been walked.

use alloc::vec::Vec;

use super::version::{WireVersion, appended};
use super::{Class, Kind, RecordId, codec};
use crate::id::NodeId;
use crate::model::StackName;

/// The field that it appends to values.
pub(crate) const FIELD: &[u8] = &[1, 42];

/// Desired state of a kind that only the next version knows: written with each stack.
const DESIRED: Kind = Kind(0x7f00);
/// Actual state likewise: written with each header.
const ACTUAL: Kind = Kind(0x7f01);

/// The register that the next version writes with a stack.
#[must_use]
pub fn of_stack(stack: &StackName) -> RecordId {
    beside(&RecordId::stack(stack))
}

fn beside(stack: &RecordId) -> RecordId {
    RecordId::new(Class::ManyWriters, DESIRED, &stack.key)
}

/// The register that the next version writes with its header.
#[must_use]
pub fn of_node(node: NodeId) -> RecordId {
    RecordId::new(Class::OneWriter, ACTUAL, &node.0)
}

/// What it says in either: a number of its own.
#[must_use]
pub fn value(number: u64) -> Vec<u8> {
    codec::encode(&("rehearsal", number))
}

/// What such a value says; none if these bytes are none.
#[must_use]
pub fn read(payload: &[u8]) -> Option<u64> {
    codec::decode::<(alloc::string::String, u64)>(payload).ok().filter(|(word, _)| word == "rehearsal").map(|(_, n)| n)
}

/// A batch as this version writes it.
pub(crate) fn rewritten(
    version: WireVersion,
    mut batch: Vec<(RecordId, Option<Vec<u8>>)>,
) -> Vec<(RecordId, Option<Vec<u8>>)> {
    if version < WireVersion::NEXT {
        return batch;
    }
    for (id, payload) in &mut batch {
        if let Some(payload) = payload
            && grows(id.kind, payload)
        {
            payload.extend_from_slice(FIELD);
        }
    }
    let stacks = batch.iter().filter(|(id, _)| id.class == Class::ManyWriters && id.kind == Kind::STACK);
    let besides: Vec<_> =
        stacks.map(|(id, payload)| (beside(id), payload.as_ref().map(|p| value(p.len() as u64)))).collect();
    batch.extend(besides);
    batch
}

/// True for a value of a kind that this build knows, unless it has the field already.
fn grows(kind: Kind, payload: &[u8]) -> bool {
    match kind {
        Kind::SERVICE | Kind::STACK | Kind::TOKEN => appended(kind, payload) == Some(&[]),
        Kind::HEADER | Kind::ALLOCATION | Kind::REFUSAL | Kind::ROSTER | Kind::REMOVAL => true,
        _ => false,
    }
}
