//! The registers of a deploy whose first wave is on.

use super::{Class, Kind, RecordId};
use crate::id::NodeId;
use crate::model::{ServiceKey, StackName};

impl Kind {
    /// A deploy whose first wave is on ([`Wave`](crate::model::Wave)), key [`RecordId::wave`].
    pub const WAVE: Self = Self(4);
    /// A service of such a deploy, as [`Kind::SERVICE`] has it, key [`RecordId::staged`].
    pub const STAGED: Self = Self(5);
    /// What a node of the first wave says of it ([`Verdict`](crate::model::Verdict)), key [`RecordId::verdict`].
    pub const VERDICT: Self = Self(38);
}

impl RecordId {
    /// A stack's deploy whose first wave is on.
    #[must_use]
    pub fn wave(name: &StackName) -> Self {
        Self::new(Class::ManyWriters, Kind::WAVE, name.as_str().as_bytes())
    }

    /// A service of such a deploy; the key is `stack/service`.
    #[must_use]
    pub fn staged(key: &ServiceKey) -> Self {
        Self::new(Class::ManyWriters, Kind::STAGED, alloc::format!("{key}").as_bytes())
    }

    /// What a node says of a stack's first wave: node id, then the stack's name.
    #[must_use]
    pub fn verdict(node: NodeId, stack: &StackName) -> Self {
        let mut key = alloc::vec::Vec::from(node.0);
        key.extend_from_slice(stack.as_str().as_bytes());
        Self::new(Class::OneWriter, Kind::VERDICT, &key)
    }
}
