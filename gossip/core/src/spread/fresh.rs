//! Which records arrived so recently that they are likely on their way to everybody: a sync leaves them out, and a second
//! copy of them is recognised by its hash alone.
//!
//! Two tables take turns: new arrivals go into the younger, and when that is old enough or full, the older is emptied and
//! becomes the younger. So an arrival is known for one to two turns, and neither looking nor forgetting walks anything.

use alloc::vec::Vec;
use core::mem;

use crate::time::{Duration, Instant};
use crate::wire::Record;

/// Arrivals of one turn. Beyond it the oldest are forgotten, which costs at most a record sent twice.
const MAX_FRESH: usize = 4_096;

/// Recent arrivals.
#[derive(Debug)]
pub(crate) struct Fresh {
    turn: Duration,
    since: Instant,
    young: Table,
    old: Table,
}

/// When each hash arrived: open addressing, at most half full. Only ever looked up, never walked, so that its order is
/// nobody's business.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<(u64, Instant)>,
    used: usize,
}

/// Marks a free slot; a record with this hash is merely never recognised.
const FREE: u64 = 0;

impl Table {
    fn slot(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
        while self.slots.get(at).is_some_and(|(held, _)| *held != FREE && *held != hash) {
            at = (at + 1) & mask;
        }
        at
    }

    fn get(&self, hash: u64) -> Option<Instant> {
        if self.used == 0 || hash == FREE {
            return None;
        }
        self.slots.get(self.slot(hash)).filter(|(held, _)| *held == hash).map(|(_, at)| *at)
    }

    fn insert(&mut self, hash: u64, now: Instant) {
        if hash == FREE {
            return;
        }
        if (self.used + 1) * 2 > self.slots.len() {
            let doubled = (self.slots.len() * 2).max(64);
            let held = mem::replace(&mut self.slots, alloc::vec![(FREE, Instant::ZERO); doubled]);
            self.used = 0;
            held.into_iter().for_each(|(hash, at)| self.insert(hash, at));
        }
        let at = self.slot(hash);
        if let Some(slot) = self.slots.get_mut(at) {
            self.used += usize::from(slot.0 == FREE);
            *slot = (hash, now);
        }
    }

    /// Empties it; a table that grew large in a storm is given back.
    fn clear(&mut self) {
        if self.used * 8 < self.slots.len() {
            self.slots = Vec::new();
        } else {
            self.slots.fill((FREE, Instant::ZERO));
        }
        self.used = 0;
    }
}

impl Fresh {
    /// Arrivals are known for at least `turn`.
    pub(crate) fn new(turn: Duration, now: Instant) -> Self {
        Self { turn, since: now, young: Table::default(), old: Table::default() }
    }

    pub(crate) fn note(&mut self, now: Instant, record: &Record) {
        if self.young.used >= MAX_FRESH || self.since + self.turn <= now {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            if self.since + self.turn * 2 <= now {
                self.old.clear();
            }
            self.since = now;
        }
        self.young.insert(record.hash(), now);
    }

    /// True if a record with this hash arrived of late.
    pub(crate) fn knows(&self, hash: u64) -> bool {
        self.arrived(hash).is_some()
    }

    fn arrived(&self, hash: u64) -> Option<Instant> {
        self.young.get(hash).or_else(|| self.old.get(hash))
    }

    /// True if the record arrived since, so that a link which stood at that moment has been sent it.
    pub(crate) fn arrived_since(&self, record: &Record, since: Instant) -> bool {
        self.arrived(record.hash()).is_some_and(|at| at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hlc::Hlc;
    use crate::id::{Generation, NodeId};
    use crate::wire::{RecordId, Stamp};

    fn record(n: u64) -> Record {
        let stamp = Stamp::Sequence { generation: Generation(1), sequence: n };
        Record::write(RecordId::header(NodeId([7; 16])), stamp, Hlc(n), Some(&[]))
    }

    #[test]
    fn an_arrival_is_known_for_a_turn_and_forgotten_after_two() {
        let turn = Duration::from_secs(2);
        let mut fresh = Fresh::new(turn, Instant::ZERO);
        fresh.note(Instant::from_millis(1_900), &record(1));
        fresh.note(Instant::from_millis(2_100), &record(2));
        fresh.note(Instant::from_millis(3_800), &record(3));
        assert!((1..=3).all(|n| fresh.knows(record(n).hash())));
        assert!(fresh.arrived_since(&record(2), Instant::from_millis(2_100)));
        assert!(!fresh.arrived_since(&record(2), Instant::from_millis(2_101)));
        fresh.note(Instant::from_millis(4_200), &record(4));
        assert!(!fresh.knows(record(1).hash()));
        assert!((2..=4).all(|n| fresh.knows(record(n).hash())));
        fresh.note(Instant::from_millis(60_000), &record(5));
        assert!((1..=4).all(|n| !fresh.knows(record(n).hash())));
    }

    #[test]
    fn a_storm_is_bounded_and_the_newest_stay_known() {
        let mut fresh = Fresh::new(Duration::from_secs(2), Instant::ZERO);
        (0..20_000).for_each(|n| fresh.note(Instant::from_millis(n / 100), &record(n)));
        assert!(fresh.young.slots.len() <= 4 * MAX_FRESH && fresh.old.slots.len() <= 4 * MAX_FRESH);
        assert!((20_000 - MAX_FRESH as u64..20_000).all(|n| fresh.knows(record(n).hash())));
        assert!(!fresh.knows(record(0).hash()));
    }
}
