//! Where a service's rollout, the revisions that it can go back to, and its failures stand.

use super::{Class, Kind, RecordId, codec};
use crate::model::{Mode, ReplicaKey, RevisionId, ServiceKey};

/// A service's specification as its author wrote it: its value without the mode, which is no part of the revision.
#[must_use]
pub fn specification(value: &[u8]) -> Option<&[u8]> {
    let (mode, _) = codec::decode_known::<Mode>(value).ok()?;
    value.get(codec::encode(&mode).len()..)
}

impl Kind {
    /// A service's rollout ([`Rollout`](crate::model::Rollout)), key [`RecordId::rollout`].
    pub const ROLLOUT: Self = Self(8);
    /// A revision that may be gone back to: a service's value as its author wrote it, key [`RecordId::revision`].
    pub const REVISION: Self = Self(9);
    /// A replica failed at a new revision ([`Failure`](crate::model::Failure)), key [`RecordId::failure`].
    pub const FAILURE: Self = Self(10);
}

impl RecordId {
    /// A service's rollout.
    #[must_use]
    pub fn rollout(key: &ServiceKey) -> Self {
        Self::new(Class::ManyWriters, Kind::ROLLOUT, alloc::format!("{key}").as_bytes())
    }

    /// A kept revision of a service: `stack/service/` and the revision.
    #[must_use]
    pub fn revision(key: &ServiceKey, revision: RevisionId) -> Self {
        Self::new(Class::ManyWriters, Kind::REVISION, alloc::format!("{key}/{revision}").as_bytes())
    }

    /// A replica's failure at a revision: `revision/` and the replica.
    #[must_use]
    pub fn failure(replica: &ReplicaKey, revision: RevisionId) -> Self {
        Self::new(Class::ManyWriters, Kind::FAILURE, alloc::format!("{revision}/{replica}").as_bytes())
    }
}
