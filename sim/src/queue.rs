//! The event queue: everything that will happen, by (time, sequence), so that equal moments keep the order of their making.
//!
//! The heap holds 24-byte keys; the events themselves stay where they are, since sifting large values costs more than all
//! the rest of the queue.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Virtual nanoseconds since the beginning of the world.
pub(crate) type Nanos = u64;

/// Nanoseconds of a millisecond.
pub(crate) const MS: Nanos = 1_000_000;
/// Nanoseconds of a second.
pub(crate) const SECOND: Nanos = 1_000 * MS;

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Nanos, u64, u32)>>,
    slab: Vec<Option<E>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<E> Queue<E> {
    pub(crate) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), slab: Vec::new(), free: Vec::new(), sequence: 0 }
    }

    /// Lets `event` happen at `at`.
    pub(crate) fn push(&mut self, at: Nanos, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = Some(event);
                slot
            }
            None => {
                self.slab.push(Some(event));
                u32::try_from(self.slab.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.sequence += 1;
        self.heap.push(Reverse((at, self.sequence, slot)));
    }

    /// When the next event happens.
    pub(crate) fn next_at(&self) -> Option<Nanos> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// The next event.
    pub(crate) fn pop(&mut self) -> Option<(Nanos, E)> {
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        self.slab[slot as usize].take().map(|event| (at, event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_time_then_making() {
        let mut queue = Queue::new();
        for (at, name) in [(5, 'a'), (3, 'b'), (5, 'c'), (3, 'd'), (9, 'e')] {
            queue.push(at, name);
        }
        assert_eq!(queue.pop(), Some((3, 'b')));
        queue.push(5, 'f');
        let rest: String = std::iter::from_fn(|| queue.pop()).map(|(_, name)| name).collect();
        assert_eq!(rest, "dacfe");
    }
}
