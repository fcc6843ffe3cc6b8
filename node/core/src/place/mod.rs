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
use core::cmp::Ordering;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ReplicaKey, ServiceSpec};

pub use filter::{Candidate, Misfit, misfit};
use fit::{Fitted, Tentative};
use rank::{Rank, rank, replica_hash};

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
    let key = |w: &Waiting<'_>| {
        let fixed_ports = w.spec.ports.iter().filter(|p| p.published.is_some()).count();
        (w.spec.priority, w.spec.constraints.len() + fixed_ports, fit::size_class(&w.spec.reservation))
    };
    key(b)
        .cmp(&key(a))
        .then_with(|| replica_hash(a.replica).cmp(&replica_hash(b.replica)))
        .then_with(|| a.replica.cmp(b.replica))
}

/// The whole ladder of one replica: every node on which it fits now, who should claim first in front.
#[must_use]
pub fn ladder(waiting: &Waiting<'_>, nodes: &[Candidate<'_>]) -> Vec<NodeId> {
    let tentative = Tentative::default();
    let fitted = sorted(waiting, nodes, &tentative);
    fitted.iter().map(|f| f.node).collect()
}

/// This node's place on a replica's ladder; none if it does not fit here.
#[must_use]
pub fn position(me: NodeId, waiting: &Waiting<'_>, nodes: &[Candidate<'_>]) -> Option<usize> {
    position_with(me, waiting, nodes, &mut Tentative::default())
}

/// This node's place on the ladder of each waiting replica, in the given sequence (sort by [`order`] first). Each replica sees
/// those before it as if they had gone to the head of their ladder, so that a batch spreads without talking.
#[must_use]
pub fn plan(me: NodeId, waiting: &[Waiting<'_>], nodes: &[Candidate<'_>]) -> Vec<Option<usize>> {
    let mut tentative = Tentative::default();
    waiting.iter().map(|w| position_with(me, w, nodes, &mut tentative)).collect()
}

/// Who would own each waiting replica if everybody followed the plan; none where nothing fits.
#[must_use]
pub fn heads(waiting: &[Waiting<'_>], nodes: &[Candidate<'_>]) -> Vec<Option<NodeId>> {
    let mut tentative = Tentative::default();
    let mut out = Vec::with_capacity(waiting.len());
    for w in waiting {
        let head = best_k(replica_hash(w.replica), w, nodes, &tentative).first().copied();
        if let Some(head) = head {
            tentative.take(head.index, w);
        }
        out.push(head.map(|h| h.node));
    }
    out
}

fn position_with(
    me: NodeId,
    waiting: &Waiting<'_>,
    nodes: &[Candidate<'_>],
    tentative: &mut Tentative,
) -> Option<usize> {
    let hash = replica_hash(waiting.replica);
    let best = best_k(hash, waiting, nodes, tentative);
    let position = best.iter().position(|f| f.node == me).or_else(|| {
        let (index, mine) = nodes.iter().enumerate().find(|(_, c)| c.node == me)?;
        let my_rank = rank(hash, mine.hash, mine.weight);
        tentative.admits(waiting, index, mine).then(|| count_before((my_rank, me), hash, waiting, nodes, tentative))
    });
    if let Some(head) = best.first() {
        tentative.take(head.index, waiting);
    }
    position
}

/// How many nodes on which it fits stand before this rank. Only asked by nodes beyond the first [`K`].
fn count_before(
    mine: (Rank, NodeId),
    hash: u64,
    waiting: &Waiting<'_>,
    nodes: &[Candidate<'_>],
    tentative: &Tentative,
) -> usize {
    let before = |c: &Candidate<'_>| (rank(hash, c.hash, c.weight), c.node) < mine;
    nodes.iter().enumerate().filter(|(i, c)| before(c) && tentative.admits(waiting, *i, c)).count()
}

/// The first [`K`] by rank on which it fits, best score first.
fn best_k(hash: u64, waiting: &Waiting<'_>, nodes: &[Candidate<'_>], tentative: &Tentative) -> Vec<Fitted> {
    let mut first: Vec<(Rank, usize)> = Vec::with_capacity(K + 1);
    for (index, candidate) in nodes.iter().enumerate() {
        let key = rank(hash, candidate.hash, candidate.weight);
        if first.len() == K && first.last().is_some_and(|(worst, _)| key > *worst) {
            continue;
        }
        if !tentative.admits(waiting, index, candidate) {
            continue;
        }
        let at = first.partition_point(|(r, i)| (*r, nodes.get(*i).map(|c| c.node)) < (key, Some(candidate.node)));
        first.insert(at, (key, index));
        first.truncate(K);
    }
    let mut best: Vec<Fitted> =
        first.iter().filter_map(|(rank, i)| fit::fitted(waiting, *i, nodes.get(*i)?, *rank, tentative)).collect();
    best.sort_unstable_by_key(Fitted::key);
    best
}

fn sorted(waiting: &Waiting<'_>, nodes: &[Candidate<'_>], tentative: &Tentative) -> Vec<Fitted> {
    let hash = replica_hash(waiting.replica);
    let mut best = best_k(hash, waiting, nodes, tentative);
    let mut rest: Vec<Fitted> = nodes
        .iter()
        .enumerate()
        .filter_map(|(i, c)| fit::fitted(waiting, i, c, rank(hash, c.hash, c.weight), tentative))
        .filter(|f| best.iter().all(|b| b.node != f.node))
        .collect();
    rest.sort_unstable_by_key(|f| (f.rank, f.node));
    best.append(&mut rest);
    best
}

#[cfg(test)]
mod tests;
