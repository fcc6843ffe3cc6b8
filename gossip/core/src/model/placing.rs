//! What a specification says of where its replicas should be, beyond constraints that a node meets by itself.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Demand, DeviceRequest, Further, ServiceKey, ServiceName, StackName, Tail, Toleration};

/// What the best of the candidates is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// Replicas of one service apart, then packed so that little is left in pieces.
    #[default]
    Apart,
    /// Replicas of one service apart, then where most is left.
    Spread,
    /// Packed, whatever else of the service is there.
    Binpack,
}

impl Strategy {
    /// The word in files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apart => "apart",
            Self::Spread => "spread",
            Self::Binpack => "binpack",
        }
    }
}

/// Replicas near to, or far from, those of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Affinity {
    /// In which stack it is; none: in the same.
    pub stack: Option<StackName>,
    /// Of which service; its own name means its other replicas.
    pub service: ServiceName,
    /// What two nodes must share to count as one place: a label, or nothing for the node itself.
    pub label: Option<String>,
    /// True: away from them.
    pub anti: bool,
    /// How much it counts among the candidates; none: it must hold.
    pub weight: Option<u32>,
}

impl Affinity {
    /// The service that is meant where a service of this stack says so.
    #[must_use]
    pub fn meant(&self, own: &StackName) -> ServiceKey {
        ServiceKey { stack: self.stack.clone().unwrap_or_else(|| own.clone()), service: self.service.clone() }
    }
}

/// How unevenly a service may lie over the values of a label.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Skew {
    /// Which label.
    pub label: String,
    /// So many replicas more than in the emptiest value.
    pub most: u32,
}

/// What a specification asks for besides what the first format had.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Placing {
    /// What it reserves besides cpu and memory.
    pub further: Further,
    /// Devices.
    pub devices: Vec<DeviceRequest>,
    /// Which candidate is best.
    pub strategy: Strategy,
    /// Labels over whose values to spread, the first counts most.
    pub spread: Vec<String>,
    /// Replicas on one node.
    pub max_per_node: Option<u32>,
    /// Near and far.
    pub affinities: Vec<Affinity>,
    /// Limits of unevenness.
    pub skews: Vec<Skew>,
    /// What it puts up with.
    #[serde(default)]
    pub tolerance: Tail<Tolerance>,
}

/// What a replica puts up with.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Tolerance {
    /// Taints that do not keep it off.
    pub taints: Vec<Toleration>,
    /// What it asks of resources and ports besides.
    #[serde(default)]
    pub demand: Tail<Demand>,
}
