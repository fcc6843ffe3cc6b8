//! What has to be looked at again once something is known, or known otherwise: of a node, and of everything at a boot.
//!
//! Never: a decision. What is marked here is judged by `takeover`, in its turn and in bounded slices.

use alloc::collections::BTreeSet;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::ServiceKey;

use crate::engine::Node;
use crate::face::Outputs;

impl Node {
    /// Looks again at everything that a node claims.
    pub(crate) fn mark_node(&mut self, node: NodeId, out: &mut Outputs) {
        let Some(known) = self.view.nodes().get(&node) else { return };
        out.cost += known.allocations.len() as u64;
        let services: BTreeSet<ServiceKey> = known.allocations.values().map(|a| a.replica.service.clone()).collect();
        for alloc in known.allocations.values() {
            self.schedule.mark(alloc.replica.clone());
            if alloc.ready && !planted(Bug::MemberChangeUntold) {
                self.names.place(&alloc.replica, node);
            }
        }
        // What runs there counts for the turns of a rollout, and of a drain, only while its claims stand.
        for service in &services {
            self.mark_turns(service);
            self.mark_leaving(service);
        }
    }

    /// Everything that the disk told: names, and replicas that need an owner.
    pub(crate) fn look_at_all(&mut self) {
        self.view.untaken().into_iter().for_each(|replica| self.schedule.mark(replica));
        self.view.services().keys().for_each(|service| self.names.service(service));
        for (node, known) in self.view.nodes() {
            if known.header.is_some() {
                self.names.node(*node);
            }
        }
    }
}
