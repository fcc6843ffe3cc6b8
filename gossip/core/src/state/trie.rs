//! The store: a persistent hash trie of fan-out 16 over shared immutable nodes. Map, anti-entropy index and snapshot in one.
//!
//! A record lies at the hash of its register's id. A leaf stands at the shallowest depth at which it is alone, and a
//! branch's hash is the wrapping sum of its leaves' hashes: equal content gives equal hashes whatever the history.
//! Cloning is one reference count; a change copies only the path that a snapshot still shares.
//!
//! Two sums are kept. `live` leaves tombstones out and is what promise P1 compares; `full` counts them and is what a walk
//! compares, since a deletion that only some nodes know is a difference that must be repaired.
//!
//! Never: an adversary's input as a position without a bound on depth. Registers whose ids collide in all 64 bits share a
//! leaf.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::hash::mix;
use crate::wire::{Record, RecordId};

/// Children of a branch.
pub const FAN_OUT: usize = 16;
/// Depth at which a prefix is a whole position.
pub const MAX_DEPTH: u8 = 16;

/// The hashes and sizes of a subtree.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sums {
    /// Hash of the live records: P1's.
    pub live: u64,
    /// Hash of all records, tombstones included: the walk's.
    pub full: u64,
    /// Positions taken (registers, save where ids collide).
    pub count: u32,
}

impl Sums {
    const fn plus(self, other: Self) -> Self {
        Self {
            live: self.live.wrapping_add(other.live),
            full: self.full.wrapping_add(other.full),
            count: self.count.wrapping_add(other.count),
        }
    }

    const fn minus(self, other: Self) -> Self {
        Self {
            live: self.live.wrapping_sub(other.live),
            full: self.full.wrapping_sub(other.full),
            count: self.count.wrapping_sub(other.count),
        }
    }
}

#[derive(Clone, Debug)]
enum Node {
    Branch(Arc<Branch>),
    One(Record),
    Many(Arc<Vec<Record>>),
}

#[derive(Clone, Debug, Default)]
struct Branch {
    sums: Sums,
    present: u16,
    children: Vec<Node>,
}

/// The hash of what lies at one position; records in canonical order.
fn leaf_sums(records: &[Record]) -> Sums {
    let fold = |sum: u64, record: &Record| mix(sum, record.hash());
    Sums {
        live: records.iter().filter(|r| r.payload().is_some()).fold(0, fold),
        full: records.iter().fold(0, fold),
        count: 1,
    }
}

const fn nibble(position: u64, depth: u8) -> u8 {
    ((position >> (60 - 4 * depth as u32)) & 15) as u8
}

/// The bits of a position that a prefix of this depth fixes.
const fn mask(depth: u8) -> u64 {
    if depth == 0 { 0 } else { u64::MAX << (64 - 4 * depth as u32) }
}

/// The prefix of a child; `None` where no deeper prefix exists or the prefix has bits below its depth.
#[must_use]
pub const fn child_prefix(prefix: u64, depth: u8, child: u8) -> Option<u64> {
    if depth >= MAX_DEPTH || prefix & !mask(depth) != 0 || child > 15 {
        return None;
    }
    Some(prefix | (child as u64) << (60 - 4 * depth as u32))
}

impl Node {
    fn leaf(records: Vec<Record>) -> Option<Self> {
        let mut records = records;
        match records.len() {
            0 => None,
            1 => records.pop().map(Self::One),
            _ => Some(Self::Many(Arc::new(records))),
        }
    }

    fn sums(&self) -> Sums {
        match self {
            Self::Branch(branch) => branch.sums,
            Self::One(record) => leaf_sums(core::slice::from_ref(record)),
            Self::Many(records) => leaf_sums(records),
        }
    }

    /// The records of a leaf; empty for a branch.
    fn records(&self) -> &[Record] {
        match self {
            Self::Branch(_) => &[],
            Self::One(record) => core::slice::from_ref(record),
            Self::Many(records) => records,
        }
    }

    /// The position of a leaf.
    fn position(&self) -> Option<u64> {
        self.records().first().map(Record::position)
    }

    fn set(self, depth: u8, position: u64, leaf: Option<Self>) -> Option<Self> {
        match self {
            Self::Branch(mut branch) => {
                Arc::make_mut(&mut branch).set(depth, position, leaf);
                branch.settle()
            }
            Self::One(_) | Self::Many(_) => {
                let Some(own) = self.position().filter(|own| *own != position) else { return leaf };
                let Some(leaf) = leaf else { return Some(self) };
                let mut branch = Branch::default();
                branch.set(depth, own, Some(self));
                branch.set(depth, position, Some(leaf));
                Some(Self::Branch(Arc::new(branch)))
            }
        }
    }
}

impl Branch {
    /// Where a child is, or would be, among the present ones.
    const fn index(&self, child: u8) -> (usize, bool) {
        let bit = 1_u16 << child;
        ((self.present & (bit - 1)).count_ones() as usize, self.present & bit != 0)
    }

    fn child(&self, child: u8) -> Option<&Node> {
        let (index, present) = self.index(child);
        if present { self.children.get(index) } else { None }
    }

    fn set(&mut self, depth: u8, position: u64, leaf: Option<Node>) {
        let child = nibble(position, depth);
        let (index, present) = self.index(child);
        let leaf = match leaf {
            Some(leaf) if present => match self.replace(index, depth, position, leaf) {
                Ok(()) => return,
                Err(leaf) => Some(leaf),
            },
            leaf => leaf,
        };
        let old = if present { Some(self.children.remove(index)) } else { None };
        let before = old.as_ref().map(Node::sums).unwrap_or_default();
        let new = match old {
            Some(node) => node.set(depth + 1, position, leaf),
            None => leaf,
        };
        self.present &= !(1 << child);
        let after = new.as_ref().map(Node::sums).unwrap_or_default();
        if let Some(node) = new {
            if self.children.len() == self.children.capacity() {
                self.children.reserve_exact(1);
            }
            self.children.insert(index, node);
            self.present |= 1 << child;
        }
        self.sums = self.sums.minus(before).plus(after);
    }
}

impl Branch {
    /// The usual change: a leaf in place of the one at its position, or one more below a branch. Neither changes where this
    /// branch's children are. Gives the leaf back if this is not that case.
    fn replace(&mut self, index: usize, depth: u8, position: u64, leaf: Node) -> Result<(), Node> {
        let Some(child) = self.children.get_mut(index) else { return Err(leaf) };
        let before = child.sums();
        match child {
            Node::Branch(below) => Arc::make_mut(below).set(depth + 1, position, Some(leaf)),
            Node::One(_) | Node::Many(_) if child.position() == Some(position) => *child = leaf,
            Node::One(_) | Node::Many(_) => return Err(leaf),
        }
        self.sums = self.sums.minus(before).plus(child.sums());
        Ok(())
    }
}

/// What is left of a branch after a change: nothing, its only leaf, or itself.
trait Settle {
    fn settle(self) -> Option<Node>;
}

impl Settle for Arc<Branch> {
    fn settle(self) -> Option<Node> {
        match self.children.as_slice() {
            [] => None,
            [only @ (Node::One(_) | Node::Many(_))] => Some(only.clone()),
            _ => Some(Node::Branch(self)),
        }
    }
}

/// The trie. Cheap to clone; a clone never changes.
#[derive(Clone, Debug, Default)]
pub struct Trie {
    root: Option<Node>,
}

impl Trie {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts exactly these records, in canonical order and all of this position, in place of what lies there.
    pub(super) fn set(&mut self, position: u64, records: Vec<Record>) {
        debug_assert!(records.iter().all(|r| r.position() == position), "a record lies where its id says");
        let leaf = Node::leaf(records);
        self.root = match self.root.take() {
            Some(node) => node.set(0, position, leaf),
            None => leaf,
        };
    }

    /// Puts one record in place of whatever lies at its position.
    pub(super) fn set_one(&mut self, record: Record) {
        let position = record.position();
        let leaf = Some(Node::One(record));
        self.root = match self.root.take() {
            Some(node) => node.set(0, position, leaf),
            None => leaf,
        };
    }

    /// Hashes and size of everything.
    #[must_use]
    pub fn sums(&self) -> Sums {
        self.root.as_ref().map(Node::sums).unwrap_or_default()
    }

    /// The records at a position, in canonical order.
    #[must_use]
    pub fn at(&self, position: u64) -> &[Record] {
        match self.find(position, MAX_DEPTH) {
            Some(node) => node.records(),
            None => &[],
        }
    }

    /// The records of a register, in canonical order.
    #[must_use]
    pub fn siblings(&self, id: &RecordId) -> &[Record] {
        self.register(id.hash(), id)
    }

    /// The records of a register of which the position is known, in canonical order.
    pub(super) fn register(&self, position: u64, id: &RecordId) -> &[Record] {
        let records = self.at(position);
        if let [record] = records
            && record.id() == id
        {
            return records;
        }
        let start = records.partition_point(|r| r.id() < id);
        let end = records.partition_point(|r| r.id() <= id);
        records.get(start..end).unwrap_or_default()
    }

    /// The node that holds all records under a prefix, if there are any.
    fn find(&self, prefix: u64, depth: u8) -> Option<&Node> {
        let mut node = self.root.as_ref()?;
        for level in 0..depth.min(MAX_DEPTH) {
            let Node::Branch(branch) = node else { break };
            node = branch.child(nibble(prefix, level))?;
        }
        let fits = |position: u64| position & mask(depth) == prefix & mask(depth);
        match node.position() {
            Some(position) if !fits(position) => None,
            Some(_) | None => Some(node),
        }
    }

    /// Hashes and size of what lies under a prefix.
    #[must_use]
    pub fn sums_at(&self, prefix: u64, depth: u8) -> Sums {
        self.find(prefix, depth).map(Node::sums).unwrap_or_default()
    }

    /// The walk's hash of what lies under a prefix; 0 where nothing does.
    #[must_use]
    pub fn hash_at(&self, prefix: u64, depth: u8) -> u64 {
        self.sums_at(prefix, depth).full
    }

    /// Positions taken under a prefix.
    #[must_use]
    pub fn count_at(&self, prefix: u64, depth: u8) -> usize {
        self.sums_at(prefix, depth).count as usize
    }

    /// The walk's hashes of the 16 children of a prefix.
    #[must_use]
    pub fn children_hashes(&self, prefix: u64, depth: u8) -> [u64; FAN_OUT] {
        let mut hashes = [0; FAN_OUT];
        match self.find(prefix, depth) {
            Some(Node::Branch(branch)) => {
                for (child, slot) in (0_u8..).zip(hashes.iter_mut()) {
                    *slot = branch.child(child).map(Node::sums).unwrap_or_default().full;
                }
            }
            Some(leaf) if depth < MAX_DEPTH => {
                let child = leaf.position().map_or(0, |position| nibble(position, depth));
                if let Some(slot) = hashes.get_mut(usize::from(child)) {
                    *slot = leaf.sums().full;
                }
            }
            Some(_) | None => {}
        }
        hashes
    }

    /// The leaves under a prefix by position: where, the walk's hash, the records in canonical order.
    pub fn leaves(&self, prefix: u64, depth: u8) -> impl Iterator<Item = (u64, u64, &[Record])> {
        let mut stack = Vec::new();
        stack.extend(self.find(prefix, depth));
        core::iter::from_fn(move || {
            loop {
                match stack.pop()? {
                    Node::Branch(branch) => stack.extend(branch.children.iter().rev()),
                    leaf => return Some((leaf.position()?, leaf.sums().full, leaf.records())),
                }
            }
        })
    }

    /// All records, by position.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.leaves(0, 0).flat_map(|(_, _, records)| records)
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hlc::Hlc;
    use crate::id::{Generation, NodeId};
    use crate::wire::Stamp;

    fn record(key: u8, version: u8, live: bool) -> Record {
        let id = RecordId::header(NodeId([key; 16]));
        let stamp = Stamp::Sequence { generation: Generation(1), sequence: u64::from(version) };
        Record::write(id, stamp, Hlc(u64::from(version)), live.then_some(b"x".as_slice()))
    }

    /// Every node at its shallowest place and every sum right, checked from the leaves up.
    fn check(node: &Node, depth: u8) -> Sums {
        let Node::Branch(branch) = node else { return node.sums() };
        assert!(depth < MAX_DEPTH);
        assert_eq!(branch.present.count_ones() as usize, branch.children.len());
        assert!(branch.children.len() > 1 || matches!(branch.children.first(), Some(Node::Branch(_))));
        let sums = branch.children.iter().fold(Sums::default(), |sum, child| sum.plus(check(child, depth + 1)));
        assert_eq!(sums, branch.sums);
        sums
    }

    proptest! {
        #[test]
        fn a_history_equals_a_rebuild(steps in proptest::collection::vec((0_u8..40, 0_u8..4, any::<bool>(), any::<bool>()), 0..200)) {
            let (mut trie, mut oracle, mut snapshots) = (Trie::new(), BTreeMap::new(), Vec::new());
            for (key, version, live, keep) in steps {
                let record = record(key, version, live);
                let position = record.position();
                if keep {
                    trie.set(position, alloc::vec![record.clone()]);
                    oracle.insert(position, record);
                } else {
                    trie.set(position, Vec::new());
                    oracle.remove(&position);
                }
                snapshots.push((trie.clone(), trie.sums()));
            }
            let mut rebuilt = Trie::new();
            for (position, record) in oracle.iter().rev() {
                rebuilt.set(*position, alloc::vec![record.clone()]);
            }
            prop_assert_eq!(trie.sums(), rebuilt.sums());
            prop_assert_eq!(trie.sums().count as usize, oracle.len());
            prop_assert!(trie.records().eq(oracle.values()));
            let _sums = trie.root.as_ref().map(|root| check(root, 0));
            for (depth, prefix) in [(1_u8, 0x3_u64 << 60), (2, 0x31 << 56), (16, oracle.keys().next().copied().unwrap_or(0))] {
                let under = |p: &u64| p & mask(depth) == prefix & mask(depth);
                prop_assert_eq!(trie.count_at(prefix, depth), oracle.keys().filter(|p| under(p)).count());
                prop_assert!(trie.leaves(prefix, depth).map(|l| l.0).eq(oracle.keys().copied().filter(|p| under(p))));
            }
            for (snapshot, sums) in snapshots {
                prop_assert_eq!(snapshot.sums(), sums);
                prop_assert_eq!(snapshot.leaves(0, 0).fold(Sums::default(), |s, l| s.plus(leaf_sums(l.2))), sums);
            }
        }
    }

    #[test]
    fn children_hashes_sum_to_their_parent() {
        let mut trie = Trie::new();
        for key in 0..100 {
            let record = record(key, 1, key % 3 != 0);
            trie.set(record.position(), alloc::vec![record]);
        }
        let mut deepest = (0, 0);
        while trie.count_at(deepest.0, deepest.1) > 0 && deepest.1 < MAX_DEPTH {
            let children = trie.children_hashes(deepest.0, deepest.1);
            let sum = children.iter().fold(0_u64, |sum, hash| sum.wrapping_add(*hash));
            assert_eq!(sum, trie.hash_at(deepest.0, deepest.1));
            let child = (0_u8..16).find(|c| children[usize::from(*c)] != 0).unwrap_or(0);
            deepest = (child_prefix(deepest.0, deepest.1, child).unwrap_or(0), deepest.1 + 1);
        }
        assert_eq!(deepest.1, MAX_DEPTH);
    }

    #[test]
    fn tombstones_are_walked_but_not_counted_in_p1() {
        let mut trie = Trie::new();
        let gone = record(1, 1, false);
        trie.set(gone.position(), alloc::vec![gone]);
        assert_eq!(trie.sums().live, 0);
        assert_ne!(trie.sums().full, 0);
    }
}
