//! A map by hash whose copies share what they have in common: a copy costs one reference, a change copies one leaf and the
//! way to it. So every change of a name can be published as a snapshot, however many names there are.
//!
//! Never: an order that means something; who lists, sorts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use dunlin_gossip::hash::hash64;

/// Children of each of the two levels above the leaves: 16,384 leaves, some 6 entries each with 100,000 names.
const FAN: usize = 128;
/// Bits of the hash that choose among them.
const BITS: u32 = 7;

/// What carries its own key, so that the key is held once and lies beside what is read next.
pub(crate) trait Keyed {
    /// The key.
    fn key(&self) -> &[u8];
}

/// Entries with the hashes of their keys, in one piece: a search looks at one entry, not at all of the leaf.
type Leaf<V> = Arc<[(u64, V)]>;
type Branch<V> = Vec<Leaf<V>>;

/// The map.
#[derive(Debug)]
pub(crate) struct Table<V> {
    /// Empty until something is inserted, so that an empty table costs nothing.
    root: Arc<Vec<Arc<Branch<V>>>>,
    len: usize,
}

impl<V> Clone for Table<V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), len: self.len }
    }
}

impl<V> Default for Table<V> {
    fn default() -> Self {
        Self { root: Arc::new(Vec::new()), len: 0 }
    }
}

/// Which branch of the root, and which leaf of the branch.
fn way(hash: u64) -> (usize, usize) {
    let pick = |shift: u32| usize::try_from((hash >> shift) & (FAN as u64 - 1)).unwrap_or(0);
    (pick(0), pick(BITS))
}

impl<V> Table<V> {
    /// How many entries there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// All entries, in no order that means anything.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.root.iter().flat_map(|branch| branch.iter()).flat_map(|leaf| leaf.iter()).map(|(_, value)| value)
    }
}

impl<V> Table<V> {
    /// A value by the hash of its key: for what points to it and is checked otherwise.
    pub(crate) fn by_hash(&self, hash: u64) -> Option<&V> {
        let (branch, leaf) = way(hash);
        let leaf = self.root.get(branch)?.get(leaf)?;
        leaf.iter().find(|(other, _)| *other == hash).map(|(_, value)| value)
    }
}

impl<V: Keyed> Table<V> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&V> {
        let hash = hash64(key);
        let (branch, leaf) = way(hash);
        let leaf = self.root.get(branch)?.get(leaf)?;
        leaf.iter().find(|(other, value)| *other == hash && value.key() == key).map(|(_, value)| value)
    }
}

impl<V: Clone + Keyed> Table<V> {
    fn leaf(&mut self, hash: u64) -> &mut Leaf<V> {
        let root = Arc::make_mut(&mut self.root);
        if root.is_empty() {
            let leaf: Leaf<V> = Arc::new([]);
            let branch: Arc<Branch<V>> = Arc::new((0..FAN).map(|_| Arc::clone(&leaf)).collect());
            root.extend((0..FAN).map(|_| Arc::clone(&branch)));
        }
        let (branch, leaf) = way(hash);
        &mut Arc::make_mut(&mut root[branch])[leaf]
    }

    /// Puts a value in the place of the last one with its key.
    pub(crate) fn insert(&mut self, value: V) {
        let hash = hash64(value.key());
        let leaf = self.leaf(hash);
        match leaf.iter().position(|(other, held)| *other == hash && held.key() == value.key()) {
            Some(at) => Arc::make_mut(leaf)[at].1 = value,
            None => {
                *leaf = leaf.iter().cloned().chain([(hash, value)]).collect();
                self.len += 1;
            }
        }
    }

    /// Takes a key out, and says what it had.
    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let value = self.get(key)?.clone();
        let hash = hash64(key);
        let leaf = self.leaf(hash);
        *leaf = leaf.iter().filter(|(other, held)| *other != hash || held.key() != key).cloned().collect();
        self.len -= 1;
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use dunlin_gossip::rng::Seed;

    type Entry = ([u8; 8], u32);

    impl Keyed for Entry {
        fn key(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn it_holds_what_a_sorted_map_holds_and_copies_stay_as_they_were() {
        let mut rng = Seed(3).rng();
        let (mut table, mut oracle) = (Table::<Entry>::default(), BTreeMap::new());
        let (mut old, mut old_oracle) = (table.clone(), oracle.clone());
        for step in 0..20_000_u32 {
            let key = rng.below(3_000).to_be_bytes();
            if rng.below(3) == 0 {
                assert_eq!(table.remove(&key).map(|(_, value)| value), oracle.remove(&key));
            } else {
                table.insert((key, step));
                oracle.insert(key, step);
            }
            if step == 10_000 {
                (old, old_oracle) = (table.clone(), oracle.clone());
            }
        }
        for (table, oracle) in [(&table, &oracle), (&old, &old_oracle)] {
            assert_eq!(table.len(), oracle.len());
            assert!(oracle.iter().all(|(key, value)| table.get(key) == Some(&(*key, *value))));
            assert_eq!(table.iter().count(), oracle.len());
        }
    }
}
