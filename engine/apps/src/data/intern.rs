//! Numbers the distinct feature ids of a set: a hash table from id to the order of its first appearance.

use std::hash::{BuildHasher, RandomState};

/// One place of the table; free while `count` is 0.
#[derive(Clone, Copy, Default)]
struct Slot {
    key: u64,
    index: u32,
    count: u32,
}

/// Open addressing with linear probing, at most half full, seeded so that no file can be written to defeat it.
pub(crate) struct Interner {
    slots: Vec<Slot>,
    distinct: usize,
    seed: u64,
}

/// A distinct key: its id, the index it was given, and how often it was met.
#[derive(Clone, Copy)]
pub(crate) struct Interned {
    pub key: u64,
    pub index: u32,
    pub count: u32,
}

impl Interner {
    /// The most distinct keys: indices are `u32`.
    pub const LIMIT: usize = u32::MAX as usize;

    pub fn new() -> Self {
        Self { slots: vec![Slot::default(); 1024], distinct: 0, seed: RandomState::new().hash_one(0u64) }
    }

    /// Where `key` is, or the free place where it belongs.
    fn place(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let product = u128::from(key ^ self.seed) * 0x9e37_79b9_7f4a_7c15;
        let mut at = ((product >> 64) as u64 ^ product as u64) as usize & mask;
        while self.slots[at].count != 0 && self.slots[at].key != key {
            at = (at + 1) & mask;
        }
        at
    }

    /// The index of `key`, new or known. `None` when [`Self::LIMIT`] keys are known and this is another.
    pub fn index(&mut self, key: u64) -> Option<u32> {
        let at = self.place(key);
        let slot = &mut self.slots[at];
        if slot.count != 0 {
            // A set has fewer than 2^32 rows, and a key comes at most once in a row; the bound is checked at the end.
            slot.count = slot.count.saturating_add(1);
            return Some(slot.index);
        }
        if self.distinct == Self::LIMIT {
            return None;
        }
        let index = self.distinct as u32;
        *slot = Slot { key, index, count: 1 };
        self.distinct += 1;
        if self.distinct * 2 > self.slots.len() {
            self.grow();
        }
        Some(index)
    }

    fn grow(&mut self) {
        let doubled = vec![Slot::default(); self.slots.len() * 2];
        for slot in std::mem::replace(&mut self.slots, doubled) {
            if slot.count != 0 {
                let at = self.place(slot.key);
                self.slots[at] = slot;
            }
        }
    }

    /// All distinct keys, sorted by id.
    pub fn into_sorted(self) -> Vec<Interned> {
        let used = self.slots.into_iter().filter(|s| s.count != 0);
        let mut all: Vec<_> = used.map(|s| Interned { key: s.key, index: s.index, count: s.count }).collect();
        all.sort_unstable_by_key(|k| k.key);
        all
    }
}

/// One sorted key list out of several interners', with total counts, and for each interner the place of its i-th key.
pub(crate) struct Merged {
    pub keys: Vec<u64>,
    pub counts: Vec<u32>,
    pub places: Vec<Vec<u32>>,
}

impl Merged {
    /// Takes lists as [`Interner::into_sorted`] gives them. `Err` holds the number of keys if it exceeds `u32`.
    pub fn new(lists: &[Vec<Interned>]) -> Result<Self, usize> {
        let mut keys: Vec<u64> = lists.iter().flatten().map(|k| k.key).collect();
        // The standard stable sort finds the sorted runs and merges them.
        keys.sort();
        keys.dedup();
        if keys.len() > Interner::LIMIT {
            return Err(keys.len());
        }
        let mut counts = vec![0u32; keys.len()];
        let places = lists
            .iter()
            .map(|list| {
                let mut places = vec![0u32; list.len()];
                let mut at = 0;
                for interned in list {
                    while keys[at] != interned.key {
                        at += 1;
                    }
                    places[interned.index as usize] = at as u32;
                    counts[at] = counts[at].saturating_add(interned.count);
                }
                places
            })
            .collect();
        Ok(Self { keys, counts, places })
    }
}
