//! The hash index: from a 64-bit key to its 32-bit slot, one cache line per look-up.
//!
//! ```text
//! home(key) = (hash(key) * homes) >> 64          monotone in the hash, any number of buckets
//! find:   look at the five keys of the 64-byte bucket at home; if it remembers that one like ours went on, look
//!         at those after it, up to the first with room
//! insert: find; a key that is not there goes into the first bucket with room from its home on
//! ```
//!
//! 1. Keys lie in the bucket itself, so a hit and a miss cost one line each. What a line costs is a miss of the caches
//!    and, in a large table, of the address translation; so look-ups run in batches with many lines under way, and
//!    a second line is fetched only for the keys that need it.
//! 2. The hash is seeded by the operating system's randomness: nobody can choose keys that collide. No key lies
//!    [`WALK_MAX`] buckets from home; should one ever have to, the index is rebuilt with another seed.
//! 3. Homes are monotone in the hash, so growing is one sequential sweep from the top end downwards, in place:
//!    no second copy. It doubles at a load of 0.8: 16 to 32 bytes a key.
//! 4. Keys are never removed, so there are no tombstones.
//!
//! Known costs: a growth step sweeps the whole index at once, a few ns a key.

mod bucket;
mod grow;
mod probe;
mod seed;
#[cfg(test)]
mod tests;

use super::resolved::NO_SLOT;
use super::{Pages, ROWS_MAX, TableError};
use bucket::{Bucket, Home};
use seed::Seed;

/// Buckets that a walk may look at; also how many lie beyond the last home. With random hashes and the greatest
/// load the probability that a key needs more is about exp(-0.11 WALK_MAX), some 1e-13.
const WALK_MAX: usize = 256;
/// Keys looked up, then inserted, at a time.
const CHUNK: usize = 1024;
/// Greatest load, in percent of the places in home buckets.
const LOAD_MAX_PERCENT: usize = 80;
const HOMES_MIN: usize = 32;

/// From keys to slots 0, 1, 2, ... in the order of first insertion.
pub struct HashIndex {
    buckets: Pages<Bucket>,
    homes: usize,
    len: usize,
    seed: Seed,
    /// Keys for which there was no place; `settle` is the only next step.
    homeless: Vec<(u64, u32)>,
}

/// What decides the home of a key.
#[derive(Clone, Copy)]
struct Homes {
    seed: Seed,
    count: usize,
}

impl Homes {
    #[inline(always)]
    fn of(self, key: u64) -> Home {
        let hash = self.seed.hash(key);
        let at = ((u128::from(hash) * self.count as u128) >> 64) as usize;
        Home { at, mark: 1 << (hash % 16) }
    }
}

impl HashIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self { buckets: Pages::new(), homes: 0, len: 0, seed: Seed::random(), homeless: Vec::new() }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.buckets.bytes()
    }

    /// Appends the slot of each key to `slots`, `u32::MAX` for a key that is not there.
    pub fn find(&self, keys: &[u64], slots: &mut Vec<u32>) {
        let begin = slots.len();
        slots.resize(begin + keys.len(), NO_SLOT);
        if self.homes > 0 {
            for (keys, slots) in keys.chunks(CHUNK).zip(slots[begin..].chunks_mut(CHUNK)) {
                probe::find(self, keys, slots);
            }
        }
    }

    /// Appends the slot of each key to `slots`; a key not yet there gets the next free slot.
    ///
    /// # Errors
    /// [`TableError::Full`] beyond [`ROWS_MAX`](super::ROWS_MAX) keys, [`TableError::OutOfMemory`]; the keys
    /// before the failing chunk have been inserted.
    pub fn insert(&mut self, keys: &[u64], slots: &mut Vec<u32>) -> Result<(), TableError> {
        slots.reserve(keys.len());
        self.settle()?;
        for keys in keys.chunks(CHUNK) {
            let begin = slots.len();
            self.find(keys, slots);
            let slots = &mut slots[begin..];
            let missing = slots.iter().filter(|&&slot| slot == NO_SLOT).count();
            if missing > 0 {
                self.make_room(missing)?;
            }
            let mut done = 0;
            while missing > 0 && done < keys.len() {
                done += probe::add(self, &keys[done..], &mut slots[done..]);
                self.settle()?;
            }
        }
        Ok(())
    }

    fn homes(&self) -> Homes {
        Homes { seed: self.seed, count: self.homes }
    }

    /// Calls `visit(key, slot)` for every key, in no particular order.
    pub fn for_each(&self, mut visit: impl FnMut(u64, u32)) {
        for bucket in self.buckets.iter() {
            bucket.entries().for_each(|(key, slot)| visit(key, slot));
        }
    }
}

impl Default for HashIndex {
    fn default() -> Self {
        Self::new()
    }
}
