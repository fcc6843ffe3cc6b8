//! The order of registers: entries that are told apart by a number of their own, nearly always, so that a search does not
//! go through every record that it passes.

use core::borrow::Borrow;
use core::cmp::Ordering;

use crate::wire::{Record, RecordId};

/// The visible record of a register (or a tombstone where there is no value), ordered by the register's id.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    start: u64,
    pub(super) record: Record,
}

impl Entry {
    pub(super) fn new(record: Record) -> Self {
        Self { start: start_of(record.id()), record }
    }
}

/// Class, kind and the first five bytes of the key as a number: where two of these differ, the ids do, in the same order.
fn start_of(id: &RecordId) -> u64 {
    let key = id.key.iter().copied().chain(core::iter::repeat(0)).take(5);
    let start = (id.class as u64) << 16 | u64::from(id.kind.0);
    key.fold(start, |start, byte| start << 8 | u64::from(byte))
}

/// What entries are ordered and looked up by.
pub(super) trait Place {
    fn start(&self) -> u64;
    fn id(&self) -> &RecordId;
}

impl Place for Entry {
    fn start(&self) -> u64 {
        self.start
    }

    fn id(&self) -> &RecordId {
        self.record.id()
    }
}

/// A register that is looked for.
pub(super) struct Wanted<'a> {
    start: u64,
    id: &'a RecordId,
}

impl<'a> Wanted<'a> {
    pub(super) fn new(id: &'a RecordId) -> Self {
        Self { start: start_of(id), id }
    }
}

impl Place for Wanted<'_> {
    fn start(&self) -> u64 {
        self.start
    }

    fn id(&self) -> &RecordId {
        self.id
    }
}

impl<'a> Borrow<dyn Place + 'a> for Entry {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}

impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Place + '_ {}

impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.start().cmp(&other.start()).then_with(|| self.id().cmp(other.id()))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.start.cmp(&other.start).then_with(|| self.record.id().cmp(other.record.id()))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::wire::{Class, Kind};

    #[test]
    fn places_are_in_the_order_of_ids() {
        let keys: [&[u8]; 7] = [b"", b"\0", b"a", b"a\0", b"abcde", b"abcdef", b"\xff\xff\xff\xff\xff\xff"];
        let classes = [Class::ManyWriters, Class::OneWriter, Class::GrowOnly];
        let kinds = [Kind(0), Kind(1), Kind(256), Kind(u16::MAX)];
        let ids = classes.iter().flat_map(|class| kinds.iter().map(move |kind| (*class, *kind)));
        let ids: Vec<RecordId> =
            ids.flat_map(|(class, kind)| keys.iter().map(move |key| RecordId::new(class, kind, key))).collect();
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (a, b))) {
            let (one, other) = (Wanted::new(a), Wanted::new(b));
            assert_eq!((&one as &dyn Place).cmp(&other), a.cmp(b), "{a:?} {b:?}");
        }
    }
}
