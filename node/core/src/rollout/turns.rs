//! What this node has seen of each rollout, and which slots may change by that.
//!
//! Slots are numbered from 1. One is *done* once it was seen ready at the new revision (or ended there well); that it was is
//! remembered, so that a later crash of it does not stop the rollout half way. *Open* slots are a prefix that only grows:
//! everything up to the last of so many slots as may be under way and are not done yet.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    FailureAction, Mode, Phase, Promotion, ReplicaKey, RevisionId, Rollout, ServiceKey, Slot, UpdateOrder, UpdatePolicy,
};
use dunlin_gossip::time::Instant;

use crate::view::{InForce, View};

/// All rollouts that this node had a reason to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Turns {
    services: BTreeMap<ServiceKey, Progress>,
    /// Replicas whose turn has come, and which need not wait for their owners.
    opened: Vec<ReplicaKey>,
}

/// What was seen of one.
#[derive(Clone, Debug)]
struct Progress {
    revision: RevisionId,
    attempt: Option<Hlc>,
    /// All slots up to this one are done.
    front: u32,
    /// So are these, beyond the front.
    beyond: BTreeSet<u32>,
    /// All slots up to this one may change.
    open: u32,
    /// When a slot was last found done.
    done_at: Option<Instant>,
    /// When to look again, without anything happening.
    due: Option<Instant>,
}

impl Turns {
    /// True if this slot may leave its old revision now.
    pub(crate) fn is_open(&mut self, view: &View, service: &ServiceKey, slot: u32, now: Instant) -> bool {
        self.advance(view, service, now);
        self.services.get(service).is_some_and(|progress| slot <= progress.open)
    }

    /// Takes note of what a service looks like now.
    pub(crate) fn advance(&mut self, view: &View, service: &ServiceKey, now: Instant) {
        let Some(force) = view.services().get(service) else {
            self.services.remove(service);
            return;
        };
        let Mode::Replicated(all) = force.service.mode else { return };
        let order = view.rollout(service).map(|(_, rollout)| rollout);
        let attempt = order.map(|order| order.attempt);
        let progress = self.services.entry(service.clone()).or_insert_with(|| Progress::new(force.revision, attempt));
        if (progress.revision, progress.attempt) != (force.revision, attempt) {
            *progress = Progress::new(force.revision, attempt);
        }
        let before = progress.open;
        let policy = view.update_policy(service);
        // What is open may turn out to be done already, which opens more.
        loop {
            let open = progress.open;
            progress.see(view, service, force, &policy, all, now);
            progress.open_more(view, service, order, &policy, all, now);
            if progress.open == open {
                break;
            }
        }
        if policy.order == UpdateOrder::StartFirst {
            let slots = (before + 1..=progress.open).map(Slot::Number);
            self.opened.extend(slots.map(|slot| ReplicaKey { service: service.clone(), slot }));
        }
    }

    /// Replicas whose turn has come since this was asked last, of services that start the new one first.
    pub(crate) fn take_opened(&mut self) -> Vec<ReplicaKey> {
        core::mem::take(&mut self.opened)
    }

    /// The services whose time has come to be looked at again.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<ServiceKey> {
        let due = self.services.iter_mut().filter(|(_, progress)| progress.due.is_some_and(|at| at <= now));
        due.map(|(service, progress)| {
            progress.due = None;
            service.clone()
        })
        .collect()
    }

    /// When the next of them comes.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.services.values().filter_map(|progress| progress.due).min()
    }
}

impl Progress {
    const fn new(revision: RevisionId, attempt: Option<Hlc>) -> Self {
        Self { revision, attempt, front: 0, beyond: BTreeSet::new(), open: 0, done_at: None, due: None }
    }

    /// Which slots are done by now. What is not open cannot have changed for this rollout, unless it had no owner before.
    fn see(
        &mut self,
        view: &View,
        service: &ServiceKey,
        force: &InForce,
        policy: &UpdatePolicy,
        all: u32,
        now: Instant,
    ) {
        if self.open >= all {
            return;
        }
        let bears = policy.on_failure == FailureAction::Continue;
        let failed: BTreeSet<Slot> = match bears {
            true => view.failures(service, force.revision).map(|failure| failure.replica.slot).collect(),
            false => BTreeSet::new(),
        };
        let is_done = |slot: u32| {
            let replica = ReplicaKey { service: service.clone(), slot: Slot::Number(slot) };
            is_done(view, &replica, force.revision) || failed.contains(&replica.slot)
        };
        let is_fresh = |slot: &u32| !self.beyond.contains(slot) && is_done(*slot);
        let fresh: Vec<u32> = (self.front + 1..=self.open).filter(is_fresh).collect();
        let mut found = !fresh.is_empty();
        self.beyond.extend(fresh);
        while self.front < all && (self.beyond.remove(&(self.front + 1)) || is_done(self.front + 1)) {
            self.front += 1;
            found = true;
        }
        if found {
            self.done_at = Some(now);
        }
    }

    fn open_more(
        &mut self,
        view: &View,
        service: &ServiceKey,
        order: Option<&Rollout>,
        policy: &UpdatePolicy,
        all: u32,
        now: Instant,
    ) {
        self.due = None;
        if is_halted(view, service, order, self.revision, policy) {
            return;
        }
        let mut open = self.window(policy, all);
        if let Some(limit) = self.canaries(view, service, order, now) {
            open = open.min(limit);
        }
        if open <= self.open {
            return;
        }
        let free_at = self.done_at.map_or(now, |at| at + policy.delay);
        if free_at > now {
            self.due = Some(free_at);
        } else {
            self.open = open;
        }
    }

    /// The last of the slots that may be under way together: so many as are not done yet, and all below.
    fn window(&self, policy: &UpdatePolicy, all: u32) -> u32 {
        let mut places = if policy.parallelism == 0 { u32::MAX } else { policy.parallelism };
        let mut last = self.front;
        while last < all && places > 0 {
            last += 1;
            places -= u32::from(!self.beyond.contains(&last));
        }
        last
    }

    /// Up to which slot the wait for canaries allows to go; none if there is no such wait.
    fn canaries(&mut self, view: &View, service: &ServiceKey, order: Option<&Rollout>, now: Instant) -> Option<u32> {
        let order = order.filter(|order| order.of == self.revision && order.from.is_some() && !order.undo)?;
        let canary = order.policy.canary.filter(|_| !order.promoted && !planted(Bug::CanaryIgnored))?;
        if view.is_rolled_back(service) {
            return None;
        }
        let wait = match canary.promotion {
            Promotion::ByHand => return Some(canary.count),
            Promotion::ByHealth(wait) => wait,
        };
        if self.front < canary.count {
            return Some(canary.count);
        }
        let over = self.done_at.map_or(now, |at| at + wait);
        if over <= now || self.open > canary.count {
            return None;
        }
        self.due = Some(over);
        Some(canary.count)
    }
}

/// True if no further slot may have its turn for now.
pub(crate) fn is_halted(
    view: &View,
    service: &ServiceKey,
    order: Option<&Rollout>,
    revision: RevisionId,
    policy: &UpdatePolicy,
) -> bool {
    let is_paused = order.is_some_and(|order| order.paused);
    let stops = matches!(policy.on_failure, FailureAction::Pause | FailureAction::Rollback);
    is_paused || (stops && view.has_failed(service, revision, policy))
}

/// Slots of a global service exist where they can; only those that run the old revision are waited for.
pub(super) fn is_open_elsewhere(view: &View, replica: &ReplicaKey, revision: RevisionId) -> bool {
    let order = view.rollout(&replica.service).map(|(_, order)| order);
    let policy = view.update_policy(&replica.service);
    if is_halted(view, &replica.service, order, revision, &policy) {
        return false;
    }
    let failed: BTreeSet<Slot> = match policy.on_failure {
        FailureAction::Continue => view.failures(&replica.service, revision).map(|v| v.replica.slot).collect(),
        FailureAction::Retry | FailureAction::Pause | FailureAction::Rollback => BTreeSet::new(),
    };
    let (mut lower, mut done) = (BTreeSet::new(), BTreeSet::new());
    for (node, _, alloc) in view.of_service(&replica.service) {
        if alloc.replica.slot < replica.slot && alloc.phase.is_live() && view.stands(node) {
            lower.insert(alloc.replica.slot);
            if alloc.revision == revision && alloc.ready {
                done.insert(alloc.replica.slot);
            }
        }
    }
    let under_way = lower.iter().filter(|slot| !done.contains(slot) && !failed.contains(slot)).count();
    policy.parallelism == 0 || under_way < usize::try_from(policy.parallelism).unwrap_or(usize::MAX)
}

/// True if what runs on these nodes of lower slots is ready at the revision.
pub(super) fn is_done_below(
    view: &View,
    replica: &ReplicaKey,
    revision: RevisionId,
    on: impl Fn(NodeId) -> bool,
) -> bool {
    let mut below = view.of_service(&replica.service).filter(|(node, _, alloc)| {
        alloc.replica.slot < replica.slot && alloc.phase.is_live() && view.stands(*node) && on(*node)
    });
    below.all(|(_, _, alloc)| alloc.revision == revision && alloc.ready)
}

/// True if a slot is ready at the revision, or ended there well and for good.
fn is_done(view: &View, replica: &ReplicaKey, revision: RevisionId) -> bool {
    view.of_replica(replica).any(|(node, _, alloc)| {
        alloc.revision == revision && ((alloc.ready && view.stands(node)) || alloc.phase == Phase::Exited)
    })
}
