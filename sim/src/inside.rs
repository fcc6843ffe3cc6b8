//! The only place that looks into a node: through its read-only view, as the API and DNS do.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_core::Node;
use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::{Actor, NodeId};
use dunlin_gossip::model::{Mode, ReplicaKey, Service, ServiceKey, Slot};
use dunlin_gossip::wire::{Record, RecordId};

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

/// What it holds to be ready of a service, in order of slot and node.
pub(crate) fn ready<'a>(node: &'a Node, service: &ServiceKey) -> impl Iterator<Item = (Slot, NodeId)> + use<'a> {
    node.view()
        .of_service(service)
        .filter(|(_, _, alloc)| alloc.ready)
        .map(|(owner, _, alloc)| (alloc.replica.slot, owner))
}

/// The members that it holds down or gone.
pub(crate) fn gone(node: &Node) -> BTreeSet<NodeId> {
    let is_gone = |state| matches!(state, Some(MemberState::Down | MemberState::Left));
    node.view().nodes().iter().filter(|(_, known)| is_gone(known.state)).map(|(id, _)| *id).collect()
}

/// Records that it holds of what exists no more: the ends of things, and whatever is about nodes that are not there. The keys of
/// forgotten nodes are no remains: they are kept for a year on purpose.
pub(crate) fn remains(node: &Node, exists: impl Fn(NodeId) -> bool) -> u64 {
    let state = node.gossip().state().snapshot();
    let is_left = |record: &&Record| {
        let id = record.id();
        let about = id.writer().or_else(|| id.roster_node());
        let is_key = id.roster_node().is_some() && record.payload().is_none();
        !is_key && (record.payload().is_none() || about.is_some_and(|node| !exists(node)))
    };
    state.records().filter(is_left).count() as u64
}

/// Who it is in this boot, as an author.
pub(crate) fn author(node: &Node) -> Actor {
    node.gossip().state().me()
}

/// Everything that a register holds.
pub(crate) fn siblings<'a>(node: &'a Node, register: &RecordId) -> &'a [Record] {
    node.gossip().state().siblings(register)
}

/// The one of them that is in force, if it is a value.
pub(crate) fn value<'a>(node: &'a Node, register: &RecordId) -> Option<&'a Record> {
    node.gossip().state().value(register)
}

/// True if it wants the replica to run somewhere.
pub(crate) fn wants(node: &Node, replica: &ReplicaKey) -> bool {
    node.view().wanted(replica).is_some()
}

/// True if, of its own claims, one on this replica is live.
pub(crate) fn owns(node: &Node, replica: &ReplicaKey, me: NodeId) -> bool {
    node.view().of_replica(replica).any(|(owner, _, alloc)| owner == me && alloc.phase.is_live())
}

/// A service that is in force for it, if there is any.
pub(crate) fn any_service(node: &Node) -> Option<ServiceKey> {
    node.view().services().keys().next().cloned()
}

/// The services that are in force for it, and how many of each.
pub(crate) fn modes(node: &Node) -> impl Iterator<Item = (&ServiceKey, Mode)> {
    node.view().services().iter().map(|(key, force)| (key, force.service.mode))
}
