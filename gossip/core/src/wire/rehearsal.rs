//! What the next version of the wire will be like: it appends a field to every value, writes records of kinds that this one
//! does not know, sends a new frame, and puts a new field into packets.
//!
//! No agent speaks it. The simulator upgrades flocks to it and back under faults, so that there always is a next version to
//! be compatible with, and the first real one finds a way that has been walked.

use alloc::vec::Vec;

use super::version::{WireVersion, appended};
use super::{Class, Kind, RecordId, codec, specification};
use crate::id::NodeId;
use crate::model::StackName;
use crate::state::State;

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

/// True if a service is only scaled: that takes over the specification that is held byte by byte, in every version.
fn scales(kind: Kind, payload: &[u8], held: Option<&[u8]>) -> bool {
    let held = held.filter(|_| kind == Kind::SERVICE).and_then(specification);
    held.is_some() && held == specification(payload)
}

/// A value as this version writes it over the one that is held.
#[must_use]
pub fn as_written(version: WireVersion, kind: Kind, payload: &[u8], held: Option<&[u8]>) -> Vec<u8> {
    let mut payload = payload.to_vec();
    if version >= WireVersion::NEXT && grows(kind, &payload) && !scales(kind, &payload, held) {
        payload.extend_from_slice(FIELD);
    }
    payload
}

/// A batch as this version writes it into this state.
pub(crate) fn rewritten(
    version: WireVersion,
    state: &State,
    mut batch: Vec<(RecordId, Option<Vec<u8>>)>,
) -> Vec<(RecordId, Option<Vec<u8>>)> {
    if version < WireVersion::NEXT {
        return batch;
    }
    for (id, payload) in &mut batch {
        let held = state.value(id).and_then(|record| record.payload());
        if let Some(payload) = payload {
            *payload = as_written(version, id.kind, payload, held);
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
        Kind::SERVICE | Kind::STAGED | Kind::STACK | Kind::TOKEN | Kind::NODE_ORDERS => {
            appended(kind, payload) == Some(&[])
        }
        Kind::HEADER | Kind::ALLOCATION | Kind::REFUSAL | Kind::ROSTER | Kind::REMOVAL => true,
        _ => false,
    }
}
