//! The exponential, and twice atanh, as branch-free polynomials that every instruction set evaluates alike.
//!
//! ```text
//! exp(x):  n = round(x log2 e);  r = x - n ln 2 (in two parts);  p = 1 + r + r^2 tail(r);  p 2^(n/2) 2^(n - n/2)
//! ```
//! The scale is applied in two steps so that denormal results are rounded once and overflow gives infinity
//! without a branch. Multiply-adds are fused on every path (`mul_add`), also on the scalar one, where a CPU
//! without FMA pays a library call for it.
//!
//! Error of [`exp()`], tested over the whole range: at most 1 ulp (both types) from the exact
//! value, denormal results included (there in units of the smallest denormal).
//! Exactly: exp(+-0) = 1, exp(inf) = inf, exp(-inf) = +0, exp(NaN) = NaN; underflow gives +0, overflow inf.

use crate::isa::shells;
use crate::real::Real;

shells! {
    /// `out[i] = e^x[i]`; see the module for the error bound and the special values.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn exp<T>(x: &[T], out: &mut [T]) = exp_loop;
}

#[inline(always)]
fn exp_loop<T: Real>(x: &[T], out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "x and out must have the same length");
    for (out, &x) in out.iter_mut().zip(x) {
        *out = exp_of(x);
    }
}

/// e^x.
#[inline(always)]
pub(crate) fn exp_of<T: Real>(x: T) -> T {
    let x = x.at_most(T::EXP_LIMIT).at_least(-T::EXP_LIMIT);
    let n = x.mul_add(T::LOG2_E, T::ROUND) - T::ROUND;
    let r = n.mul_add(-T::LN_2_LO, n.mul_add(-T::LN_2_HI, x));
    let p = polynomial(T::EXP_TAIL, r).mul_add(r, T::ONE).mul_add(r, T::ONE);
    let half = n.mul_add(T::QUARTER + T::QUARTER, T::ROUND) - T::ROUND;
    p * half.power_of_two() * (n - half).power_of_two()
}

/// e^x for x <= 0 (or NaN), the same bits as [`exp_of`] with seven operations less: nothing can overflow, so the first step
/// scales by 2^(n + 65), which is a normal number for every n, and the second by the constant 2^-65.
#[inline(always)]
pub(crate) fn exp_of_nonpositive<T: Real>(x: T) -> T {
    let x = x.at_least(-T::EXP_LIMIT);
    let shifted = x.mul_add(T::LOG2_E, T::ROUND_RAISED);
    let n = shifted - T::ROUND_RAISED;
    let r = n.mul_add(-T::LN_2_LO, n.mul_add(-T::LN_2_HI, x));
    let p = polynomial(T::EXP_TAIL, r).mul_add(r, T::ONE).mul_add(r, T::ONE);
    p * shifted.low_bits_as_exponent() * T::LOWERED
}

/// 2 atanh(t) for 0 <= t <= 1/3, which is log(1 + e) for t = e / (2 + e).
#[inline(always)]
pub(crate) fn twice_atanh<T: Real>(t: T) -> T {
    (t + t) * polynomial(T::ATANH, t * t)
}

/// Horner's scheme, highest power first.
#[inline(always)]
fn polynomial<T: Real>(coefficients: &[T], x: T) -> T {
    let mut sum = coefficients[0];
    for &c in &coefficients[1..] {
        sum = sum.mul_add(x, c);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agrees<T: Real>(steps: i32, limit: f64) {
        for k in 0..=steps {
            let x = T::from_f64(-limit * f64::from(k) / f64::from(steps));
            assert_eq!(exp_of_nonpositive(x).to_bits(), exp_of(x).to_bits(), "{x:?}");
        }
        assert_eq!(exp_of_nonpositive(-T::INFINITY).to_bits(), T::ZERO.to_bits());
        assert!(exp_of_nonpositive(T::NAN).is_nan());
    }

    #[test]
    fn the_short_way_for_nonpositive_numbers_gives_the_same_bits() {
        agrees::<f32>(200_000, 120.0);
        agrees::<f64>(200_000, 800.0);
    }
}
