//! Which records arrived so recently that they are likely on their way to everybody: a sync leaves them out, a second
//! copy of them is recognised by its hash alone, and who heard only of the hash is given them.
//!
//! Two tables take turns: new arrivals go into the younger, and when that is old enough or full, the older is emptied and
//! becomes the younger. So an arrival is known for one to two turns, and neither looking nor forgetting walks anything.

use alloc::vec::Vec;
use core::mem;

use crate::face::LinkId;
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

/// What arrived.
#[derive(Clone, Debug)]
struct Arrival {
    hash: u64,
    at: Instant,
    /// The link over which it came first, if it came over one.
    over: Option<LinkId>,
    /// None if we held something newer: nothing came of it.
    record: Option<Record>,
}

/// The arrivals by hash: open addressing, at most half full. Only ever looked up, never walked, so that its order is
/// nobody's business.
#[derive(Debug, Default)]
struct Table {
    slots: Vec<Arrival>,
    used: usize,
}

/// Marks a free slot; a record with this hash is merely never recognised.
const FREE: u64 = 0;
const EMPTY: Arrival = Arrival { hash: FREE, at: Instant::ZERO, over: None, record: None };

impl Table {
    fn slot(&self, hash: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = usize::try_from(hash & mask as u64).unwrap_or(0);
        while self.slots.get(at).is_some_and(|held| held.hash != FREE && held.hash != hash) {
            at = (at + 1) & mask;
        }
        at
    }

    fn get(&self, hash: u64) -> Option<&Arrival> {
        if self.used == 0 || hash == FREE {
            return None;
        }
        self.slots.get(self.slot(hash)).filter(|held| held.hash == hash)
    }

    fn insert(&mut self, arrival: Arrival) {
        if arrival.hash == FREE {
            return;
        }
        if (self.used + 1) * 2 > self.slots.len() {
            let doubled = (self.slots.len() * 2).max(64);
            let held = mem::replace(&mut self.slots, alloc::vec![EMPTY; doubled]);
            self.used = 0;
            held.into_iter().for_each(|arrival| self.insert(arrival));
        }
        let at = self.slot(arrival.hash);
        if let Some(slot) = self.slots.get_mut(at) {
            self.used += usize::from(slot.hash == FREE);
            *slot = arrival;
        }
    }

    /// Empties it; a table that grew large in a storm is given back.
    fn clear(&mut self) {
        if self.used * 8 < self.slots.len() {
            self.slots = Vec::new();
        } else {
            self.slots.fill(EMPTY);
        }
        self.used = 0;
    }
}

impl Fresh {
    /// Arrivals are known for at least `turn`.
    pub(crate) fn new(turn: Duration, now: Instant) -> Self {
        Self { turn, since: now, young: Table::default(), old: Table::default() }
    }

    /// A record arrived that we did not hold.
    pub(crate) fn note(&mut self, now: Instant, record: &Record, over: Option<LinkId>) {
        self.insert(now, Arrival { hash: record.hash(), at: now, over, record: Some(record.clone()) });
    }

    /// A record arrived of which nothing came. It may be taken again.
    pub(crate) fn note_old(&mut self, now: Instant, hash: u64) {
        if self.arrived(hash).is_none() {
            self.insert(now, Arrival { hash, at: now, over: None, record: None });
        }
    }

    fn insert(&mut self, now: Instant, arrival: Arrival) {
        if self.young.used >= MAX_FRESH || self.since + self.turn <= now {
            mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            if self.since + self.turn * 2 <= now {
                self.old.clear();
            }
            self.since = now;
        }
        self.young.insert(arrival);
    }

    /// True if a record with this hash arrived of late and was new.
    pub(crate) fn knows(&self, hash: u64) -> bool {
        self.record(hash).is_some()
    }

    /// True if a record with this hash arrived of late, new or not.
    pub(crate) fn heard(&self, hash: u64) -> bool {
        self.arrived(hash).is_some()
    }

    /// The record with this hash, if it arrived of late.
    pub(crate) fn record(&self, hash: u64) -> Option<&Record> {
        self.arrived(hash)?.record.as_ref()
    }

    /// The link over which it came first, if it came over one of late.
    pub(crate) fn first_over(&self, hash: u64) -> Option<LinkId> {
        self.arrived(hash)?.over
    }

    fn arrived(&self, hash: u64) -> Option<&Arrival> {
        self.young.get(hash).or_else(|| self.old.get(hash))
    }

    /// True if the record arrived since, so that a link which stood at that moment has been sent it.
    pub(crate) fn arrived_since(&self, record: &Record, since: Instant) -> bool {
        self.arrived(record.hash()).is_some_and(|held| held.record.is_some() && held.at >= since)
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
        fresh.note(Instant::from_millis(1_900), &record(1), None);
        fresh.note(Instant::from_millis(2_100), &record(2), None);
        fresh.note(Instant::from_millis(3_800), &record(3), None);
        assert!((1..=3).all(|n| fresh.knows(record(n).hash())));
        assert!(fresh.arrived_since(&record(2), Instant::from_millis(2_100)));
        assert!(!fresh.arrived_since(&record(2), Instant::from_millis(2_101)));
        fresh.note(Instant::from_millis(4_200), &record(4), None);
        assert!(!fresh.knows(record(1).hash()));
        assert!((2..=4).all(|n| fresh.knows(record(n).hash())));
        fresh.note(Instant::from_millis(60_000), &record(5), None);
        assert!((1..=4).all(|n| !fresh.knows(record(n).hash())));
    }

    #[test]
    fn what_was_old_on_arrival_is_heard_of_and_may_come_again() {
        let mut fresh = Fresh::new(Duration::from_secs(2), Instant::ZERO);
        let (new, old) = (record(1), record(2));
        fresh.note(Instant::ZERO, &new, Some(LinkId(5)));
        fresh.note_old(Instant::ZERO, new.hash());
        fresh.note_old(Instant::ZERO, old.hash());
        assert_eq!((fresh.record(new.hash()), fresh.first_over(new.hash())), (Some(&new), Some(LinkId(5))));
        assert!(fresh.heard(old.hash()) && !fresh.knows(old.hash()));
        assert!(!fresh.arrived_since(&old, Instant::ZERO));
    }

    #[test]
    fn a_storm_is_bounded_and_the_newest_stay_known() {
        let mut fresh = Fresh::new(Duration::from_secs(2), Instant::ZERO);
        (0..20_000).for_each(|n| fresh.note(Instant::from_millis(n / 100), &record(n), None));
        assert!(fresh.young.slots.len() <= 4 * MAX_FRESH && fresh.old.slots.len() <= 4 * MAX_FRESH);
        assert!((20_000 - MAX_FRESH as u64..20_000).all(|n| fresh.knows(record(n).hash())));
        assert!(!fresh.knows(record(0).hash()));
    }
}
