//! The walks of the index: written once, instantiated per instruction set.
//!
//! What differs is only how a bucket's five keys are compared with one key. Walks run `AHEAD` keys behind the
//! hashing and prefetching, so that about that many cache lines are on their way at any time.

use keyrange_kernels::isa::{self, Isa};

use super::HashIndex;
use super::bucket::{BUCKET_KEYS, Bucket};
use super::place::{Homes, place};

/// Keys hashed and prefetched ahead of the walk.
const AHEAD: usize = 32;

/// Compares a key with the five of a bucket: bit i of the result says that place i holds it. Places not in use and
/// bits beyond the fifth may say anything.
trait Compare: Copy {
    fn hits(self, bucket: &Bucket, key: u64) -> u32;
}

#[derive(Clone, Copy)]
struct Portable;

impl Compare for Portable {
    #[inline(always)]
    fn hits(self, bucket: &Bucket, key: u64) -> u32 {
        (0..BUCKET_KEYS).fold(0, |hits, place| hits | u32::from(bucket.keys[place] == key) << place)
    }
}

/// Writes the slot of each key that is there.
pub(super) fn find(index: &HashIndex, keys: &[u64], slots: &mut [u32]) {
    match isa::current() {
        // SAFETY: `current` answers only instruction sets that this machine was seen to have.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::find_avx512(index, keys, slots) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::find_avx2(index, keys, slots) },
        _ => find_with(Portable, index, keys, slots),
    }
}

/// Writes the slot of each key, inserting those not there; returns how many keys were served, fewer than all only when
/// the index must be rebuilt first. The caller has made room.
pub(super) fn insert(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
    match isa::current() {
        // SAFETY: `current` answers only instruction sets that this machine was seen to have.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::insert_avx512(index, keys, slots) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::insert_avx2(index, keys, slots) },
        _ => insert_with(Portable, index, keys, slots),
    }
}

#[inline(always)]
fn find_with(compare: impl Compare, index: &HashIndex, keys: &[u64], slots: &mut [u32]) {
    let buckets = &*index.buckets;
    let homes = Homes { seed: index.seed, count: index.homes };
    let mut ahead = [0usize; AHEAD];
    for step in 0..keys.len() + AHEAD {
        if let Some(done) = step.checked_sub(AHEAD)
            && let Some(slot) = walk(compare, buckets, ahead[done % AHEAD], keys[done])
        {
            slots[done] = slot;
        }
        if let Some(&key) = keys.get(step) {
            let home = homes.of(key);
            // A bucket at home is often full; its neighbour comes along.
            prefetch(&buckets[home]);
            prefetch(&buckets[home + 1]);
            ahead[step % AHEAD] = home;
        }
    }
}

#[inline(always)]
fn insert_with(compare: impl Compare, index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
    let buckets = &mut *index.buckets;
    let homes = Homes { seed: index.seed, count: index.homes };
    let mut ahead = [0usize; AHEAD];
    for step in 0..keys.len() + AHEAD {
        if let Some(done) = step.checked_sub(AHEAD) {
            let (key, home) = (keys[done], ahead[done % AHEAD]);
            slots[done] = match walk(compare, buckets, home, key) {
                Some(slot) => slot,
                None => {
                    let slot = index.len as u32;
                    index.len += 1;
                    index.stray |= !place(buckets, homes, home, key, slot);
                    slot
                }
            };
            if index.stray {
                return done + 1;
            }
        }
        if let Some(&key) = keys.get(step) {
            let home = homes.of(key);
            // A bucket at home is often full; its neighbour comes along.
            prefetch(&buckets[home]);
            prefetch(&buckets[home + 1]);
            ahead[step % AHEAD] = home;
        }
    }
    keys.len()
}

/// The slot of a key, if it is there.
#[inline(always)]
fn walk(compare: impl Compare, buckets: &[Bucket], home: usize, key: u64) -> Option<u32> {
    let reach = usize::from(buckets[home].reach);
    for bucket in &buckets[home..=home + reach] {
        let hits = compare.hits(bucket, key) & bucket.occupied();
        if hits != 0 {
            return Some(bucket.slots[hits.trailing_zeros() as usize % BUCKET_KEYS]);
        }
    }
    None
}

#[inline(always)]
fn prefetch(bucket: &Bucket) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing, and every x86-64 machine has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(bucket).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bucket;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Bucket, Compare, HashIndex, find_with, insert_with};

    #[derive(Clone, Copy)]
    struct Avx2;

    impl Compare for Avx2 {
        #[inline(always)]
        fn hits(self, bucket: &Bucket, key: u64) -> u32 {
            // SAFETY: this type is only used by the shells below that require AVX2; the load reads keys 0 to 3.
            let low = unsafe {
                let keys = _mm256_loadu_si256(bucket.keys.as_ptr().cast());
                let equal = _mm256_cmpeq_epi64(keys, _mm256_set1_epi64x(key as i64));
                _mm256_movemask_pd(_mm256_castsi256_pd(equal)) as u32
            };
            low | u32::from(bucket.keys[4] == key) << 4
        }
    }

    #[derive(Clone, Copy)]
    struct Avx512;

    impl Compare for Avx512 {
        #[inline(always)]
        fn hits(self, bucket: &Bucket, key: u64) -> u32 {
            // SAFETY: this type is only used by the shells below that require AVX-512; a bucket is 64 bytes, all of
            // them initialised, and the load reads exactly those.
            unsafe {
                let line = _mm512_loadu_si512(std::ptr::from_ref(bucket).cast());
                u32::from(_mm512_cmpeq_epi64_mask(line, _mm512_set1_epi64(key as i64)))
            }
        }
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub fn find_avx2(index: &HashIndex, keys: &[u64], slots: &mut [u32]) {
        find_with(Avx2, index, keys, slots);
    }

    #[target_feature(enable = "avx512f,bmi1,bmi2")]
    pub fn find_avx512(index: &HashIndex, keys: &[u64], slots: &mut [u32]) {
        find_with(Avx512, index, keys, slots);
    }

    #[target_feature(enable = "avx2,bmi1,bmi2")]
    pub fn insert_avx2(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
        insert_with(Avx2, index, keys, slots)
    }

    #[target_feature(enable = "avx512f,bmi1,bmi2")]
    pub fn insert_avx512(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
        insert_with(Avx512, index, keys, slots)
    }
}
