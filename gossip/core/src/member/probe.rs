//! The probe that is under way, and whom to ask for help with it.
//!
//! A probe of ours that fails accuses somebody. That needs witnesses: at least half of the members that we asked to probe in
//! our stead, and that spoke to us of late, must have answered us. If they did not, it is rather we who are not heard or do not
//! hear. What they answer late still counts. Never: a suspicion; only what speaks for one.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::identity::SwimId;
use crate::time::{Duration, Instant};

/// Members that spoke last, of which we remember so many.
const RECENT: usize = 16;

/// A member that was asked to probe in our stead.
#[derive(Clone, Copy, Debug)]
struct Relay {
    short: u64,
    /// It spoke to us shortly before.
    is_heard: bool,
    answered: bool,
}

/// One probe.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) number: u8,
    pub(super) target: SwimId,
    /// The incarnation under which it is probed.
    pub(super) incarnation: u16,
    pub(super) began: Instant,
    pub(super) acked: bool,
    /// The direct answer did not come in time.
    pub(super) indirect: bool,
    relays: Vec<Relay>,
}

impl Probe {
    pub(super) const fn new(number: u8, target: SwimId, incarnation: u16, began: Instant) -> Self {
        Self { number, target, incarnation, began, acked: false, indirect: false, relays: Vec::new() }
    }

    pub(super) fn ask(&mut self, short: u64, is_heard: bool) {
        self.relays.push(Relay { short, is_heard, answered: false });
    }

    /// A relay says that the target does not answer it.
    pub(super) fn nacked(&mut self, by: u64) {
        self.relays.iter_mut().filter(|relay| relay.short == by).for_each(|relay| relay.answered = true);
    }

    /// How many answers are missing for an accusation.
    pub(super) fn missing(&self) -> usize {
        let asked = self.relays.iter().filter(|relay| relay.is_heard).count();
        asked.div_ceil(2).saturating_sub(self.witnesses().count())
    }

    /// Who found what we found.
    pub(super) fn witnesses(&self) -> impl Iterator<Item = u64> {
        self.relays.iter().filter(|relay| relay.answered).map(|relay| relay.short)
    }
}

/// The members that spoke last, the latest first.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<u64>);

impl Recent {
    pub(super) fn spoke(&mut self, short: u64) {
        if self.0.front() == Some(&short) {
            return;
        }
        match self.0.iter().position(|known| *known == short) {
            Some(place) => drop(self.0.remove(place)),
            None => self.0.truncate(RECENT - 1),
        }
        self.0.push_front(short);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        self.0.iter().copied()
    }
}

/// Members wait for our word about others at most so many at a time; who asks beyond that goes without.
const MOST_OWED: usize = 64;

/// A word that we owe to who asked us to probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Owed {
    pub(super) at: Instant,
    pub(super) origin: SwimId,
    pub(super) target: SwimId,
    pub(super) number: u8,
}

/// The words that we owe, the earliest due first: all have the same time.
#[derive(Debug, Default)]
pub(super) struct Debts(VecDeque<Owed>);

impl Debts {
    pub(super) fn owe(&mut self, now: Instant, patience: Duration, origin: SwimId, target: SwimId, number: u8) {
        if self.0.len() < MOST_OWED {
            self.0.push_back(Owed { at: now + patience, origin, target, number });
        }
    }

    /// The target has answered.
    pub(super) fn paid(&mut self, origin: SwimId, target: u64, number: u8) {
        self.0.retain(|owed| owed.origin != origin || owed.target.short != target || owed.number != number);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.0.front().map(|owed| owed.at)
    }

    pub(super) fn due(&mut self, now: Instant) -> Option<Owed> {
        self.0.pop_front_if(|owed| owed.at <= now)
    }

    /// Time stood still for so long.
    pub(super) fn delay(&mut self, by: Duration) {
        self.0.iter_mut().for_each(|owed| owed.at += by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Generation, NodeId};

    fn id(n: u8) -> SwimId {
        SwimId::new(NodeId([n; 16]), Generation(7))
    }

    #[test]
    fn half_of_those_that_spoke_of_late_must_answer() {
        let mut probe = Probe::new(1, id(9), 0, Instant::ZERO);
        assert_eq!(probe.missing(), 0, "nobody could be asked");
        (1..=5).for_each(|short| probe.ask(short, short != 5));
        assert_eq!(probe.missing(), 2);
        probe.nacked(5);
        probe.nacked(5);
        assert_eq!(probe.missing(), 1);
        probe.nacked(3);
        assert_eq!((probe.missing(), probe.witnesses().count()), (0, 2));
    }

    #[test]
    fn who_spoke_last_comes_first_and_once() {
        let mut recent = Recent::default();
        (0..40).chain([38, 39, 30]).for_each(|short| recent.spoke(short));
        let mut wanted: Vec<u64> = (24..40).rev().filter(|short| ![30, 38, 39].contains(short)).collect();
        wanted.splice(0..0, [30, 39, 38]);
        assert_eq!(recent.iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn debts_are_paid_or_come_due() {
        let mut debts = Debts::default();
        let (patience, now) = (Duration::from_millis(150), Instant::from_millis(1_000));
        (1..=3).for_each(|n| debts.owe(now, patience, id(n), id(9), n));
        debts.paid(id(2), id(9).short, 2);
        assert_eq!(debts.next(), Some(now + patience));
        assert!(debts.due(now).is_none());
        let due: Vec<u8> = core::iter::from_fn(|| debts.due(now + patience)).map(|owed| owed.number).collect();
        assert_eq!(due, [1, 3]);
        (0..100).for_each(|n| debts.owe(now, patience, id(1), id(9), n));
        assert_eq!(debts.0.len(), MOST_OWED);
    }
}
