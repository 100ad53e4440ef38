//! Key ranges, and the map that says which shard owns which.
//!
//! Keys are `u64` and ordered; a [`KeyRange`] holds both its ends, so the topmost key 2^64-1 belongs to
//! somebody. A [`RangeMap`] cuts *all* keys into consecutive ranges, one per shard, and never changes: a new
//! assignment is a new map with a higher version. Nothing here knows of messages, tables or threads.
//!
//! Read [`KeyRange`] first, then `map.rs`.

mod map;

pub use map::{RangeMap, RangeMapError, SHARDS_MAX};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A key of the shared vector. Every value of `u64` is a valid key.
pub type Key = u64;

/// A non-empty range of keys, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "(Key, Key)", into = "(Key, Key)")]
pub struct KeyRange {
    first: Key,
    last: Key,
}

/// The ends of a range were given in the wrong order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a key range needs first <= last (both included), got first {first} and last {last}")]
pub struct RangeError {
    /// The lower end as given.
    pub first: Key,
    /// The upper end as given.
    pub last: Key,
}

impl KeyRange {
    /// Every key there is.
    pub const ALL: KeyRange = KeyRange { first: 0, last: Key::MAX };

    /// The range `first..=last`.
    pub fn new(first: Key, last: Key) -> Result<KeyRange, RangeError> {
        if first <= last { Ok(KeyRange { first, last }) } else { Err(RangeError { first, last }) }
    }

    /// The range of one key.
    pub fn one(key: Key) -> KeyRange {
        KeyRange { first: key, last: key }
    }

    /// The smallest key.
    #[inline]
    pub fn first(&self) -> Key {
        self.first
    }

    /// The largest key (it belongs to the range).
    #[inline]
    pub fn last(&self) -> Key {
        self.last
    }

    /// Number of keys; `u128` because the whole range has 2^64.
    #[inline]
    pub fn count(&self) -> u128 {
        u128::from(self.last - self.first) + 1
    }

    /// Whether `key` lies in the range.
    #[inline]
    pub fn contains(&self, key: Key) -> bool {
        (self.first..=self.last).contains(&key)
    }

    /// Whether all of `other` lies in the range.
    #[inline]
    pub fn covers(&self, other: KeyRange) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The keys both ranges have, if any.
    pub fn intersect(&self, other: KeyRange) -> Option<KeyRange> {
        KeyRange::new(self.first.max(other.first), self.last.min(other.last)).ok()
    }

    /// Cuts the range into consecutive pieces of at most `keys_max` keys. `keys_max` must not be 0.
    pub fn chunks(&self, keys_max: u64) -> impl Iterator<Item = KeyRange> + use<> {
        assert!(keys_max > 0, "a chunk holds at least one key");
        let last = self.last;
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next?;
            let chunk = KeyRange { first, last: first.saturating_add(keys_max - 1).min(last) };
            next = (chunk.last < last).then(|| chunk.last + 1);
            Some(chunk)
        })
    }
}

impl TryFrom<(Key, Key)> for KeyRange {
    type Error = RangeError;
    fn try_from((first, last): (Key, Key)) -> Result<KeyRange, RangeError> {
        KeyRange::new(first, last)
    }
}

impl From<KeyRange> for (Key, Key) {
    fn from(range: KeyRange) -> (Key, Key) {
        (range.first, range.last)
    }
}

impl std::fmt::Display for KeyRange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}, {}]", self.first, self.last)
    }
}
