//! The merge join with AVX-512: eight keys of one list against eight of the other, all 64 pairs at once.
//!
//! ```text
//! in_a = lanes of a's eight that equal any of b's eight;  in_b likewise
//! both lists are sorted and unique, so the k-th lane of in_a and the k-th of in_b are one pair:
//! compress both lane numbers, write eight pairs, keep as many as lanes were set
//! the side whose last key is smaller goes on to its next eight (both, if equal)
//! ```
//! No branch depends on the keys, save one: eight equal keys in both (the common case of a parameter server) need one
//! comparison. All shuffles and comparisons share one port of the core, so they are what is counted: the 64 pairs take four
//! rotations of one side by two lanes, one swap of neighbours of the other, and eight comparisons, 12 in all (with a broadcast
//! per key and side it was 44, and half the speed).

use std::arch::x86_64::*;
use std::mem::offset_of;

use crate::prefetch::prefetch;

use super::{EIGHT, Pairs, intersect_by, merge_rest, positions_by};

/// Hint distance. Where to load next depends on the keys just loaded, so the core cannot run ahead by itself, and lists
/// beyond L2 would come at the pace of single misses.
const KEYS_AHEAD: usize = 256;

/// [`super::intersect`] on this path.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,popcnt")]
#[inline]
pub(super) fn intersect(a: &[u64], b: &[u64], pairs: &mut Pairs) {
    intersect_by(a, b, pairs, |a, b, pairs| merge(a, b, pairs));
}

/// [`super::positions`] on this path.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,popcnt")]
#[inline]
pub(super) fn positions(keys: &[u64], shard: &[u64], slots: &mut Vec<u32>) -> usize {
    positions_by(keys, shard, slots, |a, b, pairs| merge(a, b, pairs))
}

#[target_feature(enable = "avx512f,avx512vl,avx512dq,popcnt")]
fn merge(a: &[u64], b: &[u64], pairs: &mut Pairs) {
    pairs.reserve(a.len().min(b.len()) + EIGHT);
    let (mut i, mut j) = (0, 0);
    while i + EIGHT <= a.len() && j + EIGHT <= b.len() {
        prefetch(a, i + KEYS_AHEAD);
        prefetch(b, j + KEYS_AHEAD);
        let x: &[u64; EIGHT] = a[i..].first_chunk().expect("eight keys are left");
        let y: &[u64; EIGHT] = b[j..].first_chunk().expect("eight keys are left");
        let (in_a, in_b) = common_lanes(x, y);
        emit((i, in_a), (j, in_b), pairs);
        if (in_a & in_b) == u8::MAX {
            // A predicted branch, so that the next loads need not wait for the comparison of the last keys.
            (i, j) = (i + EIGHT, j + EIGHT);
            continue;
        }
        // Volatile, so that these stay loads of their own: taken out of the vectors they would lengthen the one chain of
        // dependent instructions of this loop (position, last key, next position) from about 9 to 20 cycles.
        // SAFETY: `x` and `y` are borrowed arrays of eight keys.
        let (last_a, last_b) =
            unsafe { ((&raw const x[EIGHT - 1]).read_volatile(), (&raw const y[EIGHT - 1]).read_volatile()) };
        i += EIGHT * usize::from(last_a <= last_b);
        j += EIGHT * usize::from(last_b <= last_a);
    }
    merge_rest(a, b, i, j, pairs);
}

/// Which of the keys of `x` are in `y`, and which of `y` in `x`.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,popcnt")]
#[inline]
fn common_lanes(x: &[u64; EIGHT], y: &[u64; EIGHT]) -> (u8, u8) {
    // SAFETY: each array holds the 64 bytes that are loaded, and these loads need no alignment.
    let (vx, vy) = unsafe { (_mm512_loadu_epi64(x.as_ptr().cast()), _mm512_loadu_epi64(y.as_ptr().cast())) };
    let same = _mm512_cmpeq_epu64_mask(vx, vy);
    if same == u8::MAX {
        return (same, same);
    }
    // Lane l of `vx` rotated by 2 r is x[l + 2 r mod 8]; lane l of the swapped `vy` is y[l ^ 1].
    let swapped = _mm512_shuffle_epi32::<0b01_00_11_10>(vy);
    let rotated = [
        vx,
        _mm512_alignr_epi64::<2>(vx, vx),
        _mm512_alignr_epi64::<4>(vx, vx),
        _mm512_alignr_epi64::<6>(vx, vx),
    ];
    let (mut in_x, mut in_y, mut in_swapped) = (0u8, 0u8, 0u8);
    for (r, vx) in (0..).zip(rotated) {
        let straight = _mm512_cmpeq_epu64_mask(vx, vy);
        let crossed = _mm512_cmpeq_epu64_mask(vx, swapped);
        in_x |= (straight | crossed).rotate_left(2 * r);
        in_y |= straight;
        in_swapped |= crossed;
    }
    (in_x, in_y | (in_swapped & 0x55) << 1 | (in_swapped & 0xaa) >> 1)
}

/// Appends the pairs of the set lanes of both sides (start position, lanes): always writes eight, keeps as many as
/// there are lanes, since a loop of that length would be guessed wrong.
#[target_feature(enable = "avx512f,avx512vl,avx512dq,popcnt")]
#[inline]
fn emit((i, in_a): (usize, u8), (j, in_b): (usize, u8), pairs: &mut Pairs) {
    // A pair as one little-endian number: the position in a is the low half, which this proves.
    const { assert!(offset_of!((u32, u32), 0) == 0 && offset_of!((u32, u32), 1) == 4) };
    let lanes = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
    let mut low = _mm512_add_epi64(_mm512_set1_epi64(i as i64), lanes);
    let mut high = _mm512_slli_epi64::<32>(_mm512_add_epi64(_mm512_set1_epi64(j as i64), lanes));
    if (in_a & in_b) != u8::MAX {
        low = _mm512_maskz_compress_epi64(in_a, low);
        high = _mm512_maskz_compress_epi64(in_b, high);
    }
    if pairs.capacity() - pairs.len() < EIGHT {
        // Not taken for sorted unique lists: the caller reserved enough.
        pairs.reserve(EIGHT);
    }
    // SAFETY: eight pairs of 8 bytes fit behind the length (just ensured); every bit pattern is a pair of u32. At most
    // eight lanes are set, so the new length covers only pairs just written.
    unsafe {
        let end = pairs.as_mut_ptr().add(pairs.len());
        _mm512_storeu_epi64(end.cast(), _mm512_or_epi64(low, high));
        pairs.set_len(pairs.len() + in_a.count_ones() as usize);
    }
}
