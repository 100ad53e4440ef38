//! The range vector clock: what time it is for each key, kept per interval instead of per key.
//!
//! Source: Li et al., OSDI'14, section 4.1 and Algorithm 2. One node's clock starts as one interval over all its keys at
//! time 0. Setting a range touches the intervals it meets and cuts at most two of them, so after `k` different ranges there
//! are at most `2k + 1` intervals. Neighbours that come to the same time are merged (the paper leaves that to the future),
//! so a clock that all of its keys have reached is one interval again.
//!
//! Cost: a binary search, and one move of the intervals behind the range; 16 bytes per interval.

use crate::key_range::{Key, KeyRange};

/// The times of one node, for every key of a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeClock {
    span: KeyRange,
    /// First key and time of each interval. Never empty; keys rise, from the span's first; times of neighbours differ.
    intervals: Vec<(Key, u64)>,
}

impl RangeClock {
    /// Time 0 for all keys of `span`.
    pub fn new(span: KeyRange) -> RangeClock {
        RangeClock { span, intervals: vec![(span.first(), 0)] }
    }

    /// The keys it speaks for.
    pub fn span(&self) -> KeyRange {
        self.span
    }

    /// How many intervals it has, at least 1.
    pub fn intervals(&self) -> usize {
        self.intervals.len()
    }

    /// The time of one key; `None` outside of the span.
    #[inline]
    pub fn get(&self, key: Key) -> Option<u64> {
        self.span.contains(key).then(|| self.intervals[self.at(key)].1)
    }

    /// Sets the time of all keys of `range` (of those within the span).
    pub fn set(&mut self, range: KeyRange, time: u64) {
        let Some(range) = self.span.intersect(range) else { return };
        let from = self.cut(range.first());
        let to = match range.last().checked_add(1) {
            Some(next) if next <= self.span.last() => self.cut(next),
            _ => self.intervals.len(),
        };
        self.intervals.splice(from..to, [(range.first(), time)]);
        if self.intervals.get(from + 1).is_some_and(|&(_, next)| next == time) {
            self.intervals.remove(from + 1);
        }
        if from > 0 && self.intervals[from - 1].1 == time {
            self.intervals.remove(from);
        }
    }

    /// The earliest time in `range`; `None` if it has no key of the span.
    pub fn min_in(&self, range: KeyRange) -> Option<u64> {
        self.pieces(range).map(|(_, time)| time).min()
    }

    /// The earliest time of any key.
    #[inline]
    pub fn min(&self) -> u64 {
        self.intervals.iter().map(|&(_, time)| time).min().unwrap_or(0)
    }

    /// The latest time of any key.
    pub fn max(&self) -> u64 {
        self.intervals.iter().map(|&(_, time)| time).max().unwrap_or(0)
    }

    /// The parts of `range` (within the span) that have one time each, in key order.
    pub fn pieces(&self, range: KeyRange) -> impl Iterator<Item = (KeyRange, u64)> + '_ {
        let range = self.span.intersect(range);
        let from = range.map_or(self.intervals.len(), |range| self.at(range.first()));
        self.intervals[from..].iter().zip(from..).map_while(move |(&(first, time), index)| {
            let last = self.intervals.get(index + 1).map_or(self.span.last(), |&(next, _)| next - 1);
            Some((KeyRange::new(first, last).ok()?.intersect(range?)?, time))
        })
    }

    /// The clock of the keys of `range` alone; `None` if it has no key of the span.
    pub fn restricted(&self, range: KeyRange) -> Option<RangeClock> {
        let span = self.span.intersect(range)?;
        let intervals = self.pieces(span).map(|(piece, time)| (piece.first(), time)).collect();
        Some(RangeClock { span, intervals })
    }

    /// Gives the keys from `key` on away, as when a key range moves to another shard; `None`, with nothing changed, unless
    /// both parts have keys.
    pub fn split_off(&mut self, key: Key) -> Option<RangeClock> {
        if key <= self.span.first() {
            return None;
        }
        let upper = self.restricted(KeyRange::new(key, self.span.last()).ok()?)?;
        *self = self.restricted(KeyRange::new(self.span.first(), key - 1).ok()?)?;
        Some(upper)
    }

    /// First key and time of each interval, 16 bytes each, little endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let words = self.intervals.iter().flat_map(|&(first, time)| [first, time]);
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// Takes over the times that another clock told with [`RangeClock::to_bytes`], for its keys up to `last`.
    ///
    /// # Errors
    /// What was expected instead, in words.
    pub fn set_bytes(&mut self, bytes: &[u8], last: Key) -> Result<(), String> {
        let (told, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() || told.is_empty() {
            return Err(format!("expected intervals of a clock of 16 bytes each, got {} bytes", bytes.len()));
        }
        let number = |word: &[u8]| u64::from_le_bytes(word.try_into().unwrap_or_default());
        let told: Vec<(Key, u64)> = told.iter().map(|one| (number(&one[..8]), number(&one[8..]))).collect();
        for (index, &(first, time)) in told.iter().enumerate() {
            let end = told.get(index + 1).map_or(Some(last), |&(next, _)| next.checked_sub(1));
            let range = end.and_then(|end| KeyRange::new(first, end).ok());
            self.set(range.ok_or_else(|| format!("expected rising keys, got {first} out of order"))?, time);
        }
        Ok(())
    }

    /// Which interval holds `key`, a key of the span.
    fn at(&self, key: Key) -> usize {
        self.intervals.partition_point(|&(first, _)| first <= key) - 1
    }

    /// Makes an interval begin at `key`, a key of the span; says which.
    fn cut(&mut self, key: Key) -> usize {
        let at = self.at(key);
        let (first, time) = self.intervals[at];
        if first == key {
            return at;
        }
        self.intervals.insert(at + 1, (key, time));
        at + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Key = 10;
    const KEYS: usize = 60;

    fn range(ends: (u64, u64)) -> KeyRange {
        KeyRange::new(ends.0.min(ends.1), ends.0.max(ends.1)).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn it_is_a_clock_per_key_in_at_most_2k_plus_1_merged_intervals(
            steps in prop::collection::vec(((0..80u64, 0..80u64), 0..4u64), 1..30),
            probe in (0..80u64, 0..80u64),
        ) {
            let span = range((FIRST, FIRST + KEYS as u64 - 1));
            let (mut clock, mut oracle) = (RangeClock::new(span), vec![0; KEYS]);
            for (step, (ends, time)) in steps.iter().enumerate() {
                clock.set(range(*ends), *time);
                for (key, of) in (FIRST..).zip(&mut oracle) {
                    if range(*ends).contains(key) {
                        *of = *time;
                    }
                }
                let merged = 1 + oracle.windows(2).filter(|pair| pair[0] != pair[1]).count();
                prop_assert_eq!(clock.intervals(), merged);
                prop_assert!(clock.intervals() <= 2 * (step + 1) + 1);
            }
            for (key, &time) in (FIRST..).zip(&oracle) {
                prop_assert_eq!(clock.get(key), Some(time));
            }
            prop_assert_eq!(clock.get(FIRST - 1), None);
            let probe = range(probe);
            let inside = (FIRST..).zip(&oracle).filter(|(key, _)| probe.contains(*key));
            prop_assert_eq!(clock.min_in(probe), inside.clone().map(|(_, &time)| time).min());
            prop_assert_eq!(Some(clock.max()), oracle.iter().copied().max());
            let pieces: Vec<_> = clock.pieces(probe).collect();
            let keys: Vec<Key> = pieces.iter().flat_map(|(piece, _)| piece.first()..=piece.last()).collect();
            prop_assert_eq!(keys, inside.map(|(key, _)| key).collect::<Vec<_>>());
            if let Some(part) = clock.restricted(probe) {
                prop_assert_eq!(part.pieces(KeyRange::ALL).collect::<Vec<_>>(), pieces);
            }
            let mut copy = RangeClock::new(span);
            copy.set_bytes(&clock.to_bytes(), span.last()).unwrap();
            prop_assert_eq!(&copy, &clock);
            let mut lower = clock.clone();
            let upper = lower.split_off(FIRST + 20).unwrap();
            prop_assert_eq!(lower.span().last() + 1, upper.span().first());
            for (key, &time) in (FIRST..).zip(&oracle) {
                prop_assert_eq!(lower.get(key).or(upper.get(key)), Some(time));
            }
        }
    }

    #[test]
    fn the_bound_of_2k_plus_1_is_reached_and_merging_brings_it_back_to_1() {
        let mut clock = RangeClock::new(KeyRange::ALL);
        for k in 0..50 {
            clock.set(KeyRange::one(2 * k + 1), k + 1);
            assert_eq!(clock.intervals() as u64, 2 * (k + 1) + 1);
        }
        clock.set(KeyRange::ALL, 7);
        assert_eq!((clock.intervals(), clock.get(Key::MAX)), (1, Some(7)));
    }
}
