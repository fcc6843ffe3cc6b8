//! What operators order of nodes, as it is known here: labels that stand over an agent's own, and who is being emptied.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Allocation, NodeHeader, NodeOrders, ReplicaKey, RevisionId, ServiceKey, Slot};
use dunlin_gossip::wire::{Record, RecordId};

use super::apply::Change;
use super::{View, rank};

/// A header with the labels that operators gave its node.
fn with_labels(stated: &Arc<NodeHeader>, orders: &NodeOrders) -> Arc<NodeHeader> {
    if orders.labels.iter().all(|(label, value)| stated.labels.get(label) == Some(value)) {
        return Arc::clone(stated);
    }
    let mut header = (**stated).clone();
    header.labels.extend(orders.labels.clone());
    Arc::new(header)
}

impl View {
    /// What is ordered of a node.
    #[must_use]
    pub fn orders_of(&self, node: NodeId) -> &NodeOrders {
        if let Some(orders) = self.orders.get(&node) { orders } else { NodeOrders::none() }
    }

    /// True if what a node runs shall go elsewhere.
    #[must_use]
    pub fn is_drained(&self, node: NodeId) -> bool {
        self.drained.contains(&node)
    }

    /// The nodes that are drained.
    #[must_use]
    pub const fn drained(&self) -> &BTreeSet<NodeId> {
        &self.drained
    }

    /// Sets or removes a node's orders; true if they were others.
    pub(crate) fn set_orders(&mut self, node: NodeId, orders: Option<NodeOrders>) -> bool {
        let orders = orders.filter(|orders| orders != NodeOrders::none());
        if self.orders.get(&node).map(|known| &**known) == orders.as_ref() {
            return false;
        }
        if orders.as_ref().is_some_and(|orders| orders.drain.is_some()) {
            self.drained.insert(node);
        } else {
            self.drained.remove(&node);
        }
        match orders {
            Some(orders) => drop(self.orders.insert(node, Arc::new(orders))),
            None => drop(self.orders.remove(&node)),
        }
        let stated = self.nodes.get(&node).and_then(|known| known.stated.clone());
        if stated.is_some() {
            self.show_header(node, stated);
        }
        true
    }

    /// Sets or removes what a node says of itself; true if that is new.
    pub(crate) fn set_header(&mut self, node: NodeId, stated: Option<Arc<NodeHeader>>) -> bool {
        if self.nodes.get(&node).is_some_and(|known| known.stated == stated) {
            return false;
        }
        self.show_header(node, stated);
        true
    }

    fn show_header(&mut self, node: NodeId, stated: Option<Arc<NodeHeader>>) {
        let header = stated.as_ref().map(|stated| with_labels(stated, self.orders_of(node)));
        let view = self.node_mut(node);
        view.stated = stated;
        view.weight = header.as_ref().map_or(1, |h| rank::weight(&h.allocatable));
        let devices = |header: &Option<Arc<NodeHeader>>| header.as_ref().map(|h| h.supply.devices.clone());
        let same = devices(&view.header) == devices(&header);
        view.header = header;
        if !same {
            view.sum_up();
        }
    }

    pub(super) fn apply_orders(&mut self, id: &RecordId, record: Option<&Record>) -> Change {
        let Some(node) = id.ordered_node() else { return Change::Unreadable };
        let orders = match record {
            Some(record) => {
                let Some(orders) = record.read_as::<NodeOrders>() else { return Change::Unreadable };
                Some(orders)
            }
            None => None,
        };
        if self.set_orders(node, orders) { Change::Orders(node) } else { Change::Nothing }
    }

    /// What drained nodes still claim.
    pub(crate) fn on_drained(&self) -> impl Iterator<Item = (NodeId, &Allocation)> {
        let of_node = |node: &NodeId| {
            let node = *node;
            let known = self.nodes.get(&node).filter(|_| self.stands(node));
            known.into_iter().flat_map(move |known| known.allocations.values().map(move |alloc| (node, &**alloc)))
        };
        self.drained.iter().flat_map(of_node).filter(|(_, alloc)| alloc.phase.is_live())
    }

    /// The slots of a service that drained nodes still claim.
    pub(crate) fn drained_slots(&self, service: &ServiceKey) -> BTreeSet<Slot> {
        let of_service = self.on_drained().filter(|(_, alloc)| alloc.replica.service == *service);
        of_service.map(|(_, alloc)| alloc.replica.slot).collect()
    }

    /// Who takes care of a replica: nobody, or only nodes that are drained, or one that may keep it.
    pub(crate) fn custody(&self, replica: &ReplicaKey, revision: RevisionId) -> Custody {
        if !self.is_taken(replica, revision) {
            return Custody::Nobody;
        }
        if self.drained.is_empty() {
            return Custody::Taken;
        }
        let mut all = self.of_replica(replica);
        let keeps = |node: NodeId, alloc: &Allocation| !(alloc.phase.is_live() && self.is_drained(node));
        if all.any(|(node, _, alloc)| self.takes_care(node, alloc, revision) && keeps(node, alloc)) {
            Custody::Taken
        } else {
            Custody::Leaving
        }
    }

    /// The replicas of these services that drained nodes still claim.
    pub(crate) fn leaving(&self) -> Vec<ReplicaKey> {
        self.on_drained().map(|(_, alloc)| alloc.replica.clone()).collect()
    }
}

/// Who takes care of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Custody {
    /// Nobody.
    Nobody,
    /// Only nodes that shall be emptied.
    Leaving,
    /// A node that may keep it.
    Taken,
}
