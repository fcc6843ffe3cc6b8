//! What a node has besides cpu and memory, what a replica asks of it, and what a claim holds of it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{AllocId, Epoch, Tail};
use crate::id::NodeId;

/// Shares of one device: a whole one has so many.
pub const WHOLE: u32 = 1_000;
/// Devices of one node that are counted; what a header names beyond is not given out.
pub const MAX_DEVICES: usize = 256;

/// Amounts besides cpu and memory. A node gives none of what it does not state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Serialize, Deserialize)]
pub struct Further {
    /// Processes and threads.
    pub pids: u64,
    /// Bytes of disk.
    pub disk_bytes: u64,
}

impl Further {
    /// True if `need` fits into `self`.
    #[must_use]
    pub const fn holds(&self, need: &Self) -> bool {
        self.pids >= need.pids && self.disk_bytes >= need.disk_bytes
    }

    /// Sum; saturates.
    #[must_use]
    pub const fn plus(&self, other: &Self) -> Self {
        Self {
            pids: self.pids.saturating_add(other.pids),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
        }
    }

    /// Difference; stops at zero.
    #[must_use]
    pub const fn minus(&self, other: &Self) -> Self {
        Self {
            pids: self.pids.saturating_sub(other.pids),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
        }
    }
}

/// Devices of a node that are all alike.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceGroup {
    /// `gpu`, or whatever the operator calls them.
    pub kind: String,
    /// Which make, as constraints name it; empty if unknown.
    pub model: String,
    /// How many.
    pub count: u32,
}

/// What a node has besides cpu and memory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Supply {
    /// Amounts.
    pub further: Further,
    /// Devices, numbered through in this order from 0.
    pub devices: Vec<DeviceGroup>,
    /// Of a header, which has no other place for fields that came later: the node takes its share of what ran before it came,
    /// which was at this epoch. None: it has it, or there is none for it. So an agent that starts anew goes on with that.
    #[serde(default)]
    pub came: Tail<Option<Epoch>>,
}

impl Supply {
    /// The group of each device, by its number.
    pub fn units(&self) -> impl Iterator<Item = &DeviceGroup> {
        self.devices.iter().flat_map(|group| (0..group.count).map(move |_| group)).take(MAX_DEVICES)
    }
}

/// Devices that a replica asks for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Of which kind.
    pub kind: String,
    /// Of any of these models; empty: of any.
    pub models: Vec<String>,
    /// How many.
    pub count: u32,
    /// So much of each, in thousandths.
    pub milli: u32,
}

/// A device, or part of one, that a claim holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeviceHold {
    /// Its number on its node.
    pub unit: u32,
    /// How much of it, in thousandths.
    pub milli: u32,
}

/// What a claim holds besides cpu and memory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Held {
    /// Amounts.
    pub further: Further,
    /// Devices.
    pub devices: Vec<DeviceHold>,
    /// Of a claim, which has no other place for fields that came later: whom its node relieves by it.
    #[serde(default)]
    pub relieves: Tail<Option<Box<Relieved>>>,
}

/// A node that came takes a replica from another for its share.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Relieved {
    /// Who has it.
    pub node: NodeId,
    /// Under which claim.
    pub alloc: AllocId,
    /// How full the node that takes it was, in percent.
    pub full: u8,
    /// How full those were in the mean that suit it, in percent.
    pub mean: u8,
}

impl Held {
    /// As a claim carries it: nothing where it holds nothing.
    #[must_use]
    pub fn boxed(self) -> Option<Box<Self>> {
        (self != Self::default()).then(|| Box::new(self))
    }
}
