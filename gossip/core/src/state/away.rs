//! Who has been away for too long: each node counts how long it was itself running while another was down, and says so.
//!
//! A node is forgotten once more than half of the roster has counted the whole term. So a cluster that is switched off
//! forgets nobody, since nobody runs to count; nor does a part that is cut off, since it is no majority.
//!
//! Never: a clock. The engine counts; here is only what the counts mean.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::State;
use crate::id::NodeId;
use crate::time::Duration;
use crate::wire::{Class, Kind, Record, RecordId};

/// The payload of a node's away record.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Away {
    /// Nodes that are down, in order, and for how many seconds of the author's running time.
    pub nodes: Vec<(NodeId, u64)>,
}

/// The register of a node's counts.
pub(crate) fn away_id(node: NodeId) -> RecordId {
    RecordId::new(Class::OneWriter, Kind::AWAY, &node.0)
}

impl State {
    /// What a node has counted, as it last said.
    pub(crate) fn away(&self, node: NodeId) -> Away {
        self.value(&away_id(node)).and_then(Record::read_as).unwrap_or_default()
    }

    /// The nodes that more than half of the roster has missed for so long, in order.
    #[must_use]
    pub fn overdue(&self, term: Duration) -> Vec<NodeId> {
        let roster: Vec<NodeId> = self.rostered().collect();
        let mut missed: BTreeMap<NodeId, usize> = BTreeMap::new();
        for observer in &roster {
            let long = self.away(*observer).nodes.into_iter().filter(|(_, seconds)| *seconds >= term.as_secs());
            long.for_each(|(node, _)| *missed.entry(node).or_default() += 1);
        }
        let is_overdue = |node: &NodeId| missed.get(node).is_some_and(|by| by * 2 > roster.len());
        roster.iter().copied().filter(is_overdue).collect()
    }
}
