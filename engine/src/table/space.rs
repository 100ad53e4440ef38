//! From keys to rows: the three kinds of store behind one set of operations.

use super::ordered::Ordered;
use super::resolved::{NO_SLOT, Slots};
use super::{HashIndex, StoreKind, TableError};

/// The keys of a table and the slots of their rows.
pub(crate) enum KeySpace {
    Dense { first: u64, last: u64 },
    Hashed { index: HashIndex, ordered: Option<Ordered>, freezes: bool },
    Sorted { keys: Vec<u64> },
}

impl KeySpace {
    pub fn new(store: StoreKind) -> Self {
        match store {
            StoreKind::Dense { first, last } => Self::Dense { first, last },
            StoreKind::Sparse => Self::Hashed { index: HashIndex::new(), ordered: None, freezes: false },
            StoreKind::Frozen => Self::Hashed { index: HashIndex::new(), ordered: None, freezes: true },
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Dense { first, last } => (last - first + 1) as usize,
            Self::Hashed { index, .. } => index.len(),
            Self::Sorted { keys } => keys.len(),
        }
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Dense { .. } => 0,
            Self::Hashed { index, ordered, .. } => index.bytes() + ordered.as_ref().map_or(0, Ordered::bytes),
            Self::Sorted { keys } => keys.capacity() * size_of::<u64>(),
        }
    }

    /// The rows of keys, which must increase strictly. With `insert`, keys without a row get one or are an error.
    pub fn resolve(&mut self, keys: &[u64], insert: bool) -> Result<Slots, TableError> {
        if !keys.is_sorted_by(|a, b| a < b) {
            let index = keys.windows(2).position(|pair| pair[0] >= pair[1]).map_or(0, |place| place + 1);
            return Err(TableError::Unsorted { index });
        }
        match self {
            Self::Dense { first, last } => resolve_dense(*first, *last, keys),
            Self::Hashed { index, ordered, .. } if insert => {
                let before = index.len();
                let mut slots = Vec::new();
                let result = index.insert(keys, &mut slots);
                if let Some(ordered) = ordered {
                    note_new(ordered, keys, &slots, before);
                }
                result.map(|()| Slots::from_lookup(slots))
            }
            Self::Hashed { index, .. } => {
                let mut slots = Vec::new();
                index.find(keys, &mut slots);
                Ok(Slots::from_lookup(slots))
            }
            Self::Sorted { keys: sorted } => resolve_sorted(sorted, keys, insert),
        }
    }

    /// The first `limit` keys that have rows, from `first` to `last` inclusive, and their rows.
    pub fn existing(&mut self, first: u64, last: u64, limit: usize) -> (Vec<u64>, Slots) {
        match self {
            Self::Dense { first: low, last: high } => {
                let (first, last) = (first.max(*low), last.min(*high));
                let keys: Vec<u64> = (first..=last).take(limit).collect();
                let start = keys.first().map_or(0, |first| first - *low) as u32;
                let run = Slots::Run { start, len: keys.len() as u32 };
                (keys, run)
            }
            Self::Hashed { index, ordered, .. } => {
                let ordered = ordered.get_or_insert_with(|| Ordered::build(entries(index)));
                let (keys, slots) = ordered.range(first, last, limit);
                (keys, Slots::from_lookup(slots))
            }
            Self::Sorted { keys } => {
                let begin = keys.partition_point(|&key| key < first);
                let end = keys.partition_point(|&key| key <= last).max(begin);
                let found: Vec<u64> = keys[begin..end].iter().copied().take(limit).collect();
                let run = Slots::Run { start: begin as u32, len: found.len() as u32 };
                (found, run)
            }
        }
    }

    /// What freezing makes of this: the keys in their order, and for each the slot it has now.
    pub fn frozen(&self) -> Result<(Self, Vec<u32>), TableError> {
        match self {
            Self::Hashed { index, freezes: true, .. } => {
                let mut entries = entries(index);
                entries.sort_unstable();
                let (keys, slots) = entries.into_iter().unzip();
                Ok((Self::Sorted { keys }, slots))
            }
            Self::Sorted { .. } => Err(TableError::Freeze("the table is frozen already")),
            _ => {
                Err(TableError::Freeze("only a table created as frozen can be; this one is dense or sparse"))
            }
        }
    }
}

fn entries(index: &HashIndex) -> Vec<(u64, u32)> {
    let mut entries = Vec::with_capacity(index.len());
    index.for_each(|key, slot| entries.push((key, slot)));
    entries
}

/// New keys are those whose slots lie beyond the rows there were.
fn note_new(ordered: &mut Ordered, keys: &[u64], slots: &[u32], before: usize) {
    for (&key, &slot) in keys.iter().zip(slots) {
        if slot != NO_SLOT && slot as usize >= before {
            ordered.note(key, slot);
        }
    }
}

fn resolve_dense(first: u64, last: u64, keys: &[u64]) -> Result<Slots, TableError> {
    let (Some(&low), Some(&high)) = (keys.first(), keys.last()) else {
        return Ok(Slots::Run { start: 0, len: 0 });
    };
    if low < first || high > last {
        let index = keys.iter().position(|key| !(first..=last).contains(key)).unwrap_or(0);
        let expected = format!("the table has keys {first} to {last}");
        return Err(TableError::NoSuchKey { key: keys[index], index, expected });
    }
    if high - low == keys.len() as u64 - 1 {
        return Ok(Slots::Run { start: (low - first) as u32, len: keys.len() as u32 });
    }
    Ok(Slots::from_lookup(keys.iter().map(|key| (key - first) as u32).collect()))
}

/// Both lists increase, so each search starts where the last one ended and doubles its stride: a block of
/// neighbours costs one comparison of memory, a sparse list about the logarithm of each gap.
fn resolve_sorted(sorted: &[u64], keys: &[u64], insert: bool) -> Result<Slots, TableError> {
    let begin = keys.first().map_or(0, |low| sorted.partition_point(|key| key < low));
    if sorted[begin..].starts_with(keys) {
        return Ok(Slots::Run { start: begin as u32, len: keys.len() as u32 });
    }
    let mut slots = Vec::with_capacity(keys.len());
    let mut at = begin;
    for (index, &key) in keys.iter().enumerate() {
        at += gallop(&sorted[at..], key);
        let found = sorted.get(at) == Some(&key);
        if insert && !found {
            let expected = format!("the table was frozen with {} keys", sorted.len());
            return Err(TableError::NoSuchKey { key, index, expected });
        }
        slots.push(if found { at as u32 } else { NO_SLOT });
    }
    Ok(Slots::from_lookup(slots))
}

/// The number of leading elements below `key`.
fn gallop(sorted: &[u64], key: u64) -> usize {
    let mut stride = 1;
    while stride <= sorted.len() && sorted[stride - 1] < key {
        stride *= 2;
    }
    let begin = stride / 2;
    let end = stride.min(sorted.len());
    begin + sorted[begin..end].partition_point(|&other| other < key)
}
