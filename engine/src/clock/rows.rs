//! The cache: rows as they came, and this worker's own increments on top of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::early::{Weigher, relative_magnitude};
use crate::key_range::Key;
use crate::message::Element;

/// A row.
pub(super) struct Row<V> {
    /// One row after the other, in one piece of memory: what came and all own increments that were not in it; the own
    /// increments of the clock at hand, 0 if there are none; those of each part of `sent`.
    memory: Vec<V>,
    /// Own increments that were sent and may not be in what comes next, oldest first.
    sent: Vec<Part>,
    /// All increments at clocks below this are in the values; `None` if nothing came yet.
    pub clock: Option<u64>,
    /// There are own increments of the clock at hand.
    is_touched: bool,
    pub subscribed: bool,
    /// It came as the answer to a pull, not by the stream.
    is_pulled: bool,
}

impl<V: Element> Row<V> {
    fn new(width: usize) -> Row<V> {
        Row {
            memory: vec![V::ZERO; 2 * width],
            sent: Vec::new(),
            clock: None,
            is_touched: false,
            subscribed: false,
            is_pulled: false,
        }
    }

    /// Own increments of which `own` knows need not be kept any more.
    fn forget_sent(&mut self, width: usize, own: Own) {
        let known = self.sent.iter().take_while(|&&part| own.has(part)).count();
        if known > 0 {
            self.sent.drain(..known);
            self.memory.drain(2 * width..(2 + known) * width);
        }
    }

    /// Takes the increments of the clock at hand, which go as `part`. Those of a subscribed row are kept until a row that holds
    /// them has come.
    fn take(&mut self, width: usize, part: Part, into: &mut Vec<V>) {
        let open = width..2 * width;
        into.extend_from_slice(&self.memory[open.clone()]);
        if self.subscribed {
            self.sent.push(part);
            self.memory.extend_from_within(open.clone());
        }
        self.memory[open].fill(V::ZERO);
        self.is_touched = false;
    }
}

/// Where own increments went: the clock that was closed with them or after them, and the number of the early part;
/// [`CLOSING`] for those that went when it was closed.
pub(super) type Part = (u64, u32);

/// The last part of a clock.
pub(super) const CLOSING: u32 = u32::MAX;

/// What of this worker's own a row holds that has come: all parts up to this one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own {
    /// All of the clocks up to this one.
    pub clock: u64,
    /// Of the next clock, the early parts up to this one.
    pub early: u32,
    /// All of the clock at hand, made or not: a predecessor made them.
    pub is_held: bool,
}

impl Own {
    fn has(&self, (clock, number): Part) -> bool {
        clock <= self.clock || (clock == self.clock + 1 && number <= self.early && number != CLOSING)
    }
}

/// All rows of a table this worker has to do with.
pub(super) struct Rows<V> {
    width: usize,
    rows: HashMap<Key, Row<V>, BuildHasherDefault<KeyHasher>>,
    /// Rows with open increments, those that were touched first first.
    touched: Vec<Key>,
    /// What a predecessor had sent early of a clock it did not close, and that clock: taken off the rows that hold it, until
    /// this worker has closed that clock.
    early_before: (u64, HashMap<Key, Vec<V>>),
}

impl<V: Element> Rows<V> {
    pub fn new(width: usize) -> Rows<V> {
        Rows { width, rows: HashMap::default(), touched: Vec::new(), early_before: (0, HashMap::new()) }
    }

    pub fn get(&self, key: Key) -> Option<&Row<V>> {
        self.rows.get(&key)
    }

    /// The row's values: what came, and all own increments.
    pub fn values<'a>(&self, row: &'a Row<V>) -> &'a [V] {
        &row.memory[..self.width]
    }

    fn row(&mut self, key: Key) -> &mut Row<V> {
        self.rows.entry(key).or_insert_with(|| Row::new(self.width))
    }

    /// Whether there are open increments.
    pub fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// From now on changes of the row come unasked.
    pub fn subscribe(&mut self, key: Key) {
        self.row(key).subscribed = true;
    }

    /// Adds to the increments of a row from value `at` on, and to its values unless those hold that already.
    pub fn add(&mut self, key: Key, at: usize, delta: &[V], is_held: bool) {
        let width = self.width;
        let row = self.row(key);
        let is_first = !std::mem::replace(&mut row.is_touched, true);
        let (values, rest) = row.memory.split_at_mut(width);
        rest[at..width].iter_mut().zip(delta).for_each(|(value, &delta)| *value += delta);
        if !is_held {
            values[at..].iter_mut().zip(delta).for_each(|(value, &delta)| *value += delta);
        }
        if is_first {
            self.touched.push(key);
        }
    }

    /// A predecessor had sent these increments early of clock `clock`, which it did not close.
    pub fn take_off(&mut self, clock: u64, increments: HashMap<Key, Vec<V>>) {
        self.early_before = (clock, increments);
    }

    /// A row has come that holds all increments at clocks below `clock`, and `own` of this worker's. It replaces one of an
    /// earlier clock. Of two of the same clock the later one of the stream stays; a pulled one and one of the stream stay as
    /// they came, for nobody knows which is newer, and the stream will bring it again if it changed.
    pub fn put(&mut self, key: Key, values: &[V], clock: u64, own: Own, is_pulled: bool) {
        let (before_clock, before) = &self.early_before;
        let before = before.get(&key).filter(|_| own.clock < *before_clock).cloned();
        let width = self.width;
        let row = self.row(key);
        row.forget_sent(width, own);
        let is_older = |had| had > clock || (had == clock && (is_pulled || row.is_pulled));
        if row.clock.is_some_and(is_older) {
            return;
        }
        (row.clock, row.is_pulled) = (Some(clock), is_pulled);
        let (place, rest) = row.memory.split_at_mut(width);
        let (open, sent) = rest.split_at(width);
        place.copy_from_slice(values);
        if let Some(values) = before {
            place.iter_mut().zip(values).for_each(|(value, delta)| *value = *value - delta);
        }
        let open = (row.is_touched && !own.is_held).then_some(open);
        for increments in sent.chunks_exact(width).chain(open) {
            place.iter_mut().zip(increments).for_each(|(value, &delta)| *value += delta);
        }
    }

    /// Rows with open increments, each with a weight made of its first `counted` values.
    pub fn weigh(&self, weigher: &mut Weigher, counted: usize) -> Vec<(f64, Key)> {
        let mut weigh = |row: &Row<V>| {
            let (values, open) = row.memory.split_at(self.width);
            weigher.weigh(None, || relative_magnitude(&open[..counted], &values[..counted]))
        };
        self.touched.iter().filter_map(|key| Some((weigh(self.rows.get(key)?), *key))).collect()
    }

    /// Takes the open increments of these rows, which go as an early part.
    pub fn part(&mut self, keys: &[Key], part: Part) -> Vec<V> {
        let values = self.take(keys, part);
        let rows = &self.rows;
        self.touched.retain(|key| rows.get(key).is_some_and(|row| row.is_touched));
        values
    }

    /// Closes a clock: the increments of it that have not gone yet by key, in the order of keys.
    pub fn close(&mut self, clock: u64) -> (Vec<Key>, Vec<V>) {
        let mut keys = std::mem::take(&mut self.touched);
        keys.sort_unstable();
        let values = self.take(&keys, (clock, CLOSING));
        (keys, values)
    }

    fn take(&mut self, keys: &[Key], part: Part) -> Vec<V> {
        let mut values = Vec::with_capacity(keys.len() * self.width);
        for key in keys {
            if let Some(row) = self.rows.get_mut(key) {
                row.take(self.width, part, &mut values);
            }
        }
        values
    }
}

/// Keys are ids or hashes already; one multiplication spreads the former.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(self.0 ^ u64::from(byte)));
    }
    fn write_u64(&mut self, key: u64) {
        let product = u128::from(key ^ 0x9e37_79b9_7f4a_7c15) * 0xd1b5_4a32_d192_ed03;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}
