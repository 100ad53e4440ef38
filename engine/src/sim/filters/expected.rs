//! What a chain may make of a row: the rule of each filter, one row at a time.

use std::collections::BTreeMap;

use super::table::DROPPED;
use crate::filter::{ChainSpec, FilterSpec, Stage};
use crate::key_range::Key;

/// The values of one key: of a push those of all parts, one part after the other; zeros behind them.
pub(super) type Row = [f64; ROW_MAX];

/// Values of a row, over all parts, at most.
pub(super) const ROW_MAX: usize = 4;

const NOTHING: Row = [0.0; ROW_MAX];

/// Standard deviations beyond which no draw of a million schedules lies.
const NOISE_REACH: f64 = 10.0;

/// What may arrive: one of some rows, each value within `spread`, before it became a code.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expected {
    pub rows: Vec<Row>,
    pub spread: f64,
}

/// What the filters of one worker's chain remember of pushes.
#[derive(Default)]
pub(super) struct Memory {
    held: BTreeMap<Key, Row>,
    pushes: BTreeMap<Key, u16>,
}

impl Memory {
    /// What may become of `row`, pushed next under `key`.
    pub fn expect(&mut self, spec: &ChainSpec, time: u64, key: Key, row: Row) -> Expected {
        let (mut rows, mut spread) = (vec![row], 0.0);
        for filter in &spec.filters {
            match filter {
                FilterSpec::Significant { threshold } => {
                    let held = self.held.entry(key).or_insert(NOTHING);
                    held.iter_mut().zip(&rows[0]).for_each(|(held, x)| *held += x);
                    let bound = threshold / time.max(1) as f64;
                    let goes = held.iter().any(|held| held.abs() > bound);
                    rows = vec![if goes { std::mem::take(held) } else { NOTHING }];
                    if !goes {
                        break;
                    }
                }
                FilterSpec::Zeros if rows == [NOTHING] => break,
                FilterSpec::Frequency { .. } | FilterSpec::Bloom { .. } => {
                    let from = if let FilterSpec::Frequency { pushes, .. } = filter { *pushes } else { 2 };
                    let pushes = self.pushes.entry(key).or_default();
                    // A row that may have been left out before was not counted for sure.
                    *pushes += u16::from(rows.len() == 1);
                    if *pushes < from {
                        rows.push(NOTHING);
                    }
                }
                FilterSpec::Skip { probability } => {
                    rows.iter_mut().flatten().for_each(|x| *x *= 1.0 / probability);
                    spread /= probability;
                    rows.push(NOTHING);
                }
                FilterSpec::Noise { sigma } => spread += NOISE_REACH * sigma,
                FilterSpec::User { name, .. } if name == "trim" => {
                    let is_dropped = rows.iter().all(|row| row[0] == DROPPED);
                    rows.iter_mut().for_each(trim);
                    spread *= 0.5;
                    if is_dropped {
                        break;
                    }
                }
                _ => {}
            }
        }
        Expected { rows, spread }
    }

    /// What is held back, without rows of zeros.
    pub fn held(&self) -> BTreeMap<Key, Row> {
        let held = self.held.iter().filter(|(_, row)| row.iter().any(|x| *x != 0.0));
        held.map(|(key, row)| (*key, *row)).collect()
    }
}

/// What `user:trim` does.
fn trim(row: &mut Row) {
    let factor = if row[0] == DROPPED { 0.0 } else { 0.5 };
    row.iter_mut().for_each(|x| *x *= factor);
}

/// What a pull may read of a key that had the values `history`, oldest first, those from `from` on during the pull.
/// `significant` allows what the key once was, so long as that is within the bound of what it was during the pull.
pub(super) fn expect_read(spec: &ChainSpec, time: u64, history: &[(u64, Row)], from: usize) -> Expected {
    // Only `significant` goes further back.
    let (history, from) = if spec.threshold().is_some() { (history, from) } else { (&history[from..], 0) };
    let mut rows: Vec<Row> = history.iter().map(|(_, row)| *row).collect();
    let (mut chosen, mut spread): (Vec<usize>, f64) = ((from..rows.len()).collect(), 0.0);
    for filter in &spec.filters {
        match filter {
            FilterSpec::Significant { threshold } => {
                let bound = threshold / time.max(1) as f64;
                let near = |a: &usize, b: &usize| {
                    rows[*a].iter().zip(&rows[*b]).all(|(a, b)| (a - b).abs() <= bound)
                };
                chosen = (0..rows.len()).filter(|a| chosen.iter().any(|b| near(a, b))).collect();
            }
            FilterSpec::Noise { sigma } => spread += NOISE_REACH * sigma,
            FilterSpec::User { name, .. } if name == "trim" => rows.iter_mut().for_each(trim),
            _ => {}
        }
    }
    Expected { rows: chosen.into_iter().map(|at| rows[at]).collect(), spread }
}

impl Expected {
    /// Why `got` is none of the rows, if it is not; `range` spans the values of the message.
    pub fn check(&self, spec: &ChainSpec, range: (f64, f64), got: &Row) -> Result<(), String> {
        let code = spec.of(Stage::Codes).next();
        let reach = (range.1 - range.0) + 2.0 * self.spread;
        let fits = |row: &Row| row.iter().zip(got).all(|(&x, &got)| self.is_near(code, reach, x, got));
        let on_grid = got.iter().all(|&got| is_on_grid(code, got));
        if on_grid && self.rows.iter().any(fits) {
            return Ok(());
        }
        let Expected { rows, spread } = self;
        Err(format!("{got:?} is none of {rows:?} within {spread} after \"{spec}\""))
    }

    fn is_near(&self, code: Option<&FilterSpec>, reach: f64, x: f64, got: f64) -> bool {
        let relative = |bits: i32, least: i32| (x.abs() + self.spread) * 2f64.powi(-bits) + 2f64.powi(-least);
        let (x, step) = match code {
            None => (x, 0.0),
            Some(FilterSpec::Fixed { bytes }) => {
                (x, reach / (2f64.powi(8 * i32::from(*bytes)) - 2.0) * (1.0 + 1e-9) + 1e-12)
            }
            Some(FilterSpec::Q2x13) => (x.clamp(-4.0, 4.0 - 2f64.powi(-13)), 2f64.powi(-13)),
            Some(FilterSpec::F16) => (x, relative(10, 24)),
            Some(_) => (x, relative(7, 126)),
        };
        (got - x).abs() <= self.spread + step
    }
}

/// Whether a code can stand for this value at all.
fn is_on_grid(code: Option<&FilterSpec>, got: f64) -> bool {
    let single = got as f32;
    let ends_in_zeros = |bits: u32| f64::from(single) == got && single.to_bits().trailing_zeros() >= bits;
    match code {
        Some(FilterSpec::Q2x13) => (got * 8192.0).fract() == 0.0,
        Some(FilterSpec::F16) => ends_in_zeros(13),
        Some(FilterSpec::Bf16) => ends_in_zeros(16),
        _ => true,
    }
}
