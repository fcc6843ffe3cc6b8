//! A node as it is known here, and what is left on it: computed from its claims, never published.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::face::MemberState;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{AllocId, Allocation, NodeHeader, Protocol, ServiceKey};

use crate::place::{Room, device, rank};

/// A node as it is known here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeView {
    /// What it says of itself, with the labels that operators gave it.
    pub header: Option<Arc<NodeHeader>>,
    /// What it says of itself.
    pub(super) stated: Option<Arc<NodeHeader>>,
    /// As membership sees it; none if it was not heard of since our boot.
    pub state: Option<MemberState>,
    /// Its allocations.
    pub allocations: BTreeMap<AllocId, Arc<Allocation>>,
    /// The sum of what they reserve.
    pub reserved: Room,
    /// What is left of each of its devices.
    pub(super) units: Vec<u32>,
    pub(super) taken: BTreeSet<(Protocol, u16)>,
    /// How many live allocations of each service, in the order of the services.
    pub(super) services: Vec<(ServiceKey, u32)>,
    pub(super) hash: u64,
    pub(super) weight: u64,
}

impl NodeView {
    pub(super) fn new(node: NodeId) -> Self {
        Self {
            header: None,
            stated: None,
            state: None,
            allocations: BTreeMap::new(),
            reserved: Room::default(),
            units: Vec::new(),
            taken: BTreeSet::new(),
            services: Vec::new(),
            hash: rank::node_hash(node),
            weight: 1,
        }
    }

    /// Sums over few allocations: cheaper to do again than to keep right by differences.
    pub(super) fn sum_up(&mut self) {
        self.reserved = Room::default();
        self.units = self.header.as_ref().map(|h| device::whole(&h.supply)).unwrap_or_default();
        self.taken.clear();
        self.services.clear();
        let skipped = usize::from(planted(Bug::RoomOffByOne));
        for alloc in self.allocations.values().filter(|a| a.holds_room()).skip(skipped) {
            self.reserved = self.reserved.plus(&held(alloc));
            device::take(&mut self.units, alloc.held.as_ref().map_or(&[], |held| &held.devices));
            self.taken.extend(alloc.ports.iter().map(|p| (p.protocol, p.outer)));
            if alloc.phase.is_live() {
                let service = &alloc.replica.service;
                match self.services.binary_search_by(|(known, _)| known.cmp(service)) {
                    Ok(at) => self.services.get_mut(at).into_iter().for_each(|(_, count)| *count += 1),
                    Err(at) => {
                        self.services.reserve_exact(1);
                        self.services.insert(at, (service.clone(), 1));
                    }
                }
            }
        }
    }

    /// What it says of itself, without what operators order.
    #[must_use]
    pub fn stated(&self) -> Option<&NodeHeader> {
        self.stated.as_deref()
    }

    /// What is left on it.
    #[must_use]
    pub fn room(&self) -> Room {
        self.header.as_ref().map_or_else(Room::default, |h| offered(h)).minus(&self.reserved)
    }

    /// What is left of each of its devices.
    #[must_use]
    pub fn units(&self) -> &[u32] {
        &self.units
    }
}

/// What a node gives in sum, besides devices.
#[must_use]
pub fn offered(header: &NodeHeader) -> Room {
    Room { base: header.allocatable, further: header.supply.further }
}

/// What a claim holds, besides devices.
#[must_use]
pub fn held(alloc: &Allocation) -> Room {
    Room { base: alloc.reservation, further: alloc.held.as_ref().map(|held| held.further).unwrap_or_default() }
}
