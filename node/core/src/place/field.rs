//! The nodes that suit what a specification demands of a node's nature, laid out so that the first of a replica's rendezvous
//! order are found without looking at most of them twice.
//!
//! The rank falls as the hash grows, so that among nodes of one weight most are told apart by their hashes alone. Never: what
//! is left on a node, which changes with every replica that a plan gives away.

use alloc::vec::Vec;
use core::ops::Range;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Constraint, DriverKind, ServiceSpec, Toleration, Workload};

use super::filter::{Candidate, unsuited};
use super::rank::{Rank, SLACK, first_below, pair, rank_of};
use super::terms::Terms;

/// From so many nodes of one weight on it pays to work out which hashes can matter at all.
const WIDE: usize = 64;

/// Of so many times the nodes that are wanted the hashes are looked at first.
const GUESS: usize = 4;

/// All that decides whether a node's nature suits a specification. Many specifications demand the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nature<'a> {
    driver: DriverKind,
    constraints: &'a [Constraint],
    tolerated: &'a [Toleration],
}

impl<'a> Nature<'a> {
    pub(super) fn of(spec: &'a ServiceSpec) -> Self {
        let driver = match spec.workload {
            Workload::Exec(_) => DriverKind::Exec,
            Workload::Docker(_) => DriverKind::Docker,
        };
        Self { driver, constraints: &spec.constraints, tolerated: &spec.placing.tolerance.taints }
    }
}

/// The candidates in the order of their weights.
#[derive(Debug)]
pub(super) struct ByWeight(Vec<(u64, usize)>);

impl ByWeight {
    pub(super) fn new(nodes: &[Candidate<'_>]) -> Self {
        let mut all: Vec<(u64, usize)> = nodes.iter().enumerate().map(|(index, c)| (c.weight, index)).collect();
        all.sort_unstable();
        Self(all)
    }
}

/// The nodes that meet a demand.
#[derive(Debug)]
pub(super) struct Field<'a> {
    pub(super) nature: Nature<'a>,
    /// The hash of each node, nodes of one weight side by side.
    hashes: Vec<u64>,
    /// Its index among the candidates.
    indices: Vec<u32>,
    /// A weight, and where its nodes are.
    weights: Vec<(u64, Range<usize>)>,
    /// By the candidate's index: whether it is one of them.
    suits: Vec<bool>,
}

/// A node among the first that were found so far.
#[derive(Clone, Copy)]
struct Found {
    rank: Rank,
    hash: u64,
    index: u32,
    weight: u64,
}

/// The first that were found so far, best first, and how many are wanted.
struct First<N> {
    best: Vec<Found>,
    most: usize,
    /// Who a candidate is: where ranks are equal, that decides.
    node: N,
}

impl<N: Fn(usize) -> Option<NodeId>> First<N> {
    fn comes_before(&self, a: &Found, b: &Found) -> bool {
        a.rank < b.rank || (a.rank == b.rank && (self.node)(a.index as usize) < (self.node)(b.index as usize))
    }

    /// The last one, once there are enough.
    fn worst(&self) -> Option<&Found> {
        self.best.last().filter(|_| self.best.len() >= self.most)
    }

    /// Looks at nodes of one weight, of which only those whose hash is not below the floor can be among the first.
    fn look(
        &mut self,
        replica: u64,
        (weight, hashes, indices): (u64, &[u64], &[u32]),
        mut floor: u64,
        admits: &impl Fn(usize) -> bool,
    ) {
        let mut at = 0;
        while let Some(step) = next_from(hashes.get(at..).unwrap_or_default(), replica, floor) {
            at += step + 1;
            let (Some(hash), Some(index)) = (hashes.get(at - 1), indices.get(at - 1)) else { break };
            let hash = pair(replica, *hash);
            let found = Found { rank: rank_of(hash, weight), hash, index: *index, weight };
            if self.worst().is_some_and(|worst| self.comes_before(worst, &found)) || !admits(*index as usize) {
                continue;
            }
            let place = self.best.iter().rposition(|other| self.comes_before(other, &found)).map_or(0, |at| at + 1);
            self.best.insert(place, found);
            self.best.truncate(self.most);
            if let Some(worst) = self.worst().filter(|worst| worst.weight == weight) {
                floor = floor.max(worst.hash.saturating_sub(SLACK));
            }
        }
    }
}

impl<'a> Field<'a> {
    /// Of a specification that demands this.
    pub(super) fn new(spec: &'a ServiceSpec, nodes: &[Candidate<'_>], order: &ByWeight) -> Self {
        let terms = Terms::of(spec);
        let suits: Vec<bool> = nodes.iter().map(|candidate| unsuited(&terms, spec, candidate).is_none()).collect();
        let (mut hashes, mut indices, mut weights) = (Vec::new(), Vec::new(), Vec::<(u64, Range<usize>)>::new());
        for (weight, index) in order.0.iter().filter(|(_, index)| suits.get(*index) == Some(&true)) {
            let (Some(candidate), Ok(short)) = (nodes.get(*index), u32::try_from(*index)) else { continue };
            let at = hashes.len();
            hashes.push(candidate.hash);
            indices.push(short);
            match weights.last_mut() {
                Some((last, range)) if last == weight => range.end = at + 1,
                Some(_) | None => weights.push((*weight, at..at + 1)),
            }
        }
        Self { nature: Nature::of(spec), hashes, indices, weights, suits }
    }

    pub(super) fn suits(&self, index: usize) -> bool {
        self.suits.get(index) == Some(&true)
    }

    /// Nodes of each weight: their hashes, their indices.
    fn classes(&self) -> impl Iterator<Item = (u64, &[u64], &[u32])> {
        self.weights.iter().map(|(weight, range)| {
            let hashes = self.hashes.get(range.clone()).unwrap_or_default();
            (*weight, hashes, self.indices.get(range.clone()).unwrap_or_default())
        })
    }

    /// Each node's place in a replica's rendezvous order.
    pub(super) fn ranks(&self, replica: u64) -> impl Iterator<Item = (usize, Rank)> {
        self.classes().flat_map(move |(weight, hashes, indices)| {
            let ranked = hashes.iter().map(move |node| rank_of(pair(replica, *node), weight));
            indices.iter().map(|index| *index as usize).zip(ranked)
        })
    }

    /// The first nodes by rank that are admitted, at most so many.
    pub(super) fn first(
        &self,
        replica: u64,
        most: usize,
        node: impl Fn(usize) -> Option<NodeId>,
        admits: impl Fn(usize) -> bool,
    ) -> Vec<(Rank, usize)> {
        let mut first = First { best: Vec::with_capacity(most + 1), most, node };
        for class in self.classes() {
            let (weight, hashes, _) = class;
            if let Some(worst) = first.worst() {
                let is_wide = hashes.len() >= WIDE;
                let edge = Rank(worst.rank.0.saturating_add(1));
                let floor = if is_wide { first_below(edge, weight) } else { 0 };
                first.look(replica, class, floor, &admits);
                continue;
            }
            // Few need a second look when a guess says where the first will be; with a wrong guess, all do.
            let tried = most.saturating_mul(GUESS);
            let is_wide = hashes.len() >= WIDE.max(tried.saturating_mul(2)) && first.best.is_empty();
            let below = if is_wide { u64::MAX / hashes.len() as u64 * tried as u64 } else { u64::MAX };
            let floor = u64::MAX - below;
            first.look(replica, class, floor, &admits);
            // What is just below the floor could have the same rank.
            if is_wide && first.worst().is_none_or(|worst| worst.hash < floor.saturating_add(SLACK)) {
                first.best.clear();
                first.look(replica, class, 0, &admits);
            }
        }
        first.best.into_iter().map(|found| (found.rank, found.index as usize)).collect()
    }

    /// How many admitted nodes stand before this one.
    pub(super) fn count_before(
        &self,
        replica: u64,
        (my_rank, me): (Rank, Option<NodeId>),
        node: impl Fn(usize) -> Option<NodeId>,
        admits: impl Fn(usize) -> bool,
    ) -> usize {
        let mut count = 0;
        for (weight, hashes, indices) in self.classes() {
            let floor = if hashes.len() < WIDE { 0 } else { first_below(my_rank, weight).saturating_sub(SLACK) };
            for (hash, index) in hashes.iter().map(|node| pair(replica, *node)).zip(indices) {
                if hash < floor {
                    continue;
                }
                let index = *index as usize;
                let rank = rank_of(hash, weight);
                let is_before = rank < my_rank || (rank == my_rank && node(index) < me);
                count += usize::from(is_before && admits(index));
            }
        }
        count
    }
}

/// The first of some nodes whose hash with a replica is not below the floor.
fn next_from(nodes: &[u64], replica: u64, floor: u64) -> Option<usize> {
    nodes.iter().position(|node| pair(replica, *node) >= floor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use dunlin_gossip::rng::{Rng, Seed};

    /// Nodes of these weights, in the shape of a field.
    fn field(weights: &[u64], rng: &mut Rng) -> (Field<'static>, Vec<(NodeId, u64, u64)>) {
        let mut nodes: Vec<(NodeId, u64, u64)> =
            weights.iter().map(|w| (NodeId(u128::from(rng.next_u64()).to_be_bytes()), rng.next_u64(), *w)).collect();
        nodes.sort_by_key(|(_, _, weight)| *weight);
        let (mut ranges, mut at) = (Vec::<(u64, Range<usize>)>::new(), 0);
        for run in nodes.chunk_by(|a, b| a.2 == b.2) {
            ranges.push((run[0].2, at..at + run.len()));
            at += run.len();
        }
        let nature = Nature { driver: DriverKind::Exec, constraints: &[], tolerated: &[] };
        let hashes = nodes.iter().map(|(_, hash, _)| *hash).collect();
        let indices = (0..nodes.len() as u32).collect();
        let suits = nodes.iter().map(|_| true).collect();
        (Field { nature, hashes, indices, weights: ranges, suits }, nodes)
    }

    /// Flocks large enough for all that is left out of the search to matter, held against sorting everybody.
    #[test]
    fn the_first_are_those_of_everybody_in_order() {
        for seed in 0..60 {
            let mut rng = Seed(seed).rng();
            let few = [1_000, 2_000, 2_000, 8_000][..1 + rng.below(4) as usize].to_vec();
            let drawn =
                |rng: &mut Rng| if rng.below(8) == 0 { 1 + rng.below(1 << 20) } else { *rng.pick(&few).unwrap() };
            let weights: Vec<u64> = (0..1 + rng.below(600)).map(|_| drawn(&mut rng)).collect();
            let (field, nodes) = field(&weights, &mut rng);
            let taking = 1 + rng.below(20);
            let full: BTreeSet<usize> = (0..nodes.len()).filter(|_| rng.below(20) >= taking).collect();
            let admits = |index: usize| !full.contains(&index);
            let node = |index: usize| nodes.get(index).map(|(node, ..)| *node);
            for most in [1, 8, 16] {
                let replica = rng.next_u64();
                let rank = |index: usize| rank_of(pair(replica, nodes[index].1), nodes[index].2);
                let mut all: Vec<usize> = (0..nodes.len()).filter(|index| admits(*index)).collect();
                all.sort_by_key(|index| (rank(*index), node(*index)));
                let first = field.first(replica, most, node, admits);
                let naive: Vec<_> = all.iter().take(most).map(|index| (rank(*index), *index)).collect();
                assert_eq!(first, naive, "seed {seed}, {} nodes", nodes.len());
                for (before, index) in all.iter().enumerate().step_by(7) {
                    let me = (rank(*index), node(*index));
                    assert_eq!(field.count_before(replica, me, node, admits), before, "seed {seed}");
                }
            }
        }
    }
}
