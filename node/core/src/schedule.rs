//! What to look at, and when: replicas about which something changed, and replicas that wait for an owner.
//!
//! A replica's wait starts once, when it is first seen without a live claim, and is not restarted by anything but a claim.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::time::{Duration, Instant};

use crate::rollout::Turns;

/// Changes of the flock that may improve our place on ladders are answered together, at most this often.
const SWEEP_PAUSE: Duration = Duration::from_millis(250);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wait {
    since: Instant,
    /// None: nothing to do here until something changes.
    due: Option<Instant>,
}

/// The work list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    dirty: BTreeSet<ReplicaKey>,
    waiting: BTreeMap<ReplicaKey, Wait>,
    due: BTreeSet<(Instant, ReplicaKey)>,
    sweep_at: Option<Instant>,
    swept: Instant,
    /// Of services whose revision changes: which slots may follow.
    pub(crate) turns: Turns,
}

impl Schedule {
    /// Something about this replica changed.
    pub(crate) fn mark(&mut self, replica: ReplicaKey) {
        self.dirty.insert(replica);
    }

    /// Something about a service changed: about all its slots, up to this number, and the one that is a node.
    pub(crate) fn mark_all(&mut self, service: &ServiceKey, most: u32, me: NodeId) {
        let slots = (1..=most).map(Slot::Number).chain([Slot::Node(me)]);
        slots.for_each(|slot| self.mark(ReplicaKey { service: service.clone(), slot }));
    }

    /// The next changed replicas, at most so many.
    pub(crate) fn take_dirty(&mut self, most: usize) -> Vec<ReplicaKey> {
        core::iter::from_fn(|| self.dirty.pop_first()).take(most).collect()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The replica is wanted and nobody takes care of it.
    pub(crate) fn unclaimed(&mut self, replica: &ReplicaKey, now: Instant) {
        if !self.waiting.contains_key(replica) {
            self.waiting.insert(replica.clone(), Wait { since: now, due: Some(now) });
            self.due.insert((now, replica.clone()));
        } else {
            self.again(replica, Some(now));
        }
    }

    /// Somebody takes care of the replica, or nobody wants it.
    pub(crate) fn settled(&mut self, replica: &ReplicaKey) {
        if let Some(Wait { due: Some(due), .. }) = self.waiting.remove(replica) {
            self.due.remove(&(due, replica.clone()));
        }
    }

    /// Replicas to decide on now, at most so many; each must be settled or given to [`Schedule::again`].
    pub(crate) fn take_due(&mut self, now: Instant, most: usize) -> Vec<ReplicaKey> {
        let mut out = Vec::new();
        while out.len() < most && self.due.first().is_some_and(|(at, _)| *at <= now) {
            let Some((_, replica)) = self.due.pop_first() else { break };
            if let Some(wait) = self.waiting.get_mut(&replica) {
                wait.due = None;
                out.push(replica);
            }
        }
        out
    }

    /// Look at a waiting replica again then; none: not before something changes.
    pub(crate) fn again(&mut self, replica: &ReplicaKey, at: Option<Instant>) {
        if let Some(wait) = self.waiting.get_mut(replica) {
            if let Some(old) = core::mem::replace(&mut wait.due, at) {
                self.due.remove(&(old, replica.clone()));
            }
            if let Some(at) = at {
                self.due.insert((at, replica.clone()));
            }
        }
    }

    /// Since when a replica waits.
    pub(crate) fn since(&self, replica: &ReplicaKey) -> Option<Instant> {
        self.waiting.get(replica).map(|w| w.since)
    }

    /// How many replicas wait for an owner, as far as this node knows.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Something about the flock changed: look at everything that waits, soon.
    pub(crate) fn sweep(&mut self, now: Instant) {
        if !self.waiting.is_empty() && self.sweep_at.is_none() {
            self.sweep_at = Some(now.max(self.swept + SWEEP_PAUSE));
        }
    }

    /// Does a sweep that is due.
    pub(crate) fn run_sweep(&mut self, now: Instant) {
        if self.sweep_at.is_none_or(|at| at > now) {
            return;
        }
        (self.sweep_at, self.swept) = (None, now);
        self.due.clear();
        for (replica, wait) in &mut self.waiting {
            wait.due = Some(now);
            self.due.insert((now, replica.clone()));
        }
    }

    /// When a waiting replica is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    pub(crate) fn next_sweep(&self) -> Option<Instant> {
        self.sweep_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::model::{ServiceName, StackName};

    fn replica(n: u32) -> ReplicaKey {
        let stack = StackName::new("shop").expect("a name");
        ReplicaKey {
            service: ServiceKey { stack, service: ServiceName::new("web").expect("a name") },
            slot: Slot::Number(n),
        }
    }

    #[test]
    fn a_wait_starts_once() {
        let mut schedule = Schedule::default();
        schedule.unclaimed(&replica(1), Instant::from_millis(5));
        schedule.unclaimed(&replica(1), Instant::from_millis(9));
        assert_eq!(schedule.since(&replica(1)), Some(Instant::from_millis(5)));
        assert_eq!(schedule.take_due(Instant::from_millis(9), 9), [replica(1)]);
        assert_eq!(schedule.next_due(), None);
        schedule.sweep(Instant::from_millis(300));
        schedule.run_sweep(Instant::from_millis(300));
        assert_eq!(schedule.take_due(Instant::from_millis(300), 9), [replica(1)]);
        schedule.settled(&replica(1));
        assert_eq!(schedule.since(&replica(1)), None);
    }
}
