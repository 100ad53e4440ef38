//! Rows that are there and rows that are not: bitmaps, and the rows packed one after the other.
//!
//! Row i is bit `i % 64` of word `i / 64`; bits behind the last row are 0. Words without a bit cost one test, so what
//! is mostly absent is passed over 64 rows at a time.

use crate::isa::shells;
use crate::real::Real;

/// Words of a bitmap of `rows` rows.
pub const fn words(rows: usize) -> usize {
    rows.div_ceil(64)
}

/// Rows that are there.
pub fn count(bitmap: &[u64]) -> usize {
    bitmap.iter().map(|word| word.count_ones() as usize).sum()
}

shells! {
    /// Sets the bit of each row of `width` values in which any is not all zero bits (so -0 and NaN count as something).
    ///
    /// # Panics
    /// If `values` are not whole rows or `bitmap` has not [`words`] words for them.
    pub fn mark_nonzero<T>(values: &[T], width: usize, bitmap: &mut [u64]) = mark_nonzero_loop;

    /// Copies the rows whose bit is set to the front of `packed`; returns how many.
    ///
    /// # Panics
    /// If `values` are not whole rows, `bitmap` has not [`words`] words for them, a bit behind the last row is set, or
    /// `packed` is too short.
    pub fn compact<T>(values: &[T], width: usize, bitmap: &[u64], packed: &mut [T]) -> usize = compact_loop;

    /// Undoes [`compact`]: writes the packed rows where their bits are and leaves the other rows of `values` alone.
    ///
    /// # Panics
    /// As [`compact`] does.
    pub fn expand<T>(packed: &[T], width: usize, bitmap: &[u64], values: &mut [T]) -> usize = expand_loop;
}

#[inline(always)]
fn assert_shape(len: usize, width: usize, bitmap: &[u64]) -> usize {
    assert!(width > 0 && len.is_multiple_of(width), "{len} values are not whole rows of {width}");
    let rows = len / width;
    assert_eq!(bitmap.len(), words(rows), "a bitmap has one word for 64 rows");
    rows
}

#[inline(always)]
fn mark_nonzero_loop<T: Real>(values: &[T], width: usize, bitmap: &mut [u64]) {
    assert_shape(values.len(), width, bitmap);
    let zero = T::ZERO.to_bits();
    for (word, rows) in bitmap.iter_mut().zip(values.chunks(64 * width)) {
        let mut flags = [0u8; 64];
        if width == 1 {
            for (flag, value) in flags.iter_mut().zip(rows) {
                *flag = u8::from(value.to_bits() != zero);
            }
        } else {
            for (flag, row) in flags.iter_mut().zip(rows.chunks_exact(width)) {
                *flag = u8::from(row.iter().fold(false, |any, value| any | (value.to_bits() != zero)));
            }
        }
        *word |= gather_flags(&flags);
    }
}

/// One bit for each byte, which is 0 or 1. The product moves bit 8 k of eight bytes to bit 56 + k, without carries.
#[inline(always)]
fn gather_flags(flags: &[u8; 64]) -> u64 {
    let (eights, _) = flags.as_chunks::<8>();
    eights.iter().zip(0..).fold(0, |word, (eight, k)| {
        let bits = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word | bits << (8 * k)
    })
}

#[inline(always)]
fn compact_loop<T: Real>(values: &[T], width: usize, bitmap: &[u64], packed: &mut [T]) -> usize {
    let rows = assert_shape(values.len(), width, bitmap);
    let mut to = 0;
    for (&word, at) in bitmap.iter().zip((0..rows).step_by(64)) {
        if word == u64::MAX {
            packed[to * width..][..64 * width].copy_from_slice(&values[at * width..][..64 * width]);
            to += 64;
            continue;
        }
        let mut left = word;
        while left != 0 {
            let row = at + left.trailing_zeros() as usize;
            if width == 1 {
                packed[to] = values[row];
            } else {
                packed[to * width..][..width].copy_from_slice(&values[row * width..][..width]);
            }
            to += 1;
            left &= left - 1;
        }
    }
    to
}

#[inline(always)]
fn expand_loop<T: Real>(packed: &[T], width: usize, bitmap: &[u64], values: &mut [T]) -> usize {
    let rows = assert_shape(values.len(), width, bitmap);
    let mut from = 0;
    for (&word, at) in bitmap.iter().zip((0..rows).step_by(64)) {
        if word == u64::MAX {
            values[at * width..][..64 * width].copy_from_slice(&packed[from * width..][..64 * width]);
            from += 64;
            continue;
        }
        let mut left = word;
        while left != 0 {
            let row = at + left.trailing_zeros() as usize;
            if width == 1 {
                values[row] = packed[from];
            } else {
                values[row * width..][..width].copy_from_slice(&packed[from * width..][..width]);
            }
            from += 1;
            left &= left - 1;
        }
    }
    from
}
