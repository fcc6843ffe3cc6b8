//! How well a replica fits, and the ledger of what the plan has already given away.
//!
//! The score, smaller first: replicas of the same service already there (so that one lost node never takes a whole service
//! with it while others have room), then fragmentation (how unevenly cpu and memory would be left, in hundredths), then
//! best fit (the fuller node), then the rendezvous rank. The consolidating tie-break matters more than k.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Protocol, Resources, ServiceKey, ServiceSpec, Slot};

use super::Waiting;
use super::filter::{Candidate, fixed_misfit, unsuited};
use super::rank::{Rank, rank, replica_hash};

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
pub(super) struct Ground<'a> {
    nodes: &'a [Candidate<'a>],
    /// Hash, weight and room left: all that most candidates are asked for, close together.
    brief: Vec<(u64, u64, Resources)>,
    taken: BTreeMap<usize, Taken>,
    /// Of each specification that came along: which candidates have the driver and meet the constraints.
    suits: Vec<(&'a ServiceSpec, Vec<bool>)>,
}

#[derive(Clone, Debug, Default)]
struct Taken {
    ports: Vec<(Protocol, u16)>,
    services: Vec<ServiceKey>,
}

impl<'a> Ground<'a> {
    pub(super) fn new(nodes: &'a [Candidate<'a>]) -> Self {
        let brief = nodes.iter().map(|c| (c.hash, c.weight, c.room)).collect();
        Self { nodes, brief, taken: BTreeMap::new(), suits: Vec::new() }
    }

    /// Gives a replica to a candidate.
    pub(super) fn take(&mut self, index: usize, waiting: &Waiting<'_>) {
        if let Some((_, _, room)) = self.brief.get_mut(index) {
            *room = room.minus(&waiting.spec.reservation);
        }
        let taken = self.taken.entry(index).or_default();
        taken.ports.extend(waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n))));
        taken.services.push(waiting.replica.service.clone());
    }

    /// Where to look up which candidates suit this specification.
    fn suits(&mut self, spec: &'a ServiceSpec) -> usize {
        let known = self.suits.iter().position(|(known, _)| core::ptr::eq(*known, spec));
        known.unwrap_or_else(|| {
            let suits = self.nodes.iter().map(|c| unsuited(spec, c).is_none()).collect();
            self.suits.push((spec, suits));
            self.suits.len() - 1
        })
    }

    /// A replica, ready to be looked at.
    pub(super) fn asks(&mut self, waiting: &Waiting<'a>) -> Asking<'a> {
        let has_ports = waiting.spec.ports.iter().any(|p| p.published.is_some());
        Asking { waiting: *waiting, hash: replica_hash(waiting.replica), suits: self.suits(waiting.spec), has_ports }
    }

    /// Each candidate's place in the replica's rendezvous order.
    pub(super) fn ranks(&self, asking: &Asking<'_>) -> impl Iterator<Item = (usize, Rank)> {
        let hash = asking.hash;
        self.brief.iter().enumerate().map(move |(index, (node, weight, _))| (index, rank(hash, *node, *weight)))
    }

    pub(super) fn rank(&self, asking: &Asking<'_>, index: usize) -> Option<Rank> {
        self.brief.get(index).map(|(node, weight, _)| rank(asking.hash, *node, *weight))
    }

    pub(super) fn node(&self, index: usize) -> Option<NodeId> {
        self.nodes.get(index).map(|c| c.node)
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, asking: &Asking<'_>, index: usize) -> bool {
        let Asking { waiting, .. } = asking;
        let has_room = self.brief.get(index).is_some_and(|(_, _, room)| room.holds(&waiting.spec.reservation));
        let suits = || self.suits.get(asking.suits).and_then(|(_, suits)| suits.get(index)) == Some(&true);
        if !has_room || !suits() {
            return false;
        }
        let Some(candidate) = self.nodes.get(index).filter(|_| asking.is_particular()) else {
            return !asking.is_particular();
        };
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
        let room = self.brief.get(index)?.2.minus(&waiting.spec.reservation);
        let all = candidate.header.allocatable;
        let cpu = share(room.cpu_milli, all.cpu_milli);
        let memory = share(room.memory_bytes, all.memory_bytes);
        let same = |t: &Taken| t.services.iter().filter(|s| **s == waiting.replica.service).count();
        let planned = self.taken.get(&index).map_or(0, same);
        let running = candidate.services.get(&waiting.replica.service).copied().unwrap_or(0);
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
    suits: usize,
    has_ports: bool,
}

impl Asking<'_> {
    /// True if a candidate that has room and suits its specification may still not take it.
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
