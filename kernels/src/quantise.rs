//! Values in fewer bytes, rounded up or down at random so that the mean of what comes back is what went in.
//!
//! A value between two codes becomes the upper one with the probability of its distance from the lower one:
//! `floor(x + U)` with U uniform in [0, 1), a function of seed and position ([`Seed`]). Values that a code can hold
//! exactly always come back exactly. The sums are computed in f64, because an f32 has no room for 24 bits of code and
//! a fraction. Codes are little endian.

use crate::isa::shells;
use crate::random::Seed;
use crate::real::Real;

/// Codes computed before they are written: what is narrowed and what is computed vectorise apart.
const BLOCK: usize = 256;

/// The largest code of `bytes` bytes (1 to 3) that [`fixed_encode`] makes; the one above stays free.
pub const fn fixed_top(bytes: usize) -> u32 {
    (1 << (8 * bytes)) - 2
}

shells! {
    /// The smallest and the largest value; `None` if one is not finite, or there is none.
    pub fn finite_range<T>(values: &[T]) -> Option<(f64, f64)> = finite_range_loop;

    /// `codes[i] = floor((x[i] - low) / step + U)`, in `bytes` bytes (1 to 3) each. Every value must lie between `low`
    /// and `low + step` [`fixed_top`]; others are clamped, NaN becomes the code 0.
    ///
    /// # Panics
    /// If `codes` are not `bytes` per value.
    pub fn fixed_encode<T>(x: &[T], bytes: usize, low: f64, step: f64, seed: Seed, codes: &mut [u8])
        = fixed_encode_loop;

    /// `x[i] = low + step codes[i]`.
    ///
    /// # Panics
    /// If `codes` are not `bytes` (1 to 3) per value.
    pub fn fixed_decode<T>(codes: &[u8], bytes: usize, low: f64, step: f64, x: &mut [T]) = fixed_decode_loop;

    /// Two bytes a value: `floor(2^13 x[i] + U)`, within what 16 bits with a sign hold, that is [-4, 4). NaN becomes 0.
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn q2x13_encode<T>(x: &[T], seed: Seed, codes: &mut [u8]) = q2x13_encode_loop;

    /// `x[i] = 2^-13 codes[i]`.
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn q2x13_decode<T>(codes: &[u8], x: &mut [T]) = q2x13_decode_loop;

    /// IEEE half precision, stochastically rounded. Finite values beyond the largest half are clamped to it; infinities,
    /// NaN and signs stay.
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn f16_encode<T>(x: &[T], seed: Seed, codes: &mut [u8]) = f16_encode_loop;

    /// The values of the halves, exact.
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn f16_decode<T>(codes: &[u8], x: &mut [T]) = f16_decode_loop;

    /// The upper 16 bits of an f32, stochastically rounded; else as [`f16_encode`].
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn bf16_encode<T>(x: &[T], seed: Seed, codes: &mut [u8]) = bf16_encode_loop;

    /// The values of the upper halves, exact.
    ///
    /// # Panics
    /// If `codes` are not two bytes per value.
    pub fn bf16_decode<T>(codes: &[u8], x: &mut [T]) = bf16_decode_loop;
}

#[inline(always)]
fn finite_range_loop<T: Real>(values: &[T]) -> Option<(f64, f64)> {
    const LANES: usize = 16;
    let first = *values.first()?;
    let (mut low, mut high, mut zero) = ([first; LANES], [first; LANES], [T::ZERO; LANES]);
    let mut take = |chunk: &[T]| {
        for (i, &x) in chunk.iter().enumerate() {
            low[i] = if x < low[i] { x } else { low[i] };
            high[i] = if x > high[i] { x } else { high[i] };
            zero[i] += x * T::ZERO; // stays 0 for finite x only
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| take(chunk));
    take(rest);
    if zero.iter().any(|&sum| sum != T::ZERO) {
        return None;
    }
    let (low, high) = (low.map(Real::to_f64), high.map(Real::to_f64));
    Some((low.into_iter().fold(low[0], f64::min), high.into_iter().fold(high[0], f64::max)))
}

/// Computes codes block by block (`code(position, value)`) and writes `N` bytes of each.
#[inline(always)]
fn encode<T: Real, const N: usize>(x: &[T], codes: &mut [u8], code: impl Fn(u32, T) -> u32) {
    assert_eq!(codes.len(), N * x.len(), "{N} bytes of code per value");
    let mut block = [0u32; BLOCK];
    for ((x, codes), first) in x.chunks(BLOCK).zip(codes.chunks_mut(N * BLOCK)).zip((0u32..).step_by(BLOCK)) {
        for (i, (slot, &x)) in block.iter_mut().zip(x).enumerate() {
            *slot = code(first.wrapping_add(i as u32), x);
        }
        for (bytes, slot) in codes.as_chunks_mut::<N>().0.iter_mut().zip(&block) {
            bytes.copy_from_slice(&slot.to_le_bytes()[..N]);
        }
    }
}

/// Undoes [`encode`].
#[inline(always)]
fn decode<T: Real, const N: usize>(codes: &[u8], x: &mut [T], value: impl Fn(u32) -> T) {
    assert_eq!(codes.len(), N * x.len(), "{N} bytes of code per value");
    for (x, bytes) in x.iter_mut().zip(codes.as_chunks::<N>().0) {
        let mut wide = [0; 4];
        wide[..N].copy_from_slice(bytes);
        *x = value(u32::from_le_bytes(wide));
    }
}

#[inline(always)]
fn fixed_encode_loop<T: Real>(x: &[T], bytes: usize, low: f64, step: f64, seed: Seed, codes: &mut [u8]) {
    // A range too narrow for its codes (step 0) has one value only.
    let scale = if step > 0.0 { 1.0 / step } else { 0.0 };
    let top = f64::from(fixed_top(bytes));
    let code = |i: u32, x: T| {
        let sum = (x.to_f64() - low) * scale + seed.unit(i);
        (if sum > top { top } else { sum }) as i32 as u32
    };
    match bytes {
        1 => encode::<T, 1>(x, codes, code),
        2 => encode::<T, 2>(x, codes, code),
        _ => encode::<T, 3>(x, codes, code),
    }
}

#[inline(always)]
fn fixed_decode_loop<T: Real>(codes: &[u8], bytes: usize, low: f64, step: f64, x: &mut [T]) {
    let value = |code: u32| T::from_f64(low + step * f64::from(code as i32));
    match bytes {
        1 => decode::<T, 1>(codes, x, value),
        2 => decode::<T, 2>(codes, x, value),
        _ => decode::<T, 3>(codes, x, value),
    }
}

#[inline(always)]
fn q2x13_encode_loop<T: Real>(x: &[T], seed: Seed, codes: &mut [u8]) {
    encode::<T, 2>(x, codes, |i, x| {
        // Raised by 2^15 so that cutting off the fraction is rounding down for negative numbers too.
        let sum = x.to_f64() * 8192.0 + 32768.0 + seed.unit(i);
        let sum = if x.is_nan() { 32768.0 } else { sum };
        let sum = if sum > 65535.0 { 65535.0 } else { sum };
        ((if sum < 0.0 { 0.0 } else { sum }) as i32 - 32768) as u32
    });
}

#[inline(always)]
fn q2x13_decode_loop<T: Real>(codes: &[u8], x: &mut [T]) {
    decode::<T, 2>(codes, x, |code| T::from_f64(f64::from(code as u16 as i16) * (1.0 / 8192.0)));
}

/// As an f32; finite values stay finite.
#[inline(always)]
fn narrow<T: Real>(x: T) -> f32 {
    let wide = x.to_f64();
    let narrow = wide as f32;
    if narrow.abs() == f32::INFINITY && wide.abs() != f64::INFINITY {
        f32::MAX.copysign(narrow)
    } else {
        narrow
    }
}

#[inline(always)]
fn f16_encode_loop<T: Real>(x: &[T], seed: Seed, codes: &mut [u8]) {
    const INFINITY: u32 = 0x7c00;
    encode::<T, 2>(x, codes, |i, x| {
        let (x, random) = (narrow(x), seed.bits(i));
        let (sign, bits) = (x.to_bits() >> 16 & 0x8000, x.to_bits() & 0x7fff_ffff);
        // Normal halves: the exponent is rebiased, 13 bits of the significand go.
        let normal = (bits.wrapping_add(random & 0x1fff).wrapping_sub(112 << 23)) >> 13;
        // Below 2^-14 the codes are multiples of 2^-24.
        let unit = (random >> 8) as i32 as f32 * (1.0 / 16_777_216.0);
        let small =
            (f32::from_bits(if bits < 113 << 23 { bits } else { 0 }) * 16_777_216.0 + unit) as i32 as u32;
        let finite = if bits < 113 << 23 { small } else { normal.min(INFINITY - 1) };
        let special = if bits > 0x7f80_0000 { 0x7e00 } else { INFINITY };
        // From 2^16 on the rebiased exponent is too large for any half.
        let finite = if bits >= 143 << 23 { INFINITY - 1 } else { finite };
        sign | if bits >= 0x7f80_0000 { special } else { finite }
    });
}

#[inline(always)]
fn f16_decode_loop<T: Real>(codes: &[u8], x: &mut [T]) {
    decode::<T, 2>(codes, x, |code| {
        let (sign, bits) = ((code & 0x8000) << 16, code & 0x7fff);
        let finite = f32::from_bits(bits << 13) * f32::from_bits((127 + 112) << 23); // exact, denormals too
        let special = f32::from_bits(0x7f80_0000 | bits << 13);
        let magnitude = if bits >= 0x7c00 { special } else { finite };
        T::from_f64(f64::from(f32::from_bits(magnitude.to_bits() | sign)))
    });
}

#[inline(always)]
fn bf16_encode_loop<T: Real>(x: &[T], seed: Seed, codes: &mut [u8]) {
    encode::<T, 2>(x, codes, |i, x| {
        let x = narrow(x).to_bits();
        let (sign, bits) = (x >> 16 & 0x8000, x & 0x7fff_ffff);
        let finite = (bits.wrapping_add(seed.bits(i) & 0xffff) >> 16).min(0x7f7f);
        let special = if bits > 0x7f80_0000 { 0x7fc0 } else { 0x7f80 };
        sign | if bits >= 0x7f80_0000 { special } else { finite }
    });
}

#[inline(always)]
fn bf16_decode_loop<T: Real>(codes: &[u8], x: &mut [T]) {
    decode::<T, 2>(codes, x, |code| T::from_f64(f64::from(f32::from_bits(code << 16))));
}
