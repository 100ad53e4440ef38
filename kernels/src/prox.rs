//! Proximal operators, in place: `x <- argmin_y h(y) + ||x - y||^2 / 2` for the penalty `h` of the name.
//!
//! Element by element except [`group_lasso`]. A zero made here is `+0`. NaN stays NaN. Thresholds must not be
//! negative; that is the caller's to check (a negative one moves weights away from zero).

use crate::isa::shells;
use crate::real::{Real, sum_of_squares};

shells! {
    /// `x <- sign(x) max(|x| - threshold, 0)`, the operator of `threshold * |x|`. An infinity stays unless the
    /// threshold is infinite too (then NaN).
    pub fn soft_threshold<T>(x: &mut [T], threshold: T) = soft_threshold_loop;

    /// One proximal gradient step for `lambda |w|_1` in a diagonal metric `u` (NIPS'14 eq. 4, with the minus sign):
    /// `w <- S(w - eta g / u, eta lambda / u)` where `S` is [`soft_threshold`].
    ///
    /// `g` is the gradient, `u` the diagonal curvature bound. A coordinate with `u <= 0` has no data and keeps its
    /// weight; one with `u = inf` keeps it too (finite `g`), because `eta / u` is zero.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn l1_diag<T>(w: &mut [T], g: &[T], u: &[T], eta: T, lambda: T) = l1_diag_loop;

    /// `x <- S(x, l1) / (1 + l2)`, the operator of `l1 |x| + l2 x^2 / 2`.
    pub fn elastic_net<T>(x: &mut [T], l1: T, l2: T) = elastic_net_loop;

    /// Shrinks whole groups: `x_g <- x_g max(1 - threshold / ||x_g||, 0)`, the operator of `threshold * ||x_g||_2`.
    ///
    /// `bounds` holds the group borders: group k is `x[bounds[k]..bounds[k + 1]]`; what lies outside all groups is
    /// not touched. A group with a NaN becomes NaN; one of norm 0 becomes `+0`. The norm is taken without scaling:
    /// squares that overflow make an infinite norm (no shrinkage), squares that underflow count as zero.
    ///
    /// # Panics
    /// If the bounds decrease or exceed the length.
    pub fn group_lasso<T>(x: &mut [T], bounds: &[usize], threshold: T) = group_lasso_loop;

    /// Clamps to `lo..=hi`, the operator of the box's indicator.
    pub fn box_<T>(x: &mut [T], lo: T, hi: T) = box_loop;

    /// `x <- max(x, 0)`; `-0` becomes `+0`.
    pub fn non_negative<T>(x: &mut [T]) = non_negative_loop;
}

/// `S(x, threshold)`: `x` minus its clamp, so that zeros are `+0` and NaN passes.
#[inline(always)]
pub(crate) fn shrink<T: Real>(x: T, threshold: T) -> T {
    x - x.at_most(threshold).at_least(-threshold)
}

#[inline(always)]
fn soft_threshold_loop<T: Real>(x: &mut [T], threshold: T) {
    for x in x {
        *x = shrink(*x, threshold);
    }
}

#[inline(always)]
pub(crate) fn l1_diag_loop<T: Real>(w: &mut [T], g: &[T], u: &[T], eta: T, lambda: T) {
    assert!(w.len() == g.len() && w.len() == u.len(), "w, g and u must have the same length");
    for ((w, &g), &u) in w.iter_mut().zip(g).zip(u) {
        let rate = eta / u;
        let moved = shrink(*w - rate * g, rate * lambda);
        *w = if u <= T::ZERO { *w } else { moved };
    }
}

#[inline(always)]
fn elastic_net_loop<T: Real>(x: &mut [T], l1: T, l2: T) {
    let scale = T::ONE / (T::ONE + l2);
    for x in x {
        *x = shrink(*x, l1) * scale;
    }
}

#[inline(always)]
fn group_lasso_loop<T: Real>(x: &mut [T], bounds: &[usize], threshold: T) {
    for pair in bounds.windows(2) {
        let group = &mut x[pair[0]..pair[1]];
        let norm = sum_of_squares(group).sqrt();
        if norm <= threshold {
            group.fill(T::ZERO);
            continue;
        }
        let scale = T::ONE - threshold / norm;
        for x in group {
            *x = *x * scale;
        }
    }
}

#[inline(always)]
fn box_loop<T: Real>(x: &mut [T], lo: T, hi: T) {
    for x in x {
        *x = x.at_least(lo).at_most(hi);
    }
}

#[inline(always)]
fn non_negative_loop<T: Real>(x: &mut [T]) {
    for x in x {
        // The addition turns -0 into +0 and changes nothing else.
        *x = x.at_least(T::ZERO) + T::ZERO;
    }
}
