//! The numbers the kernels work on: `f32` and `f64`, behind one sealed trait, and reductions with fixed lanes.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// `f32` or `f64`. Sealed: the bit-level parts below hold for these two only.
pub trait Real:
    sealed::Sealed
    + Copy
    + Default
    + Debug
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The unsigned integer of the same width.
    type Bits: Copy + Eq + Ord + Debug;
    /// `+0`.
    const ZERO: Self;
    /// `1`.
    const ONE: Self;
    /// `1/4`, the largest curvature of the logistic loss.
    const QUARTER: Self;
    /// Positive infinity.
    const INFINITY: Self;
    /// A quiet NaN.
    const NAN: Self;
    /// The smallest positive denormal.
    const DENORMAL: Self;
    /// The largest finite number.
    const MAX: Self;
    /// Elements in a 64-byte vector.
    const LANES: usize;
    /// Adding and subtracting it rounds a small number to the nearest integer (ties to even).
    #[doc(hidden)]
    const ROUND: Self;
    /// [`Real::ROUND`] plus the exponent's bias.
    #[doc(hidden)]
    const ROUND_BIASED: Self;
    /// [`Real::ROUND_BIASED`] plus 65 (even, so that ties round as with [`Real::ROUND`]).
    #[doc(hidden)]
    const ROUND_RAISED: Self;
    /// 2^-65.
    #[doc(hidden)]
    const LOWERED: Self;
    /// log2(e).
    #[doc(hidden)]
    const LOG2_E: Self;
    /// The leading bits of ln 2, few enough that small multiples are exact.
    #[doc(hidden)]
    const LN_2_HI: Self;
    /// ln 2 minus [`Real::LN_2_HI`].
    #[doc(hidden)]
    const LN_2_LO: Self;
    /// Beyond plus or minus this bound exp overflows, or rounds to zero.
    #[doc(hidden)]
    const EXP_LIMIT: Self;
    /// (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first.
    #[doc(hidden)]
    const EXP_TAIL: &'static [Self];
    /// atanh(t) / t as a polynomial in t^2 for 0 <= t <= 1/3, highest power first.
    #[doc(hidden)]
    const ATANH: &'static [Self];

    /// Rounds `x` to this type.
    fn from_f64(x: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
    /// The bits of the number.
    fn to_bits(self) -> Self::Bits;
    /// Whether this is NaN.
    fn is_nan(self) -> bool;
    /// Absolute value.
    fn abs(self) -> Self;
    /// Correctly rounded square root.
    fn sqrt(self) -> Self;
    /// `self * a + b`, rounded once, on every machine.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `2^(n + 65)` for `self` = [`Real::ROUND_RAISED`] + n with an integral n that keeps the power normal.
    #[doc(hidden)]
    fn low_bits_as_exponent(self) -> Self;
    /// `2^self` for an integral `self` in the normal exponent range.
    #[doc(hidden)]
    fn power_of_two(self) -> Self;

    /// The smaller of the two; NaN in `self` stays.
    #[inline(always)]
    fn at_most(self, limit: Self) -> Self {
        if self > limit { limit } else { self }
    }

    /// The larger of the two; NaN in `self` stays.
    #[inline(always)]
    fn at_least(self, limit: Self) -> Self {
        if self < limit { limit } else { self }
    }
}

macro_rules! real {
    ($float:ident, $bits:ident, mantissa $mantissa:literal, bias $bias:literal, $($constants:tt)*) => {
        impl Real for $float {
            type Bits = $bits;
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const QUARTER: Self = 0.25;
            const INFINITY: Self = $float::INFINITY;
            const NAN: Self = $float::NAN;
            const DENORMAL: Self = $float::from_bits(1);
            const MAX: Self = $float::MAX;
            const LANES: usize = 64 / size_of::<$float>();
            const ROUND: Self = 1.5 * (1u64 << $mantissa) as $float;
            const ROUND_BIASED: Self = Self::ROUND + $bias;
            const ROUND_RAISED: Self = Self::ROUND_BIASED + 65.0;
            const LOWERED: Self = 1.0 / (1u128 << 65) as $float;
            const LOG2_E: Self = std::$float::consts::LOG2_E;
            $($constants)*

            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $float
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self.into()
            }
            #[inline(always)]
            fn to_bits(self) -> $bits {
                $float::to_bits(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $float::is_nan(self)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $float::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $float::sqrt(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $float::mul_add(self, a, b)
            }
            // The low bits of ROUND + bias + n hold bias + n; the shift moves them into the exponent and drops the rest.
            #[inline(always)]
            fn power_of_two(self) -> Self {
                (self + Self::ROUND_BIASED).low_bits_as_exponent()
            }
            #[inline(always)]
            fn low_bits_as_exponent(self) -> Self {
                $float::from_bits(self.to_bits() << $mantissa)
            }
        }
    };
}

real! { f32, u32, mantissa 23, bias 127.0,
    const LN_2_HI: f32 = 0.693_359_4;
    const LN_2_LO: f32 = -2.121_944_4e-4;
    const EXP_LIMIT: f32 = 105.0;
    const EXP_TAIL: &'static [f32] = &[0.001_392_618_4, 0.008_363_179, 0.041_666_556, 0.166_665_77, 0.5];
    const ATANH: &'static [f32] = &[0.140_788_9, 0.139_825_8, 0.200_122_97, 0.333_331_6, 1.0];
}

real! { f64, u64, mantissa 52, bias 1023.0,
    const LN_2_HI: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LO: f64 = 1.908_214_929_270_587_7e-10;
    const EXP_LIMIT: f64 = 750.0;
    const EXP_TAIL: &'static [f64] = &[
        2.510_038_549_551_032e-8,
        2.762_008_844_540_974_6e-7,
        2.755_726_845_999_706_4e-6,
        2.480_152_129_595_437_6e-5,
        1.984_126_986_305_361_8e-4,
        1.388_888_891_721_371_7e-3,
        8.333_333_333_330_062e-3,
        4.166_666_666_662_413e-2,
        0.166_666_666_666_666_69,
        0.500_000_000_000_000_1,
    ];
    const ATANH: &'static [f64] = &[
        0.085_220_817_813_906_99,
        0.041_622_532_559_304_1,
        0.060_550_843_640_346_09,
        0.066_501_870_163_373_13,
        0.076_933_070_211_520_04,
        0.090_908_704_162_524_03,
        0.111_111_120_403_738_37,
        0.142_857_142_727_270_57,
        0.200_000_000_000_928_74,
        0.333_333_333_333_330_76,
        1.0,
    ];
}

/// Accumulators of every reduction, whatever the register width: element i goes to accumulator i mod 16.
pub(crate) const REDUCTION_LANES: usize = 16;

/// Sums accumulators pairwise: halves onto halves, a fixed tree.
#[inline(always)]
pub(crate) fn fold<T: Real>(mut lanes: [T; REDUCTION_LANES]) -> T {
    let mut half = REDUCTION_LANES / 2;
    while half > 0 {
        for i in 0..half {
            let upper = lanes[i + half];
            lanes[i] += upper;
        }
        half /= 2;
    }
    lanes[0]
}

/// The sum of the squares, over fixed lanes.
#[inline(always)]
pub(crate) fn sum_of_squares<T: Real>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; REDUCTION_LANES];
    let (chunks, tail) = x.as_chunks::<REDUCTION_LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane += x * x;
    }
    fold(lanes)
}
