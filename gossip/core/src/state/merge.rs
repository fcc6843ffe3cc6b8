//! What a merge touches: the register, the disk, the clock, the voided records of an older boot or a departed node, the hours.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use super::{State, actual, desired, facts};
use crate::canary::{Bug, planted};
use crate::face::PersistOp;
use crate::hlc::Clock;
use crate::id::{Generation, NodeId};
use crate::time::Wall;
use crate::wire::{Class, Kind, Record, RecordId, Stamp};

/// What became of a record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Merge {
    /// The register changed.
    Changed {
        /// Every register whose visible value may have changed: the record's own first, then voided ones.
        ids: Vec<RecordId>,
        /// What to do on disk.
        persist: Vec<PersistOp>,
    },
    /// Nothing new: it is held, or something that supersedes it is.
    Known,
    /// Not accepted; the state is untouched.
    Refused(MergeRefusal),
}

/// Why a record is not accepted. Peers in order send such records now and then, when they know less than we do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MergeRefusal {
    /// Its writer has booted since, and the newer boot's first publication is complete here; or it no longer belongs.
    Voided,
    /// Stamped in a settled hour and not held: it was deleted, and the deletion may be forgotten already.
    Settled,
}

impl fmt::Display for MergeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Voided => "the record is of an earlier boot of its writer, or of a node that no longer belongs",
            Self::Settled => "the record is stamped in a settled hour, and was deleted since",
        })
    }
}

impl State {
    /// Takes a record from the disk, at boot: no bound on the clock, nothing to persist, nobody to tell.
    pub fn restore(&mut self, record: Record) {
        self.clock = Clock::starting_after(self.clock.last().max(record.hlc()));
        let forgotten = planted(Bug::BootForgetsDesired) && record.id().class == Class::ManyWriters;
        let unknown = planted(Bug::UnknownForgotten) && record.id().kind > Kind::SETTLED;
        if self.is_voided(&record) || forgotten || unknown {
            return;
        }
        // Most of a disk: the only record of its register, of which nothing is to be said to anybody.
        let is_first = record.id().class != Class::ManyWriters && self.trie.at(record.position()).is_empty();
        if is_first && self.put_only(&record) {
            self.follow(&record, &mut Vec::new(), &mut Vec::new());
        } else {
            let _changed = self.admit(record, Settledness::Ignore);
        }
    }

    /// Takes a record, from a peer or our own after it became durable. Any order of arrival leads to the same state.
    pub fn merge(&mut self, record: Record, wall: Wall) -> Merge {
        if self.is_voided(&record) {
            return Merge::Refused(MergeRefusal::Voided);
        }
        let own = self.unstage(&record);
        let hlc = record.hlc();
        let merge = self.admit(record, if own || self.copying { Settledness::Ignore } else { Settledness::Refuse });
        if !matches!(merge, Merge::Refused(_)) {
            self.clock.observe(hlc, wall);
        }
        merge
    }

    /// The full copy that follows a boot or a join begins: what it brings may be stamped in settled hours.
    pub fn begin_first_copy(&mut self) {
        self.copying = true;
    }

    /// The full copy is complete, or there was nobody to copy from.
    pub fn end_first_copy(&mut self) {
        self.copying = false;
        self.ledger.begin();
    }

    /// Everything that the disk held has been restored.
    pub fn end_restore(&mut self) {
        self.ledger.begin();
    }

    /// True for what a writer said in an earlier boot, and for all that a departed node said. The hours that a node closed
    /// stay closed whichever boot closed them, until it says more.
    fn is_voided(&self, record: &Record) -> bool {
        let id = record.id();
        let by_boot = |node| id.kind != Kind::HOURS && self.writers.voids(node, actual::generation(record));
        id.writer().is_some_and(|node| self.departed.contains(&node) || by_boot(node)) || self.is_overruled(record)
    }

    fn admit(&mut self, record: Record, settled: Settledness) -> Merge {
        let id = record.id().clone();
        let position = record.position();
        let held = self.trie.register(position, &id);
        let merged = match id.class {
            Class::ManyWriters => desired::merge(held, &record),
            Class::OneWriter => actual::merge(held, &record),
            Class::GrowOnly => facts::supersedes(held.first(), &record).then(|| Vec::from([record.clone()])),
        };
        let Some(merged) = merged else { return Merge::Known };
        let is_over = match id.class {
            // The end of something that is held here is news, whenever it was.
            Class::OneWriter => record.payload().is_none() && held.is_empty(),
            Class::ManyWriters => true,
            Class::GrowOnly => self.is_ancient(&record),
        };
        if matches!(settled, Settledness::Refuse) && is_over && self.ledger.is_settled(record.hlc()) {
            return Merge::Refused(MergeRefusal::Settled);
        }
        let before = held.first().filter(|_| id.kind == Kind::HOURS).cloned();
        self.compare_boots(before, &record);
        let mut persist = Vec::new();
        self.replace(&id, position, &merged, &mut persist);
        let mut ids = Vec::from([id]);
        self.follow(&record, &mut ids, &mut persist);
        Merge::Changed { ids, persist }
    }

    /// What a record means beyond its own register.
    fn follow(&mut self, record: &Record, ids: &mut Vec<RecordId>, persist: &mut Vec<PersistOp>) {
        let kind = record.id().kind;
        match (record.id().class, record.id().writer()) {
            (Class::GrowOnly, _) if kind == Kind::SETTLED => return self.ledger.settle(record),
            (Class::GrowOnly, _) if matches!(kind, Kind::ROSTER | Kind::REMOVAL) => {
                self.follow_roster(record.id(), ids, persist);
            }
            (Class::OneWriter, Some(node)) => {
                if node == self.me.node {
                    self.follow_own(record);
                }
                let newest = |alloc| {
                    let siblings = self.trie.siblings(&RecordId::allocation(node, alloc));
                    siblings.iter().map(actual::generation).max()
                };
                if let Some(floor) = self.writers.merged(node, record, newest) {
                    self.void(node, floor, ids, persist);
                }
            }
            (Class::OneWriter, None) | (Class::ManyWriters | Class::GrowOnly, _) => {}
        }
        if let Some(author) = record.author() {
            self.writers.seen(author.node, author.generation);
        }
    }

    /// What we once published binds us, whichever boot it was; of this boot's records the next one is the next.
    pub(super) fn follow_own(&mut self, record: &Record) {
        if record.id().kind == Kind::HOURS {
            self.ledger.published(record);
        }
        if let Stamp::Sequence { generation, sequence } = record.stamp()
            && *generation == self.me.generation
        {
            self.sequence = self.sequence.max(*sequence);
        }
    }

    /// Drops the records of a writer's boots before this one.
    fn void(&mut self, node: NodeId, floor: Generation, ids: &mut Vec<RecordId>, persist: &mut Vec<PersistOp>) {
        let voidable = |id: &RecordId| id.kind != Kind::HOURS && !planted(Bug::VoidedKept);
        for id in self.written_by(node).into_iter().filter(voidable) {
            let held = self.siblings(&id);
            let rest: Vec<Record> = held.iter().filter(|r| actual::generation(r) >= floor).cloned().collect();
            if rest.len() < held.len() {
                self.replace(&id, id.hash(), &rest, persist);
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
        }
    }

    /// Changes a register, and notes what that means on disk: a slot holds the last of its records in canonical order.
    pub(super) fn replace(&mut self, id: &RecordId, position: u64, records: &[Record], persist: &mut Vec<PersistOp>) {
        if let [record] = records
            && id.class != Class::ManyWriters
            && self.put_only(record)
        {
            persist.push(PersistOp::Put { slot: record.slot(), bytes: record.bytes().clone() });
            return;
        }
        let slots = |records: &[Record]| -> BTreeMap<Vec<u8>, Record> {
            records.iter().map(|r| (r.slot(), r.clone())).collect()
        };
        let before = slots(&self.put(id, position, records));
        let after = slots(records);
        for (slot, record) in &after {
            if before.get(slot) != Some(record) {
                persist.push(PersistOp::Put { slot: slot.clone(), bytes: record.bytes().clone() });
            }
        }
        for slot in before.into_keys().filter(|slot| !after.contains_key(slot)) {
            persist.push(PersistOp::Delete { slot });
        }
    }
}

/// What to do with a record of a settled hour that is not held.
#[derive(Clone, Copy)]
enum Settledness {
    /// Take it: the disk's, a first copy's, or our own, which no settled digest can have missed.
    Ignore,
    /// Refuse it.
    Refuse,
}
