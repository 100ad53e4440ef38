//! The versioned assignment of all keys to shards.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Key, KeyRange};

/// The largest number of shards one map can hold.
pub const SHARDS_MAX: usize = 4096;

/// Why a list of range ends is not a map.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RangeMapError {
    /// No shard, or more than [`SHARDS_MAX`].
    #[error("a range map holds 1 to {SHARDS_MAX} shards, got {got}")]
    ShardCount {
        /// Shards asked for.
        got: usize,
    },
    /// The interval has fewer keys than there are shards.
    #[error("the key interval {span} has fewer keys than the {shards} shards that should share it")]
    TooNarrow {
        /// The interval given.
        span: KeyRange,
        /// Shards asked for.
        shards: usize,
    },
    /// The range ends do not rise.
    #[error("shard {shard} ends at key {last}, which is not above the end of the shard before it")]
    NotRising {
        /// Index of the offending shard.
        shard: usize,
        /// Its last key.
        last: Key,
    },
    /// The topmost key would belong to nobody.
    #[error("the last shard must end at key {}, got {got}", Key::MAX)]
    TopUncovered {
        /// The last shard's end as given.
        got: Key,
    },
}

/// Which shard owns which keys: disjoint consecutive ranges that cover all 2^64 keys.
///
/// Shard `i` owns the keys above shard `i-1`'s last key up to and including its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub struct RangeMap {
    version: u64,
    lasts: Vec<Key>,
    fingerprint: u128,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u64,
    lasts: Vec<Key>,
}

impl RangeMap {
    /// A map from the shards' last keys (included, rising, the last one 2^64-1).
    pub fn new(version: u64, lasts: Vec<Key>) -> Result<RangeMap, RangeMapError> {
        if lasts.is_empty() || lasts.len() > SHARDS_MAX {
            return Err(RangeMapError::ShardCount { got: lasts.len() });
        }
        if let Some(at) = lasts.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(RangeMapError::NotRising { shard: at + 1, last: lasts[at + 1] });
        }
        let top = lasts[lasts.len() - 1];
        if top != Key::MAX {
            return Err(RangeMapError::TopUncovered { got: top });
        }
        let fingerprint = keyrange_kernels::keys::signature(&lasts);
        Ok(RangeMap { version, lasts, fingerprint })
    }

    /// Cuts `span` into `shards` ranges of equal size (to one key). Keys below `span` go to the first shard, keys
    /// above it to the last, so that every key has an owner.
    pub fn even(version: u64, span: KeyRange, shards: usize) -> Result<RangeMap, RangeMapError> {
        if shards == 0 || shards > SHARDS_MAX {
            return Err(RangeMapError::ShardCount { got: shards });
        }
        if span.count() < shards as u128 {
            return Err(RangeMapError::TooNarrow { span, shards });
        }
        let last_of = |shard: usize| {
            // count <= 2^64 and shard < 2^12, so the product fits; the offset is below 2^64 for all but the top shard.
            let offset = span.count() * (shard as u128 + 1) / shards as u128 - 1;
            if shard + 1 == shards { Key::MAX } else { span.first() + offset as u64 }
        };
        RangeMap::new(version, (0..shards).map(last_of).collect())
    }

    /// The version; a newer assignment has a higher one.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Number of shards, 1 to [`SHARDS_MAX`].
    pub fn shards(&self) -> usize {
        self.lasts.len()
    }

    /// Tells maps with different ranges apart, whatever their versions say.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// The shard that owns `key`: O(log shards).
    #[inline]
    pub fn shard_of(&self, key: Key) -> usize {
        self.lasts.partition_point(|&last| last < key)
    }

    /// The keys shard `shard` owns. Panics if there is no such shard.
    pub fn range_of(&self, shard: usize) -> KeyRange {
        let first = if shard == 0 { 0 } else { self.lasts[shard - 1] + 1 };
        KeyRange { first, last: self.lasts[shard] }
    }

    /// The parts of `range`, by owner, in key order.
    pub fn slices_of_range(&self, range: KeyRange) -> impl Iterator<Item = (usize, KeyRange)> + '_ {
        (self.shard_of(range.first())..=self.shard_of(range.last()))
            .filter_map(move |shard| Some((shard, self.range_of(shard).intersect(range)?)))
    }

    /// The non-empty parts of a sorted key list, by owner: `(shard, start..end)` in list positions.
    /// O(parts · log keys).
    pub fn slices_of_keys<'a>(
        &'a self,
        keys: &'a [Key],
    ) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + 'a {
        let mut start = 0;
        std::iter::from_fn(move || {
            let shard = self.shard_of(*keys.get(start)?);
            let len = keys[start..].partition_point(|&key| key <= self.lasts[shard]);
            let slice = start..start + len;
            start = slice.end;
            Some((shard, slice))
        })
    }
}

impl TryFrom<Wire> for RangeMap {
    type Error = RangeMapError;
    fn try_from(wire: Wire) -> Result<RangeMap, RangeMapError> {
        RangeMap::new(wire.version, wire.lasts)
    }
}

impl From<RangeMap> for Wire {
    fn from(map: RangeMap) -> Wire {
        Wire { version: map.version, lasts: map.lasts }
    }
}
