//! The replicated state of one node: records in, the same answer on every node out.
//!
//! Reading order: [`trie`] (where records lie), `index` (their order by register), `desired`, `actual`, `facts` (how records
//! of one register merge, one file a class), `merge` (what a merge touches besides), `stage` (how a node writes), [`hours`]
//! (when tombstones may go), `collect` (what goes), `away` (who is
//! forgotten), [`walk`] (how two states find their difference).
//!
//! **Canonical order.** The records of a register are sorted by (HLC, author, bytes), registers by (class, kind, key), and
//! places in the trie by the hash of the register's id. Nothing here depends on the order in which records arrived: a
//! state is a function of the set of records that reached it (save for what was collected, and beyond
//! [`MAX_SIBLINGS`](crate::limits::MAX_SIBLINGS) concurrent writes of one key, where anti-entropy settles it).
//!
//! **Writing is staging.** [`State::stage_desired`] and its like make records and remember that they exist; they enter the
//! state by [`State::merge`] like anybody's, once they are on disk. So nothing that is not durable is ever seen.
//!
//! Never: a clock, a message, a peer; a record encoded again; a merge that time can block.

mod actual;
pub(crate) mod away;
mod collect;
mod desired;
mod facts;
pub mod hours;
mod index;
mod merge;
mod stage;
pub mod trie;
pub mod walk;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt;

pub use away::Away;
pub use collect::Collected;
use index::{Entry, Place, Wanted};
pub use merge::{Merge, MergeRefusal};
pub use trie::Trie;

use crate::hlc::{Clock, Hlc};
use crate::id::{Actor, Generation, NodeId};
use crate::paged::Paged;
use crate::wire::{Class, Key, Kind, Record, RecordId};

/// The canonical order of records: by register, then by (HLC, author, bytes).
fn canonical(a: &Record, b: &Record) -> Ordering {
    let order = |r: &Record| (r.hlc(), r.author());
    a.id().cmp(b.id()).then_with(|| order(a).cmp(&order(b))).then_with(|| a.bytes().cmp(b.bytes()))
}

/// All replicated records, and the node's own pen.
#[derive(Clone)]
pub struct State {
    me: Actor,
    clock: Clock,
    /// The position of our last one-writer record in this boot.
    sequence: u64,
    trie: Trie,
    /// One entry a register, in order; sixteen bytes each, as entries share the trie's records.
    index: Paged<Entry, ()>,
    /// Own desired records that are not in the state yet.
    staged: BTreeMap<RecordId, Vec<Record>>,
    writers: actual::Writers,
    ledger: hours::Ledger,
    copying: bool,
    /// Who was removed or forgotten: their own records are void.
    departed: BTreeSet<NodeId>,
    /// Publications made under a roster that was ours while we held them, by their hashes.
    vouched: BTreeMap<NodeId, u64>,
    /// Publications that a later boot of their author did not remember; for the engine to pass on.
    proofs: Vec<Record>,
}

impl State {
    /// An empty state of this boot.
    #[must_use]
    pub fn new(me: Actor) -> Self {
        let mut writers = actual::Writers::default();
        writers.seen(me.node, me.generation);
        Self {
            me,
            clock: Clock::default(),
            sequence: 0,
            trie: Trie::new(),
            index: Paged::new(),
            staged: BTreeMap::new(),
            writers,
            ledger: hours::Ledger::default(),
            copying: false,
            departed: BTreeSet::new(),
            vouched: BTreeMap::new(),
            proofs: Vec::new(),
        }
    }

    /// The same records in the hands of another node or boot, as if it had restored each of them. What is staged here does
    /// not go along.
    #[must_use]
    pub fn held_by(&self, me: Actor) -> Self {
        let mut state = self.clone();
        (state.me, state.sequence, state.copying) = (me, 0, false);
        state.staged.clear();
        state.ledger.forget_own();
        state.writers.seen(me.node, me.generation);
        for id in state.written_by(me.node) {
            let own = state.siblings(&id).to_vec();
            own.iter().for_each(|record| state.follow_own(record));
        }
        state.ledger.begin();
        state
    }

    /// Who writes here.
    #[must_use]
    pub fn me(&self) -> Actor {
        self.me
    }

    /// The value of a register: of concurrent ones the greatest by (HLC, author); an update beats a concurrent deletion.
    #[must_use]
    pub fn value(&self, id: &RecordId) -> Option<&Record> {
        self.index
            .get_key_value(&Wanted::new(id) as &dyn Place)
            .map(|(entry, ())| &entry.record)
            .filter(|r| r.payload().is_some())
    }

    /// Everything that a register holds, tombstones included, in canonical order. More than one record in a many-writer
    /// register is a conflict only if their payloads differ (see [`State::conflicts`]).
    #[must_use]
    pub fn siblings(&self, id: &RecordId) -> &[Record] {
        self.trie.siblings(id)
    }

    /// Registers whose concurrent values differ: the one in force, and all of them.
    pub fn conflicts(&self) -> impl Iterator<Item = (&Record, &[Record])> {
        self.class(Class::ManyWriters).filter(|r| r.payload().is_some()).filter_map(|winner| {
            let siblings = self.siblings(winner.id());
            siblings.iter().any(|r| r.payload() != winner.payload()).then_some((winner, siblings))
        })
    }

    /// The live values of a kind, ordered by key.
    pub fn of_kind(&self, class: Class, kind: Kind) -> impl Iterator<Item = (&RecordId, &Record)> {
        self.starting_at(&RecordId::new(class, kind, &[]))
            .take_while(move |r| r.id().class == class && r.id().kind == kind)
            .filter(|r| r.payload().is_some())
            .map(|r| (r.id(), r))
    }

    /// The live one-writer values of a kind that a node wrote, ordered by key.
    pub fn of_writer(&self, node: NodeId, kind: Kind) -> impl Iterator<Item = (&RecordId, &Record)> {
        self.starting_at(&RecordId::new(Class::OneWriter, kind, &node.0))
            .take_while(move |r| r.id().kind == kind && r.id().writer() == Some(node))
            .filter(|r| r.payload().is_some())
            .map(|r| (r.id(), r))
    }

    /// The entries of a class, tombstones included, in order.
    fn class(&self, class: Class) -> impl Iterator<Item = &Record> {
        self.starting_at(&RecordId::new(class, Kind(0), &[])).take_while(move |r| r.id().class == class)
    }

    fn starting_at(&self, id: &RecordId) -> impl Iterator<Item = &Record> + use<'_> {
        self.index.from(&Wanted::new(id) as &dyn Place).map(|(entry, ())| &entry.record)
    }

    /// The newest boot of a node of which this state has seen anything.
    #[must_use]
    pub fn generation_of(&self, node: NodeId) -> Option<Generation> {
        self.writers.newest(node)
    }

    /// The nodes that the roster admits and nobody removed, in order.
    pub fn rostered(&self) -> impl Iterator<Item = NodeId> {
        let node = |id: &RecordId| id.key.first_chunk::<16>().map(|key| NodeId(*key));
        let removed: BTreeSet<NodeId> =
            self.of_kind(Class::GrowOnly, Kind::REMOVAL).filter_map(|(id, _)| node(id)).collect();
        let admitted = self.of_kind(Class::GrowOnly, Kind::ROSTER).filter_map(move |(id, _)| node(id));
        admitted.filter(move |node| !removed.contains(node))
    }

    /// The canonical hash of the state (promise P1): equal exactly if the live records are. Tombstones contribute nothing.
    #[must_use]
    pub fn root(&self) -> u64 {
        self.trie.sums().live
    }

    /// The hash that tells peers whether to walk. It counts tombstones: a deletion that only some nodes know is invisible
    /// in [`State::root`], and must reach all of them before its hour can settle.
    #[must_use]
    pub fn sync_root(&self) -> u64 {
        self.trie.sums().full
    }

    /// Registers held, those without a value included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Everything as it is now, for readers; it costs one reference count and never changes.
    #[must_use]
    pub fn snapshot(&self) -> Trie {
        self.trie.clone()
    }

    /// The last stamp handed out or seen.
    #[must_use]
    pub fn clock(&self) -> Hlc {
        self.clock.last()
    }

    /// Puts what a register now holds in place of what it held, and returns the latter.
    fn put(&mut self, id: &RecordId, position: u64, records: &[Record]) -> Vec<Record> {
        let (old, mut lie): (Vec<Record>, Vec<Record>) =
            self.trie.at(position).iter().cloned().partition(|r| r.id() == id);
        lie.extend_from_slice(records);
        lie.sort_unstable_by(canonical);
        self.trie.set(position, lie);
        old.iter().filter(|r| !records.contains(r)).for_each(|r| self.ledger.remove(r));
        records.iter().filter(|r| !old.contains(r)).for_each(|r| self.ledger.add(r));
        let winner = match id.class {
            Class::ManyWriters => desired::winner(records),
            Class::OneWriter => actual::winner(records),
            Class::GrowOnly => records.last(),
        };
        match winner.or_else(|| records.last()) {
            Some(record) => self.index.insert(Entry::new(record.clone()), ()),
            None => self.index.remove(&Wanted::new(id) as &dyn Place),
        };
        old
    }

    /// The usual case of [`State::put`]: a register without siblings gets a record in place of the one it has, if any, and
    /// shares its position with nobody. All such records lie in one slot on disk. False if this is not that case.
    fn put_only(&mut self, record: &Record) -> bool {
        match self.trie.at(record.position()) {
            [] => {}
            [held] if held.id() == record.id() => self.ledger.remove(held),
            _ => return false,
        }
        self.ledger.add(record);
        self.trie.set_one(record.clone());
        self.index.insert(Entry::new(record.clone()), ());
        true
    }

    /// All of a writer's registers, tombstones included.
    fn written_by(&self, node: NodeId) -> Vec<RecordId> {
        let mut ids = Vec::new();
        let mut next = Some(Kind(0));
        while let Some(kind) = next {
            let start = RecordId { class: Class::OneWriter, kind, key: Key::from(&node.0[..]) };
            let own = |r: &&Record| r.id().kind == kind && r.id().writer() == Some(node);
            ids.extend(self.starting_at(&start).take_while(own).map(|r| r.id().clone()));
            let after = RecordId::new(Class::OneWriter, Kind(kind.0.saturating_add(1)), &[]);
            let found = self.starting_at(&after).next().filter(|r| r.id().class == Class::OneWriter);
            next = found.map(|r| r.id().kind).filter(|found| *found > kind);
        }
        ids
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("me", &self.me)
            .field("clock", &self.clock.last())
            .field("registers", &self.len())
            .field("root", &self.root())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
