//! What is due when: one slot for each thing that a node does again and again, one heap for what is due about single members.
//!
//! The heap orders by (due, sequence). An entry that has lost its meaning is recognised when it comes up. Never: a clock.

use alloc::collections::BinaryHeap;
use core::cmp::Ordering;

use crate::time::{Duration, Instant};

/// What a node does again and again, at most one of each at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Slot {
    /// The probe's next step.
    Probe,
    /// Send what there is to tell.
    Gossip,
    /// Ask those again whom we accuse.
    Recheck,
    /// Tell who asked us to ask somebody that he did not answer.
    Nack,
    /// Try one member that we do not hear.
    Retry,
    /// Ask a random member for its view.
    Exchange,
}

const SLOTS: [Slot; 6] = [Slot::Probe, Slot::Gossip, Slot::Recheck, Slot::Nack, Slot::Retry, Slot::Exchange];

/// What is due about a member, by its short id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    /// It has had its time to contradict.
    SuspicionEnds(u64),
    /// Ask a host that refused whether somebody listens again.
    AskAgain(u64),
    /// The restart window after a refusal ends.
    WindowEnds(u64),
    /// It was never heard in this boot and has had its time.
    NeverHeard(u64),
}

/// What comes up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    Slot(Slot),
    Due(Due),
}

#[derive(Debug)]
struct Entry {
    at: Instant,
    sequence: u64,
    due: Due,
}

impl Ord for Entry {
    /// Reversed: the heap's greatest is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

/// All of them.
#[derive(Debug)]
pub(super) struct Timers {
    slots: [Instant; SLOTS.len()],
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Default for Timers {
    fn default() -> Self {
        Self { slots: [Instant::MAX; SLOTS.len()], heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl Timers {
    /// Sets a slot, whatever it was before.
    pub(super) const fn set(&mut self, slot: Slot, at: Instant) {
        self.slots[slot as usize] = at;
    }

    pub(super) fn is_set(&self, slot: Slot) -> bool {
        self.slots[slot as usize] != Instant::MAX
    }

    pub(super) fn add(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, due });
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let slots = self.slots.iter().copied().fold(Instant::MAX, Instant::min);
        let next = self.heap.peek().map_or(slots, |entry| entry.at.min(slots));
        (next != Instant::MAX).then_some(next)
    }

    /// The earliest that is due, its slot free again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Timer> {
        let next = self.next().filter(|next| *next <= now)?;
        if let Some(slot) = SLOTS.into_iter().find(|slot| self.slots[*slot as usize] == next) {
            self.set(slot, Instant::MAX);
            return Some(Timer::Slot(slot));
        }
        self.heap.pop().map(|entry| Timer::Due(entry.due))
    }

    /// Everything comes so much later.
    pub(super) fn delay(&mut self, by: Duration) {
        self.slots.iter_mut().filter(|at| **at != Instant::MAX).for_each(|at| *at += by);
        let later = |entry: Entry| Entry { at: entry.at + by, ..entry };
        self.heap = core::mem::take(&mut self.heap).into_iter().map(later).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn equal_moments_keep_the_order_in_which_they_were_set() {
        let mut timers = Timers::default();
        assert_eq!(timers.next(), None);
        for n in 0..5 {
            timers.add(Instant::from_millis(5), Due::WindowEnds(n));
        }
        timers.add(Instant::from_millis(1), Due::WindowEnds(9));
        timers.set(Slot::Gossip, Instant::from_millis(5));
        timers.delay(Duration::from_millis(2));
        assert_eq!((timers.pop(Instant::from_millis(2)), timers.next()), (None, Some(Instant::from_millis(3))));
        let mut seen = Vec::new();
        while let Some(timer) = timers.pop(Instant::from_millis(7)) {
            seen.push(timer);
        }
        let window = |n| Timer::Due(Due::WindowEnds(n));
        let wanted = [window(9), Timer::Slot(Slot::Gossip), window(0), window(1), window(2), window(3), window(4)];
        assert_eq!(seen, wanted);
        assert!(!timers.is_set(Slot::Gossip) && timers.next().is_none());
    }
}
