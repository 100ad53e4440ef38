//! The mathematics: a prediction, a step, and where it all begins.

use keyrange::key_range::Key;
use rand::SeedableRng;
use rand_distr::{Distribution, Normal};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Factors begin as normal numbers of this deviation, biases as 0.
const INITIAL_DEVIATION: f32 = 0.1;

/// Rows `(factors, bias)`, one after the other.
#[derive(Debug, Clone)]
pub(super) struct Factors {
    width: usize,
    rows: Vec<f32>,
}

impl Factors {
    /// What `count` rows of `rank` factors begin with, the same for everybody who knows the seed.
    pub fn initial(count: usize, rank: usize, seed: u64) -> Factors {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let normal = Normal::new(0.0, INITIAL_DEVIATION).expect("a deviation above 0");
        let width = rank + 1;
        let mut rows: Vec<f32> = (0..count * width).map(|_| normal.sample(&mut random)).collect();
        rows.chunks_exact_mut(width).for_each(|row| row[rank] = 0.0);
        Factors { width, rows }
    }

    pub fn row(&self, place: u32) -> &[f32] {
        &self.rows[place as usize * self.width..][..self.width]
    }

    pub fn row_mut(&mut self, place: u32) -> &mut [f32] {
        &mut self.rows[place as usize * self.width..][..self.width]
    }
}

/// How far a step goes and how strongly parameters are drawn to 0.
#[derive(Debug, Clone, Copy)]
pub(super) struct Descent {
    pub rate: f32,
    pub regularisation: f32,
}

/// `b_u + b_i + p . q`, to be added to the mean.
pub(super) fn predict(user: &[f32], item: &[f32]) -> f32 {
    let rank = user.len() - 1;
    let product: f32 = user[..rank].iter().zip(&item[..rank]).map(|(p, q)| p * q).sum();
    user[rank] + item[rank] + product
}

impl Descent {
    /// One step for a rating that was missed by `error`: changes the user's row, and writes the change of the item's to
    /// `delta`.
    pub fn step(self, error: f32, user: &mut [f32], item: &[f32], delta: &mut [f32]) {
        let Descent { rate, regularisation } = self;
        let rank = user.len() - 1;
        for ((p, q), delta) in user[..rank].iter_mut().zip(item).zip(&mut *delta) {
            *delta = rate * (error * *p - regularisation * q);
            *p += rate * (error * q - regularisation * *p);
        }
        delta[rank] = rate * (error - regularisation * item[rank]);
        user[rank] += rate * (error - regularisation * user[rank]);
    }
}

/// The key of an item: ids are small numbers, and multiplication by an odd one spreads them over all keys, each to its own.
pub(super) fn key_of(id: u64) -> Key {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
