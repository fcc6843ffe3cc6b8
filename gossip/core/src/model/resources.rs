//! Amounts of what a node has and a replica reserves.

use serde::{Deserialize, Serialize};

/// An amount of each resource. Integers, so that every node computes the same sums.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

impl Resources {
    /// The default reservation of a service that states none: 100 thousandths of a CPU and 64 MiB.
    ///
    /// Nine of ten real Compose files state nothing; without a default, packing has nothing to work with.
    pub const DEFAULT_REQUEST: Self = Self { cpu_milli: 100, memory_bytes: 64 << 20 };

    /// True if `need` fits into `self`.
    #[must_use]
    pub const fn holds(&self, need: &Self) -> bool {
        self.cpu_milli >= need.cpu_milli && self.memory_bytes >= need.memory_bytes
    }

    /// Sum; saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }

    /// Difference; stops at zero.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
        }
    }
}
