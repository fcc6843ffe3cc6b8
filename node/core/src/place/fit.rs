//! How well a replica fits, and the ledger of what the plan has already given away.
//!
//! The score, smaller first: replicas of the same service already there (so that one lost node never takes a whole service
//! with it while others have room), then fragmentation (how unevenly cpu and memory would be left, in hundredths), then
//! best fit (the fuller node), then the rendezvous rank. The consolidating tie-break matters more than k.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use dunlin_gossip::hash::mix;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Protocol, Resources, ServiceKey, ServiceSpec, Slot};

use super::Waiting;
use super::filter::{Candidate, fixed_misfit, unsuited};
use super::rank::{Rank, SLACK, first_below, rank, rank_of, replica_hash};

/// A node on which a replica fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fitted {
    pub(super) node: NodeId,
    pub(super) index: usize,
    pub(super) rank: Rank,
    same_service: u32,
    uneven: u64,
    left: u64,
}

impl Fitted {
    /// What best-of-k sorts by.
    pub(super) fn key(&self) -> (u32, u64, u64, Rank, NodeId) {
        (self.same_service, self.uneven, self.left, self.rank, self.node)
    }
}

/// The candidates of one plan: what does not change from replica to replica is worked out once, and what earlier replicas
/// of the plan would take is kept by candidate index.
///
/// The rank falls as the hash grows, so that among nodes of one weight most are told apart by their hashes alone.
pub(super) struct Ground<'a> {
    nodes: &'a [Candidate<'a>],
    room: Vec<Resources>,
    taken: BTreeMap<usize, Taken>,
    /// Node hash and candidate index, nodes of one weight side by side.
    order: Vec<(u64, usize)>,
    /// A weight, and where in the order its nodes are.
    weights: Vec<(u64, Range<usize>)>,
    /// Of each specification that came along: which candidates suit it and have room for it now.
    fits: Vec<(&'a ServiceSpec, Vec<bool>)>,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    ports: Vec<(Protocol, u16)>,
    services: Vec<ServiceKey>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(nodes: &'a [Candidate<'a>]) -> Self {
        let mut sorted: Vec<(u64, u64, usize)> =
            nodes.iter().enumerate().map(|(index, c)| (c.weight, c.hash, index)).collect();
        sorted.sort_unstable_by_key(|(weight, _, index)| (*weight, *index));
        let mut weights: Vec<(u64, Range<usize>)> = Vec::new();
        for run in sorted.chunk_by(|a, b| a.0 == b.0) {
            let start = weights.last().map_or(0, |(_, range)| range.end);
            weights.extend(run.first().map(|(weight, ..)| (*weight, start..start + run.len())));
        }
        Self {
            nodes,
            room: nodes.iter().map(|c| c.room).collect(),
            taken: BTreeMap::new(),
            order: sorted.into_iter().map(|(_, hash, index)| (hash, index)).collect(),
            weights,
            fits: Vec::new(),
        }
    }

    /// Gives a replica to a candidate.
    pub(super) fn take(&mut self, index: usize, waiting: &Waiting<'_>) {
        let Some(room) = self.room.get_mut(index) else { return };
        *room = room.minus(&waiting.spec.reservation);
        for (spec, fits) in &mut self.fits {
            if let Some(fits) = fits.get_mut(index) {
                *fits = *fits && room.holds(&spec.reservation);
            }
        }
        let taken = self.taken.entry(index).or_default();
        taken.ports.extend(waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n))));
        taken.services.push(waiting.replica.service.clone());
    }

    /// Where to look up which candidates fit this specification.
    fn fits(&mut self, spec: &'a ServiceSpec) -> usize {
        let known = self.fits.iter().position(|(known, _)| core::ptr::eq(*known, spec));
        known.unwrap_or_else(|| {
            let fits =
                |(c, room): (&Candidate<'_>, &Resources)| room.holds(&spec.reservation) && unsuited(spec, c).is_none();
            self.fits.push((spec, self.nodes.iter().zip(&self.room).map(fits).collect()));
            self.fits.len() - 1
        })
    }

    /// A replica, ready to be looked at.
    pub(super) fn asks(&mut self, waiting: &Waiting<'a>) -> Asking<'a> {
        let hash = replica_hash(waiting.replica);
        let has_ports = waiting.spec.ports.iter().any(|p| p.published.is_some());
        Asking { waiting: *waiting, hash, fits: self.fits(waiting.spec), has_ports }
    }

    /// The hashes with a replica and the indices of the nodes of each weight.
    fn classes(&self, replica: u64) -> impl Iterator<Item = (u64, impl Iterator<Item = (u64, usize)>)> {
        self.weights.iter().map(move |(weight, range)| {
            let order = self.order.get(range.clone()).unwrap_or_default();
            (*weight, order.iter().map(move |(node, index)| (mix(replica, *node), *index)))
        })
    }

    /// Each candidate's place in the replica's rendezvous order.
    pub(super) fn ranks(&self, asking: &Asking<'_>) -> impl Iterator<Item = (usize, Rank)> {
        let rank = |weight, hash, index| (index, rank_of(hash, weight));
        self.classes(asking.hash)
            .flat_map(move |(weight, class)| class.map(move |(hash, index)| rank(weight, hash, index)))
    }

    pub(super) fn rank(&self, asking: &Asking<'_>, index: usize) -> Option<Rank> {
        self.nodes.get(index).map(|c| rank(asking.hash, c.hash, c.weight))
    }

    pub(super) fn node(&self, index: usize) -> Option<NodeId> {
        self.nodes.get(index).map(|c| c.node)
    }

    /// The first candidates by rank on which it fits, at most so many.
    pub(super) fn first(&self, asking: &Asking<'_>, most: usize) -> Vec<(Rank, usize)> {
        let mut all: Vec<(Rank, Option<NodeId>, usize)> = Vec::new();
        for (weight, class) in self.classes(asking.hash) {
            let mut first: Vec<(Rank, Option<NodeId>, u64, usize)> = Vec::with_capacity(most + 1);
            let mut floor = 0;
            for (hash, index) in class {
                if hash < floor || !self.admits(asking, index) {
                    continue;
                }
                let entry = (rank_of(hash, weight), self.node(index), hash, index);
                first.insert(first.partition_point(|other| *other < entry), entry);
                first.truncate(most);
                if first.len() == most {
                    floor = first.last().map_or(0, |(_, _, hash, _)| hash.saturating_sub(SLACK));
                }
            }
            all.extend(first.into_iter().map(|(rank, node, _, index)| (rank, node, index)));
        }
        all.sort_unstable();
        all.truncate(most);
        all.into_iter().map(|(rank, _, index)| (rank, index)).collect()
    }

    /// How many candidates on which it fits stand before this one.
    pub(super) fn count_before(&self, asking: &Asking<'_>, mine: usize) -> Option<usize> {
        let (my_rank, me) = (self.rank(asking, mine)?, self.node(mine));
        let mut count = 0;
        for (weight, class) in self.classes(asking.hash) {
            let edge = first_below(my_rank, weight);
            for (hash, index) in class {
                let ties = || rank_of(hash, weight) == my_rank && self.node(index) < me;
                if (hash >= edge || (hash >= edge.saturating_sub(SLACK) && ties())) && self.admits(asking, index) {
                    count += 1;
                }
            }
        }
        Some(count)
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, asking: &Asking<'_>, index: usize) -> bool {
        let fits = self.fits.get(asking.fits).and_then(|(_, fits)| fits.get(index)) == Some(&true);
        fits && (!asking.is_particular() || self.admits_particular(asking, index))
    }

    fn admits_particular(&self, asking: &Asking<'_>, index: usize) -> bool {
        let Asking { waiting, .. } = asking;
        let Some(candidate) = self.nodes.get(index) else { return false };
        let taken = self.taken.get(&index);
        let port_free =
            |port: (Protocol, u16)| !candidate.taken.contains(&port) && taken.is_none_or(|t| !t.ports.contains(&port));
        let mut fixed = waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n)));
        fixed.all(port_free) && fixed_misfit(waiting, candidate).is_none()
    }

    /// The candidate with its score, if the replica fits.
    pub(super) fn fitted(&self, asking: &Asking<'_>, index: usize, rank: Rank) -> Option<Fitted> {
        let candidate = self.nodes.get(index).filter(|_| self.admits(asking, index))?;
        let waiting = &asking.waiting;
        let room = self.room.get(index)?.minus(&waiting.spec.reservation);
        let all = candidate.header.allocatable;
        let cpu = share(room.cpu_milli, all.cpu_milli);
        let memory = share(room.memory_bytes, all.memory_bytes);
        let same = |t: &Taken| t.services.iter().filter(|s| **s == waiting.replica.service).count();
        let planned = self.taken.get(&index).map_or(0, same);
        let running = candidate.services.iter().find(|(service, _)| *service == waiting.replica.service);
        let running = running.map_or(0, |(_, count)| *count);
        Some(Fitted {
            node: candidate.node,
            index,
            rank,
            same_service: running.saturating_add(u32::try_from(planned).unwrap_or(u32::MAX)),
            uneven: cpu.abs_diff(memory) / 100,
            left: cpu + memory,
        })
    }
}

/// A replica that is being placed.
pub(super) struct Asking<'a> {
    pub(super) waiting: Waiting<'a>,
    hash: u64,
    fits: usize,
    has_ports: bool,
}

impl Asking<'_> {
    /// True if a candidate that suits its specification and has room for it may still not take it.
    fn is_particular(&self) -> bool {
        self.has_ports || !self.waiting.refused_by.is_empty() || matches!(self.waiting.replica.slot, Slot::Node(_))
    }
}

/// Part of a whole in ten-thousandths.
fn share(part: u64, whole: u64) -> u64 {
    let whole = u128::from(whole.max(1));
    u64::try_from(u128::from(part) * 10_000 / whole).unwrap_or(u64::MAX)
}

/// Size class of a reservation: a power of two of its weight, so that small differences do not reorder.
pub(super) fn size_class(reservation: &Resources) -> u32 {
    64 - super::rank::weight(reservation).leading_zeros()
}
