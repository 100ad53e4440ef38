//! The keys of a hashed table in their order, built when a range is first asked for.
//!
//! A large sorted part, a small sorted part, and the keys not yet sorted. A range is found in the two sorted parts
//! by binary search and merged; the small part joins the large one when it has grown to an eighth of it, so keeping
//! the order costs a bounded number of moves per key. Until the first range operation nothing is kept at all.

/// A key and its slot.
type Entry = (u64, u32);

/// The small part may always grow to this many keys.
const SMALL_MAX: usize = 4096;

/// Keys with their slots, in order.
#[derive(Default)]
pub(crate) struct Ordered {
    large: Vec<Entry>,
    small: Vec<Entry>,
    fresh: Vec<Entry>,
}

impl Ordered {
    /// Takes all keys there are, in any order.
    pub fn build(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable();
        Self { large: entries, ..Self::default() }
    }

    /// Notes a new key.
    pub fn note(&mut self, key: u64, slot: u32) {
        self.fresh.push((key, slot));
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        (self.large.capacity() + self.small.capacity() + self.fresh.capacity()) * size_of::<Entry>()
    }

    /// The first `limit` keys from `first` to `last` inclusive, in order, with their slots.
    pub fn range(&mut self, first: u64, last: u64, limit: usize) -> (Vec<u64>, Vec<u32>) {
        self.settle();
        let mut large = between(&self.large, first, last).iter().peekable();
        let mut small = between(&self.small, first, last).iter().peekable();
        let (mut keys, mut slots) = (Vec::new(), Vec::new());
        while keys.len() < limit {
            let from_large = match (large.peek(), small.peek()) {
                (Some(a), Some(b)) => a < b,
                (a, _) => a.is_some(),
            };
            let next = if from_large { large.next() } else { small.next() };
            let Some(&(key, slot)) = next else { break };
            keys.push(key);
            slots.push(slot);
        }
        (keys, slots)
    }

    fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        self.fresh.sort_unstable();
        merge_into(&mut self.small, &self.fresh);
        self.fresh.clear();
        if self.small.len() > SMALL_MAX.max(self.large.len() / 8) {
            merge_into(&mut self.large, &self.small);
            self.small = Vec::new();
        }
    }
}

/// The entries whose keys lie in the range; none when its ends are exchanged.
fn between(sorted: &[Entry], first: u64, last: u64) -> &[Entry] {
    let begin = sorted.partition_point(|entry| entry.0 < first);
    let end = sorted.partition_point(|entry| entry.0 <= last);
    sorted.get(begin..end).unwrap_or(&[])
}

/// Merges one sorted list into another, in place from the top end: the place written is never below the one read.
fn merge_into(target: &mut Vec<Entry>, source: &[Entry]) {
    let mut left = target.len();
    let mut right = source.len();
    target.resize(left + right, (0, 0));
    while right > 0 {
        let from_target = left > 0 && target[left - 1] > source[right - 1];
        let entry = if from_target { target[left - 1] } else { source[right - 1] };
        target[left + right - 1] = entry;
        left -= usize::from(from_target);
        right -= usize::from(!from_target);
    }
}
