//! From one revision of a service to the next: whose turn it is, what failed, and what people order about it.
//!
//! All of it is derived, from monotone evidence only, so that every node comes to the same and nobody leads: slots go in
//! their order, a slot's turn comes once those before it were *seen* ready at the new revision, and a failure is a fact
//! that no later success takes back. So a rollout goes on through the death of any node, the one that took the deploy included.
//!
//! - `turns`: what this node has seen of each service, and which slots may change by that.
//! - `failure`: when an own replica has failed its new revision.
//! - `order`: what a deploy writes about rollouts, and pause, resume, promote and undo.

mod failure;
mod order;
mod turns;

use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::model::{ReplicaKey, ServiceKey, Slot, UpdateOrder};
use dunlin_gossip::time::Instant;

pub(crate) use order::halted_by;
pub(crate) use turns::Turns;

use crate::allocation::Own;
use crate::drain;
use crate::engine::Node;
use crate::view::{Custody, InForce, ServiceChange};

impl Node {
    /// What a replica without an owner is to run: the revision in force, or, while its turn has not come, the one before. A
    /// replica that loses its node must not be the one that goes first.
    pub(crate) fn due_force(&mut self, replica: &ReplicaKey, now: Instant) -> Option<InForce> {
        let force = self.view.wanted(replica)?.clone();
        if force.service.mode.job().is_some() {
            return self.open_force(replica, force);
        }
        let before = self.view.before(&replica.service).filter(|_| matches!(replica.slot, Slot::Number(_)));
        match before {
            Some(before) if !self.has_turn(replica, &force, now) => Some(before),
            Some(_) | None => Some(force),
        }
    }

    /// True if a replica has nobody who takes care of it, or only nodes that shall be emptied, or may start anew beside the
    /// one that does.
    pub(crate) fn lacks_owner(&mut self, replica: &ReplicaKey, force: &InForce, now: Instant) -> bool {
        match self.view.custody(replica, force.revision) {
            Custody::Nobody => return true,
            // Work that ends by itself is not begun again elsewhere while it is done here.
            Custody::Leaving if force.service.mode.job().is_some() => return false,
            Custody::Leaving if drain::may_move(&self.view, replica) => {
                let is_current = self.view.of_replica(replica).any(|(_, _, alloc)| alloc.revision == force.revision);
                return is_current || self.has_turn(replica, force, now);
            }
            Custody::Leaving => return false,
            Custody::Taken => {}
        }
        self.view.update_policy(&replica.service).order == UpdateOrder::StartFirst
            && self.view.is_superseded(replica, force.revision)
            && self.has_turn(replica, force, now)
    }

    /// True if a replica may leave its old revision now.
    pub(crate) fn has_turn(&mut self, replica: &ReplicaKey, force: &InForce, now: Instant) -> bool {
        match replica.slot {
            _ if planted(Bug::RolloutAllAtOnce) || force.service.mode.job().is_some() => true,
            // While only some nodes act on it, their slots alone can change.
            Slot::Number(_) if self.view.acted_wave(&replica.service.stack).is_some() => {
                let wave = self.view.acted_wave(&replica.service.stack);
                turns::is_done_below(&self.view, replica, force.revision, |node| {
                    wave.is_some_and(|wave| wave.nodes.contains(&node))
                })
            }
            Slot::Number(slot) => self.schedule.turns.is_open(&self.view, &replica.service, slot, now),
            Slot::Node(_) | Slot::Run(..) => turns::is_open_elsewhere(&self.view, replica, force.revision),
        }
    }

    /// Something of a service changed for which every node may have to start replicas anew, not their owners alone.
    pub(crate) fn watch_rollout(&mut self, service: &ServiceKey, now: Instant) {
        if self.view.update_policy(service).order == UpdateOrder::StartFirst {
            self.schedule.turns.advance(&self.view, service, now);
        }
    }

    /// A rollout was ordered, halted, or let go on.
    pub(crate) fn on_rollout(&mut self, service: &ServiceKey, changes: &[ServiceChange], now: Instant) {
        changes.iter().for_each(|change| self.on_service(change, now));
        self.watch_rollout(service, now);
        self.mark_own(|replica| replica.service == *service);
    }

    /// Own allocations of an older revision may have their turn, now that something of their service changed.
    pub(crate) fn mark_turns(&mut self, service: &ServiceKey) {
        let Some(force) = self.view.services().get(service) else { return };
        let is_old = |own: &&Own| own.record.replica.service == *service && own.record.revision != force.revision;
        let old = self.owned.map.values().filter(is_old);
        old.for_each(|own| self.schedule.mark(own.record.replica.clone()));
    }

    /// Rollouts under way when this node began.
    pub(crate) fn resume_rollouts(&mut self, now: Instant) {
        let services: Vec<ServiceKey> = self.view.services().keys().cloned().collect();
        services.iter().for_each(|service| self.watch_rollout(service, now));
    }

    /// Rollouts whose pause between two slots is over.
    pub(crate) fn rollout_timers(&mut self, now: Instant) {
        for service in self.schedule.turns.take_due(now) {
            self.schedule.turns.advance(&self.view, &service, now);
            self.mark_turns(&service);
        }
    }
}
