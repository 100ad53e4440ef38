//! Numbers to test with, and how results are compared.
#![allow(dead_code, reason = "each test program uses its part")]

use keyrange_kernels::real::Real;

/// A small deterministic generator (splitmix64), so that a failure repeats.
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Numbers in (-2, 2), about a tenth of them special.
    pub fn numbers<T: Real>(&mut self, n: usize) -> Vec<T> {
        let special = specials::<T>();
        (0..n)
            .map(|_| match self.below(10) {
                0 => special[self.below(special.len())],
                _ => T::from_f64(self.unit() * 4.0 - 2.0),
            })
            .collect()
    }

    /// Numbers in (-2, 2), none special.
    pub fn plain<T: Real>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::from_f64(self.unit() * 4.0 - 2.0)).collect()
    }

    /// A sorted list of `n` unique keys with gaps up to `gap`.
    pub fn keys(&mut self, n: usize, gap: u64) -> Vec<u64> {
        let mut key = 0;
        (0..n)
            .map(|_| {
                key += 1 + self.next() % gap;
                key
            })
            .collect()
    }
}

pub fn specials<T: Real>() -> Vec<T> {
    let x =
        [T::NAN, T::INFINITY, -T::INFINITY, T::ZERO, -T::ZERO, T::DENORMAL, -T::DENORMAL, T::MAX, -T::MAX];
    x.to_vec()
}

/// The bits, every NaN the same: which NaN comes out is not specified.
pub fn bits<T: Real>(x: &[T]) -> Vec<T::Bits> {
    x.iter().map(|&x| if x.is_nan() { T::NAN } else { x }.to_bits()).collect()
}
