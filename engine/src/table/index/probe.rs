//! The walks of the index: written once, instantiated per instruction set.
//!
//! ```text
//! find:  for each key, AHEAD keys behind the hashing and prefetching: look at the bucket at home
//!        then, for the few whose bucket is full and without them: look at the buckets after it
//! add:   for each key that `find` missed, on the lines that `find` has brought: look again, then place it
//! ```
//!
//! 1. Only the home bucket is prefetched at first; one key in ten goes on to its neighbour, prefetched in turn.
//!    Fetching both for everybody would cost as much again, for the rate is bound by the lines under way.
//! 2. `add` looks again because a key may come twice in one list. That and the placing hit the cache, since a list
//!    is cut into chunks whose lines fit in it.
//!
//! What differs between instruction sets is only how a bucket's five keys are compared with one key.

use keyrange_kernels::isa::{self, Isa};

use super::bucket::{BUCKET_KEYS, Bucket, Home, place};
use super::{CHUNK, HashIndex, NO_SLOT, WALK_MAX};

/// Keys hashed and prefetched ahead of the look at their buckets.
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

/// Writes the slot of each key, [`NO_SLOT`] for one that is not there. There are at most [`CHUNK`] keys.
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

/// Inserts each key whose slot is missing and writes its slot; returns how many keys were served, fewer than all only
/// when the index must be rebuilt first. The caller has made room.
pub(super) fn add(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
    match isa::current() {
        // SAFETY: `current` answers only instruction sets that this machine was seen to have.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 => unsafe { x86::add_avx512(index, keys, slots) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { x86::add_avx2(index, keys, slots) },
        _ => add_with(Portable, index, keys, slots),
    }
}

#[inline(always)]
fn find_with(compare: impl Compare, index: &HashIndex, keys: &[u64], slots: &mut [u32]) {
    let buckets = &*index.buckets;
    let homes = index.homes();
    let mut ahead = [Home::default(); AHEAD];
    // Keys to be sought beyond their homes.
    let mut beyond = [0u16; CHUNK];
    let mut beyond_len = 0;
    for step in 0..keys.len() + AHEAD {
        if let Some(done) = step.checked_sub(AHEAD) {
            let home = ahead[done % AHEAD];
            let bucket = &buckets[home.at];
            let slot = look(compare, bucket, keys[done]);
            slots[done] = slot;
            if slot == NO_SLOT && bucket.is_full() {
                // A walk or a placing will look there.
                prefetch(&buckets[home.at + 1]);
            }
            if slot == NO_SLOT && bucket.may_have_passed(home.mark) {
                beyond[beyond_len] = done as u16;
                beyond_len += 1;
            }
        }
        if let Some(&key) = keys.get(step) {
            let home = homes.of(key);
            prefetch(&buckets[home.at]);
            ahead[step % AHEAD] = home;
        }
    }
    for &place in &beyond[..beyond_len] {
        let key = keys[usize::from(place)];
        slots[usize::from(place)] = walk(compare, buckets, homes.of(key), key);
    }
}

#[inline(always)]
fn add_with(compare: impl Compare, index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
    let homes = index.homes();
    let buckets = &mut *index.buckets;
    for (done, (&key, slot)) in keys.iter().zip(slots).enumerate() {
        if *slot != NO_SLOT {
            continue;
        }
        let home = homes.of(key);
        *slot = walk(compare, buckets, home, key);
        if *slot == NO_SLOT {
            *slot = index.len as u32;
            index.len += 1;
            if !place(buckets, home, key, *slot) {
                index.homeless.push((key, *slot));
                return done + 1;
            }
        }
    }
    keys.len()
}

/// The slot of a key, [`NO_SLOT`] if it is nowhere.
#[inline(always)]
fn walk(compare: impl Compare, buckets: &[Bucket], home: Home, key: u64) -> u32 {
    let slot = look(compare, &buckets[home.at], key);
    if slot != NO_SLOT || !buckets[home.at].may_have_passed(home.mark) {
        return slot;
    }
    for bucket in &buckets[home.at + 1..home.at + WALK_MAX] {
        let slot = look(compare, bucket, key);
        if slot != NO_SLOT || !bucket.is_full() {
            return slot;
        }
    }
    NO_SLOT
}

/// The slot of a key, [`NO_SLOT`] if it is not in this bucket.
#[inline(always)]
fn look(compare: impl Compare, bucket: &Bucket, key: u64) -> u32 {
    match compare.hits(bucket, key) & bucket.occupied() {
        0 => NO_SLOT,
        hits => bucket.slots[hits.trailing_zeros() as usize % BUCKET_KEYS],
    }
}

#[inline(always)]
fn prefetch(bucket: &Bucket) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing, and every x86-64 machine has it.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // Into the L2 cache: more lines can be under way to it than to the L1 cache.
        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(bucket).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bucket;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Bucket, Compare, HashIndex, add_with, find_with};

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
    pub fn add_avx2(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
        add_with(Avx2, index, keys, slots)
    }

    #[target_feature(enable = "avx512f,bmi1,bmi2")]
    pub fn add_avx512(index: &mut HashIndex, keys: &[u64], slots: &mut [u32]) -> usize {
        add_with(Avx512, index, keys, slots)
    }
}
