//! A disk: a map from slot to bytes that is safe only after its fsync has answered.
//!
//! Commits are grouped as the agent groups them: what arrives while one fsync runs goes with the next. A crash keeps a
//! prefix of what was under way. Divergence from reality: nothing rots, and a commit is whole or absent (the agent's store
//! promises that; its own tests cut files at every byte).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use dunlin_gossip::face::{Boot, PersistOp, PersistSeq};
use dunlin_gossip::id::{Generation, NodeId};
use dunlin_gossip::rng::Rng;
use dunlin_gossip::time::Wall;
use dunlin_gossip::wire::{Class, Kind, Record};

use crate::queue::{MS, Nanos};

/// So many changes may lie unordered, and in addition as many as there are in order.
const LOG: usize = 4_096;

/// What lies on a disk. The base is shared between all disks that began alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    base: Arc<BTreeMap<Vec<u8>, Record>>,
    /// What was written since, in order of writing; most of it is never read again, so it is put in order only now and then.
    log: Vec<PersistOp>,
    changes: BTreeMap<Vec<u8>, Option<Arc<[u8]>>>,
    generation: Option<Generation>,
}

impl Image {
    /// A disk that holds records from the beginning.
    pub(crate) const fn with(base: Arc<BTreeMap<Vec<u8>, Record>>) -> Self {
        Self { base, log: Vec::new(), changes: BTreeMap::new(), generation: None }
    }

    /// Records by slot, from their bytes.
    pub(crate) fn base_of(records: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Record> {
        let records = records.iter().filter_map(|bytes| Record::read(bytes).ok());
        records.map(|record| (record.slot(), record)).collect()
    }

    fn apply(&mut self, op: PersistOp) {
        self.log.push(op);
        if self.log.len() > LOG + self.changes.len() {
            self.compact();
        }
    }

    fn compact(&mut self) {
        for op in self.log.drain(..) {
            match op {
                PersistOp::Put { slot, bytes } => self.changes.insert(slot, Some(bytes)),
                PersistOp::Delete { slot } => self.changes.insert(slot, None),
            };
        }
    }

    fn records(&mut self) -> Vec<Record> {
        self.compact();
        let kept = self.base.iter().filter(|(slot, _)| !self.changes.contains_key(*slot)).map(|(_, r)| r.clone());
        let written = self.changes.values().flatten().filter_map(|bytes| Record::read(bytes).ok());
        kept.chain(written).collect()
    }

    /// True if a record with a value lies there.
    pub(crate) fn has(&self, slot: &[u8]) -> bool {
        let is_value = |bytes: &Arc<[u8]>| Record::read(bytes).is_ok_and(|record| record.payload().is_some());
        let logged = self.log.iter().rev().find_map(|op| match op {
            PersistOp::Put { slot: at, bytes } => (at == slot).then_some(Some(bytes)),
            PersistOp::Delete { slot: at } => (at == slot).then_some(None),
        });
        match logged.or_else(|| self.changes.get(slot).map(Option::as_ref)) {
            Some(written) => written.is_some_and(is_value),
            None => self.base.get(slot).is_some_and(|record| record.payload().is_some()),
        }
    }

    /// Who belongs, as far as it holds.
    pub(crate) fn roster(&mut self) -> BTreeSet<NodeId> {
        let all = self.records();
        let of = |kind: Kind| {
            let records =
                all.iter().filter(move |record| record.id().class == Class::GrowOnly && record.id().kind == kind);
            records.filter_map(|record| record.id().key.first_chunk::<16>().map(|key| NodeId(*key)))
        };
        let removed: BTreeSet<NodeId> = of(Kind::REMOVAL).collect();
        of(Kind::ROSTER).filter(|node| !removed.contains(node)).collect()
    }

    /// What the next boot starts from; its generation is on the disk before it does.
    pub(crate) fn boot(&mut self, wall: Wall, chance: u64) -> Boot {
        let first = self.generation.is_none();
        let generation = Generation::next(self.generation, wall.0, chance);
        self.generation = Some(generation);
        Boot { base: None, records: self.records(), first, generation, alive: Vec::new() }
    }

    /// Everything that it holds of the register at that place.
    pub(crate) fn siblings(&mut self, register: &[u8]) -> Vec<Record> {
        self.compact();
        let of_register = |slot: &[u8]| slot.starts_with(register);
        let from = (std::ops::Bound::Included(register), std::ops::Bound::Unbounded);
        let written = self.changes.range::<[u8], _>(from).take_while(|(slot, _)| of_register(slot));
        let written = written.filter_map(|(_, bytes)| Record::read(bytes.as_ref()?).ok());
        let kept = self.base.range::<[u8], _>(from).take_while(|(slot, _)| of_register(slot));
        let kept = kept.filter(|(slot, _)| !self.changes.contains_key(*slot)).map(|(_, record)| record.clone());
        written.chain(kept).collect()
    }

    /// True if the other does not hold the same.
    pub(crate) fn differs(&mut self, other: &mut Self) -> bool {
        self.compact();
        other.compact();
        self.changes != other.changes
    }

    /// The next boot's generation lies above this one.
    pub(crate) fn raise_generation(&mut self, newest: Generation) {
        self.generation = self.generation.max(Some(newest));
    }
}

type Commit = (PersistSeq, Vec<PersistOp>);

/// A disk with its queue of unfinished commits.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) image: Image,
    /// An image taken earlier, for the fault that brings it back.
    pub(crate) saved: Option<Image>,
    waiting: VecDeque<Commit>,
    under_way: VecDeque<Commit>,
    /// Set by a fault: every commit fails until there is room again.
    pub(crate) full: bool,
    /// Set by a fault: the next fsync fails.
    pub(crate) fails: bool,
    /// A commit has failed and its agent has not yet ended itself.
    pub(crate) failed: bool,
    /// Set by a fault: each fsync takes so much longer.
    pub(crate) slower: Nanos,
    /// Numbers the fsyncs, so that an answer that outlived a crash is recognised.
    pub(crate) sync: u64,
    /// Commits that a crash swallowed.
    pub(crate) lost: u64,
}

impl Disk {
    /// Takes a commit; true if an fsync must be started.
    pub(crate) fn take(&mut self, seq: PersistSeq, ops: Vec<PersistOp>) -> bool {
        self.waiting.push_back((seq, ops));
        self.under_way.is_empty()
    }

    /// Starts an fsync of all that waits: its number and how long it takes.
    pub(crate) fn start(&mut self, rng: &mut Rng) -> (u64, Nanos) {
        self.under_way = std::mem::take(&mut self.waiting);
        self.sync += 1;
        // One in fifty is slow, as on a shared disk.
        let slow = if rng.below(50) == 0 { 20 * MS } else { 0 };
        (self.sync, rng.range(MS / 2..3 * MS) + slow + self.slower)
    }

    /// An fsync is done: the last commit that is safe now, and whether another one must be started.
    pub(crate) fn finish(&mut self) -> (Option<PersistSeq>, bool) {
        let mut last = None;
        for (seq, ops) in self.under_way.drain(..) {
            last = Some(seq);
            for op in ops {
                self.image.apply(op);
            }
        }
        (last, !self.waiting.is_empty())
    }

    /// Everything that was handed over becomes safe, as for an agent that waits for its disk before it starts anew.
    pub(crate) fn settle(&mut self) {
        let commits: Vec<Commit> = self.under_way.drain(..).chain(self.waiting.drain(..)).collect();
        for op in commits.into_iter().flat_map(|(_, ops)| ops) {
            self.image.apply(op);
        }
        self.sync += 1;
    }

    /// An fsync fails: a prefix of what it was to make safe may have made it; the kernel drops the rest, and whatever was to
    /// come after it must not be believed (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
    pub(crate) fn fail(&mut self, rng: &mut Rng) {
        self.crash(rng);
        self.failed = true;
    }

    /// Power or process is gone: of what was under way a prefix has made it, the rest is lost.
    pub(crate) fn crash(&mut self, rng: &mut Rng) {
        let made_it = usize::try_from(rng.below(self.under_way.len() as u64 + 1)).unwrap_or(0);
        self.lost += (self.under_way.len() - made_it + self.waiting.len()) as u64;
        for (_, ops) in self.under_way.drain(..).take(made_it) {
            for op in ops {
                self.image.apply(op);
            }
        }
        self.under_way.clear();
        self.waiting.clear();
        self.sync += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dunlin_gossip::hlc::Hlc;

    use dunlin_gossip::rng::Seed;
    use dunlin_gossip::wire::{RecordId, Stamp};

    fn put(n: u8) -> PersistOp {
        let stamp = Stamp::Sequence { generation: Generation(1), sequence: 1 };
        let record = Record::write(RecordId::header(NodeId([n; 16])), stamp, Hlc(1), Some(b"x"));
        PersistOp::Put { slot: record.slot(), bytes: record.bytes().clone() }
    }

    #[test]
    fn only_what_was_synced_survives() {
        let mut rng = Seed(1).rng();
        let mut disk = Disk::default();
        assert!(disk.take(PersistSeq(1), vec![put(1)]));
        let _ = disk.start(&mut rng);
        assert!(!disk.take(PersistSeq(2), vec![put(2)]));
        assert_eq!(disk.finish(), (Some(PersistSeq(1)), true));
        disk.crash(&mut rng);
        assert_eq!((disk.image.records().len(), disk.lost), (1, 1));
    }

    #[test]
    fn each_boot_has_a_later_generation_even_when_the_clock_goes_back() {
        let mut image = Image::default();
        let first = image.boot(Wall(50), 3);
        let second = image.boot(Wall(10), 3);
        assert!(first.first && !second.first && second.generation > first.generation);
    }
}
