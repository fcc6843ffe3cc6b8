//! Work that runs to completion: how much of it there is, what is borne on the way, and the fact that a part of it is done.
//!
//! How a job is worked off is no part of its revision: to work it off more slowly is no reason to do it again.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use super::{Cron, Epoch, Mode, ReplicaKey, RevisionId, Slot};
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::time::{Duration, Wall};

/// How a job is worked off.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// How many slots there are, each to be finished once. Of a global job one on each node, whatever this says.
    pub completions: u32,
    /// Slots that may be under way at a time; 0 means all.
    pub parallelism: u32,
    /// So often a slot that failed is run again before it has failed for good.
    pub backoff_limit: u32,
    /// A slot that is not done so long after its first start, restarts included, has failed for good.
    pub timeout: Option<Duration>,
    /// The stamp of the deploy that asked for this revision: what older claims finished counts no more. Set by the node that
    /// takes the deploy.
    #[serde(default)]
    pub since: Hlc,
    /// The stamp of the deploy that asked for it once more after it had failed: failures under older claims count no more.
    #[serde(default)]
    pub again: Hlc,
}

impl Job {
    /// True if an end under this claim counts.
    #[must_use]
    pub const fn counts(&self, epoch: Epoch, succeeded: bool) -> bool {
        epoch.0 >= self.since.0 && (succeeded || epoch.0 >= self.again.0)
    }
}

impl Default for Job {
    fn default() -> Self {
        // The limit is the one of Kubernetes.
        Self { completions: 1, parallelism: 0, backoff_limit: 6, timeout: None, since: Hlc(0), again: Hlc(0) }
    }
}

impl Mode {
    /// How its work is worked off, if it runs to completion.
    #[must_use]
    pub const fn job(&self) -> Option<&Job> {
        match self {
            Self::Job(job) | Self::GlobalJob(job) | Self::Cron(Cron { job, .. }) => Some(job),
            Self::Replicated(_) | Self::Global => None,
        }
    }

    /// The same, to be changed.
    pub const fn job_mut(&mut self) -> Option<&mut Job> {
        match self {
            Self::Job(job) | Self::GlobalJob(job) | Self::Cron(Cron { job, .. }) => Some(job),
            Self::Replicated(_) | Self::Global => None,
        }
    }

    /// When its work is due, if it is done again and again.
    #[must_use]
    pub const fn cron(&self) -> Option<&Cron> {
        match self {
            Self::Cron(cron) => Some(cron),
            Self::Replicated(_) | Self::Global | Self::Job(_) | Self::GlobalJob(_) => None,
        }
    }

    /// True if its slots are nodes.
    #[must_use]
    pub const fn is_global(&self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob(_))
    }

    /// The number of its slots, of each run if it has those; none where these are nodes.
    #[must_use]
    pub const fn count(&self) -> Option<u32> {
        match self {
            Self::Replicated(count)
            | Self::Job(Job { completions: count, .. })
            | Self::Cron(Cron { job: Job { completions: count, .. }, .. }) => Some(*count),
            Self::Global | Self::GlobalJob(_) => None,
        }
    }

    /// The same with so many slots; none where these are nodes.
    #[must_use]
    pub const fn with_count(self, count: u32) -> Option<Self> {
        match self {
            Self::Replicated(_) => Some(Self::Replicated(count)),
            Self::Job(job) => Some(Self::Job(Job { completions: count, ..job })),
            Self::Cron(cron) => Some(Self::Cron(Cron { job: Job { completions: count, ..cron.job }, ..cron })),
            Self::Global | Self::GlobalJob(_) => None,
        }
    }

    /// True if it has this slot.
    #[must_use]
    pub const fn has(&self, slot: Slot) -> bool {
        match (self, slot) {
            (Self::Replicated(count) | Self::Job(Job { completions: count, .. }), Slot::Number(n)) => {
                n >= 1 && n <= *count
            }
            (Self::Cron(Cron { job, .. }), Slot::Run(_, n)) => n >= 1 && n <= job.completions,
            (Self::Global | Self::GlobalJob(_), Slot::Node(_)) => true,
            (Self::Replicated(_) | Self::Job(_), Slot::Node(_) | Slot::Run(..))
            | (Self::Cron(_), Slot::Number(_) | Slot::Node(_))
            | (Self::Global | Self::GlobalJob(_), Slot::Number(_) | Slot::Run(..)) => false,
        }
    }
}

/// The value of a slot's end: it is finished, and is not run again. Whoever ran it says so, and it outlives that node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finish {
    /// Which.
    pub replica: ReplicaKey,
    /// At which revision.
    pub revision: RevisionId,
    /// Under which claim. Below the job's `since` it was an earlier deploy's.
    pub epoch: Epoch,
    /// True if it did what it should; else it has failed for good.
    pub succeeded: bool,
    /// Where.
    pub node: NodeId,
    /// The exit code, if there was one.
    pub code: Option<i32>,
    /// How it ended, for people.
    pub detail: String,
    /// When it was claimed.
    pub began: Wall,
    /// When it ended.
    pub at: Wall,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Calendar;

    #[test]
    fn slots_are_numbers_or_nodes_or_runs() {
        let job = Job { completions: 2, ..Job::default() };
        let node = Slot::Node(NodeId([1; 16]));
        for (mode, has) in [
            (Mode::Replicated(2), [true, false, false]),
            (Mode::Job(job), [true, false, false]),
            (Mode::Global, [false, false, true]),
            (Mode::GlobalJob(job), [false, false, true]),
        ] {
            assert_eq!([Slot::Number(2), Slot::Number(3), node].map(|slot| mode.has(slot)), has, "{mode:?}");
            assert!(!mode.has(Slot::Number(0)) && !mode.has(Slot::Run(1, 1)));
            assert_eq!(mode.with_count(3).map(|mode| mode.has(Slot::Number(3))), mode.count().map(|_| true));
        }
        let calendar = Calendar { minutes: 1, hours: 1, days: 2, months: 2, weekdays: 1, either: false, floats: false };
        let cron = Mode::Cron(Cron::of(calendar, job));
        assert_eq!([1, 2, 3].map(|n| cron.has(Slot::Run(60, n))), [true, true, false]);
        assert!(!cron.has(Slot::Run(60, 0)) && !cron.has(Slot::Number(1)) && !cron.has(node));
        assert!(cron.with_count(3).is_some_and(|mode| mode.has(Slot::Run(60, 3))));
    }
}
