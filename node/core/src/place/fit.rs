//! How well a replica fits on a node on which it can be.
//!
//! The score, smaller first: wishes that are not met; replicas of the service at the same label value; replicas of the service on
//! the node (so that one lost node never takes a whole service with it while others have room); whether devices would stand idle
//! beside it; how much the fragments of devices grow; how unevenly cpu and memory would be left, in hundredths; best fit (the
//! fuller node); then the rendezvous rank. The consolidating tie-break matters more than k.

use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{ServiceSpec, Strategy};

use super::company::Welcome;
use super::device::{self, Units};
use super::filter::Candidate;
use super::mix::Mix;
use super::rank::Rank;
use super::room::Room;

/// How good a candidate is; smaller is better, the first difference decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, serde::Serialize)]
pub struct Score {
    /// The weights of the affinities that would not be met.
    pub unmet: u64,
    /// Replicas of the service at the same values of the labels over which it spreads.
    pub crowd: u64,
    /// Replicas of the service on the node.
    pub same_service: u32,
    /// One if devices would stand beside what asks for none.
    pub idle_devices: u32,
    /// By how much the fragments of its devices would grow, in 25ths of a device.
    pub fragments: i64,
    /// How unevenly cpu and memory would be left, in hundredths.
    pub uneven: u64,
    /// How much would be left (of a service that spreads: would not), in ten-thousandths of each resource.
    pub left: u64,
}

/// A node on which a replica fits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fitted {
    pub(super) node: NodeId,
    pub(super) index: usize,
    pub(super) rank: Rank,
    pub(super) score: Score,
}

impl Fitted {
    /// What best-of-k sorts by.
    pub(super) fn key(&self) -> (Score, Rank, NodeId) {
        (self.score, self.rank, self.node)
    }
}

/// How good it would be to have a replica on a candidate that has so much left.
pub(super) fn score(
    spec: &ServiceSpec,
    candidate: &Candidate<'_>,
    (before, units): (&Room, &Units),
    mix: &Mix,
    welcome: Welcome,
    same_service: u32,
) -> Score {
    let room = before.minus(&Room::needed(spec));
    let all = candidate.header.allocatable;
    let cpu = share(room.base.cpu_milli, all.cpu_milli);
    let memory = share(room.base.memory_bytes, all.memory_bytes);
    let (mut left, mut uneven, mut fragments) = (cpu + memory, cpu.abs_diff(memory) / 100, 0);
    if !units.is_empty() {
        let mut after = units.to_vec();
        let supply = &candidate.header.supply;
        let holds = device::choose(&spec.placing.devices, supply, &after).unwrap_or_default();
        device::take(&mut after, &holds);
        fragments = growth(mix.fragments(before, supply, units), mix.fragments(&room, supply, &after));
        let idle: u64 = after.iter().copied().map(u64::from).sum();
        (left, uneven) = (cpu + share(idle, after.len() as u64 * 1_000), 0);
    }
    let idle_devices = u32::from(spec.placing.devices.is_empty() && !units.is_empty());
    let packed =
        Score { unmet: welcome.unmet, crowd: welcome.crowd, same_service, idle_devices, fragments, uneven, left };
    match spec.placing.strategy {
        Strategy::Apart => packed,
        Strategy::Binpack => Score { same_service: 0, ..packed },
        Strategy::Spread => Score { fragments: 0, uneven: 0, left: FULL.saturating_sub(left), ..packed },
    }
}

/// Two resources, nothing of them taken, in ten-thousandths.
const FULL: u64 = 20_000;

/// By how much fragments grow, in 25ths of a device. Coarse by intent: what differs by less is told apart by best fit.
fn growth(before: u64, after: u64) -> i64 {
    /// 40 thousandths of a device, in the unit of fragments.
    const STEP: i128 = 40 << 16;
    let grown = i128::from(after) - i128::from(before);
    i64::try_from((grown + STEP / 2).div_euclid(STEP)).unwrap_or(i64::MAX)
}

/// Part of a whole in ten-thousandths.
fn share(part: u64, whole: u64) -> u64 {
    let whole = whole.max(1);
    // Wide division is slow, and most amounts do not need it.
    part.checked_mul(10_000).map_or_else(
        || u64::try_from(u128::from(part) * 10_000 / u128::from(whole)).unwrap_or(u64::MAX),
        |part| part / whole,
    )
}

/// Size class of a specification: first by devices, then a power of two of its weight, so that small differences do not
/// reorder.
pub(super) fn size_class(spec: &ServiceSpec) -> (u64, u32) {
    let devices = spec.placing.devices.iter().map(|d| u64::from(d.count) * u64::from(d.milli)).sum();
    (devices, 64 - super::rank::weight(&spec.reservation).leading_zeros())
}

/// How many rules narrow where it may be, besides constraints and ports.
pub(super) fn demands(spec: &ServiceSpec) -> usize {
    let placing = &spec.placing;
    let models = placing.devices.iter().filter(|d| !d.models.is_empty()).count();
    let hard = placing.affinities.iter().filter(|a| a.weight.is_none()).count();
    models + hard + placing.skews.len() + usize::from(placing.max_per_node.is_some())
}
