//! What the state lets go of, so that its size follows what exists: tombstones of settled hours, and all that departed nodes
//! said. When it may is decided in [`hours`].
//!
//! **Departed nodes.** A removal is kept for good and wins over everything: the admission and the records of that node are
//! void from then on. A forgotten node's admission is a tombstone. Its own records are void while that is held, which is a
//! year: so long its key alone admits it again.
//!
//! Never: a record dropped that somebody may still have to be told of.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::{State, actual, hours};
use crate::face::PersistOp;
use crate::hlc::Hlc;
use crate::id::NodeId;
use crate::time::Instant;
use crate::wire::{Class, Kind, Record, RecordId};

/// Hours for which a forgotten node can come back by its key.
const FORGOTTEN_KEPT: u64 = 365 * 24;

/// What was let go of.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Every register that holds less than before.
    pub ids: Vec<RecordId>,
    /// What to do on disk.
    pub persist: Vec<PersistOp>,
}

impl State {
    /// Drops the tombstones of hours that have been settled for ten minutes.
    pub fn collect(&mut self, now: Instant) -> Collected {
        let mut collected = Collected::default();
        let Some(below) = self.ledger.collectable(now) else { return collected };
        let is_old = |record: &Record| {
            let kept = if record.id().kind == Kind::ROSTER { FORGOTTEN_KEPT } else { 0 };
            record.payload().is_none() && record.hlc().hour() + kept < below
        };
        // What has a value has no tombstone, except beside concurrent writes.
        let may_hold_one = |record: &&Record| record.payload().is_none() || record.id().class == Class::ManyWriters;
        let classes = [Class::ManyWriters, Class::OneWriter, Class::GrowOnly];
        let held = classes.into_iter().flat_map(|class| self.class(class)).filter(may_hold_one);
        let ids: Vec<RecordId> = held.map(|record| record.id().clone()).collect();
        for id in ids {
            let held = self.siblings(&id);
            if held.iter().any(is_old) {
                let rest: Vec<Record> = held.iter().filter(|record| !is_old(record)).cloned().collect();
                self.replace(&id, id.hash(), &rest, &mut collected.persist);
                if let Some(node) = id.roster_node().filter(|_| id.kind == Kind::ROSTER) {
                    self.departed.remove(&node);
                }
                collected.ids.push(id);
            }
        }
        collected
    }

    /// True if a record shows that this node was left behind: what it holds may have been deleted since, and the deletion
    /// forgotten. Either it was forgotten itself; or it made a publication that its disk does not remember; or hours are
    /// settled that it never published, save before it was admitted. What a first copy brings is no such news.
    #[must_use]
    pub fn is_left_behind_by(&self, record: &Record) -> bool {
        if self.copying {
            return false;
        }
        let (id, me) = (record.id(), self.me.node);
        let since = || self.siblings(&RecordId::roster(me)).last().map_or(Hlc(u64::MAX), Record::hlc);
        match (id.class, id.kind) {
            (Class::GrowOnly, Kind::ROSTER) => {
                id.roster_node() == Some(me) && record.payload().is_none() && record.hlc() > since()
            }
            (Class::GrowOnly, Kind::SETTLED) => {
                let known = self.ledger.closed().max(self.ledger.settled());
                record.hlc().hour() > known.max(since().hour().saturating_add(1))
            }
            (Class::OneWriter, Kind::HOURS) => {
                let is_earlier = actual::generation(record) < self.me.generation;
                id.writer() == Some(me) && is_earlier && self.ledger.is_unremembered(record)
            }
            (Class::ManyWriters | Class::OneWriter | Class::GrowOnly, _) => false,
        }
    }

    /// Notes if a publication takes the place of one that its author should have remembered.
    pub(super) fn compare_boots(&mut self, held: Option<Record>, record: &Record) {
        let Some(held) = held.filter(|_| record.id().class == Class::OneWriter) else { return };
        if actual::generation(&held) < actual::generation(record) && hours::is_forgetful(&held, record) {
            self.proofs.push(held);
        }
    }

    /// Publications that later boots of their authors do not remember, since the last call: their disks are old, and they
    /// ought to be told.
    pub(crate) fn take_proofs(&mut self) -> Vec<Record> {
        core::mem::take(&mut self.proofs)
    }

    /// Nodes that were forgotten and can come back by their keys, in order.
    pub fn forgotten_nodes(&self) -> impl Iterator<Item = NodeId> {
        let admissions = self.class(Class::GrowOnly).filter(|record| record.id().kind == Kind::ROSTER);
        admissions.filter(|record| record.payload().is_none()).filter_map(|record| record.id().roster_node())
    }

    /// The tombstone of a node's admission, if it was forgotten and can come back by its key.
    #[must_use]
    pub fn forgotten(&self, node: NodeId) -> Option<&Record> {
        self.siblings(&RecordId::roster(node)).last().filter(|record| record.payload().is_none())
    }

    /// True for an admission that a removal overrules.
    pub(super) fn is_overruled(&self, record: &Record) -> bool {
        let id = record.id();
        let is_admission = id.class == Class::GrowOnly && id.kind == Kind::ROSTER;
        is_admission && id.roster_node().is_some_and(|node| self.is_removed(node))
    }

    /// True for an admission so old that its tombstone may be gone.
    pub(super) fn is_ancient(&self, record: &Record) -> bool {
        record.id().kind == Kind::ROSTER && record.hlc().hour() + FORGOTTEN_KEPT < self.ledger.settled()
    }

    fn is_removed(&self, node: NodeId) -> bool {
        !self.siblings(&RecordId::removal(node)).is_empty()
    }

    /// Admissions and removals changed: who departed, and what goes with it.
    pub(super) fn follow_roster(&mut self, id: &RecordId, ids: &mut Vec<RecordId>, persist: &mut Vec<PersistOp>) {
        let Some(node) = id.roster_node() else { return };
        let is_removed = self.is_removed(node);
        if !is_removed && self.forgotten(node).is_none() {
            self.departed.remove(&node);
            return;
        }
        // What this node says of itself stays until its agent has ended.
        if node == self.me.node || !self.departed.insert(node) && !is_removed {
            return;
        }
        let mut gone = self.written_by(node);
        gone.extend(Some(RecordId::roster(node)).filter(|_| is_removed));
        for id in gone {
            if !self.siblings(&id).is_empty() {
                self.replace(&id, id.hash(), &[], persist);
                ids.push(id);
            }
        }
        self.writers.forget(node);
    }

    /// Drops the facts about who belongs that a full copy did not confirm: they were true when this node was last here.
    pub(crate) fn keep_confirmed(&mut self, copied: &BTreeSet<u64>) -> Collected {
        let mut collected = Collected::default();
        let is_stale = |record: &&Record| {
            let is_own = record.id().roster_node() == Some(self.me.node);
            record.id().kind == Kind::ROSTER && !is_own && self.ledger.is_settled(record.hlc())
        };
        let stale: Vec<RecordId> = self
            .class(Class::GrowOnly)
            .filter(is_stale)
            .filter(|record| !copied.contains(&record.hash()))
            .map(|record| record.id().clone())
            .collect();
        for id in stale {
            self.replace(&id, id.hash(), &[], &mut collected.persist);
            collected.ids.push(id);
        }
        collected
    }

    /// The first stamp that is not settled.
    #[must_use]
    pub fn settled_below(&self) -> Hlc {
        hours::start_of(self.ledger.settled())
    }
}
