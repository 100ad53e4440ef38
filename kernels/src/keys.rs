//! Key lists: sorted, unique `u64` keys, their signature, their order, and how one list lies in another.
//!
//! A list is at most `2^32 - 1` keys long where positions are given as `u32`.
//! [`intersect`] merges lists of like sizes (comparing eight keys at once where both lists agree) and strides
//! through the longer one where it is 16 times longer; the result never depends on the way.

use twox_hash::XxHash3_128;

use crate::isa::shells;

/// The place of a key that is not in the shard, in the answer of [`positions`].
pub const NO_SLOT: u32 = u32::MAX;

/// Lists whose lengths differ by at least this factor are searched, not merged.
const STRIDE_FACTOR: usize = 16;

/// Keys compared at once while two lists agree.
const EIGHT: usize = 8;

/// Keys skipped at once while striding, and counted at once at the end.
const STRIDE: usize = 16;

type Pairs = Vec<(u32, u32)>;

#[cfg(all(target_arch = "x86_64", not(keyrange_portable)))]
#[path = "keys_avx512.rs"]
mod avx512;

/// The 128-bit signature of the whole list: xxh3-128 with seed 0 over the keys' little-endian bytes.
pub fn signature(keys: &[u64]) -> u128 {
    if cfg!(target_endian = "little") {
        return XxHash3_128::oneshot(as_bytes(keys));
    }
    let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
    XxHash3_128::oneshot(&bytes)
}

fn as_bytes(keys: &[u64]) -> &[u8] {
    // SAFETY: u64 has no padding, u8 no alignment, and the length in bytes is that of the borrowed slice.
    unsafe { std::slice::from_raw_parts(keys.as_ptr().cast(), size_of_val(keys)) }
}

shells! {
    /// Where the list stops being sorted and unique: the first i with `keys[i] <= keys[i - 1]`.
    pub fn first_unsorted(keys: &[u64]) -> Option<usize> = first_unsorted_loop;

    /// Appends `(position in a, position in b)` for each key in both lists, in key order.
    ///
    /// Both lists must be sorted and unique ([`is_sorted_unique`]); with others the pairs are unspecified, though
    /// within the lists.
    ///
    /// # Panics
    /// If a list has `2^32` keys or more.
    pub fn intersect(a: &[u64], b: &[u64], pairs: &mut Vec<(u32, u32)>)
        = intersect_loop | avx512::intersect;

    /// Finds each key in a sorted, unique shard: clears `slots`, makes `slots[k]` the position of `keys[k]` or
    /// [`NO_SLOT`], and returns how many keys were not found. The keys must be sorted and unique too.
    ///
    /// # Panics
    /// If a list has `2^32 - 1` keys or more.
    pub fn positions(keys: &[u64], shard: &[u64], slots: &mut Vec<u32>) -> usize
        = positions_loop | avx512::positions;
}

/// Whether the keys strictly increase.
pub fn is_sorted_unique(keys: &[u64]) -> bool {
    first_unsorted(keys).is_none()
}

/// The first position whose key is at least `key`, or the length. The list must be sorted.
pub fn lower_bound(keys: &[u64], key: u64) -> usize {
    keys.partition_point(|&k| k < key)
}

#[inline(always)]
fn first_unsorted_loop(keys: &[u64]) -> Option<usize> {
    const CHUNK: usize = 64;
    let mut at = 1;
    while at + CHUNK <= keys.len() {
        let (before, here) = (&keys[at - 1..at - 1 + CHUNK], &keys[at..at + CHUNK]);
        if before.iter().zip(here).fold(false, |bad, (a, b)| bad | (a >= b)) {
            break;
        }
        at += CHUNK;
    }
    (at..keys.len()).find(|&i| keys[i - 1] >= keys[i])
}

fn assert_positions_fit(keys: &[u64]) {
    assert!(
        keys.len() < u32::MAX as usize,
        "a key list of {} keys is too long for u32 positions",
        keys.len()
    );
}

#[inline(always)]
fn intersect_loop(a: &[u64], b: &[u64], pairs: &mut Vec<(u32, u32)>) {
    intersect_by(a, b, pairs, merge);
}

#[inline(always)]
fn positions_loop(keys: &[u64], shard: &[u64], slots: &mut Vec<u32>) -> usize {
    positions_by(keys, shard, slots, merge)
}

#[inline(always)]
fn intersect_by(a: &[u64], b: &[u64], pairs: &mut Pairs, merge: impl Fn(&[u64], &[u64], &mut Pairs)) {
    assert_positions_fit(a);
    assert_positions_fit(b);
    if b.len() / STRIDE_FACTOR >= a.len() {
        stride(a, b, |i, j| pairs.push((i, j)));
    } else if a.len() / STRIDE_FACTOR >= b.len() {
        stride(b, a, |j, i| pairs.push((i, j)));
    } else {
        merge(a, b, pairs);
    }
}

#[inline(always)]
fn positions_by(
    keys: &[u64],
    shard: &[u64],
    slots: &mut Vec<u32>,
    merge: impl Fn(&[u64], &[u64], &mut Pairs),
) -> usize {
    assert_positions_fit(keys);
    assert_positions_fit(shard);
    slots.clear();
    slots.resize(keys.len(), NO_SLOT);
    let mut found = 0;
    if shard.len() / STRIDE_FACTOR >= keys.len() {
        stride(keys, shard, |k, slot| {
            slots[k as usize] = slot;
            found += 1;
        });
    } else {
        let mut pairs = Vec::with_capacity(keys.len().min(shard.len()));
        merge(keys, shard, &mut pairs);
        found = pairs.len();
        for (k, slot) in pairs {
            slots[k as usize] = slot;
        }
    }
    keys.len() - found
}

/// Merge join. While both sides show the same eight keys, one comparison settles all of them; else a step each
/// without a branch on the keys' order, since that order is what a predictor cannot guess.
#[inline(always)]
fn merge(a: &[u64], b: &[u64], pairs: &mut Pairs) {
    pairs.reserve(a.len().min(b.len()));
    let (mut i, mut j) = (0, 0);
    while i + EIGHT <= a.len() && j + EIGHT <= b.len() {
        let (x, y) = (&a[i..i + EIGHT], &b[j..j + EIGHT]);
        if x.iter().zip(y).fold(true, |same, (x, y)| same & (x == y)) {
            pairs.extend((0..EIGHT).map(|k| ((i + k) as u32, (j + k) as u32)));
            (i, j) = (i + EIGHT, j + EIGHT);
            continue;
        }
        // At most eight steps: neither side can run out. A pair is written at each and kept if the keys are equal.
        let (mut found, mut count) = ([(0, 0); EIGHT], 0);
        for _ in 0..EIGHT {
            let (x, y) = (a[i], b[j]);
            found[count] = (i as u32, j as u32);
            count += usize::from(x == y);
            (i, j) = (i + usize::from(x <= y), j + usize::from(y <= x));
        }
        pairs.extend_from_slice(&found[..count]);
    }
    merge_rest(a, b, i, j, pairs);
}

/// Merges from positions `i` and `j` on, one step at a time.
#[inline(always)]
fn merge_rest(a: &[u64], b: &[u64], mut i: usize, mut j: usize, pairs: &mut Pairs) {
    while i < a.len() && j < b.len() {
        let (x, y) = (a[i], b[j]);
        if x == y {
            pairs.push((i as u32, j as u32));
        }
        (i, j) = (i + usize::from(x <= y), j + usize::from(y <= x));
    }
}

/// Finds the keys of a short list in a long one: skips whole strides (doubling when many are skipped), then counts
/// the smaller keys of the last stride, which vectorises and does not branch.
#[inline(always)]
fn stride(short: &[u64], long: &[u64], mut found: impl FnMut(u32, u32)) {
    let mut at = 0;
    for (i, &key) in short.iter().enumerate() {
        at = skip_to(long, at, key);
        let Some(window) = long[at..].first_chunk::<STRIDE>() else {
            at += long[at..].partition_point(|&k| k < key);
            match long.get(at) {
                Some(&k) if k == key => found(i as u32, at as u32),
                Some(_) => {}
                None => return,
            }
            continue;
        };
        let smaller = window.iter().fold(0, |count, &k| count + usize::from(k < key));
        at += smaller;
        if long.get(at) == Some(&key) {
            found(i as u32, at as u32);
        }
    }
}

/// A position not before `at` and not beyond the lower bound of `key`, less than a stride before it (or the list's end).
#[inline(always)]
fn skip_to(long: &[u64], mut at: usize, key: u64) -> usize {
    const LINEAR: usize = 4;
    for _ in 0..LINEAR {
        match long.get(at + STRIDE - 1) {
            Some(&last) if last < key => at += STRIDE,
            _ => return at,
        }
    }
    let mut jump = LINEAR * STRIDE;
    while long.get(at + jump - 1).is_some_and(|&last| last < key) {
        at += jump;
        jump *= 2;
    }
    let end = (at + jump).min(long.len());
    at + long[at..end].partition_point(|&k| k < key)
}
