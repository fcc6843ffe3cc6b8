//! What a specification says of resources and ports beyond the first format.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::tail::Tail;

/// Numbers on the host of which the node chooses one for a port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct PortRange {
    /// For which of the specification's ports.
    pub port: u32,
    /// The lowest number.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

impl PortRange {
    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> u32 {
        u32::from(self.last.saturating_sub(self.first)) + 1
    }

    /// Never: a range has at least one number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// What a specification says of resources and ports beyond the first format.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Demand {
    /// Processes and threads at most; zero means no bound.
    pub pids_limit: u64,
    /// The reserved cpu is meant as it stands, though it is the default's.
    pub firm_cpu: bool,
    /// The reserved memory is meant as it stands, though it is the default's.
    pub firm_memory: bool,
    /// Ports whose number the node chooses from a range of the author's.
    pub ranges: Vec<PortRange>,
    /// Ports that are open to their own host only.
    pub local: Vec<u32>,
    /// When it has to make way, and whether it moves without need.
    #[serde(default)]
    pub standing: Tail<Standing>,
}

/// When a replica has to make way for others, and whether it moves without need.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Standing {
    /// Who may end it to have its room.
    pub preemptible: Preemptible,
    /// No node that came may take it for its share.
    #[serde(default)]
    pub stays: Tail<bool>,
}

/// Who may end a replica to have its room, where nothing else has any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Preemptible {
    /// Whatever has a higher priority.
    #[default]
    ByHigher,
    /// What has a higher priority, and at least this one.
    From(i32),
    /// Nothing.
    Never,
}

impl Preemptible {
    /// True if a priority that is higher than its own is high enough.
    #[must_use]
    pub const fn by(self, priority: i32) -> bool {
        match self {
            Self::ByHigher => true,
            Self::From(least) => priority >= least,
            Self::Never => false,
        }
    }
}

impl Demand {
    /// The range of a port, if it has one.
    #[must_use]
    pub fn range_of(&self, port: usize) -> Option<&PortRange> {
        self.ranges.iter().find(|range| usize::try_from(range.port) == Ok(port))
    }

    /// True if a port is open to its own host only.
    #[must_use]
    pub fn is_local(&self, port: usize) -> bool {
        self.local.iter().any(|local| usize::try_from(*local) == Ok(port))
    }
}
