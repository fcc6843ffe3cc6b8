//! When an own replica has failed its new revision: the owner says so, once, as a fact for everybody.
//!
//! Only a rollout whose author asked for consequences has failures. What fails later than the monitored time is an ordinary
//! end, and what never ran for want of room has not failed.

use alloc::string::ToString;
use alloc::vec::Vec;

use dunlin_gossip::face::NoticeLevel;
use dunlin_gossip::model::{AllocId, Asker, Failure, FailureAction};
use dunlin_gossip::time::{Instant, Wall};
use dunlin_gossip::wire::{RecordId, codec};

use crate::engine::Node;
use crate::face::EventKind;

impl Node {
    /// A run of ours has ended badly, or turned unhealthy, or could not begin.
    pub(crate) fn hold_against_rollout(&mut self, id: AllocId, why: &str, now: Instant, wall: Wall) {
        let Some(own) = self.owned.map.get(&id) else { return };
        let (replica, revision) = (own.record.replica.clone(), own.record.revision);
        let force = self.view.services().get(&replica.service).map(|force| force.revision);
        let Some((_, rollout)) = self.view.rollout(&replica.service) else { return };
        let policy = self.view.update_policy(&replica.service);
        let is_way = force == Some(revision) && rollout.from.is_some();
        let in_time = own.ready_at.is_none_or(|at| now.since(at) <= policy.monitor);
        if !is_way || !in_time || policy.on_failure == FailureAction::Retry {
            return;
        }
        let register = RecordId::failure(&replica, revision);
        let attempt = rollout.attempt;
        if self.view.failures(&replica.service, revision).any(|failure| failure.replica == replica) {
            return;
        }
        let failure = Failure { attempt, replica, revision, node: self.me, reason: why.to_string(), at: wall };
        let text = alloc::format!("failed revision {revision}: {why}");
        self.log.replica(NoticeLevel::Warn, EventKind::Refusal, self.me, &failure.replica, text);
        let batch = Vec::from([(register, Some(codec::encode(&failure)))]);
        // A node that may not write now says it at the replica's next end.
        let _refused = self.gossip.write(now, wall, &Asker::default(), batch, &mut self.gouts);
    }
}
