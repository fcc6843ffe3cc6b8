//! Who may be talked to: decisions over the roster's facts, kept so that the shell's book follows.
//!
//! Admission and removal are facts in the replicated state; removal always wins. The keys and certificates themselves are
//! checked by the shell, which holds the cryptography; here is only who they belong to.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::face::PeerChange;
use crate::id::NodeId;
use crate::model::RosterEntry;
use crate::paged::Paged;
use crate::state::State;
use crate::wire::{Class, Kind, Record, RecordId};

/// The roster as the shell was told of it.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    admitted: Paged<NodeId, Arc<Known>>,
    removed: BTreeSet<NodeId>,
}

/// What the shell was told of a node.
#[derive(Debug)]
struct Known {
    /// The hash of the record that admits it.
    admission: u64,
    entry: RosterEntry,
    addresses: Vec<SocketAddr>,
}

impl Roster {
    /// True if the node is admitted and not removed.
    #[must_use]
    pub fn admits(&self, node: NodeId) -> bool {
        self.admitted.contains_key(&node)
    }

    /// True if the node was removed.
    #[must_use]
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// The admitted nodes, in order.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.admitted.keys().copied()
    }

    /// Reads a state from scratch, at boot, and tells what the book holds, in order of node: first who was removed, so that
    /// they hear of it from whomever they ask.
    pub fn load(&mut self, state: &State, mut tell: impl FnMut(PeerChange)) {
        let removals = state.of_kind(Class::GrowOnly, Kind::REMOVAL).filter_map(|(id, _)| node_of(id));
        self.removed = removals.collect();
        self.removed.iter().for_each(|node| tell(PeerChange::Removed { node: *node }));
        let nodes: Vec<NodeId> =
            state.of_kind(Class::GrowOnly, Kind::ROSTER).filter_map(|(id, _)| node_of(id)).collect();
        let changes = nodes.into_iter().filter_map(|node| self.refresh(state, node));
        changes.chain(state.forgotten_nodes().map(|node| PeerChange::Forgotten { node })).for_each(tell);
    }

    /// What a changed register means for the book.
    pub fn follow(&mut self, state: &State, id: &RecordId) -> Option<PeerChange> {
        match (id.class, id.kind) {
            (Class::GrowOnly, Kind::ROSTER) => {
                let node = node_of(id)?;
                if state.value(id).is_some() {
                    return self.refresh(state, node);
                }
                self.admitted.remove(&node);
                state.forgotten(node).map(|_| PeerChange::Forgotten { node })
            }
            (Class::OneWriter, Kind::HEADER) => self.refresh(state, node_of(id)?),
            (Class::GrowOnly, Kind::REMOVAL) => {
                let node = node_of(id)?;
                let new = self.removed.insert(node);
                self.admitted.remove(&node);
                new.then_some(PeerChange::Removed { node })
            }
            _ => None,
        }
    }

    fn refresh(&mut self, state: &State, node: NodeId) -> Option<PeerChange> {
        if self.removed.contains(&node) {
            return None;
        }
        // An entry that cannot be read admits nobody here; it stays in the state for those who can read it.
        let admission = state.value(&RecordId::roster(node))?;
        let known = self.admitted.get(&node).filter(|known| known.admission == admission.hash());
        let entry: RosterEntry = match known {
            Some(known) => known.entry.clone(),
            None => admission.read_as()?,
        };
        if entry.node != node {
            return None;
        }
        let header = state.value(&RecordId::header(node)).and_then(Record::header);
        let mut addresses = header.map(|header| header.addresses.clone()).unwrap_or_default();
        for address in &entry.addresses {
            if !addresses.contains(address) {
                addresses.push(*address);
            }
        }
        if self.admitted.get(&node).is_some_and(|known| known.entry == entry && known.addresses == addresses) {
            return None;
        }
        let admission = admission.hash();
        let known = Known { admission, entry: entry.clone(), addresses: addresses.clone() };
        self.admitted.insert(node, Arc::new(known));
        Some(PeerChange::Admitted { entry, addresses })
    }
}

fn node_of(id: &RecordId) -> Option<NodeId> {
    id.key.first_chunk::<16>().map(|key| NodeId(*key))
}
