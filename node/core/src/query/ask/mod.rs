//! Placement, asked instead of done: why is a replica where it is, where would a file's replicas go, what would move if.
//!
//! Answers come from the very functions by which nodes decide, over the replicated part of the view alone: equal views give
//! equal answers on every node. Nothing here changes anything.

mod explain;
mod plan;
mod whatif;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Mode, ReplicaKey, Slot};
use dunlin_gossip::time::Instant;
use serde::Serialize;

pub use explain::{CandidateRow, Explained, explain};
pub use plan::{Planned, plan};
pub use whatif::{Change, Supposed, suppose};

use crate::place::{Candidate, Ground, Misfit, Scene, Waiting, order_key};
use crate::view::{InForce, View};

/// A replica that would go somewhere, or nowhere.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Move {
    /// `stack/service.slot`.
    pub replica: String,
    /// `start`, `replace` (a new revision on the same node), `move`, `stop`, or `wait`.
    pub action: &'static str,
    /// The node on which it is now; empty if on none.
    pub from: String,
    /// The node on which it would be; empty if on none.
    pub to: String,
    /// Why it would wait: each reason, and on how many nodes.
    pub why: Vec<String>,
}

/// What is left on the nodes that could take work.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Headroom {
    /// Nodes that could take work.
    pub nodes: usize,
    /// Thousandths of a cpu, in sum.
    pub cpu_milli: u64,
    /// Bytes of memory, in sum.
    pub memory_bytes: u64,
    /// Devices, in thousandths, in sum.
    pub device_milli: u64,
}

/// A node's name, or its id while that is not known.
fn name(view: &View, node: NodeId) -> String {
    let header = view.nodes().get(&node).and_then(|known| known.header.as_ref());
    header.map_or_else(|| node.to_string(), |h| h.name.to_string())
}

/// A global service's slot is named by its node.
fn replica_text(view: &View, replica: &ReplicaKey) -> String {
    match replica.slot {
        Slot::Node(at) => alloc::format!("{}.{}", replica.service, name(view, at)),
        Slot::Number(_) | Slot::Run(..) => replica.to_string(),
    }
}

/// Replicas that should run and of which nobody takes care, as far as nodes could decide it: the same on every node.
fn untaken(view: &View) -> BTreeMap<ReplicaKey, InForce> {
    let mut open = BTreeMap::new();
    let candidates = view.candidates();
    for (key, force) in view.services() {
        let replica = |slot| ReplicaKey { service: key.clone(), slot };
        let slots: Vec<Slot> = match force.service.mode {
            Mode::Replicated(n) => (1..=n).map(Slot::Number).collect(),
            Mode::Global => candidates.iter().map(|candidate| Slot::Node(candidate.node)).collect(),
        };
        let waiting = slots.into_iter().map(replica).filter(|replica| !view.is_taken(replica, force.revision));
        open.extend(waiting.map(|replica| (replica, force.clone())));
    }
    open
}

/// Where each of these would go if everybody followed the plan, after what a ground has given away already.
fn placed<'a>(
    ground: &mut Ground<'a>,
    view: &View,
    nodes: &[Candidate<'_>],
    waiting: &[Waiting<'a>],
    from: impl Fn(&ReplicaKey) -> Option<NodeId>,
) -> Vec<Move> {
    let mut sorted: Vec<&Waiting<'a>> = waiting.iter().collect();
    sorted.sort_by_cached_key(|waiting| order_key(waiting));
    let mut moves = Vec::new();
    for waiting in sorted {
        let before = from(waiting.replica);
        let head = ground.head(waiting);
        let why = if head.is_none() { reasons(ground, nodes, waiting) } else { Some(Vec::new()) };
        // A global service has no replica on a node that it does not suit.
        let Some(why) = why else { continue };
        if let Some(head) = head {
            ground.take(head, waiting);
        }
        let to = head.and_then(|head| nodes.get(head)).map(|candidate| candidate.node);
        let action = match (before, to) {
            (_, None) => "wait",
            (None, Some(_)) => "start",
            (Some(before), Some(to)) if before == to => "replace",
            (Some(_), Some(_)) => "move",
        };
        let text = |node: Option<NodeId>| node.map(|node| name(view, node)).unwrap_or_default();
        let replica = replica_text(view, waiting.replica);
        moves.push(Move { replica, action, from: text(before), to: text(to), why });
    }
    moves.sort();
    moves
}

/// Why a replica fits nowhere, and on how many nodes for each reason; none for a slot that its node does not suit.
fn reasons<'a>(ground: &mut Ground<'a>, nodes: &[Candidate<'_>], waiting: &Waiting<'a>) -> Option<Vec<String>> {
    let mut counts: BTreeMap<Misfit, usize> = BTreeMap::new();
    for index in 0..nodes.len() {
        match ground.misfit(index, waiting) {
            None | Some(Misfit::NotThisNode) => {}
            Some(misfit) => *counts.entry(misfit).or_default() += 1,
        }
    }
    if matches!(waiting.replica.slot, Slot::Node(_)) && counts.keys().any(Misfit::is_lasting) {
        return None;
    }
    // What the fewest nodes lack is the nearest miss: it comes first.
    let mut counts: Vec<(usize, Misfit)> = counts.into_iter().map(|(misfit, count)| (count, misfit)).collect();
    counts.sort_by_key(|(count, misfit)| (misfit.is_lasting(), *count));
    let nodes = |n: usize| if n == 1 { "1 node".to_string() } else { alloc::format!("{n} nodes") };
    Some(counts.into_iter().map(|(count, misfit)| alloc::format!("{}: {misfit}", nodes(count))).collect())
}

/// What is left once a plan is done.
fn headroom(nodes: &[Candidate<'_>], ground: &Ground<'_>) -> Headroom {
    let mut sum = Headroom { nodes: nodes.len(), ..Headroom::default() };
    for index in 0..nodes.len() {
        let Some((room, units)) = ground.left(index) else { continue };
        sum.cpu_milli = sum.cpu_milli.saturating_add(room.base.cpu_milli);
        sum.memory_bytes = sum.memory_bytes.saturating_add(room.base.memory_bytes);
        sum.device_milli += units.iter().copied().map(u64::from).sum::<u64>();
    }
    sum
}

/// Who refuses each of these replicas now.
fn refusals(view: &View, open: &BTreeMap<ReplicaKey, InForce>, now: Instant) -> Vec<Vec<NodeId>> {
    open.iter().map(|(replica, force)| view.refused_by(replica, force.revision, now)).collect()
}

/// What waits, ready to be placed.
fn waiting<'a>(open: &'a BTreeMap<ReplicaKey, InForce>, refused: &'a [Vec<NodeId>]) -> Vec<Waiting<'a>> {
    let pairs = open.iter().zip(refused);
    pairs.map(|((replica, force), by)| Waiting { replica, spec: &force.service.spec, refused_by: by }).collect()
}

/// The ground of a view.
fn scene<'a>(nodes: &'a [Candidate<'a>], mix: &'a crate::place::Mix) -> Ground<'a> {
    Ground::new(Scene { nodes, mix })
}
