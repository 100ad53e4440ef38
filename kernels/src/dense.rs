//! Aggregation of whole arrays: `y += x`, and the sum of several sources in one pass.
//!
//! Sources are added from left to right, so the result does not depend on how many there are per pass.
//! Cost: one load per source and element, one store per element; `y` stays in L1 between groups of sources.

use crate::isa::shells;
use crate::real::{REDUCTION_LANES, Real, fold};

/// Elements worked on at a time by kernels that keep intermediate results: small enough for L1 (two buffers of
/// f64 take 8 KiB), large enough that the loop's set-up vanishes. A multiple of the reduction lanes.
pub(crate) const BLOCK: usize = 512;

/// Sources summed per sweep over a block; the loads of one sweep and the accumulator fit the load ports and
/// the hardware prefetcher's streams.
const SWEEP: usize = 4;

shells! {
    /// `y[i] += x[i]`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add<T>(y: &mut [T], x: &[T]) = add_loop;

    /// `y[i] += a x[i]`, the product rounded before the sum.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn axpy<T>(y: &mut [T], a: T, x: &[T]) = axpy_loop;

    /// The sum of `x[i] y[i]`, over 16 fixed lanes (element i in lane i mod 16) added in a fixed tree.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn dot<T>(x: &[T], y: &[T]) -> T = dot_loop;

    /// `y[i] = sources[0][i] + sources[1][i] + ...`, from left to right; zeros if there is no source.
    /// What was in `y` is not read. Any number of sources, one pass over memory.
    ///
    /// # Panics
    /// If a source's length differs from `y`'s.
    pub fn sum_into<T>(y: &mut [T], sources: &[&[T]]) = sum_into_loop;
}

#[inline(always)]
pub(crate) fn add_loop<T: Real>(y: &mut [T], x: &[T]) {
    assert_eq!(y.len(), x.len(), "y and x must have the same length");
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn axpy_loop<T: Real>(y: &mut [T], a: T, x: &[T]) {
    assert_eq!(y.len(), x.len(), "y and x must have the same length");
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[inline(always)]
fn dot_loop<T: Real>(x: &[T], y: &[T]) -> T {
    assert_eq!(x.len(), y.len(), "x and y must have the same length");
    let mut lanes = [T::ZERO; REDUCTION_LANES];
    let (x_chunks, x_tail) = x.as_chunks::<REDUCTION_LANES>();
    let (y_chunks, y_tail) = y.as_chunks::<REDUCTION_LANES>();
    for (x, y) in x_chunks.iter().zip(y_chunks) {
        for (lane, (&x, &y)) in lanes.iter_mut().zip(x.iter().zip(y)) {
            *lane += x * y;
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(x_tail.iter().zip(y_tail)) {
        *lane += x * y;
    }
    fold(lanes)
}

#[inline(always)]
fn sum_into_loop<T: Real>(y: &mut [T], sources: &[&[T]]) {
    assert_same_length(y.len(), sources);
    for (block, y) in y.chunks_mut(BLOCK).enumerate() {
        sum_block(y, sources, block * BLOCK);
    }
}

/// Panics unless each source has `len` elements.
#[inline(always)]
pub(crate) fn assert_same_length<T>(len: usize, sources: &[&[T]]) {
    for source in sources {
        assert_eq!(source.len(), len, "every source must have the target's length");
    }
}

/// `y = sum of sources[..][start..start + y.len()]`, a few sources per sweep.
#[inline(always)]
pub(crate) fn sum_block<T: Real>(y: &mut [T], sources: &[&[T]], start: usize) {
    let end = start + y.len();
    let part = |k: usize| &sources[k][start..end];
    let first = match sources.len() {
        0 => return y.fill(T::ZERO),
        1 => return y.copy_from_slice(part(0)),
        2 => sweep::<T, 2, true>(y, [part(0), part(1)]),
        3 => sweep::<T, 3, true>(y, [part(0), part(1), part(2)]),
        _ => sweep::<T, 4, true>(y, [part(0), part(1), part(2), part(3)]),
    };
    let mut done = first;
    while done < sources.len() {
        done += match sources.len() - done {
            1 => sweep::<T, 1, false>(y, [part(done)]),
            2 => sweep::<T, 2, false>(y, [part(done), part(done + 1)]),
            3 => sweep::<T, 3, false>(y, [part(done), part(done + 1), part(done + 2)]),
            _ => sweep::<T, 4, false>(y, [part(done), part(done + 1), part(done + 2), part(done + 3)]),
        };
    }
}

/// `y[i] <- y[i] + parts[0][i] + ...` from left to right, without `y[i]` if `FRESH`; returns the number of parts.
///
/// Without a closure: one that is not inlined into the shell (builds without link-time optimisation) costs 20 times the sum.
#[inline(always)]
fn sweep<T: Real, const K: usize, const FRESH: bool>(y: &mut [T], mut parts: [&[T]; K]) -> usize {
    const { assert!(0 < K && K <= SWEEP) };
    let len = y.len();
    for part in &mut parts {
        *part = &part[..len];
    }
    for i in 0..len {
        let mut sum = if FRESH { parts[0][i] } else { y[i] + parts[0][i] };
        for part in &parts[1..] {
            sum += part[i];
        }
        y[i] = sum;
    }
    K
}
