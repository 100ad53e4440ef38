//! The secret hash.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// The secret of the hash.
#[derive(Clone, Copy)]
pub(super) struct Seed(pub [u64; 3]);

/// Seeds made by this process, so that no two are alike even without the system's randomness.
static MADE: AtomicU64 = AtomicU64::new(0);

impl Seed {
    /// Another one each time.
    pub fn random() -> Self {
        let mut words = [0u64; 3];
        if getrandom::fill(bytemuck::bytes_of_mut(&mut words)).is_err() {
            words = Self::makeshift((&raw const words).addr() as u64);
        }
        Self([words[0], words[1] | 1, words[2] | 1])
    }

    /// Without the system's randomness: an address, the time and a count, which differ from run to run and call to call.
    fn makeshift(address: u64) -> [u64; 3] {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let time_ns = since.map_or(0, |since| since.as_nanos() as u64);
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let mix = Self([address, time_ns | 1, 0x9e37_79b9_7f4a_7c15]);
        [3 * count, 3 * count + 1, 3 * count + 2].map(|number| mix.hash(number))
    }

    /// Two folded multiplications, each with a secret operand: every input bit moves every output bit.
    #[inline(always)]
    pub fn hash(self, key: u64) -> u64 {
        fold(fold(key ^ self.0[0], self.0[1] ^ 0x9e37_79b9_7f4a_7c15) ^ self.0[1], self.0[2])
    }
}

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::Seed;

    #[test]
    fn makeshift_seeds_change_from_call_to_call() {
        let seeds: Vec<_> = (0..100).map(|_| Seed::makeshift(7)).collect();
        let mut distinct = seeds.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), seeds.len());
    }
}
