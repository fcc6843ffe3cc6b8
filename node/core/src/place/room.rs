//! What is left on a node besides its devices.

use dunlin_gossip::model::{Further, Resources, ServiceSpec};

/// Amounts that are left, or that are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Cpu and memory.
    pub base: Resources,
    /// Processes and disk.
    pub further: Further,
}

impl Room {
    /// What a specification needs.
    #[must_use]
    pub fn needed(spec: &ServiceSpec) -> Self {
        Self { base: spec.reservation, further: spec.placing.further }
    }

    /// True if `need` fits into `self`.
    #[must_use]
    pub const fn holds(&self, need: &Self) -> bool {
        self.base.holds(&need.base) && self.further.holds(&need.further)
    }

    /// Sum; saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self { base: self.base.plus(&other.base), further: self.further.plus(&other.further) }
    }

    /// Difference; stops at zero.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self { base: self.base.minus(&other.base), further: self.further.minus(&other.further) }
    }
}
