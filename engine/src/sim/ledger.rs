//! The reference: which strokes were made at which key, and what a value says about them.

use std::collections::BTreeMap;

use crate::key_range::Key;

/// Strokes per key: 26 digits of base 4 fill the 52 bits that f64 adds exactly.
const STROKES_MAX: usize = 26;

/// The value of stroke number `index`.
pub(super) fn worth(index: usize) -> f64 {
    4f64.powi(index as i32)
}

/// How often each stroke is in `value`, or why that cannot be read.
fn digits(value: f64) -> Result<[u8; STROKES_MAX], String> {
    if !(value >= 0.0 && value < worth(STROKES_MAX) && value.fract() == 0.0) {
        return Err(format!("{value} is no sum of strokes"));
    }
    let bits = value as u64;
    Ok(std::array::from_fn(|index| (bits >> (2 * index)) as u8 & 3))
}

/// Checks that every stroke in `value` is there at most once, that those in `must` are, and no unknown one is.
pub(super) fn check(value: f64, count: usize, must: impl Fn(usize) -> bool) -> Result<(), String> {
    for (index, times) in digits(value)?.into_iter().enumerate() {
        if times > 1 || (times == 1 && index >= count) {
            return Err(format!("stroke {index} of {count} was applied {times} times"));
        }
        if times == 0 && index < count && must(index) {
            return Err(format!("stroke {index} of {count} is missing, though acknowledged"));
        }
    }
    Ok(())
}

/// Strokes by key, each with the moment it was acknowledged.
#[derive(Default)]
pub(super) struct Ledger {
    keys: BTreeMap<Key, Vec<Option<u64>>>,
    moment: u64,
}

impl Ledger {
    /// A new stroke at `key`: its index, unless there are as many as a value can tell apart.
    pub fn stroke(&mut self, key: Key) -> Option<usize> {
        let strokes = self.keys.entry(key).or_default();
        strokes.push(None);
        (strokes.len() <= STROKES_MAX).then(|| strokes.len() - 1)
    }

    /// Whether `key` can take another stroke.
    pub fn has_room(&self, key: Key) -> bool {
        self.keys.get(&key).is_none_or(|strokes| strokes.len() < STROKES_MAX)
    }

    pub fn acknowledge(&mut self, key: Key, index: usize) {
        self.moment += 1;
        if let Some(stroke) = self.keys.get_mut(&key).and_then(|strokes| strokes.get_mut(index)) {
            *stroke = Some(self.moment);
        }
    }

    /// How many strokes were made at `key`.
    pub fn strokes(&self, key: Key) -> usize {
        self.keys.get(&key).map_or(0, Vec::len)
    }

    /// Now, for [`Ledger::check`].
    pub fn moment(&self) -> u64 {
        self.moment
    }

    /// Checks a value of `key`: what was acknowledged up to `since` must be in it.
    pub fn check(&self, key: Key, value: f64, since: u64) -> Result<(), String> {
        let strokes = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        let must = |index: usize| strokes[index].is_some_and(|moment| moment <= since);
        check(value, strokes.len(), must).map_err(|text| format!("key {key}: {text}"))
    }

    /// All keys ever struck.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.keys.keys().copied()
    }
}
