//! Whose turn it is when a service gets a new revision: derived, from monotone evidence only, the same on every node.
//!
//! Slots go one after another. A slot's turn comes once every lower one was *seen* ready at the new revision; that it was
//! seen is remembered, so that a later crash of a lower slot does not stop the rollout half way.

use alloc::collections::BTreeMap;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::model::{Phase, ReplicaKey, RevisionId, ServiceKey, Slot};

use crate::view::View;

/// True if the replica may leave its old revision now.
pub(crate) fn is_turn(
    view: &View,
    fronts: &mut BTreeMap<ServiceKey, (RevisionId, u32)>,
    replica: &ReplicaKey,
    revision: RevisionId,
) -> bool {
    match replica.slot {
        _ if planted(Bug::RolloutAllAtOnce) => true,
        Slot::Number(slot) => {
            let front = fronts.entry(replica.service.clone()).or_insert((revision, 0));
            if front.0 != revision {
                *front = (revision, 0);
            }
            while front.1 + 1 < slot {
                let lower = ReplicaKey { service: replica.service.clone(), slot: Slot::Number(front.1 + 1) };
                if !is_done(view, &lower, revision) {
                    return false;
                }
                front.1 += 1;
            }
            true
        }
        // Slots of a global service exist where they can; only those that run the old revision are waited for.
        Slot::Node(_) | Slot::Run(..) => view
            .of_service(&replica.service)
            .filter(|(node, _, alloc)| alloc.replica.slot < replica.slot && alloc.phase.is_live() && view.stands(*node))
            .all(|(_, _, alloc)| alloc.revision == revision && alloc.ready),
    }
}

/// True if a slot is ready at the revision, or ended there well and for good.
fn is_done(view: &View, replica: &ReplicaKey, revision: RevisionId) -> bool {
    view.of_replica(replica).any(|(node, _, alloc)| {
        alloc.revision == revision && ((alloc.ready && view.stands(node)) || alloc.phase == Phase::Exited)
    })
}
