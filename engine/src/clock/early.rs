//! Sending before the clock is closed: what may leave early, how much of it, and in which order.
//!
//! Increments of the clock at hand, and on the servers rows that changed since the least clock advanced, are worth most
//! while they are news. With an [`EarlyConfig`] the most significant of them leave early, within a budget of bytes per
//! second; what is left leaves with the clock as ever, so no promise depends on any of it. Source: managed communication
//! (SSPAggr), Wei et al., SoCC'15.
//!
//! The budget is a token bucket: it holds `burst_bytes` at most, gains `bytes_per_s`, and is emptied by a part when it is
//! full. So in any time `t` no more than `burst_bytes + bytes_per_s t` leaves early. (Counted is each part once, with the
//! keys in full; what a link that loses frames has sent again is not.)

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::config::ClockError;
use crate::message::{Element, Layout};

/// Which rows leave first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyOrder {
    /// Those whose values changed most for their size: sum of `|change|` over sum of `|value|`, the value with the change.
    Magnitude,
    /// Those that have waited longest.
    Fifo,
    /// Any.
    Random,
}

impl FromStr for EarlyOrder {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<EarlyOrder, ClockError> {
        let all = [EarlyOrder::Magnitude, EarlyOrder::Fifo, EarlyOrder::Random];
        let found = all.into_iter().find(|order| order.to_string() == text);
        found.ok_or_else(|| ClockError::EarlyOrder { got: text.to_owned() })
    }
}

impl fmt::Display for EarlyOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EarlyOrder::Magnitude => "magnitude",
            EarlyOrder::Fifo => "fifo",
            EarlyOrder::Random => "random",
        })
    }
}

/// What may leave before a clock is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyConfig {
    /// Bytes of frames per second that a worker sends early, at most; and, with eager rows, that all servers together
    /// send early to it.
    pub bytes_per_s: u64,
    /// Bytes that leave at once, at most: of a worker, and of each server to it.
    pub burst_bytes: u64,
    /// Which rows leave first.
    pub order: EarlyOrder,
}

impl EarlyConfig {
    /// `bytes_per_s` in parts of up to 16 KiB, the most significant rows first.
    pub fn new(bytes_per_s: u64) -> EarlyConfig {
        EarlyConfig { bytes_per_s, burst_bytes: 16 << 10, order: EarlyOrder::Magnitude }
    }

    /// Whether something can leave with it: a budget above 0, in parts that one row of `row_bytes` fits into.
    ///
    /// # Errors
    /// [`ClockError::EarlyBudget`].
    pub fn check(&self, row_bytes: usize) -> Result<(), ClockError> {
        let least = rows_frame_bytes(1, row_bytes) as u64;
        if self.bytes_per_s == 0 || self.burst_bytes < least {
            let (bytes_per_s, burst_bytes) = (self.bytes_per_s, self.burst_bytes);
            return Err(ClockError::EarlyBudget { bytes_per_s, burst_bytes, least });
        }
        Ok(())
    }
}

/// Bytes of a frame that carries `rows` rows of `row_bytes` with their keys; 0 for none.
pub(crate) fn rows_frame_bytes(rows: usize, row_bytes: usize) -> usize {
    if rows == 0 { 0 } else { Layout::new(rows * size_of::<u64>(), rows * row_bytes, 1).frame_bytes }
}

/// The token bucket. It is full at first.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    bytes_per_s: u64,
    burst_bytes: u64,
    /// In billionths of a byte, as of `at`.
    tokens: u128,
    at: Duration,
}

/// Parts of a byte, so that a byte per second is one of them per nanosecond.
const PARTS: u128 = 1_000_000_000;

impl Bucket {
    pub fn new(bytes_per_s: u64, burst_bytes: u64) -> Bucket {
        Bucket { bytes_per_s, burst_bytes, tokens: u128::from(burst_bytes) * PARTS, at: Duration::ZERO }
    }

    fn full(&self) -> u128 {
        u128::from(self.burst_bytes) * PARTS
    }

    /// Whether `burst_bytes` may leave now.
    pub fn is_full(&mut self, now: Duration) -> bool {
        let gained = now.saturating_sub(self.at).as_nanos().saturating_mul(self.bytes_per_s.into());
        self.tokens = self.tokens.saturating_add(gained).min(self.full());
        self.at = self.at.max(now);
        self.tokens == self.full()
    }

    /// `bytes` leave, no more than the bucket holds.
    pub fn take(&mut self, bytes: usize) {
        debug_assert!(bytes as u128 * PARTS <= self.tokens, "more than there is");
        self.tokens = self.tokens.saturating_sub(bytes as u128 * PARTS);
    }

    /// When it is full again.
    pub fn full_at(&self) -> Duration {
        let missing = (self.full() - self.tokens).div_ceil(u128::from(self.bytes_per_s.max(1)));
        self.at.saturating_add(Duration::from_nanos(u64::try_from(missing).unwrap_or(u64::MAX)))
    }
}

/// Gives rows their weights: the greater leave first.
#[derive(Debug, Clone)]
pub(crate) struct Weigher {
    order: EarlyOrder,
    weighed: u64,
    random: Xoshiro256PlusPlus,
}

impl Weigher {
    pub fn new(order: EarlyOrder, seed: u64) -> Weigher {
        Weigher { order, weighed: 0, random: Xoshiro256PlusPlus::seed_from_u64(seed) }
    }

    /// Whether it asks for magnitudes.
    pub fn needs_magnitudes(&self) -> bool {
        self.order == EarlyOrder::Magnitude
    }

    /// The weight of a row that changed by `magnitude` for its size; `before` is its weight if it has waited already.
    pub fn weigh(&mut self, before: Option<f64>, magnitude: impl FnOnce() -> f64) -> f64 {
        match (self.order, before) {
            (EarlyOrder::Magnitude, _) => before.unwrap_or(0.0) + magnitude(),
            (_, Some(before)) => before,
            (EarlyOrder::Fifo, None) => {
                self.weighed += 1;
                -(self.weighed as f64)
            }
            (EarlyOrder::Random, None) => self.random.random(),
        }
    }
}

/// Puts the heaviest `count` of them in front, in order, and drops the rest; of two of one weight the smaller goes first.
pub(crate) fn keep_heaviest<T: Ord + Copy>(rows: &mut Vec<(f64, T)>, count: usize) {
    let heavier = |a: &(f64, T), b: &(f64, T)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count > 0 && count < rows.len() {
        rows.select_nth_unstable_by(count - 1, heavier);
    }
    rows.truncate(count);
    rows.sort_unstable_by(heavier);
}

/// How much a row changed for its size; infinite if there is nothing to compare with, 0 if it did not change.
pub(crate) fn relative_magnitude<V: Element>(change: &[V], values: &[V]) -> f64 {
    let sum = |values: &[V]| values.iter().map(|value| value.to_f64().abs()).sum::<f64>();
    let change = sum(change);
    if change == 0.0 { 0.0 } else { change / sum(values) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_window_of_time_sees_more_than_its_budget(
            (bytes_per_s, burst_bytes) in (1..5_000_000u64, 1..10_000u64),
            steps in prop::collection::vec((0..3_000_000u64, 0.0..1.0f64), 1..80),
        ) {
            let mut bucket = Bucket::new(bytes_per_s, burst_bytes);
            let (mut now, mut sent) = (0, Vec::new());
            for (pause_ns, share) in steps {
                now += pause_ns;
                let at = Duration::from_nanos(now);
                if bucket.is_full(at) {
                    let bytes = (burst_bytes as f64 * share) as u64;
                    bucket.take(bytes as usize);
                    sent.push((now, bytes));
                } else {
                    let again = bucket.full_at();
                    prop_assert!(again > at && bucket.clone().is_full(again));
                    prop_assert!(!bucket.clone().is_full(again - Duration::from_nanos(1)));
                }
            }
            for from in 0..sent.len() {
                let mut bytes = 0;
                for &(at, part) in &sent[from..] {
                    bytes += part;
                    let window_ns = u128::from(at - sent[from].0);
                    let budget = u128::from(burst_bytes) * PARTS + u128::from(bytes_per_s) * window_ns;
                    prop_assert!(u128::from(bytes) * PARTS <= budget);
                }
            }
        }

        #[test]
        fn the_heaviest_are_those_a_full_sort_finds(
            weights in prop::collection::vec(prop_oneof![Just(f64::INFINITY), 0.0..4.0f64, Just(1.0)], 0..60),
            count in 0..70usize,
        ) {
            let mut rows: Vec<(f64, usize)> = weights.iter().copied().zip(0..).collect();
            let mut sorted = rows.clone();
            sorted.sort_by(|a, b| b.0.partial_cmp(&a.0).unwrap());
            sorted.truncate(count);
            keep_heaviest(&mut rows, count);
            prop_assert_eq!(rows, sorted);
        }
    }

    #[test]
    fn weights_follow_the_order() {
        let weigh = |order: EarlyOrder, magnitudes: &[f64]| -> Vec<f64> {
            let mut weigher = Weigher::new(order, 7);
            magnitudes.iter().map(|&of| weigher.weigh(None, || of)).collect()
        };
        assert_eq!(weigh(EarlyOrder::Magnitude, &[0.5, 2.0]), [0.5, 2.0]);
        assert!(weigh(EarlyOrder::Fifo, &[0.5, 2.0, 1.0]).is_sorted_by(|a, b| a > b));
        let random = weigh(EarlyOrder::Random, &[0.0; 64]);
        assert!(!random.is_sorted() && random == weigh(EarlyOrder::Random, &[1.0; 64]));
        let mut weigher = Weigher::new(EarlyOrder::Magnitude, 0);
        assert_eq!(weigher.weigh(Some(1.5), || 0.25), 1.75);
        let mut weigher = Weigher::new(EarlyOrder::Fifo, 0);
        assert_eq!(weigher.weigh(Some(-1.0), || 0.25), -1.0);
    }

    #[test]
    fn a_change_is_measured_by_its_row() {
        assert_eq!(relative_magnitude(&[1.0_f32, -2.0], &[4.0, -8.0]), 0.25);
        assert_eq!(relative_magnitude(&[0.0_f64], &[0.0]), 0.0);
        assert_eq!(relative_magnitude(&[1.0_f64], &[0.0]), f64::INFINITY);
    }

    #[test]
    fn a_budget_without_effect_is_refused() {
        assert!(EarlyConfig::new(1).check(80).is_ok());
        assert!(EarlyConfig::new(0).check(80).is_err());
        let small = EarlyConfig { burst_bytes: 100, ..EarlyConfig::new(1000) };
        assert!(small.check(80).unwrap_err().to_string().contains("208"));
        assert_eq!("fifo".parse::<EarlyOrder>().unwrap(), EarlyOrder::Fifo);
        assert!("size".parse::<EarlyOrder>().unwrap_err().to_string().contains("magnitude"));
    }
}
