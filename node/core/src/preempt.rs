//! How room is made for what is more important and fits nowhere.
//!
//! Every node sees which replica fits nowhere, and computes the same short ladder of nodes that could end something for it. The
//! first of them claims the replica, ends what stands in its way *here*, and starts it once that is gone: what stops counts
//! until its end. The others see the claim and let go. What was ended waits like anything without an owner, and goes where it
//! fits; so may it end what is less important still, but never its like.
//!
//! Never: a node that ends what another runs, or a replica that somebody takes care of and that ends others all the same.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Allocation, Phase, ReplicaKey};
use dunlin_gossip::time::{Duration, Instant, Wall};

use crate::engine::Node;
use crate::face::Outputs;
use crate::place::preempt::{MAX_AT_ONCE, Preemption, Tenant, price};
use crate::place::{Ground, Room, Scene, Waiting};
use crate::view::{InForce, View, held};

/// Nothing is ended for a replica that waits for less: a node that could take it may only be in doubt for a moment.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

impl View {
    /// What a node runs, as pre-emption sees it.
    pub(crate) fn tenants<'a>(&'a self, node: NodeId) -> Vec<Tenant<'a>> {
        let known = self.nodes().get(&node).into_iter().flat_map(|known| &known.allocations);
        let holding = known.filter(|(_, alloc)| alloc.holds_room());
        let tenant = |(id, alloc): (&AllocId, &'a Allocation)| {
            let spec = self.wanted(&alloc.replica).map(|force| &force.service.spec);
            Tenant { id: *id, alloc, room: held(alloc), spec, goes: alloc.phase == Phase::Stopping }
        };
        holding.map(|(id, alloc)| tenant((id, alloc))).collect()
    }

    /// True if something that is wanted could make way for a replica of this priority.
    pub(crate) fn has_lesser(&self, priority: i32) -> bool {
        self.services().values().any(|force| {
            let spec = &force.service.spec;
            let is_like = planted(Bug::PreemptsItsLike) && spec.priority == priority;
            (spec.priority < priority || is_like) && spec.demand().standing.preemptible.by(priority)
        })
    }
}

/// What a node may do for a replica that fits nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Making {
    /// Its place among those that could make room.
    Place(usize),
    /// Nothing has to end, by what is claimed so far: others took the room in the same plan, or what ends leaves enough. Once
    /// that is so or not, it has to be looked at again, which nothing else may give a reason for.
    Unsettled,
}

impl Node {
    /// Of the replicas that fit nowhere: what this node may do about it, by the replica's index.
    pub(crate) fn preempting(
        &self,
        waiting: &[Waiting<'_>],
        nowhere: &[usize],
        scene: Scene<'_>,
    ) -> BTreeMap<usize, Making> {
        let mut places = BTreeMap::new();
        let may = |w: &Waiting<'_>| {
            let revision = self.view.wanted(w.replica).map(|force| force.revision);
            let is_waved = self.view.acted_wave(&w.replica.service.stack).is_some();
            // What is looked after somewhere, as during a drain or an update, has no claim to the room of others.
            !is_waved
                && self.view.has_lesser(w.spec.priority)
                && revision.is_some_and(|revision| !self.view.is_taken(w.replica, revision))
        };
        let able = nowhere.iter().filter_map(|index| Some((*index, waiting.get(*index)?))).filter(|(_, w)| may(w));
        let mut able: Vec<(usize, &Waiting<'_>)> = able.collect();
        if able.is_empty() || planted(Bug::PreemptionForgotten) {
            return places;
        }
        let later = able.split_off(able.len().min(MAX_AT_ONCE));
        places.extend(later.into_iter().map(|(index, _)| (index, Making::Unsettled)));
        let (mut ground, mut plan) = (Ground::new(scene), Preemption::new(|node| self.view.tenants(node)));
        for (index, waiting) in able {
            let Some(ladder) = plan.ladder(waiting, &mut ground) else {
                places.insert(index, Making::Unsettled);
                continue;
            };
            let is_me = |(at, _): &(usize, _)| scene.nodes.get(*at).is_some_and(|candidate| candidate.node == self.me);
            places.extend(ladder.iter().position(is_me).map(|place| (index, Making::Place(place))));
            if let Some((head, price)) = ladder.first() {
                plan.take(*head, price, waiting, &mut ground);
            }
        }
        places
    }

    /// Claims a replica that fits nowhere, and ends here what stands in its way; false if that would not help.
    pub(crate) fn preempt(
        &mut self,
        replica: &ReplicaKey,
        force: &InForce,
        refused_by: &[NodeId],
        now: Instant,
        wall: Wall,
        out: &mut Outputs,
    ) -> bool {
        let (victims, after) = {
            let waiting = Waiting { replica, spec: &force.service.spec, refused_by };
            let candidates = self.view.candidates();
            let Some(mine) = candidates.iter().find(|candidate| candidate.node == self.me) else { return false };
            let tenants = self.view.tenants(self.me);
            let Some(price) = price(&waiting, mine, &tenants, &Room::default()) else { return false };
            let victims: Vec<AllocId> = price.victims.into_iter().map(|(id, _)| id).collect();
            let goes = tenants.iter().filter(|tenant| tenant.goes).map(|tenant| tenant.id);
            let after: Vec<AllocId> = victims.iter().copied().chain(goes).collect();
            (victims, after)
        };
        if victims.is_empty() || self.claim(replica, force, &after, now, wall).is_none() {
            return false;
        }
        victims.into_iter().for_each(|id| self.give_way(id, replica, now, wall, out));
        true
    }
}
