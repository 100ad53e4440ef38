//! Which keys have come often enough: a count-min sketch, and a Bloom filter.

use std::fmt;
use std::str::FromStr;

/// The size of a sketch, written `WIDTHxDEPTH`: counters (or bits) per row, and rows (or hashes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sketch {
    /// A power of two from 64 to 2^28.
    pub width: u64,
    /// 1 to 8.
    pub depth: u8,
}

impl Sketch {
    /// 2^20 counters a row, 4 rows, 8 MiB; a million keys are overcounted by more than 3 with a chance of 2 %.
    pub const COUNT_MIN: Sketch = Sketch { width: 1 << 20, depth: 4 };
    /// 2^24 bits, 4 hashes: 2 MiB; with a million keys a new one passes for known with a chance of 0.2 %.
    pub const BLOOM: Sketch = Sketch { width: 1 << 24, depth: 4 };
    pub(super) const GRAMMAR: &'static str = "WIDTHxDEPTH with a power of two from 64 to 2^28, and 1 to 8";

    /// Where `key` falls in row `row`.
    #[inline]
    fn place(self, key: u64, row: u8) -> usize {
        let step = mix(key ^ 0x9e37_79b9_7f4a_7c15) | 1; // double hashing: two hashes stand for all
        let place = mix(key).wrapping_add(u64::from(row).wrapping_mul(step));
        (place & (self.width - 1)) as usize
    }
}

impl fmt::Display for Sketch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.depth)
    }
}

impl FromStr for Sketch {
    type Err = ();

    fn from_str(text: &str) -> Result<Sketch, ()> {
        let (width, depth) = text.split_once('x').ok_or(())?;
        let sketch = Sketch { width: width.parse().map_err(drop)?, depth: depth.parse().map_err(drop)? };
        let fits = sketch.width.is_power_of_two() && (64..=1 << 28).contains(&sketch.width);
        if fits && (1..=8).contains(&sketch.depth) { Ok(sketch) } else { Err(()) }
    }
}

/// A bijection of 64-bit numbers that leaves no pattern (the finaliser of SplitMix64).
#[inline]
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Counts keys in a fixed amount of memory: never too low.
pub(super) struct CountMin {
    sketch: Sketch,
    counters: Vec<u16>,
}

impl CountMin {
    pub fn new(sketch: Sketch) -> CountMin {
        CountMin { sketch, counters: vec![0; sketch.width as usize * usize::from(sketch.depth)] }
    }

    /// Counts `key` once more and answers how often it came, at least.
    pub fn add(&mut self, key: u64) -> u16 {
        let mut least = u16::MAX;
        for row in 0..self.sketch.depth {
            let at = usize::from(row) * self.sketch.width as usize + self.sketch.place(key, row);
            let counter = &mut self.counters[at];
            *counter = counter.saturating_add(1);
            least = least.min(*counter);
        }
        least
    }
}

/// Remembers keys in a fixed number of bits; may take a new one for known, never the other way round.
pub(super) struct Bloom {
    sketch: Sketch,
    bits: Vec<u64>,
}

impl Bloom {
    pub fn new(sketch: Sketch) -> Bloom {
        Bloom { sketch, bits: vec![0; (sketch.width / 64) as usize] }
    }

    /// Remembers `key` and answers whether it was known.
    pub fn add(&mut self, key: u64) -> bool {
        let mut known = true;
        for row in 0..self.sketch.depth {
            let place = self.sketch.place(key, row);
            let (word, bit) = (&mut self.bits[place / 64], 1 << (place % 64));
            known &= *word & bit != 0;
            *word |= bit;
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a13_counts_are_never_too_low_and_known_keys_are_known() {
        let size = Sketch { width: 1024, depth: 4 };
        let (mut counts, mut bloom) = (CountMin::new(size), Bloom::new(size));
        let (mut exact, mut wrong) = (std::collections::HashMap::new(), 0);
        for step in 0..2000u64 {
            let key = mix(step % 300);
            let seen = exact.entry(key).or_insert(0u16);
            let known = bloom.add(key);
            assert!(known || *seen == 0);
            *seen += 1;
            let count = counts.add(key);
            assert!(count >= *seen);
            wrong += usize::from(count > *seen);
        }
        assert!(wrong < 200, "{wrong}");
    }
}
