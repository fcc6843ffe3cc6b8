//! Placement: a pure function of what a node knows, the same on every node that knows the same.
//!
//! For one replica: of the nodes on which it fits, the first [`K`] in its rendezvous order are candidates; the best-scoring
//! of them comes first on its *ladder*, then the other candidates, then everybody else by rank. For many waiting replicas,
//! [`plan`] goes through them in [`order`] and lets each see where those before it would go. Nothing here claims: a claim is
//! [`claim`](crate::claim)'s business, and the owner admits only what fits, whatever was believed here.

mod filter;
mod fit;
pub mod rank;

use alloc::vec::Vec;
use core::cmp::{Ordering, Reverse};

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceSpec};

pub use filter::{Candidate, Misfit, misfit};
use fit::{Asking, Fitted, Ground};
use rank::replica_hash;

/// How many nodes compete by score. With 8, a real GPU trace allocates 95.2 % against 95.4 % for the best central policy,
/// and 94.9 % with 300 decisions in flight on one stale view, where looking at all nodes collapses to 70 %.
pub const K: usize = 8;

/// A replica that nobody runs.
#[derive(Clone, Copy, Debug)]
pub struct Waiting<'a> {
    /// Which.
    pub replica: &'a ReplicaKey,
    /// What it is.
    pub spec: &'a ServiceSpec,
    /// Nodes that refuse it now.
    pub refused_by: &'a [NodeId],
}

/// In which order waiting replicas choose: priority, most constrained first, big before small, then a stable hash.
#[must_use]
pub fn order(a: &Waiting<'_>, b: &Waiting<'_>) -> Ordering {
    order_key(a).cmp(&order_key(b))
}

/// What [`order`] sorts by; worth caching.
#[must_use]
pub fn order_key(waiting: &Waiting<'_>) -> impl Ord + use<> {
    let Waiting { replica, spec, .. } = waiting;
    let fixed_ports = spec.ports.iter().filter(|p| p.published.is_some()).count();
    let needs = (spec.priority, spec.constraints.len() + fixed_ports, fit::size_class(&spec.reservation));
    (Reverse(needs), replica_hash(replica), (*replica).clone())
}

/// The whole ladder of one replica: every node on which it fits now, who should claim first in front.
#[must_use]
pub fn ladder(waiting: &Waiting<'_>, nodes: &[Candidate<'_>]) -> Vec<NodeId> {
    let mut ground = Ground::new(nodes);
    let asking = ground.asks(waiting);
    sorted(&asking, &ground).iter().map(|f| f.node).collect()
}

/// This node's place on a replica's ladder; none if it does not fit here.
#[must_use]
pub fn position(me: NodeId, waiting: &Waiting<'_>, nodes: &[Candidate<'_>]) -> Option<usize> {
    position_with(index_of(me, nodes), waiting, true, &mut Ground::new(nodes))
}

/// This node's place on the ladder of each waiting replica, in the given sequence (sort by [`order`] first). Each replica sees
/// those before it as if they had gone to the head of their ladder, so that a batch spreads without talking.
///
/// Places from [`K`] on are told apart only of replicas that are `old` (by their index): counting who comes before costs
/// as much as all the rest, and of the others a node at such a place needs to know only that it is not its turn.
#[must_use]
pub fn plan(
    me: NodeId,
    waiting: &[Waiting<'_>],
    nodes: &[Candidate<'_>],
    old: impl Fn(usize) -> bool,
) -> Vec<Option<usize>> {
    let (mut ground, me) = (Ground::new(nodes), index_of(me, nodes));
    waiting.iter().enumerate().map(|(index, w)| position_with(me, w, old(index), &mut ground)).collect()
}

fn index_of(me: NodeId, nodes: &[Candidate<'_>]) -> Option<usize> {
    nodes.iter().position(|c| c.node == me)
}

/// Who would own each waiting replica if everybody followed the plan; none where nothing fits.
#[must_use]
pub fn heads(waiting: &[Waiting<'_>], nodes: &[Candidate<'_>]) -> Vec<Option<NodeId>> {
    let mut ground = Ground::new(nodes);
    let mut out = Vec::with_capacity(waiting.len());
    for w in waiting {
        let asking = ground.asks(w);
        let head = best_k(&asking, &ground).first().copied();
        if let Some(head) = head {
            ground.take(head.index, w);
        }
        out.push(head.map(|h| h.node));
    }
    out
}

fn position_with<'a>(me: Option<usize>, waiting: &Waiting<'a>, exact: bool, ground: &mut Ground<'a>) -> Option<usize> {
    let asking = ground.asks(waiting);
    let best = best_k(&asking, ground);
    let position = best.iter().position(|f| Some(f.index) == me).or_else(|| {
        let mine = me.filter(|index| ground.admits(&asking, *index))?;
        if exact { ground.count_before(&asking, mine) } else { Some(K) }
    });
    if let Some(head) = best.first() {
        ground.take(head.index, waiting);
    }
    position
}

/// The first [`K`] by rank on which it fits, best score first.
fn best_k(asking: &Asking<'_>, ground: &Ground<'_>) -> Vec<Fitted> {
    let first = ground.first(asking, K);
    let mut best: Vec<Fitted> = first.iter().filter_map(|(rank, i)| ground.fitted(asking, *i, *rank)).collect();
    best.sort_unstable_by_key(Fitted::key);
    best
}

fn sorted(asking: &Asking<'_>, ground: &Ground<'_>) -> Vec<Fitted> {
    let mut best = best_k(asking, ground);
    let all = ground.ranks(asking).filter_map(|(index, rank)| ground.fitted(asking, index, rank));
    let mut rest: Vec<Fitted> = all.filter(|f| best.iter().all(|b| b.node != f.node)).collect();
    rest.sort_unstable_by_key(|f| (f.rank, f.node));
    best.append(&mut rest);
    best
}

#[cfg(test)]
mod tests;
