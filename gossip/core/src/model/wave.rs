//! A deploy that a few nodes act on before all others do.
//!
//! While its first wave is on, such a deploy lies in registers of its own: nothing that is in force has changed, so whoever
//! boots meanwhile comes to the same answer, and a node that does not know these registers goes on as before.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{RolloutPolicy, ServiceName};
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::time::Duration;

/// How a deploy is to come into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waves {
    /// How many nodes act on it first.
    pub first: Share,
    /// How long all is to be well on these before the others follow.
    pub wait: Duration,
}

/// A part of the nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// So many.
    Nodes(u32),
    /// So many in a hundred of those that are alive, and one at least.
    Percent(u32),
}

impl Share {
    /// How many nodes that is of so many.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        let some = match self {
            Self::Nodes(nodes) => u64::from(nodes),
            Self::Percent(percent) => all.saturating_mul(u64::from(percent)).div_ceil(100),
        };
        usize::try_from(some.max(1)).unwrap_or(usize::MAX)
    }
}

/// The value of a stack's wave: a deploy on which so far only some nodes act.
///
/// It counts while it is newer than the stack's manifest.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Wave {
    /// The stamp of the deploy.
    pub deployed: Hlc,
    /// Each service and the stamp of the batch that wrote its staged record.
    pub services: BTreeMap<ServiceName, Hlc>,
    /// Who acts on it first. The order decides who acts first among them.
    pub nodes: Vec<NodeId>,
    /// How long all is to be well there.
    pub wait: Duration,
    /// How each service goes over to its revision, once all act on it.
    pub policies: BTreeMap<ServiceName, RolloutPolicy>,
}

/// What a node of the first wave says of a deploy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// Of which deploy.
    pub deployed: Hlc,
    /// How it went.
    pub outcome: Outcome,
}

/// How a first wave went on one of its nodes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// For the time that was asked for the agent acted on it, and whatever runs of it there was ready.
    Well,
    /// The agent was started again while the wave was on.
    Restarted,
    /// A handler panicked over it, so its meaning is left out there.
    LeftOut,
    /// A replica could not be brought to run there.
    Refused,
}
