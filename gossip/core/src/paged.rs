//! An ordered map in shared pages: a copy costs one reference a page, and only pages that change afterwards are copied.
//! Virtual nodes that began alike hold most of what they know in common this way.
//!
//! Sorted pages behind one sorted list of their first keys; with some thousands of entries that is as quick as a tree.
//! Never: an order other than the keys', or a page that is empty.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::slice;

/// Entries of a page at most.
const PAGE: usize = 64;

/// The map.
#[derive(Clone)]
pub struct Paged<K, V> {
    /// The first key of each page.
    firsts: Vec<K>,
    pages: Vec<Arc<Vec<(K, V)>>>,
    len: usize,
}

impl<K, V> Default for Paged<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Paged<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K, V> Paged<K, V> {
    /// An empty map.
    #[must_use]
    pub const fn new() -> Self {
        Self { firsts: Vec::new(), pages: Vec::new(), len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, in order.
    #[must_use]
    pub fn iter(&self) -> Entries<'_, K, V> {
        Entries { page: [].iter(), pages: self.pages.iter() }
    }

    /// All keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for Paged<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<'a, K, V> IntoIterator for &'a Paged<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Entries<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Clone, V: Clone> Paged<K, V> {
    /// The page where a key is or would be, and its place there.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> (usize, Result<usize, usize>)
    where
        K: Borrow<Q>,
    {
        let page = self.firsts.partition_point(|first| first.borrow() <= key).saturating_sub(1);
        let place = match self.pages.get(page) {
            Some(entries) => entries.binary_search_by(|(other, _)| other.borrow().cmp(key)),
            None => Err(0),
        };
        (page, place)
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_key_value(key).map(|(_, value)| value)
    }

    /// The key as it is held, and its value.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (page, place) = self.find(key);
        self.pages.get(page)?.get(place.ok()?).map(|(key, value)| (key, value))
    }

    /// True if the key is held.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).1.is_ok()
    }

    /// The value of a key, to be changed; its page is this map's own from then on.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let (page, place) = self.find(key);
        let place = place.ok()?;
        Arc::make_mut(self.pages.get_mut(page)?).get_mut(place).map(|(_, value)| value)
    }

    /// The value of a key, which is put there first if it is missing.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let (page, place) = match self.find(&key) {
            (page, Ok(place)) => (page, place),
            (page, Err(place)) => self.put(page, place, key, make()),
        };
        match self.pages.get_mut(page).map(Arc::make_mut).and_then(|entries| entries.get_mut(place)) {
            Some((_, value)) => value,
            None => unreachable!("the entry was found or put there"),
        }
    }

    /// Sets the value of a key, and the key itself; returns what was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (page, place) = self.find(&key);
        match place {
            Ok(place) => {
                if place == 0
                    && let Some(first) = self.firsts.get_mut(page)
                {
                    *first = key.clone();
                }
                let entry = Arc::make_mut(self.pages.get_mut(page)?).get_mut(place)?;
                Some(core::mem::replace(entry, (key, value)).1)
            }
            Err(place) => {
                self.put(page, place, key, value);
                None
            }
        }
    }

    /// Puts a new entry at a place of a page; where it lies then.
    fn put(&mut self, page: usize, place: usize, key: K, value: V) -> (usize, usize) {
        self.len += 1;
        let is_last = page + 1 >= self.pages.len();
        let (mut page, mut place) = (page, place);
        match self.pages.get(page).map(|entries| entries.len()) {
            Some(full) if full >= PAGE && place == full && is_last => (page, place) = (page + 1, 0),
            Some(full) if full >= PAGE => {
                let rest = Arc::make_mut(&mut self.pages[page]).split_off(full / 2);
                self.firsts.insert(page + 1, rest[0].0.clone());
                self.pages.insert(page + 1, Arc::new(rest));
                if place > full / 2 {
                    (page, place) = (page + 1, place - full / 2);
                }
            }
            Some(_) | None => {}
        }
        if let Some(entries) = self.pages.get_mut(page) {
            if place == 0 {
                self.firsts[page] = key.clone();
            }
            Arc::make_mut(entries).insert(place, (key, value));
        } else {
            self.firsts.push(key.clone());
            self.pages.push(Arc::new(Vec::from([(key, value)])));
        }
        (page, place)
    }

    /// Takes an entry out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let (page, place) = self.find(key);
        let place = place.ok()?;
        let entries = Arc::make_mut(self.pages.get_mut(page)?);
        let (_, value) = entries.remove(place);
        self.len -= 1;
        match entries.first() {
            None => {
                self.pages.remove(page);
                self.firsts.remove(page);
            }
            Some((first, _)) if place == 0 => self.firsts[page] = first.clone(),
            Some(_) => {}
        }
        self.join(page);
        self.join(page.saturating_sub(1));
        Some(value)
    }

    /// Joins a page with the next one if both fit well into one, so that what shrinks does not end in crumbs.
    fn join(&mut self, page: usize) {
        let (Some(one), Some(next)) = (self.pages.get(page), self.pages.get(page + 1)) else { return };
        if one.len() + next.len() <= PAGE / 2 {
            self.firsts.remove(page + 1);
            let next = self.pages.remove(page + 1);
            Arc::make_mut(&mut self.pages[page]).extend(next.iter().cloned());
        }
    }

    /// The entries from the first whose key is not less than this one on, in order.
    pub fn from<Q: Ord + ?Sized>(&self, key: &Q) -> Entries<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (page, Ok(place) | Err(place)) = self.find(key);
        let mut pages = self.pages.get(page..).unwrap_or_default().iter();
        let first = pages.next().map_or(&[][..], |entries| entries.get(place..).unwrap_or_default());
        Entries { page: first.iter(), pages }
    }
}

/// Entries in order.
#[derive(Debug)]
pub struct Entries<'a, K, V> {
    page: slice::Iter<'a, (K, V)>,
    pages: slice::Iter<'a, Arc<Vec<(K, V)>>>,
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.page.next() {
                return Some((key, value));
            }
            self.page = self.pages.next()?.iter();
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn check(map: &Paged<u16, u32>, oracle: &BTreeMap<u16, u32>) {
        assert!(map.iter().eq(oracle.iter()));
        assert_eq!(map.len(), oracle.len());
        assert!(map.pages.iter().all(|page| !page.is_empty() && page.len() <= PAGE));
        assert!(map.firsts.iter().eq(map.pages.iter().map(|page| &page[0].0)));
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_and_copies_stay_as_they_were(
            steps in proptest::collection::vec((0_u16..400, any::<u32>(), 0_u8..8), 0..1_500)
        ) {
            let (mut map, mut oracle, mut copies) = (Paged::new(), BTreeMap::new(), Vec::new());
            for (key, value, what) in steps {
                match what {
                    0..=3 => prop_assert_eq!(map.insert(key, value), oracle.insert(key, value)),
                    4 | 5 => prop_assert_eq!(map.remove(&key), oracle.remove(&key)),
                    6 => {
                        *map.get_or_insert_with(key, || 7) ^= value;
                        *oracle.entry(key).or_insert(7) ^= value;
                    }
                    _ => {
                        prop_assert_eq!(map.get_mut(&key), oracle.get_mut(&key));
                        prop_assert!(map.from(&key).eq(oracle.range(key..)));
                        copies.push((map.clone(), oracle.clone()));
                    }
                }
                prop_assert_eq!(map.get_key_value(&key), oracle.get_key_value(&key));
                prop_assert_eq!(map.contains_key(&key), oracle.contains_key(&key));
            }
            check(&map, &oracle);
            prop_assert!(map.values().eq(oracle.values()) && map.keys().eq(oracle.keys()));
            copies.iter().for_each(|(copy, before)| check(copy, before));
        }
    }

    #[test]
    fn what_comes_in_order_fills_pages_and_a_change_copies_one() {
        let mut map: Paged<u16, u32> = Paged::new();
        for key in 0..1_000 {
            assert_eq!(map.insert(key, 1), None);
        }
        assert_eq!(map.pages.len(), 1_000_usize.div_ceil(PAGE));
        let mut copy = map.clone();
        copy.insert(500, 2);
        let shared = map.pages.iter().zip(&copy.pages).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
        assert_eq!(shared, map.pages.len() - 1);
        for key in (0..1_000).filter(|key| key % 50 != 0) {
            assert!(copy.remove(&key).is_some());
        }
        assert!(copy.pages.len() <= 4, "{}", copy.pages.len());
    }
}
