//! Random numbers by counter: number i of a seed is a function of both, so any lane computes its own, a repeated call
//! gives the same numbers, and every instruction set the same bits.

/// What a sequence of random numbers follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed {
    start: u32,
    twist: u32,
}

impl Seed {
    /// Spreads 64 bits, which may be as regular as they like.
    pub fn new(seed: u64) -> Seed {
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
        Seed { start: x as u32, twist: (x >> 32) as u32 }
    }

    /// 32 random bits: two rounds of multiplication and shift, which vectorise.
    #[inline(always)]
    pub fn bits(self, index: u32) -> u32 {
        let mut x = index.wrapping_mul(0x9e37_79b9).wrapping_add(self.start);
        x = (x ^ (x >> 16)).wrapping_mul(0x7feb_352d) ^ self.twist;
        x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
        x ^ (x >> 16)
    }

    /// Uniform over the multiples of 2^-24 in [0, 1).
    #[inline(always)]
    pub fn unit(self, index: u32) -> f64 {
        f64::from((self.bits(index) >> 8) as i32) * (1.0 / f64::from(1 << 24))
    }
}

/// `out[i]` is a draw from the standard normal distribution, by Box and Muller's transform of numbers 2i and 2i + 1.
pub fn gaussian(seed: Seed, out: &mut [f64]) {
    for (value, index) in out.iter_mut().zip((0u32..).step_by(2)) {
        let radius = (-2.0 * (1.0 - seed.unit(index)).ln()).sqrt();
        *value = radius * (std::f64::consts::TAU * seed.unit(index.wrapping_add(1))).cos();
    }
}
