//! What others learn of own allocations: records and refusals, gathered into one batch a call.
//!
//! The world of this node changes at once, the record with the batch: now if others must act on it, within a second if only
//! people read it.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::model::{AllocId, Refusal, RefusalReason, ReplicaKey, RevisionId};
use dunlin_gossip::time::{Duration, Instant, Wall};
use dunlin_gossip::wire::{Kind, RecordId, codec};

use super::{Claimed, LAZY, earliest};
use crate::claim;
use crate::engine::Node;
use crate::face::{EventKind, Outputs};
use crate::view::RefusalView;

/// What we have just ended is on its way to the disk for no longer than this.
const OWN_PAUSE: Duration = Duration::from_secs(5);

impl Node {
    /// An own allocation changed: the world, names, and sooner or later its record follow.
    pub(crate) fn touched(&mut self, id: AllocId, now: Instant, urgent: bool) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        let view = Arc::new(own.record.clone());
        let replica = view.replica.clone();
        own.publish = earliest(own.publish, Some(now + LAZY));
        let before = self.view.set_allocation(self.me, id, Some(view));
        let after = self.view.allocation(self.me, id);
        self.names.allocation(self.me, before.as_deref(), after);
        let phase = after.map(|a| a.phase);
        if let Some(phase) = phase.filter(|_| before.as_ref().map(|b| b.phase) != phase) {
            let text = phase.as_str().to_string();
            self.log.replica(NoticeLevel::Info, EventKind::Allocation, self.me, &replica, text);
        }
        self.schedule.mark(replica.clone());
        self.mark_turns(&replica.service);
        self.mark_leaving(&replica.service);
        if urgent {
            self.stage_own(id);
        }
    }

    /// Puts an own allocation's record into the next batch.
    pub(crate) fn stage_own(&mut self, id: AllocId) {
        let Some(own) = self.owned.map.get_mut(&id) else { return };
        own.publish = None;
        self.owned.staged.insert(RecordId::allocation(self.me, id), Some(codec::encode(&own.record)));
    }

    /// Publishes the batch that this call put together.
    pub(crate) fn flush_staged(&mut self, now: Instant, wall: Wall) {
        if self.owned.staged.is_empty() || !self.start.is_adopted() || self.failed || self.left {
            return;
        }
        let batch = core::mem::take(&mut self.owned.staged).into_iter().collect();
        let seq = self.gossip.publish(now, wall, batch, &mut self.gouts);
        self.majority.published(seq);
        for own in self.owned.map.values_mut().filter(|own| own.claimed == Claimed::Staged) {
            own.claimed = Claimed::Asked(seq);
        }
    }

    /// Takes this node out of a replica's candidates for a while.
    pub(super) fn refuse(&mut self, id: AllocId, reason: RefusalReason, now: Instant, wall: Wall) {
        let Some(own) = self.owned.map.get(&id) else { return };
        let (replica, revision) = (own.record.replica.clone(), own.record.revision);
        let before = self.owned.refusals.get(&replica).filter(|r| r.revision == revision);
        let count = before.map_or(1, |r| r.count.saturating_add(1));
        let rest = claim::refusal_backoff(count);
        let text = alloc::format!("refused for {} s: {reason}", rest.as_secs());
        self.log.replica(NoticeLevel::Warn, EventKind::Refusal, self.me, &replica, text);
        let is_full = matches!(reason, RefusalReason::NoRoom | RefusalReason::PortTaken(_) | RefusalReason::NoDriver);
        if !is_full {
            self.hold_against_rollout(id, &reason.to_string(), now, wall);
        }
        let view = RefusalView { revision, reason: reason.clone(), until: now + rest };
        self.view.set_refusal(self.me, &replica, Some(view));
        let until = wall.plus(rest);
        let refusal = Refusal { replica: replica.clone(), revision, reason, count, until };
        self.owned.staged.insert(RecordId::refusal(self.me, &replica), Some(codec::encode(&refusal)));
        self.owned.refusals.insert(replica, refusal);
    }

    /// Ends an allocation for the sake of a more important replica, and says so where people look why it waits.
    pub(crate) fn give_way(&mut self, id: AllocId, by: &ReplicaKey, now: Instant, wall: Wall, out: &mut Outputs) {
        let Some(own) = self.owned.map.get(&id) else { return };
        let (replica, revision, reason) =
            (own.record.replica.clone(), own.record.revision, RefusalReason::Preempted(by.clone()));
        let until = now + claim::REFUSAL_FIRST;
        self.view.set_refusal(self.me, &replica, Some(RefusalView { revision, reason: reason.clone(), until }));
        let until = wall.plus(claim::REFUSAL_FIRST);
        let refusal = Refusal { replica: replica.clone(), revision, reason, count: 1, until };
        self.owned.staged.insert(RecordId::refusal(self.me, &replica), Some(codec::encode(&refusal)));
        self.owned.refusals.insert(replica, refusal);
        self.stop(id, &alloc::format!("pre-empted by {by}"), now, out);
    }

    /// A refusal of the boot before stands until its time is over: a restart is no reason to try again what failed.
    pub(crate) fn take_back_refusal(&mut self, refusal: Refusal, now: Instant, wall: Wall) {
        let replica = refusal.replica.clone();
        let rest = Duration::from_millis(refusal.until.0.saturating_sub(wall.0));
        if rest == Duration::ZERO || self.revision_of(&replica) != Some(refusal.revision) {
            self.view.set_refusal(self.me, &replica, None);
            return;
        }
        let until = now + rest.min(claim::refusal_backoff(refusal.count));
        let view = RefusalView { revision: refusal.revision, reason: refusal.reason.clone(), until };
        self.view.set_refusal(self.me, &replica, Some(view));
        self.owned.staged.insert(RecordId::refusal(self.me, &replica), Some(codec::encode(&refusal)));
        self.owned.refusals.insert(replica, refusal);
    }

    /// Refusals of what nobody wants any more, or that ended long ago, go.
    pub(super) fn refusal_upkeep(&mut self, now: Instant) {
        if self.owned.refusals.is_empty() {
            return;
        }
        let over = |(replica, refusal): &(&ReplicaKey, &Refusal)| {
            let current = self.revision_of(replica) == Some(refusal.revision);
            let mine = self.view.refusals(replica).find(|(node, _)| *node == self.me);
            !current || mine.is_none_or(|(_, view)| view.until + claim::REFUSAL_LAST <= now)
        };
        let gone: Vec<ReplicaKey> =
            self.owned.refusals.iter().filter(over).map(|(replica, _)| replica.clone()).collect();
        for replica in gone {
            self.owned.refusals.remove(&replica);
            self.view.set_refusal(self.me, &replica, None);
            self.owned.staged.insert(RecordId::refusal(self.me, &replica), None);
        }
    }

    /// Something of ours changed in the state: it may have come from somebody who missed its end.
    pub(crate) fn look_after_own(&mut self, now: Instant) {
        self.own_at = self.own_at.or(Some(now + OWN_PAUSE));
    }

    /// Ends once more what the state says of us and is over: the end may be forgotten where the record came back.
    pub(crate) fn end_what_came_back(&mut self, now: Instant) {
        if self.own_at.is_none_or(|at| at > now) || !self.start.is_adopted() {
            return;
        }
        self.own_at = None;
        let own = self.gossip.state().of_writer(self.me, Kind::ALLOCATION);
        let is_kept = planted(Bug::ClaimLeftBehind);
        let is_over =
            |id: &&RecordId| !is_kept && id.alloc_id().is_some_and(|alloc| !self.owned.map.contains_key(&alloc));
        let over: Vec<RecordId> = own.map(|(id, _)| id).filter(is_over).cloned().collect();
        self.owned.staged.extend(over.into_iter().map(|id| (id, None)));
    }

    fn revision_of(&self, replica: &ReplicaKey) -> Option<RevisionId> {
        self.view.wanted(replica).map(|force| force.revision)
    }
}
