//! Of whom there is something to tell, and how often that was told.
//!
//! The least told first, the newest first among equals, as memberlist's `TransmitLimitedQueue` does; each so many times.
//! What is told is read from the book when a packet is made: a rumour here is only a name, and cannot be out of date.
//! Never: two entries about one member.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Where a name stands: how often it was told, and its age reversed.
type Place = (u8, u32);

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    order: BTreeSet<(Place, u64)>,
    places: BTreeMap<u64, Place>,
    added: u32,
}

impl Rumours {
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn holds(&self, short: u64) -> bool {
        self.places.contains_key(&short)
    }

    /// There is something new about somebody: it is told from the beginning.
    pub(super) fn add(&mut self, short: u64) {
        self.added = self.added.wrapping_add(1);
        let place = (0, u32::MAX - self.added);
        if let Some(before) = self.places.insert(short, place) {
            self.order.remove(&(before, short));
        }
        self.order.insert((place, short));
    }

    pub(super) fn remove(&mut self, short: u64) {
        if let Some(place) = self.places.remove(&short) {
            self.order.remove(&(place, short));
        }
    }

    /// The next names, each with how often it was told; what has then been told `times` times is done with.
    pub(super) fn draw(&mut self, most: usize, times: u8, names: &mut Vec<(u64, u8)>) {
        names.clear();
        names.extend(self.order.iter().take(most).map(|((told, _), short)| (*short, *told)));
        for (short, told) in names.iter() {
            let Some(place) = self.places.get_mut(short) else { continue };
            self.order.remove(&(*place, *short));
            if told + 1 < times {
                place.0 += 1;
                self.order.insert((*place, *short));
            } else {
                self.places.remove(short);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_told_goes_first_and_everything_is_told_so_often() {
        let (mut rumours, mut names) = (Rumours::default(), Vec::new());
        (1..=3).for_each(|short| rumours.add(short));
        let mut draw = |rumours: &mut Rumours, most| {
            rumours.draw(most, 2, &mut names);
            names.clone()
        };
        assert_eq!(draw(&mut rumours, 2), [(3, 0), (2, 0)]);
        assert_eq!(draw(&mut rumours, 2), [(1, 0), (3, 1)]);
        rumours.add(2);
        assert_eq!(draw(&mut rumours, 9), [(2, 0), (1, 1)]);
        rumours.remove(7);
        assert_eq!(draw(&mut rumours, 9), [(2, 1)]);
        assert!(rumours.is_empty() && rumours.places.is_empty());
    }
}
