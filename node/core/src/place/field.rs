//! The nodes that suit what a specification demands of a node's nature, laid out so that the first of a replica's rendezvous
//! order are found without looking at most of them twice.
//!
//! The rank falls as the hash grows, so that among nodes of about one weight most are told apart by their hashes alone: a hash
//! below a floor cannot be among the first, and needs no logarithm. Never: what is left on a node, which changes with every
//! replica that a plan gives away; who keeps a layout may thin it out by that.

use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Range;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Constraint, DriverKind, ServiceSpec, Toleration, Workload};

use super::filter::{Candidate, unsuited};
use super::rank::{Rank, first_below, pair, rank_of};
use super::terms::Terms;

/// From so many nodes of about one weight on it pays to guess which hashes can matter.
const WIDE: usize = 64;

/// Of so many times the nodes that are wanted the hashes are looked at first.
const GUESS: usize = 4;

/// Weights that differ by less than this part are about one: they share a floor, which is that of the heaviest.
const ALIKE: u64 = 8;

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
    pub(super) rows: Rows,
    /// By the candidate's index: whether it is one of them.
    suits: Vec<bool>,
}

/// Nodes, those of about one weight side by side.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    hashes: Vec<u64>,
    weights: Vec<u64>,
    /// Their indices among the candidates.
    indices: Vec<u32>,
    /// The heaviest weight of nodes of about one weight, and where these are; those that are likely to be first in front.
    classes: Vec<(u64, Range<usize>)>,
}

/// Nodes of about one weight.
#[derive(Clone, Copy)]
struct Class<'a> {
    heaviest: u64,
    hashes: &'a [u64],
    weights: &'a [u64],
    indices: &'a [u32],
}

/// A node among the first that were found so far.
#[derive(Clone, Copy)]
struct Found {
    rank: Rank,
    index: u32,
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

    /// The least hash that a node of this weight needs to be among the first.
    fn floor(&self, weight: u64) -> u64 {
        self.worst().map_or(0, |worst| first_below(Rank(worst.rank.0.saturating_add(1)), weight))
    }

    /// Looks at those nodes of a class whose hash is not below the floor, but below the ceiling.
    fn look(
        &mut self,
        replica: u64,
        class: Class<'_>,
        (mut floor, ceiling): (u64, Option<u64>),
        admits: &impl Fn(usize) -> bool,
    ) {
        let mut at = 0;
        while let Some(step) = next_from(class.hashes.get(at..).unwrap_or_default(), replica, floor) {
            at += step;
            let row = class.hashes.get(at).zip(class.weights.get(at)).zip(class.indices.get(at));
            let Some(((hash, weight), index)) = row else { break };
            at += 1;
            let hash = pair(replica, *hash);
            if ceiling.is_some_and(|ceiling| hash >= ceiling) {
                continue;
            }
            let found = Found { rank: rank_of(hash, *weight), index: *index };
            if self.worst().is_some_and(|worst| self.comes_before(worst, &found)) || !admits(*index as usize) {
                continue;
            }
            let place = self.best.iter().rposition(|other| self.comes_before(other, &found)).map_or(0, |at| at + 1);
            self.best.insert(place, found);
            self.best.truncate(self.most);
            floor = floor.max(self.floor(class.heaviest));
        }
    }
}

impl<'a> Field<'a> {
    /// Of a specification that demands this.
    pub(super) fn new(spec: &'a ServiceSpec, nodes: &[Candidate<'_>], order: &ByWeight) -> Self {
        let terms = Terms::of(spec);
        let suits: Vec<bool> = nodes.iter().map(|candidate| unsuited(&terms, spec, candidate).is_none()).collect();
        let suiting = order.0.iter().filter(|(_, index)| suits.get(*index) == Some(&true));
        let rows = Rows::new(
            suiting.filter_map(|(weight, index)| Some((nodes.get(*index)?.hash, *weight, u32::try_from(*index).ok()?))),
        );
        Self { nature: Nature::of(spec), rows, suits }
    }

    pub(super) fn suits(&self, index: usize) -> bool {
        self.suits.get(index) == Some(&true)
    }
}

impl Rows {
    /// Hash, weight and index of each node, in the order of the weights.
    fn new(nodes: impl Iterator<Item = (u64, u64, u32)>) -> Self {
        let (mut rows, mut lightest) = (Self::default(), 0);
        for (hash, weight, index) in nodes {
            let at = rows.hashes.len();
            rows.hashes.push(hash);
            rows.weights.push(weight);
            rows.indices.push(index);
            match rows.classes.last_mut() {
                Some((heaviest, range)) if weight - lightest <= lightest / ALIKE => {
                    (*heaviest, range.end) = (weight, at + 1);
                }
                Some(_) | None => {
                    lightest = weight;
                    rows.classes.push((weight, at..at + 1));
                }
            }
        }
        rows.classes.sort_by_key(|(heaviest, range)| Reverse(u128::from(*heaviest) * range.len() as u128));
        rows
    }

    /// Those that stay, of which this is asked by their index.
    pub(super) fn only(&self, stays: impl Fn(usize) -> bool) -> Self {
        let mut classes: Vec<&(u64, Range<usize>)> = self.classes.iter().collect();
        classes.sort_by_key(|(_, range)| range.start);
        let rows = classes.into_iter().flat_map(|(_, range)| range.clone());
        let row = |at: usize| Some((*self.hashes.get(at)?, *self.weights.get(at)?, *self.indices.get(at)?));
        Self::new(rows.filter_map(row).filter(|(.., index)| stays(*index as usize)))
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// How many of them are such, by their index.
    pub(super) fn count(&self, is_such: impl Fn(usize) -> bool) -> usize {
        self.indices.iter().filter(|index| is_such(**index as usize)).count()
    }

    fn classes(&self) -> impl Iterator<Item = Class<'_>> {
        self.classes.iter().map(|(heaviest, range)| Class {
            heaviest: *heaviest,
            hashes: self.hashes.get(range.clone()).unwrap_or_default(),
            weights: self.weights.get(range.clone()).unwrap_or_default(),
            indices: self.indices.get(range.clone()).unwrap_or_default(),
        })
    }

    /// Each node's place in a replica's rendezvous order.
    pub(super) fn ranks(&self, replica: u64) -> impl Iterator<Item = (usize, Rank)> {
        let ranked =
            self.hashes.iter().zip(&self.weights).map(move |(hash, weight)| rank_of(pair(replica, *hash), *weight));
        self.indices.iter().map(|index| *index as usize).zip(ranked)
    }

    /// The first nodes by rank that are admitted, at most so many; and whether most of those that were looked at first were not.
    pub(super) fn first(
        &self,
        replica: u64,
        most: usize,
        node: impl Fn(usize) -> Option<NodeId>,
        admits: impl Fn(usize) -> bool,
    ) -> (Vec<(Rank, usize)>, bool) {
        let mut first = First { best: Vec::with_capacity(most + 1), most, node };
        let mut is_sparse = false;
        for class in self.classes() {
            let tried = most.saturating_mul(GUESS);
            let count = class.hashes.len();
            if first.worst().is_some() || count < WIDE.max(tried.saturating_mul(2)) {
                first.look(replica, class, (first.floor(class.heaviest), None), &admits);
                continue;
            }
            // Few need a second look when a guess says where the first will be; with a wrong guess, all do.
            let floor = u64::MAX - u64::MAX / count as u64 * tried as u64;
            first.look(replica, class, (floor, None), &admits);
            // Whose hash is below the floor has a rank that is not below this one's.
            let edge = rank_of(floor, class.heaviest);
            if first.worst().is_none_or(|worst| worst.rank >= edge) {
                is_sparse = true;
                first.look(replica, class, (first.floor(class.heaviest), Some(floor)), &admits);
            }
        }
        (first.best.into_iter().map(|found| (found.rank, found.index as usize)).collect(), is_sparse)
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
        for class in self.classes() {
            let floor = first_below(Rank(my_rank.0.saturating_add(1)), class.heaviest);
            for ((hash, weight), index) in class.hashes.iter().zip(class.weights).zip(class.indices) {
                let hash = pair(replica, *hash);
                if hash < floor {
                    continue;
                }
                let (index, rank) = (*index as usize, rank_of(hash, *weight));
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

    /// Nodes of these weights, in the order of the weights.
    fn rows(weights: &[u64], rng: &mut Rng) -> (Rows, Vec<(NodeId, u64, u64)>) {
        let mut nodes: Vec<(NodeId, u64, u64)> =
            weights.iter().map(|w| (NodeId(u128::from(rng.next_u64()).to_be_bytes()), rng.next_u64(), *w)).collect();
        nodes.sort_by_key(|(_, _, weight)| *weight);
        let row = |(index, (_, hash, weight)): (usize, &(NodeId, u64, u64))| (*hash, *weight, index as u32);
        (Rows::new(nodes.iter().enumerate().map(row)), nodes)
    }

    /// Flocks large enough for all that is left out of the search to matter, held against sorting everybody.
    #[test]
    fn the_first_are_those_of_everybody_in_order() {
        for seed in 0..90 {
            let mut rng = Seed(seed).rng();
            let few = [1_000, 2_000, 2_000, 8_000][..1 + rng.below(4) as usize].to_vec();
            // Some flocks have a few kinds of machines and others that are like none, some have none that are alike.
            let odd = [8, 8, 1][seed as usize % 3];
            let drawn = |rng: &mut Rng| {
                if rng.below(odd) == 0 { 1 + (rng.below(1 << 20) >> rng.below(20)) } else { *rng.pick(&few).unwrap() }
            };
            let weights: Vec<u64> = (0..1 + rng.below(600)).map(|_| drawn(&mut rng)).collect();
            let (rows, nodes) = rows(&weights, &mut rng);
            let taking = 1 + rng.below(20);
            let full: BTreeSet<usize> = (0..nodes.len()).filter(|_| rng.below(20) >= taking).collect();
            let admits = |index: usize| !full.contains(&index);
            let thin = rows.only(admits);
            assert_eq!((thin.len(), thin.count(admits)), (rows.count(admits), rows.count(admits)));
            let node = |index: usize| nodes.get(index).map(|(node, ..)| *node);
            for most in [1, 8, 16] {
                let replica = rng.next_u64();
                let rank = |index: usize| rank_of(pair(replica, nodes[index].1), nodes[index].2);
                let mut all: Vec<usize> = (0..nodes.len()).filter(|index| admits(*index)).collect();
                all.sort_by_key(|index| (rank(*index), node(*index)));
                let naive: Vec<_> = all.iter().take(most).map(|index| (rank(*index), *index)).collect();
                assert_eq!(rows.first(replica, most, node, admits).0, naive, "seed {seed}, {} nodes", nodes.len());
                assert_eq!(thin.first(replica, most, node, |_| true).0, naive, "seed {seed}, thinned out");
                for (before, index) in all.iter().enumerate().step_by(7) {
                    let me = (rank(*index), node(*index));
                    assert_eq!(rows.count_before(replica, me, node, admits), before, "seed {seed}");
                    assert_eq!(thin.count_before(replica, me, node, |_| true), before, "seed {seed}");
                }
            }
        }
    }
}
