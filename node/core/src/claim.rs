//! When to claim, what order claims have, and which of two claims stays. Pure arithmetic; the model test in
//! `tests/claim_model.rs` explores every interleaving of it.
//!
//! Claiming is a ladder, not a belief: a node at position p claims once the replica has been seen without a live claim for
//! p steps, whether or not it believes another better. ("I claim when I believe that I am best" leaves replicas unclaimed
//! for good when beliefs differ.) Duplicates that follow are resolved by [`should_yield`], the same way on every node.

use alloc::string::String;
use alloc::vec::Vec;

use dunlin_gossip::canary::{Bug, planted};
use dunlin_gossip::hlc::Hlc;
use dunlin_gossip::id::NodeId;
use dunlin_gossip::model::{
    AllocId, Allocation, DeviceHold, Epoch, Held, Phase, Prefer, PublishedPort, ReplicaKey, Tail,
};
use dunlin_gossip::time::{Duration, Wall};

pub use crate::allocation::choose_ports;
use crate::place::K;
use crate::view::InForce;

/// A step is never shorter: below it, two nodes would race on ordinary scheduling noise.
pub const MIN_STEP: Duration = Duration::from_millis(300);
/// Nor longer, whatever the spread estimate says: waiting must stay bounded.
pub const MAX_STEP: Duration = Duration::from_secs(10);
/// First wait after a refusal.
pub const REFUSAL_FIRST: Duration = Duration::from_secs(10);
/// Longest wait after refusals.
pub const REFUSAL_LAST: Duration = Duration::from_secs(600);

/// What decides between two live claims of one replica and revision.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClaimView {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its owner.
    pub node: NodeId,
    /// Whether it was ready once. Never live health: that makes both stop, or flip-flop.
    pub ready_once: bool,
}

/// One rung of the ladder: twice the time in which a claim reaches everybody.
#[must_use]
pub fn step(spread: Duration) -> Duration {
    spread.saturating_mul(2).clamp(MIN_STEP, MAX_STEP)
}

/// How long the node at this position waits. Up to [`K`] one step each; beyond, a step doubles every [`K`] positions.
#[must_use]
pub fn wait(position: usize, step: Duration) -> Duration {
    let mut total = Duration::ZERO;
    let mut rung = step;
    let mut left = position;
    // Twelve doublings exceed any wait that makes sense; the bound keeps the arithmetic finite for any position.
    for _ in 0..12 {
        let here = left.min(K);
        total = total.saturating_add(rung.saturating_mul(u32::try_from(here).unwrap_or(u32::MAX)));
        left -= here;
        if left == 0 {
            break;
        }
        rung = rung.saturating_mul(2);
    }
    total
}

/// The epoch of a new claim: `max(HLC, highest known epoch of that replica + 1)`.
#[must_use]
pub fn next_epoch(hlc: Hlc, known: Option<Epoch>) -> Epoch {
    if let Some(epoch) = known.filter(|_| planted(Bug::EpochNotRaised)) {
        return epoch;
    }
    Epoch(hlc.0.max(known.map_or(0, |e| e.0.saturating_add(1))))
}

/// True if the owner of `mine` withdraws for good on seeing `other` live on the same replica and revision.
#[must_use]
pub fn should_yield(mine: &ClaimView, other: &ClaimView, prefer: Prefer) -> bool {
    if planted(Bug::BothYield) || planted(Bug::NeitherYields) {
        return planted(Bug::BothYield);
    }
    let lower = (mine.epoch, mine.node) < (other.epoch, other.node);
    match prefer {
        Prefer::New | Prefer::Majority => lower,
        Prefer::Ready if mine.ready_once == other.ready_once => lower,
        Prefer::Old if mine.ready_once == other.ready_once => !lower,
        Prefer::Ready | Prefer::Old => other.ready_once,
    }
}

/// A new claim of a replica. Nothing of it runs yet.
#[must_use]
pub fn first(
    node: NodeId,
    replica: &ReplicaKey,
    force: &InForce,
    ports: Vec<PublishedPort>,
    devices: Vec<DeviceHold>,
    epoch: Epoch,
    wall: Wall,
) -> (AllocId, Allocation) {
    let record = Allocation {
        replica: replica.clone(),
        revision: force.revision,
        epoch,
        reservation: force.service.spec.reservation,
        ports,
        ready_once: false,
        phase: Phase::Pending,
        ready: false,
        endpoint: None,
        restarts: 0,
        since: wall,
        detail: String::new(),
        held: Tail(Held { further: force.service.spec.placing.further, devices, ..Held::default() }.boxed()),
    };
    (AllocId::of(replica, epoch, node), record)
}

/// How long a node that refuses for the `count`th time in a row stays out of the candidates.
#[must_use]
pub fn refusal_backoff(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(10);
    REFUSAL_FIRST.saturating_mul(1 << doublings).min(REFUSAL_LAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_climbs_one_step_each_then_doubles() {
        let s = Duration::from_millis(300);
        assert_eq!(wait(0, s), Duration::ZERO);
        assert_eq!(wait(1, s), s);
        assert_eq!(wait(8, s), s * 8);
        assert_eq!(wait(9, s), s * 8 + s * 2);
        assert_eq!(wait(17, s), s * 8 + s * 16 + s * 4);
        assert!(wait(usize::MAX, MAX_STEP) < Duration::from_secs(1_000_000));
    }

    #[test]
    fn exactly_one_of_two_claims_yields() {
        let nodes = [NodeId([1; 16]), NodeId([2; 16])];
        for prefer in [Prefer::Ready, Prefer::New, Prefer::Old, Prefer::Majority] {
            for bits in 0..8_u32 {
                let a = ClaimView { epoch: Epoch(5), node: nodes[0], ready_once: bits & 1 != 0 };
                let b = ClaimView { epoch: Epoch(5 + u64::from(bits >> 2)), node: nodes[1], ready_once: bits & 2 != 0 };
                assert_ne!(should_yield(&a, &b, prefer), should_yield(&b, &a, prefer), "{prefer:?} {a:?} {b:?}");
            }
        }
    }

    #[test]
    fn refusals_double_up_to_ten_minutes() {
        assert_eq!(refusal_backoff(1), REFUSAL_FIRST);
        assert_eq!(refusal_backoff(2), REFUSAL_FIRST * 2);
        assert_eq!(refusal_backoff(99), REFUSAL_LAST);
    }
}
