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
use dunlin_gossip::model::{ReplicaKey, Slot};
use dunlin_gossip::time::Instant;
use serde::Serialize;

pub use explain::{CandidateRow, Explained, Taken, explain};
pub use plan::{Planned, plan};
pub use whatif::{Change, Supposed, suppose};

use super::miss::Tally;
use crate::place::preempt::{Preemption, Tenant};
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
    /// For what it would make way, and why it would wait: each reason, and on how many nodes.
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
            mode if mode.is_global() => candidates.iter().map(|candidate| Slot::Node(candidate.node)).collect(),
            mode if mode.cron().is_some() => view.open_runs(key).collect(),
            mode => (1..=mode.count().unwrap_or(0)).map(Slot::Number).collect(),
        };
        let is_open = |replica: &ReplicaKey| !view.is_taken(replica, force.revision) && view.opens(replica, force);
        let waiting = slots.into_iter().map(replica).filter(is_open);
        open.extend(waiting.map(|replica| (replica, force.clone())));
    }
    open
}

/// Where each of these would go if everybody followed the plan, after what a ground has given away already.
fn placed<'a>(
    ground: &mut Ground<'a>,
    view: &'a View,
    nodes: &[Candidate<'_>],
    waiting: &[Waiting<'a>],
    from: impl Fn(&ReplicaKey) -> Option<NodeId>,
) -> Vec<Move> {
    let (mut moves, mut preemption) = (Vec::new(), Preemption::new(|node| view.tenants(node)));
    let mut round: Vec<Ended<'a>> = waiting.iter().map(|w| (*w, None)).collect();
    let mut next = Vec::new();
    // What makes way is placed once what is more important is; it can only make something less important make way.
    while !round.is_empty() {
        round.sort_by_cached_key(|(waiting, _)| order_key(waiting));
        for (waiting, ended) in round.drain(..) {
            let end = placed_one((ground, view, nodes), &mut preemption, &waiting, &mut next);
            let before = ended.map_or_else(|| from(waiting.replica), |(node, _)| Some(node));
            // A global service has no replica on a node that it does not suit.
            let Some((head, mut why)) = end else { continue };
            why.splice(0..0, ended.map(|(_, by)| alloc::format!("pre-empted by {by}")));
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
        round.append(&mut next);
    }
    moves.sort();
    moves
}

/// What makes way for something else: where it runs, and for what.
type Ended<'a> = (Waiting<'a>, Option<(NodeId, &'a ReplicaKey)>);

/// Where one replica would go, and why it would wait; what it would end there comes next. None for a slot that its node does
/// not suit.
fn placed_one<'a, F: Fn(NodeId) -> Vec<Tenant<'a>>>(
    (ground, view, nodes): (&mut Ground<'a>, &'a View, &[Candidate<'_>]),
    preemption: &mut Preemption<'a, F>,
    waiting: &Waiting<'a>,
    next: &mut Vec<Ended<'a>>,
) -> Option<(Option<usize>, Vec<String>)> {
    let asking = ground.asks(waiting);
    if let Some(head) = ground.head_of(&asking) {
        ground.give(head, &asking);
        return Some((Some(head), Vec::new()));
    }
    let ladder = if view.has_lesser(waiting.spec.priority) { preemption.ladder(waiting, ground) } else { None };
    let ladder = ladder.unwrap_or_default();
    let Some((head, price)) = ladder.into_iter().next() else { return Some((None, reasons(ground, waiting)?)) };
    preemption.take(head, &price, waiting, ground);
    let node = nodes.get(head).map(|candidate| candidate.node)?;
    for (id, _) in &price.victims {
        let Some(alloc) = view.allocation(node, *id) else { continue };
        let Some(force) = view.wanted(&alloc.replica) else { continue };
        let victim = Waiting { replica: &alloc.replica, spec: &force.service.spec, refused_by: &[] };
        next.push((victim, Some((node, waiting.replica))));
    }
    Some((Some(head), Vec::new()))
}

/// Why a replica fits nowhere, and on how many nodes for each reason; none for a slot that its node does not suit.
fn reasons<'a>(ground: &mut Ground<'a>, waiting: &Waiting<'a>) -> Option<Vec<String>> {
    let mut tally = Tally::new(waiting.spec);
    for (index, misfit) in ground.misfits(waiting).into_iter().enumerate() {
        let Some(misfit) = misfit.filter(|misfit| *misfit != Misfit::NotThisNode) else { continue };
        tally.add(misfit, None, ground.left(index).map(|(room, _)| room).unwrap_or_default());
    }
    if matches!(waiting.replica.slot, Slot::Node(_)) && tally.has_lasting() {
        return None;
    }
    Some(tally.lines())
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

/// A candidate's index; a view has them in the order of their ids.
fn index_of(nodes: &[Candidate<'_>], node: NodeId) -> Option<usize> {
    nodes.binary_search_by_key(&node, |candidate| candidate.node).ok()
}

/// The ground of a view.
fn scene<'a>(nodes: &'a [Candidate<'a>], mix: &'a crate::place::Mix) -> Ground<'a> {
    Ground::new(Scene { nodes, mix })
}
