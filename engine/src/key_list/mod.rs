//! Sorted key lists that are used again and again.
//!
//! A [`KeyList`] is checked once, shared by reference count and never changes. It remembers how it is cut over
//! the shards of a [`RangeMap`] and the 128-bit signature of each cut, so a repeated push or pull finds all of
//! that ready. It never knows which shard has already seen which signature: that is the worker's business.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use crate::key_range::{Key, KeyRange, RangeMap};

/// Cuts remembered per list; the oldest is forgotten first.
const CUTS_MAX: usize = 4;

/// The keys do not rise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key list must rise strictly: key {key} at index {index} is not above key {before} before it")]
pub struct KeyListError {
    /// Index of the first offending key.
    pub index: usize,
    /// That key.
    pub key: Key,
    /// The key before it.
    pub before: Key,
}

/// A shared list of strictly rising keys. Cloning copies a pointer.
#[derive(Debug, Clone)]
pub struct KeyList(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    keys: Vec<Key>,
    cuts: Mutex<Vec<Arc<Cut>>>,
}

/// How one list falls apart over the shards of one map.
#[derive(Debug)]
pub struct Cut {
    map: u128,
    keys_max: usize,
    /// Non-empty slices in key order; a shard's slices follow each other.
    pub slices: Vec<Slice>,
}

/// A part of a key list that goes to one shard in one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The owner.
    pub shard: u32,
    /// Positions in the list.
    pub at: Range<usize>,
    /// Signature of the keys of this slice.
    pub signature: u128,
}

impl KeyList {
    /// Checks that `keys` rise strictly and shares them. O(keys).
    pub fn new(keys: Vec<Key>) -> Result<KeyList, KeyListError> {
        if let Some(index) = keyrange_kernels::keys::first_unsorted(&keys) {
            return Err(KeyListError { index, key: keys[index], before: keys[index - 1] });
        }
        Ok(KeyList::of(keys))
    }

    /// Without keys.
    pub fn empty() -> KeyList {
        KeyList::of(Vec::new())
    }

    fn of(keys: Vec<Key>) -> KeyList {
        KeyList(Arc::new(Inner { keys, cuts: Mutex::new(Vec::new()) }))
    }

    /// The keys.
    pub fn as_slice(&self) -> &[Key] {
        &self.0.keys
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.keys.is_empty()
    }

    /// Whether these are its keys. A list without gaps, as dense arrays have, need not be read for that: any rising keys between
    /// its ends are its keys.
    pub fn holds(&self, keys: &[Key]) -> bool {
        let own = self.as_slice();
        let (Some(&first), Some(&last)) = (own.first(), own.last()) else { return keys.is_empty() };
        if own.len() != keys.len() || last - first != own.len() as u64 - 1 {
            return own == keys;
        }
        keys[0] == first && keys[keys.len() - 1] == last && keyrange_kernels::keys::is_sorted_unique(keys)
    }

    /// From the first to the last key; `None` if the list is empty.
    pub fn span(&self) -> Option<KeyRange> {
        KeyRange::new(*self.0.keys.first()?, *self.0.keys.last()?).ok()
    }

    /// The list cut over the shards of `map`, no slice longer than `keys_max` (at least 1). Computed once per map
    /// and `keys_max`, then shared. Callable from any thread.
    pub fn cut(&self, map: &RangeMap, keys_max: usize) -> Arc<Cut> {
        let mut cuts = self.0.cuts.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = |cut: &&Arc<Cut>| cut.map == map.fingerprint() && cut.keys_max == keys_max;
        if let Some(cut) = cuts.iter().find(wanted) {
            return Arc::clone(cut);
        }
        let cut = Arc::new(Cut::new(&self.0.keys, map, keys_max));
        if cuts.len() == CUTS_MAX {
            cuts.remove(0);
        }
        cuts.push(Arc::clone(&cut));
        cut
    }
}

impl Cut {
    fn new(keys: &[Key], map: &RangeMap, keys_max: usize) -> Cut {
        assert!(keys_max > 0, "a slice holds at least one key");
        let mut slices = Vec::new();
        for (shard, whole) in map.slices_of_keys(keys) {
            for start in whole.clone().step_by(keys_max) {
                let at = start..whole.end.min(start + keys_max);
                let signature = keyrange_kernels::keys::signature(&keys[at.clone()]);
                slices.push(Slice { shard: shard as u32, at, signature });
            }
        }
        Cut { map: map.fingerprint(), keys_max, slices }
    }

    /// The slices that go to `shard`, with the index of the first of them.
    pub fn of_shard(&self, shard: u32) -> &[Slice] {
        let start = self.slices.partition_point(|slice| slice.shard < shard);
        let len = self.slices[start..].partition_point(|slice| slice.shard == shard);
        &self.slices[start..start + len]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_holds_its_own_keys_only(
            first in prop_oneof![Just(0), any::<u64>()], gaps in prop::collection::vec(1u64..3, 0..200), at: prop::sample::Index, other: u64,
        ) {
            for gaps in [vec![1; gaps.len()], gaps] {
                let rising = gaps.iter().scan(first, |key, gap| { *key = key.checked_add(*gap)?; Some(*key) });
                let mut keys: Vec<Key> = rising.collect();
                let list = KeyList::new(keys.clone()).unwrap();
                prop_assert!(list.holds(&keys));
                if keys.is_empty() {
                    prop_assert!(!list.holds(&[other]));
                    continue;
                }
                let place = at.index(keys.len());
                for changed in [other, keys[place].wrapping_add(1), keys[place].wrapping_sub(1)] {
                    let before = std::mem::replace(&mut keys[place], changed);
                    prop_assert_eq!(list.holds(&keys), changed == before);
                    keys[place] = before;
                }
                prop_assert!(!list.holds(&keys[1..]));
            }
        }
    }
}
