//! What `significant` holds back from pushes: per table and key, the sum of what was not sent yet.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::admission::mix;
use crate::key_range::Key;
use crate::message::{Element, Values};

/// Rows of all tables.
#[derive(Default)]
pub(super) struct Residuals {
    tables: HashMap<u16, Rows>,
}

/// Rows of one table, each of `row` values: the parts of one key one after the other.
pub(super) struct Rows {
    places: HashMap<Key, u32, BuildHasherDefault<KeyHasher>>,
    values: Values,
    parts: usize,
    width: usize,
}

impl Residuals {
    /// The rows of `table`; those of another shape (the table was replaced) are forgotten.
    pub fn table<V: Element>(&mut self, table: u16, parts: usize, width: usize) -> &mut Rows {
        let rows = self.tables.entry(table).or_insert_with(|| Rows::new::<V>(parts, width));
        if (rows.parts, rows.width, rows.values.value_type()) != (parts, width, V::CODE) {
            *rows = Rows::new::<V>(parts, width);
        }
        rows
    }

    /// Takes all rows of `table`, by part, in the order of keys; rows that are all zero are left out.
    pub fn take<V: Element>(&mut self, table: u16) -> (Vec<Key>, Vec<Vec<V>>) {
        // (Asked for in another type they stay.)
        let is_of_type = |rows: &Rows| rows.values.value_type() == V::CODE;
        let rows = self.tables.extract_if(|&of, rows| of == table && is_of_type(rows)).next();
        let Some((_, mut rows)) = rows else { return Default::default() };
        let (parts, width) = (rows.parts, rows.width);
        let Some(values) = V::vec_of(&mut rows.values) else { return Default::default() };
        let row = |place: u32| &values[place as usize * parts * width..][..parts * width];
        let held = |place: u32| row(place).iter().any(|value| *value != V::ZERO);
        let mut places: Vec<(Key, u32)> =
            rows.places.iter().map(|(&key, &place)| (key, place)).filter(|&(_, place)| held(place)).collect();
        places.sort_unstable();
        let keys = places.iter().map(|&(key, _)| key).collect();
        let part = |part: usize| {
            let values = places.iter().flat_map(|&(_, place)| &row(place)[part * width..(part + 1) * width]);
            values.copied().collect()
        };
        (keys, (0..parts).map(part).collect())
    }
}

impl Rows {
    fn new<V: Element>(parts: usize, width: usize) -> Rows {
        Rows { places: HashMap::default(), values: V::wrap(Vec::new()), parts, width }
    }

    /// What is held back of `key`, zeros if nothing is: the parts one after the other.
    pub fn row<V: Element>(&mut self, key: Key) -> &mut [V] {
        let len = self.parts * self.width;
        let next = self.places.len() as u32;
        let place = *self.places.entry(key).or_insert(next);
        let Some(values) = V::vec_of(&mut self.values) else { return &mut [] };
        if place == next {
            values.resize(values.len() + len, V::ZERO);
        }
        &mut values[place as usize * len..][..len]
    }
}

/// Keys may be anything, so their bits are mixed; an own job's keys need no defence against strangers.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = mix(self.0 ^ u64::from(byte));
        }
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = mix(key);
    }
}
