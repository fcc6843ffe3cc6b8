//! Where it stands that a slot of a job is finished.

use super::{Class, Kind, RecordId};
use crate::model::ReplicaKey;

impl Kind {
    /// A slot of a job is finished ([`Finish`](crate::model::Finish)), key [`RecordId::finish`].
    pub const FINISH: Self = Self(16);
}

impl RecordId {
    /// The end of a job's slot. One register a slot: a later revision's end replaces it.
    #[must_use]
    pub fn finish(replica: &ReplicaKey) -> Self {
        Self::new(Class::ManyWriters, Kind::FINISH, alloc::format!("{replica}").as_bytes())
    }
}
