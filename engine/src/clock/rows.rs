//! The cache: rows as they came, and this worker's own increments on top of them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::key_range::Key;
use crate::message::Element;

/// A row.
pub(super) struct Row<V> {
    /// What came, and all own increments that were not in it.
    pub values: Vec<V>,
    /// All increments at clocks below this are in `values`; `None` if nothing came yet.
    pub clock: Option<u64>,
    /// Own increments of the clock at hand; empty if there is none.
    open: Vec<V>,
    /// Own increments of earlier clocks, by clock, that may not be in what comes next.
    closed: Vec<(u64, Vec<V>)>,
    pub subscribed: bool,
}

/// All rows of a table this worker has to do with.
pub(super) struct Rows<V> {
    width: usize,
    rows: HashMap<Key, Row<V>, BuildHasherDefault<KeyHasher>>,
    /// Rows with open increments.
    touched: Vec<Key>,
}

impl<V: Element> Rows<V> {
    pub fn new(width: usize) -> Rows<V> {
        Rows { width, rows: HashMap::default(), touched: Vec::new() }
    }

    pub fn get(&self, key: Key) -> Option<&Row<V>> {
        self.rows.get(&key)
    }

    fn row(&mut self, key: Key) -> &mut Row<V> {
        let empty = || Row {
            values: vec![V::ZERO; self.width],
            clock: None,
            open: Vec::new(),
            closed: Vec::new(),
            subscribed: false,
        };
        self.rows.entry(key).or_insert_with(empty)
    }

    /// From now on changes of the row come unasked.
    pub fn subscribe(&mut self, key: Key) {
        self.row(key).subscribed = true;
    }

    /// Adds to the increments of a row from value `at` on, and to its values unless those hold that already.
    pub fn add(&mut self, key: Key, at: usize, delta: &[V], is_held: bool) {
        let width = self.width;
        let row = self.row(key);
        let is_first = row.open.is_empty();
        if is_first {
            row.open.resize(width, V::ZERO);
        }
        row.open[at..].iter_mut().zip(delta).for_each(|(value, &delta)| *value += delta);
        if !is_held {
            row.values[at..].iter_mut().zip(delta).for_each(|(value, &delta)| *value += delta);
        }
        if is_first {
            self.touched.push(key);
        }
    }

    /// A row has come that holds all increments at clocks below `clock`, and the own ones of the clocks up to `own_clock`; those
    /// of the clock at hand only if `is_held` (a predecessor made them).
    /// It replaces one of an earlier clock; of two of the same clock the first stays, for nobody knows which is newer.
    pub fn put(&mut self, key: Key, values: &[V], clock: u64, own_clock: u64, is_held: bool) {
        let row = self.row(key);
        row.closed.retain(|&(of, _)| of > own_clock);
        if row.clock.is_some_and(|had| had >= clock) {
            return;
        }
        row.clock = Some(clock);
        row.values.clear();
        row.values.extend_from_slice(values);
        let open = (!is_held).then_some(&row.open);
        for increments in row.closed.iter().map(|(_, values)| values).chain(open) {
            row.values.iter_mut().zip(increments).for_each(|(value, &delta)| *value += delta);
        }
    }

    /// Closes a clock: the increments of it by key, in the order of keys. Those of subscribed rows are kept until rows
    /// that hold them have come.
    pub fn close(&mut self, clock: u64) -> (Vec<Key>, Vec<V>) {
        let mut keys = std::mem::take(&mut self.touched);
        keys.sort_unstable();
        let mut values = Vec::with_capacity(keys.len() * self.width);
        for key in &keys {
            let Some(row) = self.rows.get_mut(key) else { continue };
            let open = std::mem::take(&mut row.open);
            values.extend_from_slice(&open);
            if row.subscribed {
                row.closed.push((clock, open));
            }
        }
        (keys, values)
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
