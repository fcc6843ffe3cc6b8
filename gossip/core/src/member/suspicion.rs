//! One suspicion: who has found the member silent, and how long it still has to contradict.
//!
//! Lifeguard's rule (Dadgar et al., 2018): whom one member alone suspects has long, and the more members found the same by
//! themselves, the shorter. Never: the same witness twice.

use alloc::vec::Vec;

use crate::canary::{Bug, planted};
use crate::time::{Duration, Instant};

/// The longest time to contradict, in shortest times.
const LONGEST: u32 = 6;

/// log2 of 1, 2, ... in thousandths.
const LOG2: [u32; 10] = [0, 1_000, 1_585, 2_000, 2_322, 2_585, 2_807, 3_000, 3_170, 3_322];

/// Between the longest time (nobody but the accuser) and the shortest (as many as are enough), by the logarithm: the first
/// to confirm says more than the last.
pub(super) fn patience(shortest: Duration, confirmations: usize, enough: usize) -> Duration {
    let log = |count: usize| LOG2.get(count).or(LOG2.last()).copied().unwrap_or(0);
    let (reached, whole) = (log(confirmations.min(enough)), log(enough));
    if whole == 0 {
        return shortest;
    }
    let longest = shortest.saturating_mul(LONGEST);
    longest - longest.saturating_sub(shortest).saturating_mul(reached) / whole
}

/// Who found the member silent.
#[derive(Clone, Copy, Debug)]
struct Witness {
    short: u64,
    /// He says so aloud; otherwise he was asked by an accuser, and got no answer.
    accuses: bool,
}

/// A suspicion.
#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    witnesses: Vec<Witness>,
    /// So many witnesses beside the first are enough.
    enough: usize,
    /// When it began; later if we ourselves stood still meanwhile.
    pub(super) since: Instant,
    /// When it ends, unless the member gives a sign of life.
    pub(super) due: Instant,
    /// Somebody whom we asked has heard the member since.
    pub(super) vouched: Option<Instant>,
    /// We ask it, until it answers or its time is over.
    pub(super) asked: bool,
    /// It began with somebody calling the member down.
    pub(super) hearsay: bool,
}

impl Suspicion {
    pub(super) fn new(now: Instant, accuser: u64, enough: usize) -> Self {
        let witnesses = Vec::from([Witness { short: accuser, accuses: true }]);
        Self { witnesses, enough, since: now, due: now, vouched: None, asked: false, hearsay: false }
    }

    /// Somebody else found the same. True if that is new and counts.
    pub(super) fn confirm(&mut self, short: u64, accuses: bool) -> bool {
        if planted(Bug::ConfirmationsIgnored) {
            return false;
        }
        let known = self.witnesses.iter_mut().find(|witness| witness.short == short);
        if let Some(witness) = known {
            witness.accuses |= accuses;
            return false;
        }
        let is_wanted = self.witnesses.len() <= self.enough;
        if is_wanted {
            self.witnesses.push(Witness { short, accuses });
        }
        is_wanted
    }

    /// One of those who say so, in turns.
    pub(super) fn accuser(&self, turn: usize) -> Option<u64> {
        let accusers = || self.witnesses.iter().filter(|witness| witness.accuses);
        accusers().nth(turn % accusers().count().max(1)).map(|witness| witness.short)
    }

    /// How long the member has from the beginning.
    pub(super) fn patience(&self, shortest: Duration) -> Duration {
        // Who calls a member down has waited for it already.
        let confirmations = if self.hearsay { self.enough } else { self.witnesses.len() - 1 };
        patience(shortest, confirmations, self.enough)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_falls_from_the_longest_to_the_shortest_by_the_logarithm() {
        let shortest = Duration::from_millis(1_000);
        let times: Vec<u128> = (0..=7).map(|count| patience(shortest, count, 5).as_millis()).collect();
        assert_eq!(times, [6_000, 4_065, 2_934, 2_131, 1_508, 1_000, 1_000, 1_000]);
        assert_eq!(patience(shortest, 0, 0), shortest, "nobody is there who could confirm");
        assert_eq!((patience(shortest, 0, 1), patience(shortest, 1, 1)), (shortest * 6, shortest));
    }

    #[test]
    fn each_witness_counts_once_and_no_more_than_are_enough() {
        let mut suspicion = Suspicion::new(Instant::ZERO, 1, 2);
        assert!(!suspicion.confirm(1, true));
        assert!(suspicion.confirm(2, false));
        assert!(!suspicion.confirm(2, true));
        assert!(suspicion.confirm(3, false));
        assert!(!suspicion.confirm(4, true), "enough is enough");
        assert_eq!([0, 1, 2].map(|turn| suspicion.accuser(turn)), [Some(1), Some(2), Some(1)]);
        assert_eq!(suspicion.patience(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
