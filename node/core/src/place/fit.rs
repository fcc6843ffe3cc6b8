//! How well a replica fits, and the ledger of what the plan has already given away.
//!
//! The score, smaller first: replicas of the same service already there (so that one lost node never takes a whole service
//! with it while others have room), then fragmentation (how unevenly cpu and memory would be left, in hundredths), then
//! best fit (the fuller node), then the rendezvous rank. The consolidating tie-break matters more than k.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{Protocol, Resources, ServiceKey};

use super::Waiting;
use super::filter::{Candidate, fixed_misfit};
use super::rank::Rank;

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

/// What earlier replicas of a plan would take, by candidate index.
#[derive(Clone, Debug, Default)]
pub(super) struct Tentative(BTreeMap<usize, Taken>);

#[derive(Clone, Debug, Default)]
struct Taken {
    used: Resources,
    ports: Vec<(Protocol, u16)>,
    services: Vec<ServiceKey>,
}

impl Tentative {
    /// Gives a replica to a candidate.
    pub(super) fn take(&mut self, index: usize, waiting: &Waiting<'_>) {
        let taken = self.0.entry(index).or_default();
        taken.used = taken.used.plus(&waiting.spec.reservation);
        taken.ports.extend(waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n))));
        taken.services.push(waiting.replica.service.clone());
    }

    /// True if the replica fits, what was given away included.
    pub(super) fn admits(&self, waiting: &Waiting<'_>, index: usize, candidate: &Candidate<'_>) -> bool {
        let taken = self.0.get(&index);
        let room = taken.map_or(candidate.room, |t| candidate.room.minus(&t.used));
        let port_free =
            |port: (Protocol, u16)| !candidate.taken.contains(&port) && taken.is_none_or(|t| !t.ports.contains(&port));
        let mut fixed = waiting.spec.ports.iter().filter_map(|p| p.published.map(|n| (p.protocol, n)));
        room.holds(&waiting.spec.reservation) && fixed.all(port_free) && fixed_misfit(waiting, candidate).is_none()
    }
}

/// The candidate with its score, if the replica fits.
pub(super) fn fitted(
    waiting: &Waiting<'_>,
    index: usize,
    candidate: &Candidate<'_>,
    rank: Rank,
    tentative: &Tentative,
) -> Option<Fitted> {
    if !tentative.admits(waiting, index, candidate) {
        return None;
    }
    let taken = tentative.0.get(&index);
    let room = taken.map_or(candidate.room, |t| candidate.room.minus(&t.used)).minus(&waiting.spec.reservation);
    let all = candidate.header.allocatable;
    let cpu = share(room.cpu_milli, all.cpu_milli);
    let memory = share(room.memory_bytes, all.memory_bytes);
    let planned = taken.map_or(0, |t| t.services.iter().filter(|s| **s == waiting.replica.service).count());
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

/// Part of a whole in ten-thousandths.
fn share(part: u64, whole: u64) -> u64 {
    let whole = u128::from(whole.max(1));
    u64::try_from(u128::from(part) * 10_000 / whole).unwrap_or(u64::MAX)
}

/// Size class of a reservation: a power of two of its weight, so that small differences do not reorder.
pub(super) fn size_class(reservation: &Resources) -> u32 {
    64 - super::rank::weight(reservation).leading_zeros()
}
