//! Sparse products of the trainer: rows (CSR) for `X w`, columns (CSC) for `X^T g` and block gradients.
//!
//! A matrix is a borrowed view: offsets, `u32` indices and values, or no values for binary features (all 1), whose
//! kernels neither load nor multiply. A block of rows or columns is a view over a part of the offsets.
//! Indices are checked against the dense operand as they are used, a vector at a time.
//!
//! Sums over a row or column of fewer than 16 entries go from left to right; longer ones use 16 accumulators
//! (entry k to accumulator k mod 16) added as a fixed tree. Both are the same on every path.

use std::marker::PhantomData;

use thiserror::Error;

use crate::isa::shells;
use crate::prefetch::{AHEAD, pays, prefetch};
use crate::real::{REDUCTION_LANES, Real, fold};

/// Parts that do not make a matrix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MatrixError {
    /// There must be one offset more than rows (or columns), so at least one.
    #[error("a matrix needs at least one offset, got none")]
    NoOffsets,
    /// Offsets must not decrease.
    #[error("offset {at} decreases; offsets must be sorted")]
    UnsortedOffsets {
        /// Which offset.
        at: usize,
    },
    /// The last offset must lie within the indices.
    #[error("the last offset is {got}, but there are only {max} indices")]
    OffsetBeyondIndices {
        /// The offset.
        got: usize,
        /// The indices there are.
        max: usize,
    },
    /// One value per index, if there are values.
    #[error("expected {expected} values, one per index, got {got}")]
    ValueCount {
        /// The indices there are.
        expected: usize,
        /// The values there are.
        got: usize,
    },
}

/// Compressed sparse lines: what rows and columns have in common.
#[derive(Debug, Clone, Copy)]
struct Lines<'a, T> {
    offsets: &'a [usize],
    indices: &'a [u32],
    values: Option<&'a [T]>,
}

impl<'a, T: Real> Lines<'a, T> {
    fn new(offsets: &'a [usize], indices: &'a [u32], values: Option<&'a [T]>) -> Result<Self, MatrixError> {
        let &last = offsets.last().ok_or(MatrixError::NoOffsets)?;
        if let Some(at) = offsets.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(MatrixError::UnsortedOffsets { at: at + 1 });
        }
        if last > indices.len() {
            return Err(MatrixError::OffsetBeyondIndices { got: last, max: indices.len() });
        }
        if let Some(got) = values.map(<[T]>::len).filter(|&got| got != indices.len()) {
            return Err(MatrixError::ValueCount { expected: indices.len(), got });
        }
        Ok(Lines { offsets, indices, values })
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn part(self, lines: std::ops::Range<usize>) -> Self {
        Lines { offsets: &self.offsets[lines.start..=lines.end], ..self }
    }
}

macro_rules! view {
    ($(#[$meta:meta])* $name:ident, $lines:ident, $line:literal, $other:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'a, T>(Lines<'a, T>);

        impl<'a, T: Real> $name<'a, T> {
            #[doc = concat!("Views a matrix: ", $line, " k owns the entries `offsets[k]..offsets[k + 1]` of `indices`")]
            #[doc = concat!("(", $other, " numbers, unique within it) and of `values` (`None`: all ones).")]
            /// The first offset need not be 0. Costs one pass over the offsets; the indices are checked when used.
            pub fn new(
                offsets: &'a [usize],
                indices: &'a [u32],
                values: Option<&'a [T]>,
            ) -> Result<Self, MatrixError> {
                Lines::new(offsets, indices, values).map($name)
            }

            #[doc = concat!("How many ", $line, "s.")]
            pub fn $lines(&self) -> usize {
                self.0.len()
            }

            /// How many entries the view covers.
            pub fn nonzeros(&self) -> usize {
                self.0.offsets[self.0.len()] - self.0.offsets[0]
            }

            #[doc = concat!("The view of a contiguous part of the ", $line, "s, without a pass over it.")]
            ///
            /// # Panics
            /// If the range is decreasing or exceeds the view.
            pub fn part(&self, range: std::ops::Range<usize>) -> Self {
                $name(self.0.part(range))
            }
        }
    };
}

view! {
    /// A sparse matrix by rows.
    Csr, rows, "row", "column"
}
view! {
    /// A sparse matrix by columns.
    Csc, columns, "column", "row"
}

shells! {
    /// `out[i] = sum_j x_ij w_j`.
    ///
    /// # Panics
    /// If `out` is not one element per row, or a column number is beyond `w`.
    pub fn csr_dot<T>(x: Csr<'_, T>, w: &[T], out: &mut [T]) = csr_dot_loop;

    /// `out[j] = sum_i x_ij g_i`.
    ///
    /// # Panics
    /// If `out` is not one element per column, or a row number is beyond `g`.
    pub fn csc_tdot<T>(x: Csc<'_, T>, g: &[T], out: &mut [T]) = csc_tdot_loop;

    /// Gradient and curvature bound of the logistic loss for the columns of a block:
    /// `g_j = -sum_i p_i x_ij` and `u_j = sum_i min(h_i e_j, 1/4) x_ij^2`.
    ///
    /// `p_i = y_i s_i` and `h_i = s_i (1 - s_i)` come from [`crate::logistic`]; `e_j = exp(delta_j max_i |x_ij|)` bounds how
    /// much `h` grows while `w_j` moves by at most `delta_j`. A column with `e_j` NaN gets `u_j` NaN.
    ///
    /// # Panics
    /// If `e`, `g` or `u` is not one element per column, `p` and `h` differ in length, or a row number is beyond them.
    pub fn csc_block_gradient_bound<T>(x: Csc<'_, T>, p: &[T], h: &[T], e: &[T], g: &mut [T], u: &mut [T])
        = csc_block_gradient_bound_loop;

    /// `margins[i] += y_i x_ij d_j` for the columns whose change `d_j` is not zero: the dual update after a block's pull.
    ///
    /// # Panics
    /// If `d` is not one element per column, `labels` and `margins` differ in length, or a row number is beyond them.
    pub fn csc_axpy_columns<T>(x: Csc<'_, T>, d: &[T], labels: &[T], margins: &mut [T]) = csc_axpy_columns_loop;
}

/// The values of one line: given, or all ones.
trait Values<T>: Copy {
    /// The entries `range` of the matrix.
    fn line(self, start: usize, end: usize) -> Self;
    /// Value k of the line times `x`.
    ///
    /// # Safety
    /// `k` is below the length of the line made by [`Values::line`].
    unsafe fn times(self, k: usize, x: T) -> T;
}

#[derive(Clone, Copy)]
struct Ones<T>(PhantomData<T>);

impl<T: Real> Values<T> for Ones<T> {
    #[inline(always)]
    fn line(self, _: usize, _: usize) -> Self {
        self
    }
    #[inline(always)]
    unsafe fn times(self, _: usize, x: T) -> T {
        x
    }
}

impl<T: Real> Values<T> for &[T] {
    #[inline(always)]
    fn line(self, start: usize, end: usize) -> Self {
        &self[start..end]
    }
    #[inline(always)]
    unsafe fn times(self, k: usize, x: T) -> T {
        // SAFETY: the caller's promise.
        unsafe { *self.get_unchecked(k) * x }
    }
}

/// Calls `$body` with the values bound to `$values`, once as ones and once as a slice.
macro_rules! with_values {
    ($lines:expr, |$values:ident| $body:expr) => {
        match $lines.values {
            None => {
                let $values = Ones(PhantomData::<T>);
                $body
            }
            Some($values) => $body,
        }
    };
}

#[cold]
#[inline(never)]
fn index_beyond(len: usize) -> ! {
    panic!("a matrix index is beyond the dense operand's {len} elements")
}

/// The sum of `N` terms per entry over one line, with the lane rule of the module. `term(k, i)` gets the entry's place k
/// in the line and its index i, which is below `len`.
#[inline(always)]
fn line_sum<T: Real, const N: usize>(
    indices: &[u32],
    len: usize,
    term: impl Fn(usize, usize) -> [T; N],
) -> [T; N] {
    let bound = u32::try_from(len).unwrap_or(u32::MAX);
    if indices.len() < REDUCTION_LANES {
        let mut sums = [T::ZERO; N];
        for (k, &i) in indices.iter().enumerate() {
            if i >= bound {
                index_beyond(len);
            }
            let terms = term(k, i as usize);
            for n in 0..N {
                sums[n] += terms[n];
            }
        }
        return sums;
    }
    let mut lanes = [[T::ZERO; REDUCTION_LANES]; N];
    let (chunks, tail) = indices.as_chunks::<REDUCTION_LANES>();
    for (c, chunk) in chunks.iter().enumerate() {
        if chunk.iter().fold(false, |beyond, &i| beyond | (i >= bound)) {
            index_beyond(len);
        }
        for l in 0..REDUCTION_LANES {
            let terms = term(c * REDUCTION_LANES + l, chunk[l] as usize);
            for n in 0..N {
                lanes[n][l] += terms[n];
            }
        }
    }
    for (l, &i) in tail.iter().enumerate() {
        if i >= bound {
            index_beyond(len);
        }
        let terms = term(chunks.len() * REDUCTION_LANES + l, i as usize);
        for n in 0..N {
            lanes[n][l] += terms[n];
        }
    }
    lanes.map(fold)
}

/// `out[line] = sum over the line of value * dense[index]`.
#[inline(always)]
fn lines_dot<T: Real>(lines: Lines<'_, T>, dense: &[T], out: &mut [T]) {
    assert_eq!(out.len(), lines.len(), "out must have one element per row or column");
    with_values!(lines, |values| {
        let hint = pays(dense);
        for (out, pair) in out.iter_mut().zip(lines.offsets.windows(2)) {
            let (start, end) = (pair[0], pair[1]);
            if hint {
                hint_line(lines.indices, start, end, dense);
            }
            let values = values.line(start, end);
            let [sum] = line_sum(&lines.indices[start..end], dense.len(), |k, i| {
                // SAFETY: `line_sum` passes only i < dense.len() and k < end - start, the length of `values`.
                [unsafe { values.times(k, *dense.get_unchecked(i)) }]
            });
            *out = sum;
        }
    });
}

/// Hints the operand's elements of the entries one distance ahead of the line, which may belong to later lines.
#[inline(always)]
fn hint_line<T>(indices: &[u32], start: usize, end: usize, dense: &[T]) {
    let ahead = |k: usize| (k + AHEAD).min(indices.len());
    for &i in &indices[ahead(start)..ahead(end)] {
        prefetch(dense, i as usize);
    }
}

#[inline(always)]
fn csr_dot_loop<T: Real>(x: Csr<'_, T>, w: &[T], out: &mut [T]) {
    lines_dot(x.0, w, out);
}

#[inline(always)]
fn csc_tdot_loop<T: Real>(x: Csc<'_, T>, g: &[T], out: &mut [T]) {
    lines_dot(x.0, g, out);
}

#[inline(always)]
fn csc_block_gradient_bound_loop<T: Real>(
    x: Csc<'_, T>,
    p: &[T],
    h: &[T],
    e: &[T],
    g: &mut [T],
    u: &mut [T],
) {
    let Csc(lines) = x;
    let columns = lines.len();
    assert!(
        e.len() == columns && g.len() == columns && u.len() == columns,
        "e, g, u: one element per column"
    );
    assert_eq!(p.len(), h.len(), "p and h must have the same length");
    with_values!(lines, |values| {
        let hint = pays(p);
        for (j, pair) in lines.offsets.windows(2).enumerate() {
            let (start, end) = (pair[0], pair[1]);
            if hint {
                hint_line(lines.indices, start, end, p);
                hint_line(lines.indices, start, end, h);
            }
            let values = values.line(start, end);
            let growth = e[j];
            let [down, bound] = line_sum(&lines.indices[start..end], p.len(), |k, i| {
                // SAFETY: `line_sum` passes only i < p.len(), and h is as long.
                let (p, h) = unsafe { (*p.get_unchecked(i), *h.get_unchecked(i)) };
                let curvature = (h * growth).at_most(T::QUARTER);
                // SAFETY: `line_sum` passes only k < end - start, the length of `values`.
                unsafe { [values.times(k, p), values.times(k, values.times(k, curvature))] }
            });
            g[j] = -down;
            u[j] = bound;
        }
    });
}

#[inline(always)]
fn csc_axpy_columns_loop<T: Real>(x: Csc<'_, T>, d: &[T], labels: &[T], margins: &mut [T]) {
    let Csc(lines) = x;
    assert_eq!(d.len(), lines.len(), "d must have one element per column");
    assert_eq!(labels.len(), margins.len(), "labels and margins must have the same length");
    with_values!(lines, |values| {
        let hint = pays(margins);
        for (&d, pair) in d.iter().zip(lines.offsets.windows(2)) {
            if d == T::ZERO {
                continue;
            }
            let (start, end) = (pair[0], pair[1]);
            if hint {
                hint_line(lines.indices, start, end, margins);
                hint_line(lines.indices, start, end, labels);
            }
            let values = values.line(start, end);
            for (k, &i) in lines.indices[start..end].iter().enumerate() {
                let i = i as usize;
                if i >= margins.len() {
                    index_beyond(margins.len());
                }
                // SAFETY: k enumerates start..end, the length of `values`.
                margins[i] += labels[i] * unsafe { values.times(k, d) };
            }
        }
    });
}
