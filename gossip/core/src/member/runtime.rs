//! What foca wants done, collected; and the one heap through which all timers pass, foca's and our own.
//!
//! The heap orders by (due, sequence), because foca's own order of timers compares kinds only. It lives and dies with one
//! boot of the node, which is why no timer of an earlier boot can reach foca, whose token is a single byte.

use alloc::collections::BinaryHeap;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::ops::Range;

use foca::{Notification, Runtime, Timer};

use super::identity::SwimId;
use crate::time::{Duration, Instant};

/// What foca notified.
#[derive(Clone, Copy, Debug)]
pub(super) enum Note {
    /// A member's place among the active changed, or its identity did.
    Touched(SwimId),
    /// We renewed our own identity.
    Rejoined,
}

/// Effects of one call of foca; reused.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) bytes: Vec<u8>,
    pub(super) sends: Vec<(SwimId, Range<usize>)>,
    pub(super) timers: Vec<(Timer<SwimId>, Duration)>,
    pub(super) notes: Vec<Note>,
}

impl Runtime<SwimId> for Effects {
    fn notify(&mut self, notification: Notification<'_, SwimId>) {
        match notification {
            Notification::MemberUp(id) | Notification::MemberDown(id) | Notification::Rename(_, id) => {
                self.notes.push(Note::Touched(*id));
            }
            Notification::Rejoin(_) => self.notes.push(Note::Rejoined),
            Notification::Active | Notification::Idle | Notification::Defunct => {}
        }
    }

    fn send_to(&mut self, to: SwimId, data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.sends.push((to, start..self.bytes.len()));
    }

    fn submit_after(&mut self, event: Timer<SwimId>, after: Duration) {
        self.timers.push((event, after));
    }
}

/// What is due.
#[derive(Clone, Debug)]
pub(super) enum Due {
    /// A timer of foca's.
    Foca(Timer<SwimId>),
    /// Send what updates are queued.
    Gossip,
    /// Try one member that we do not hear.
    Retry,
    /// Ask a random member for its view.
    Exchange,
    /// The restart window after a refusal ends.
    WindowEnds(u64),
    /// A member that was never heard in this boot has had its time.
    NeverHeard(u64),
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

/// The heap of timers.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Timers {
    pub(super) fn add(&mut self, at: Instant, due: Due) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, due });
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.at)
    }

    /// The earliest timer that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|entry| entry.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_moments_keep_the_order_in_which_they_were_set() {
        let mut timers = Timers::default();
        for n in 0..5 {
            timers.add(Instant::from_millis(5), Due::WindowEnds(n));
        }
        timers.add(Instant::from_millis(1), Due::WindowEnds(9));
        let mut seen = Vec::new();
        while let Some(Due::WindowEnds(n)) = timers.pop(Instant::from_millis(5)) {
            seen.push(n);
        }
        assert_eq!(seen, [9, 0, 1, 2, 3, 4]);
        timers.add(Instant::from_millis(7), Due::Gossip);
        assert!(timers.pop(Instant::from_millis(6)).is_none());
    }
}
