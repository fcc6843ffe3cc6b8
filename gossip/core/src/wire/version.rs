//! Which version of the wire a node speaks, and what it grasps of what others wrote.
//!
//! **Grown, never changed.** A value grows by fields appended at its end, and by new kinds beside it; what a field means, and
//! where it stands, stays. So an older node reads what it knows, keeps the bytes, and passes them on. Merging must not depend
//! on more than that, or nodes of two versions would hold two states: what it looks into (the kind of a removal, what a
//! header says of adopted allocations) stands in front of whatever is appended.
//!
//! **Declared.** A node that speaks more than the first version says so in a record of its own, in the batch of its header;
//! silence is the first version. It counts for the boot that wrote it alone, since the next one may be an older program. Two
//! nodes speak the newer version that both know, so nothing reaches a node that it cannot read.
//!
//! **Edited by who knows it all.** What takes parts of an old value over would drop what this version does not know of it:
//! see [`WireVersion::grasp`].

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Class, Kind, Record, RecordId, codec, rehearsal};
use crate::id::NodeId;
use crate::model::{Failure, NodeOrders, Rollout, Service, StackManifest, Token};

/// A version of packets, frames and records. Each one can read all that were before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct WireVersion(pub u16);

impl WireVersion {
    /// What every node speaks that declares nothing.
    pub const FIRST: Self = Self(1);
    /// The newest that this build speaks.
    pub const CURRENT: Self = Self::FIRST;
    /// The one after it. No agent speaks it: the simulator rehearses with it what an upgrade will be (`rehearsal`).
    pub const NEXT: Self = Self(Self::CURRENT.0 + 1);

    /// How much of a record's value a node of this version knows. What it need not know to write is whole for it.
    #[must_use]
    pub fn grasp(self, record: &Record) -> Grasp {
        let Some(payload) = record.payload() else { return Grasp::Whole };
        match appended(record.id().kind, payload) {
            Some([]) => Grasp::Whole,
            Some(fields) if self >= Self::NEXT && fields == rehearsal::FIELD => Grasp::Whole,
            Some(_) => Grasp::Part,
            None => Grasp::Nothing,
        }
    }
}

/// How much of a value is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grasp {
    /// All of it.
    Whole,
    /// What stands in front; a later version appended more.
    Part,
    /// Nothing: its kind is unknown, or its bytes are.
    Nothing,
}

/// What stands behind the fields that this build knows of a value that can be edited; none if it cannot be read.
pub(super) fn appended(kind: Kind, payload: &[u8]) -> Option<&[u8]> {
    fn rest<T: DeserializeOwned>(payload: &[u8]) -> Option<&[u8]> {
        codec::decode_known::<T>(payload).ok().map(|(_, rest)| rest)
    }
    // A tail has looked at what follows, to see that it is none; the bytes of what was understood tell where that begins.
    fn behind_tail<T: Serialize + DeserializeOwned>(payload: &[u8]) -> Option<&[u8]> {
        let (known, _) = codec::decode_known::<T>(payload).ok()?;
        payload.get(codec::encode(&known).len()..)
    }
    match kind {
        Kind::SERVICE | Kind::STAGED | Kind::REVISION => behind_tail::<Service>(payload),
        Kind::STACK => behind_tail::<StackManifest>(payload),
        Kind::ROLLOUT => rest::<Rollout>(payload),
        Kind::FAILURE => rest::<Failure>(payload),
        Kind::TOKEN => rest::<Token>(payload),
        Kind::NODE_ORDERS => rest::<NodeOrders>(payload),
        _ => None,
    }
}

/// What a node that speaks more than the first version says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Declared {
    /// The newest version that it speaks; it speaks all before that.
    pub most: WireVersion,
}

impl RecordId {
    /// What a node declares.
    #[must_use]
    pub fn declared(node: NodeId) -> Self {
        Self::new(Class::OneWriter, Kind::DECLARED, &node.0)
    }
}
