//! The hash index: from a 64-bit key to its 32-bit slot, one cache line per look-up.
//!
//! ```text
//! home(key) = (hash(key) * homes) >> 64          monotone in the hash, any number of buckets
//! find:   look at the 64-byte bucket at home and at as many after it as its `reach` says; five keys each
//! insert: from home on, the first bucket with room takes the key; in a full one, the key whose home is
//!         farthest on gives way to ours if its home lies beyond our home, and goes on in our stead
//! ```
//!
//! 1. Keys lie in the bucket itself, so a hit costs one line; walks are batched and prefetched, so that many
//!    lines are under way at once.
//! 2. Giving way keeps keys in the order of their homes: at a load of 0.8 almost nobody lies more than one
//!    bucket from home, and a miss ends as soon as a hit. Without it the last keys would walk past dozens.
//! 3. The hash is seeded by the operating system's randomness: nobody can choose keys that collide. No key lies
//!    [`WALK_MAX`] buckets from home; should one ever have to, the index is rebuilt with another seed.
//! 4. Homes are monotone in the hash, so growing is one sequential sweep from the top end downwards, in place:
//!    no second copy, and steps as small as 4/3: 16 to 24 bytes a key.
//! 5. Keys are never removed, so there are no tombstones.
//!
//! Known costs: a growth step sweeps the whole index at once, a few ns a key.

mod bucket;
mod grow;
mod place;
mod probe;
#[cfg(test)]
mod tests;

use super::resolved::NO_SLOT;
use super::{Pages, ROWS_MAX, TableError};
use bucket::Bucket;

/// Buckets that a walk may look at; also how many lie beyond the last home. With random hashes and the greatest
/// load the probability that a key needs more is about exp(-WALK_MAX), some 1e-14.
const WALK_MAX: usize = 32;
/// Keys looked up between two checks for room.
const CHUNK: usize = 1024;
/// Greatest load, in percent of the places in home buckets.
const LOAD_MAX_PERCENT: usize = 82;
const HOMES_MIN: usize = 32;

/// From keys to slots 0, 1, 2, ... in the order of first insertion.
pub struct HashIndex {
    buckets: Pages<Bucket>,
    homes: usize,
    len: usize,
    seed: Seed,
    /// Some key lies where no walk finds it; `rebuild` is the only next step.
    stray: bool,
}

/// The secret of the hash.
#[derive(Clone, Copy)]
struct Seed([u64; 3]);

impl Seed {
    fn random() -> Self {
        let mut words = [0u64; 3];
        // Without the system's randomness the address of a local still differs from run to run.
        if getrandom::fill(bytemuck::bytes_of_mut(&mut words)).is_err() {
            words[0] = (&raw const words).addr() as u64;
        }
        Self([words[0], words[1] | 1, words[2] | 1])
    }

    /// Two folded multiplications, each with a secret operand: every input bit moves every output bit.
    #[inline(always)]
    fn hash(self, key: u64) -> u64 {
        fold(fold(key ^ self.0[0], self.0[1] ^ 0x9e37_79b9_7f4a_7c15) ^ self.0[1], self.0[2])
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[inline(always)]
fn home_of(hash: u64, homes: usize) -> usize {
    ((u128::from(hash) * homes as u128) >> 64) as usize
}

impl HashIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self { buckets: Pages::new(), homes: 0, len: 0, seed: Seed::random(), stray: false }
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
            probe::find(self, keys, &mut slots[begin..]);
        }
    }

    /// Appends the slot of each key to `slots`; a key not yet there gets the next free slot.
    ///
    /// # Errors
    /// [`TableError::Full`] beyond [`ROWS_MAX`](super::ROWS_MAX) keys, [`TableError::OutOfMemory`]; the keys
    /// before the failing chunk have been inserted.
    pub fn insert(&mut self, keys: &[u64], slots: &mut Vec<u32>) -> Result<(), TableError> {
        slots.reserve(keys.len());
        if self.stray {
            self.rebuild()?;
        }
        for chunk in keys.chunks(CHUNK) {
            self.make_room(chunk.len())?;
            let begin = slots.len();
            slots.resize(begin + chunk.len(), NO_SLOT);
            let mut done = 0;
            while done < chunk.len() {
                done += probe::insert(self, &chunk[done..], &mut slots[begin + done..]);
                if self.stray {
                    self.rebuild()?;
                }
            }
        }
        Ok(())
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
