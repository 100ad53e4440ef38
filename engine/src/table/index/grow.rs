//! Growth of the index, in place.

use bytemuck::Zeroable;

use super::bucket::{BUCKET_KEYS, Bucket, place};
use super::{HOMES_MIN, HashIndex, LOAD_MAX_PERCENT, ROWS_MAX, Seed, TableError, WALK_MAX};

/// Buckets moved at a time: their copy fits in the L2 cache. A key lies less than [`WALK_MAX`] buckets above its
/// home, so the keys of a block that begins here or higher move up, never below the block (see `spread`).
const BLOCK: usize = 4096;

const _: () =
    assert!(BLOCK / 2 > WALK_MAX, "a home moves up by more than a walk, except in the lowest block");

fn capacity(homes: usize) -> usize {
    homes * BUCKET_KEYS * LOAD_MAX_PERCENT / 100
}

impl HashIndex {
    /// Sees to it that `keys` more keys fit.
    pub(super) fn make_room(&mut self, keys: usize) -> Result<(), TableError> {
        let needed = self.len + keys;
        if needed as u64 > ROWS_MAX {
            return Err(TableError::Full { rows: self.len as u64, limit: ROWS_MAX });
        }
        while capacity(self.homes) < needed {
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), TableError> {
        let old_buckets = if self.homes == 0 { 0 } else { self.homes + WALK_MAX };
        self.enlarge()?;
        self.spread(old_buckets);
        self.settle()
    }

    /// More homes; keys still lie by the old ones.
    fn enlarge(&mut self) -> Result<(), TableError> {
        // Doubling moves each key about once in all; steps of 4/3 would save memory and move it three times.
        let next = (self.homes * 2).max(HOMES_MIN);
        self.buckets.grow(next + WALK_MAX)?;
        self.homes = next;
        Ok(())
    }

    /// Moves every key of the lowest `old_buckets` buckets to its place under the new number of homes, from the
    /// top end downwards. A home only moves up, and by more than a walk except in the lowest block, which is
    /// copied out last; so no key lands in a bucket that still waits to be read.
    fn spread(&mut self, old_buckets: usize) {
        let homes = self.homes();
        let mut copy = Vec::with_capacity(BLOCK.min(old_buckets));
        for begin in (0..old_buckets).step_by(BLOCK).rev() {
            let block = begin..old_buckets.min(begin + BLOCK);
            copy.clear();
            copy.extend_from_slice(&self.buckets[block.clone()]);
            self.buckets[block].fill(Bucket::zeroed());
            for bucket in &copy {
                for (key, slot) in bucket.entries() {
                    if !place(&mut self.buckets, homes.of(key), key, slot) {
                        self.homeless.push((key, slot));
                    }
                }
            }
        }
    }

    /// If keys have no place, places every key anew under another seed, with a full copy, and after growth if the
    /// index is more than half full: for the case that never happens.
    pub(super) fn settle(&mut self) -> Result<(), TableError> {
        if self.homeless.is_empty() {
            return Ok(());
        }
        let mut entries = Vec::new();
        entries.try_reserve_exact(self.len).map_err(|_| TableError::OutOfMemory { bytes: self.len * 16 })?;
        if self.len * 2 > capacity(self.homes) {
            self.enlarge()?;
        }
        self.for_each(|key, slot| entries.push((key, slot)));
        entries.append(&mut self.homeless);
        loop {
            self.seed = Seed::random();
            self.buckets.fill(Bucket::zeroed());
            let homes = self.homes();
            if entries.iter().all(|&(key, slot)| place(&mut self.buckets, homes.of(key), key, slot)) {
                return Ok(());
            }
        }
    }
}
