//! Where the list of voters stands, and what a voter has accepted of the next one.

use super::{Class, Kind, RecordId};
use crate::id::NodeId;

impl Kind {
    /// The voters ([`VoterList`](crate::model::VoterList)), one register for the cluster. Of several values that with the highest
    /// version is in force.
    pub const VOTERS: Self = Self(14);
    /// What a node has accepted as the next list of voters ([`Accepted`](crate::model::Accepted)), while it is not known as chosen.
    pub const ACCEPTED: Self = Self(41);
}

impl RecordId {
    /// The voters.
    #[must_use]
    pub fn voters() -> Self {
        Self::new(Class::ManyWriters, Kind::VOTERS, b"voters")
    }

    /// What a node has accepted as the next list of voters.
    #[must_use]
    pub fn accepted(node: NodeId) -> Self {
        Self::new(Class::OneWriter, Kind::ACCEPTED, &node.0)
    }
}
