//! The only place that looks into a node: through its read-only view, as the API and DNS do.

use std::collections::BTreeSet;
use std::sync::Arc;

use dunlin_core::place::{Ground, Scene, Waiting};
use dunlin_core::{Node, query};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::{Actor, Generation, NodeId};
use dunlin_gossip::model::{Mode, ReplicaKey, Resources, Service, ServiceKey, ServiceSpec, Slot, VoterList};
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Record, RecordId};

/// The hash of its replicated state, tombstones left out.
pub(crate) fn state_hash(node: &Node) -> u64 {
    node.gossip().state().root()
}

/// What it holds a node's claims to reserve.
pub(crate) fn reserved(node: &Node, of: NodeId) -> Resources {
    node.view().nodes().get(&of).map(|known| known.reserved.base).unwrap_or_default()
}

/// What it says of a replica, in words.
pub(crate) fn opinion(node: &Node, replica: &ReplicaKey) -> String {
    let rows = query::allocations(node).into_iter().filter(|row| row.replica == replica.to_string());
    let row = |row: query::AllocationRow| {
        format!("{} {} at {} on {} {}", row.id, row.phase, row.revision, row.node, row.detail)
    };
    let said: Vec<String> = rows.map(row).collect();
    if said.is_empty() { "nothing".to_owned() } else { said.join(", ") }
}

/// What it holds of a member.
pub(crate) fn member(node: &Node, about: NodeId) -> Option<MemberState> {
    node.view().nodes().get(&about)?.state
}

/// Which boot of a node is the newest of which its membership knows.
pub(crate) fn boot_of(node: &Node, of: NodeId) -> Option<Generation> {
    node.gossip().member_generation(of)
}

/// What it holds of all members of which it holds something, in order of their ids.
pub(crate) fn members(node: &Node) -> impl Iterator<Item = (NodeId, MemberState)> {
    node.view().nodes().iter().filter_map(|(id, known)| Some((*id, known.state?)))
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

/// True if it holds that nothing new comes to a node.
pub(crate) fn is_cordoned(node: &Node, about: NodeId) -> bool {
    node.view().orders_of(about).cordoned
}

/// True if it holds that what a node runs goes elsewhere.
pub(crate) fn is_drained(node: &Node, about: NodeId) -> bool {
    node.view().is_drained(about)
}

/// True if it holds that of any node.
pub(crate) fn has_drained(node: &Node) -> bool {
    !node.view().drained().is_empty()
}

/// When what is left on a drained node stops, by that node's clock.
pub(crate) fn drained_until(node: &Node, about: NodeId) -> Option<Wall> {
    node.view().orders_of(about).drain.and_then(|drain| drain.until())
}

/// The voters, as it knows them.
pub(crate) fn voters(node: &Node) -> &VoterList {
    node.voters()
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
    node.view().wanted(replica).is_some_and(|force| node.view().opens(replica, force))
}

/// True if it holds that a slot of a job is finished, as it is wanted now.
pub(crate) fn is_finished(node: &Node, replica: &ReplicaKey) -> bool {
    node.view().finish(replica).is_some()
}

/// True if it holds that a job has failed for good.
pub(crate) fn has_failed(node: &Node, service: &ServiceKey) -> bool {
    node.view().tally(service).failed > 0
}

/// True if, of its own claims, one on this replica is live.
pub(crate) fn owns(node: &Node, replica: &ReplicaKey, me: NodeId) -> bool {
    node.view().of_replica(replica).any(|(owner, _, alloc)| owner == me && alloc.phase.is_live())
}

/// The nodes on which it finds that a replica could be, room and company included.
pub(crate) fn suits(node: &Node, replica: &ReplicaKey, spec: &ServiceSpec) -> BTreeSet<NodeId> {
    let candidates = node.view().candidates();
    let mut ground = Ground::new(Scene::of(&candidates));
    let misfits = ground.misfits(&Waiting { replica, spec, refused_by: &[] });
    candidates.iter().zip(misfits).filter(|(_, misfit)| misfit.is_none()).map(|(c, _)| c.node).collect()
}

/// A service that is in force for it, if there is any.
pub(crate) fn any_service(node: &Node) -> Option<ServiceKey> {
    node.view().services().keys().next().cloned()
}

/// The services that are in force for it, and how many of each.
pub(crate) fn modes(node: &Node) -> impl Iterator<Item = (&ServiceKey, Mode)> {
    node.view().services().iter().map(|(key, force)| (key, force.service.mode))
}
