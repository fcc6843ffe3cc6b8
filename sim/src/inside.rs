//! The only place that looks into a node: through its read-only view, as the API and DNS do.

use std::sync::Arc;

use dunlin_core::Node;
use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, Service, ServiceKey};

/// The hash of its replicated state, tombstones left out.
pub(crate) fn state_hash(node: &Node) -> u64 {
    node.gossip().state().root()
}

/// What it holds of a member.
pub(crate) fn member(node: &Node, about: NodeId) -> Option<MemberState> {
    node.view().nodes().get(&about)?.state
}

/// The service that is in force for it, with the stamp of the record.
pub(crate) fn service(node: &Node, key: &ServiceKey) -> Option<(u64, Arc<Service>)> {
    node.view().services().get(key).map(|force| (force.hlc.0, Arc::clone(&force.service)))
}

/// True if it holds that this replica on that node may be answered with: ready, by its owner's last word.
pub(crate) fn holds_ready(node: &Node, replica: &ReplicaKey, on: NodeId) -> bool {
    node.view().of_replica(replica).any(|(owner, _, alloc)| owner == on && alloc.ready)
}
