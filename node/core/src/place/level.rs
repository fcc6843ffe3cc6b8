//! How full nodes are, and how full those that suit a specification are in the mean: what a node's share of their work is.
//!
//! Fullness is counted in the unit of a node's weight, so that a share is what rendezvous hashing gives in the long run. Integers
//! only. Never: a decision; `share` takes them.

use alloc::vec::Vec;

use dunlin_gossip::model::{Resources, ServiceSpec};

use super::field::Nature;
use super::filter::{Candidate, unsuited};
use super::rank::weight;
use super::terms::Terms;

/// Full, in the unit of levels.
pub(crate) const FULL: u64 = 1_000_000;

/// How full the candidates are.
#[derive(Debug)]
pub(crate) struct Levels<'a> {
    nodes: &'a [Candidate<'a>],
    /// By the candidate's index: the weight of what its claims reserve.
    taken: Vec<u64>,
    /// Of each demand that came along: the mean level of the nodes that suit it, and which do.
    means: Vec<(Nature<'a>, u64, Vec<bool>)>,
}

/// What of a weight is taken, in millionths.
fn share(taken: u64, all: u64) -> u64 {
    u64::try_from(u128::from(taken) * u128::from(FULL) / u128::from(all.max(1))).unwrap_or(u64::MAX)
}

/// The weight of what is reserved; nothing weighs nothing.
fn weight_of(reserved: &Resources) -> u64 {
    if *reserved == Resources::default() { 0 } else { weight(reserved) }
}

impl<'a> Levels<'a> {
    /// Of all candidates, by what is left on them.
    pub(crate) fn new(nodes: &'a [Candidate<'a>]) -> Self {
        let taken = |c: &Candidate<'_>| weight_of(&c.header.allocatable.minus(&c.room.base));
        Self { nodes, taken: nodes.iter().map(taken).collect(), means: Vec::new() }
    }

    /// How full a candidate would be if it reserved so much more.
    pub(crate) fn with(&self, index: usize, more: &Resources) -> u64 {
        let taken = self.taken.get(index).copied().unwrap_or(0).saturating_add(weight_of(more));
        self.nodes.get(index).map_or(0, |candidate| share(taken, candidate.weight))
    }

    /// How full the nodes are in the mean that suit a specification; none if this candidate is not one of them.
    pub(crate) fn mean(&mut self, spec: &'a ServiceSpec, index: usize) -> Option<u64> {
        let nature = Nature::of(spec);
        let at = self.means.iter().position(|(known, ..)| *known == nature).unwrap_or_else(|| {
            let terms = Terms::of(spec);
            let suits: Vec<bool> = self.nodes.iter().map(|node| unsuited(&terms, spec, node).is_none()).collect();
            let (mut taken, mut all) = (0_u64, 0_u64);
            for ((candidate, reserved), _) in
                self.nodes.iter().zip(&self.taken).zip(&suits).filter(|(_, suits)| **suits)
            {
                taken = taken.saturating_add(*reserved);
                all = all.saturating_add(candidate.weight);
            }
            self.means.push((nature, share(taken, all), suits));
            self.means.len() - 1
        });
        let (_, mean, suits) = self.means.get(at)?;
        (suits.get(index) == Some(&true)).then_some(*mean)
    }

    /// A replica goes from one candidate to another.
    pub(crate) fn move_one(&mut self, from: usize, to: usize, reserved: &Resources) {
        let size = weight_of(reserved);
        self.taken.get_mut(from).into_iter().for_each(|taken| *taken = taken.saturating_sub(size));
        self.taken.get_mut(to).into_iter().for_each(|taken| *taken = taken.saturating_add(size));
    }
}
