//! How a drained node is emptied: each replica is claimed elsewhere, becomes ready there, and only then stops here.
//!
//! Nobody leads this. Every node sees the order, and which of a service's replicas only drained nodes claim; the first of
//! these, as many as may be on the move at a time, count as waiting for an owner, and their ladders decide. A node that may
//! keep a replica never gives way to one that is drained, and that one gives way once the other is *ready*. So a replica that fits nowhere
//! else, or comes up nowhere else, stays until the deadline; the drained node counts it on its own wall clock.
//!
//! Never: a drained replica that stops for a successor that is not ready, unless it is not ready itself.

use alloc::format;
use alloc::string::ToString;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, Phase, Prefer, ReplicaKey, ServiceKey, Slot};
use dunlin_gossip::time::{Duration, Instant, Wall};

use crate::engine::Node;
use crate::takeover::Judgement;
use crate::view::{InForce, View};

/// Replicas of one service that are on the move at a time, across all drained nodes.
const IN_FLIGHT: usize = 1;

/// How far this node's own drain has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Draining {
    /// Its deadline has passed.
    over: bool,
    /// When it will have.
    pub(crate) look_at: Option<Instant>,
}

impl Node {
    /// Whether the deadline of our own drain has passed; what is still here stops then.
    pub(crate) fn watch_drain(&mut self, now: Instant, wall: Wall) {
        let until = self.view.orders_of(self.me).drain.and_then(|drain| drain.until());
        let until = until.filter(|_| !planted(Bug::DeadlineForgotten));
        let over = until.is_some_and(|at| at <= wall);
        let rest = until.filter(|_| !over).map(|at| Duration::from_millis(at.0.saturating_sub(wall.0)));
        self.draining.look_at = rest.map(|rest| now + rest);
        if over != self.draining.over {
            self.draining.over = over;
            self.mark_all_own();
        }
    }

    /// Of a service that drained nodes run something changed: the next of its replicas may have its turn.
    pub(crate) fn mark_leaving(&mut self, service: &ServiceKey) {
        if self.view.drained().is_empty() {
            return;
        }
        for slot in self.view.drained_slots(service) {
            self.schedule.mark(ReplicaKey { service: service.clone(), slot });
        }
    }

    /// What to do with an own allocation on this node while it is drained.
    pub(crate) fn leave_judgement(&self, record: &Allocation, force: &InForce) -> Judgement {
        let replica = &record.replica;
        let is_begun = !matches!(record.phase, Phase::Pending);
        if force.service.mode.job().is_some() && is_begun && !self.draining.over {
            return Judgement::Keep;
        }
        if matches!(replica.slot, Slot::Node(_)) {
            return Judgement::Stop("its node is drained".to_string());
        }
        if self.draining.over {
            return Judgement::Stop("its node is drained, and the deadline has passed".to_string());
        }
        if !record.phase.is_live() || planted(Bug::DrainedAtOnce) {
            return Judgement::Stop("its node is drained".to_string());
        }
        for (node, alloc) in successors(&self.view, replica) {
            // An older one is no successor of what is wanted.
            let is_same = alloc.revision == force.revision || record.revision != force.revision;
            // Who is to be the only one goes as soon as there is another; who is not ready serves nobody.
            let goes_first = matches!(force.service.spec.prefer, Prefer::New | Prefer::Majority) || !record.ready;
            if is_same && (alloc.ready || goes_first) {
                return Judgement::Stop(format!("its node is drained, and {node:?} has it"));
            }
        }
        Judgement::Keep
    }
}

/// Live claims on a replica by nodes that may keep it.
pub(crate) fn successors<'a>(
    view: &'a View,
    replica: &ReplicaKey,
) -> impl Iterator<Item = (NodeId, &'a Allocation)> + use<'a> {
    let all = view.of_replica(replica).map(|(node, _, alloc)| (node, alloc));
    all.filter(|(node, alloc)| alloc.phase.is_live() && view.stands(*node) && !view.is_drained(*node))
        .collect::<alloc::vec::Vec<_>>()
        .into_iter()
}

/// True if a replica that only drained nodes claim is among those that may be on the move now. Those that have a successor go
/// first, then those at the revision in force (the others may have to wait for a rollout that nobody lets go on), then the
/// lowest slots.
pub(crate) fn may_move(view: &View, replica: &ReplicaKey) -> bool {
    let service = &replica.service;
    let has_successor = |slot: &Slot| {
        let other = ReplicaKey { service: service.clone(), slot: *slot };
        successors(view, &other).next().is_some()
    };
    let mut slots = view.drained_slots(service);
    slots.retain(|slot| view.wanted(&ReplicaKey { service: service.clone(), slot: *slot }).is_some());
    let moving = slots.iter().filter(|slot| has_successor(slot)).count();
    let revision = view.services().get(service).map(|force| force.revision);
    let rank = |slot: Slot| {
        let other = ReplicaKey { service: service.clone(), slot };
        let is_current = view.of_replica(&other).any(|(_, _, alloc)| Some(alloc.revision) == revision);
        (!is_current, slot)
    };
    let own = rank(replica.slot);
    let before = slots.iter().filter(|slot| rank(**slot) < own && !has_successor(slot)).count();
    moving + before < IN_FLIGHT
}
