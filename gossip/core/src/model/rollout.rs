//! How a service gets from one revision to the next: what its author ordered, what was kept to go back to, and what failed.
//!
//! None of it is part of a revision: to update more carefully is no new version of what runs.

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::{ReplicaKey, RevisionId, ServiceName};
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::time::{Duration, Wall};

/// Revisions of a service that are kept besides the one that is wanted.
pub const MAX_KEPT: usize = 10;

/// Which of the two goes first in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum UpdateOrder {
    /// The old one ends, then the new one starts in its room.
    #[default]
    StopFirst,
    /// The new one is ready somewhere, then the old one ends.
    StartFirst,
}

impl UpdateOrder {
    /// The word in files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StopFirst => "stop-first",
            Self::StartFirst => "start-first",
        }
    }
}

/// What to do once too many replicas failed at the new revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum FailureAction {
    /// Nothing is held to have failed for good: each slot is tried again until it is ready, and the next waits for it.
    #[default]
    Retry,
    /// No further slot has its turn.
    Pause,
    /// A slot that failed holds nobody up.
    Continue,
    /// Everything goes back to what it was before.
    Rollback,
}

impl FailureAction {
    /// The word in files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Pause => "pause",
            Self::Continue => "continue",
            Self::Rollback => "rollback",
        }
    }
}

/// How slots go over, one after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UpdatePolicy {
    /// Slots under way at a time; 0 means all.
    pub parallelism: u32,
    /// Between a slot's end and the next one's turn.
    pub delay: Duration,
    /// Which goes first.
    pub order: UpdateOrder,
    /// A replica that ends or turns unhealthy within this time of its first ready counts as failed.
    pub monitor: Duration,
    /// Failed slots in a million of all that are borne.
    pub max_failure_ppm: u32,
    /// What to do beyond that.
    pub on_failure: FailureAction,
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            order: UpdateOrder::StopFirst,
            monitor: Duration::from_secs(5),
            max_failure_ppm: 0,
            on_failure: FailureAction::Retry,
        }
    }
}

/// When the slots beyond the canaries may follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Promotion {
    /// Once somebody says so.
    ByHand,
    /// Once all canaries have been ready for this time.
    ByHealth(Duration),
}

/// Slots that go first, alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Canary {
    /// How many, from the lowest.
    pub count: u32,
    /// What ends the wait for them.
    pub promotion: Promotion,
}

/// What a file says of the ways from one revision to the next.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RolloutPolicy {
    /// Forward.
    pub update: UpdatePolicy,
    /// Back.
    pub rollback: UpdatePolicy,
    /// Who goes first.
    pub canary: Option<Canary>,
}

/// The value of a service's rollout register: the way to its wanted revision, and what people said about it since.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// How.
    pub policy: RolloutPolicy,
    /// To which revision. What follows means nothing for any other.
    pub of: RevisionId,
    /// From which, if one was in force.
    pub from: Option<RevisionId>,
    /// Which attempt it is: failures of earlier ones count no more.
    pub attempt: Hlc,
    /// No further slot has its turn.
    pub paused: bool,
    /// The canaries were found good.
    pub promoted: bool,
    /// It is a way back that somebody asked for.
    pub undo: bool,
}

/// The value of a failure's register: a replica failed at the revision to which a rollout leads. Nobody takes it back; a new
/// attempt makes it void.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// In which attempt.
    pub attempt: Hlc,
    /// Which.
    pub replica: ReplicaKey,
    /// At which revision.
    pub revision: RevisionId,
    /// Where it failed.
    pub node: NodeId,
    /// How.
    pub reason: String,
    /// When.
    pub at: Wall,
}

/// What belongs to a deploy besides its services: held as completely as these before anybody acts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Attached {
    /// The stamps of rollout registers, of services that have one.
    pub rollouts: BTreeMap<ServiceName, Hlc>,
}
