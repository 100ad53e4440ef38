//! Key lists seen before: the rows they resolve to, and the keys themselves only where rows may still come or move.
//!
//! Shared by all workers of the shard, found by table and signature (computed here from the keys that came, never
//! believed), bounded in bytes; the least recently used list goes first. A worker that names a forgotten list is asked for
//! its keys.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::key_range::{Key, KeyRange};
use crate::table::{Resolved, Slots};

/// The keys of a request and their rows.
#[derive(Clone)]
pub(super) struct Located {
    pub keys: KeysRef,
    pub at: At,
}

/// What must be known of the keys once their rows are found.
#[derive(Clone)]
pub(super) enum KeysRef {
    Range(KeyRange),
    /// Some have no row yet, or rows may still move, so they may have to be looked up again.
    List(Arc<[Key]>),
    /// Nothing: each has its row for good. Eight bytes a key are saved, which doubles the lists that fit in memory.
    Settled,
}

/// Rows, shared between a request and the cache if copying them would cost anything.
#[derive(Clone)]
pub(super) enum At {
    Run(Resolved),
    Shared(Arc<Resolved>),
}

impl From<Resolved> for At {
    fn from(at: Resolved) -> At {
        match at.slots() {
            Slots::Run { .. } => At::Run(at),
            _ => At::Shared(Arc::new(at)),
        }
    }
}

impl Deref for At {
    type Target = Resolved;

    fn deref(&self) -> &Resolved {
        match self {
            At::Run(at) => at,
            At::Shared(at) => at,
        }
    }
}

impl Located {
    /// Memory held, in bytes.
    fn bytes(&self) -> usize {
        let keys_bytes = match &self.keys {
            KeysRef::List(keys) => size_of_val::<[Key]>(keys),
            KeysRef::Range(_) | KeysRef::Settled => 0,
        };
        keys_bytes + self.at.bytes()
    }
}

type Name = (u16, u128);

struct Entry {
    name: Name,
    located: Located,
    bytes: usize,
    newer: usize,
    older: usize,
}

/// End of the list of entries.
const NONE: usize = usize::MAX;

pub(super) struct KeyCache {
    places: HashMap<Name, usize>,
    entries: Vec<Entry>,
    newest: usize,
    oldest: usize,
    bytes: usize,
    bytes_max: usize,
}

impl KeyCache {
    pub fn new(bytes_max: usize) -> KeyCache {
        let (places, entries) = (HashMap::new(), Vec::new());
        KeyCache { places, entries, newest: NONE, oldest: NONE, bytes: 0, bytes_max }
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The list of this name; it becomes the most recently used.
    pub fn get(&mut self, name: Name) -> Option<&mut Located> {
        let place = *self.places.get(&name)?;
        if place != self.newest {
            self.unlink(place);
            self.link(place);
        }
        Some(&mut self.entries[place].located)
    }

    /// Keeps a list; lists larger than the whole cache are not kept.
    pub fn insert(&mut self, name: Name, located: Located) {
        // The list, its entry, and its place in the map. Should its missing keys get rows later, it only shrinks.
        let bytes = located.bytes() + size_of::<Entry>() + 64;
        if let Some(&place) = self.places.get(&name) {
            self.entries[place].located = located;
            return;
        }
        if bytes > self.bytes_max {
            return;
        }
        while self.bytes + bytes > self.bytes_max && self.oldest != NONE {
            self.remove(self.oldest);
        }
        let place = self.entries.len();
        self.entries.push(Entry { name, located, bytes, newer: NONE, older: NONE });
        self.places.insert(name, place);
        self.bytes += bytes;
        self.link(place);
    }

    /// Forgets the lists of one table.
    pub fn forget(&mut self, table: u16) {
        // From the end: an entry that moves into a gap was looked at already.
        for place in (0..self.entries.len()).rev() {
            if self.entries[place].name.0 == table {
                self.remove(place);
            }
        }
    }

    fn link(&mut self, place: usize) {
        self.entries[place].older = self.newest;
        self.entries[place].newer = NONE;
        match self.newest {
            NONE => self.oldest = place,
            newest => self.entries[newest].newer = place,
        }
        self.newest = place;
    }

    fn unlink(&mut self, place: usize) {
        let (newer, older) = (self.entries[place].newer, self.entries[place].older);
        match newer {
            NONE => self.newest = older,
            newer => self.entries[newer].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.entries[older].newer = newer,
        }
    }

    fn remove(&mut self, place: usize) {
        self.unlink(place);
        let last = self.entries.len() - 1;
        if place != last {
            // The last entry moves into the gap: its neighbours must know.
            self.unlink_for_move(last, place);
        }
        let entry = self.entries.swap_remove(place);
        self.places.remove(&entry.name);
        self.bytes -= entry.bytes;
        if place != last {
            self.places.insert(self.entries[place].name, place);
        }
    }

    fn unlink_for_move(&mut self, from: usize, to: usize) {
        let (newer, older) = (self.entries[from].newer, self.entries[from].older);
        match newer {
            NONE => self.newest = to,
            newer => self.entries[newer].older = to,
        }
        match older {
            NONE => self.oldest = to,
            older => self.entries[older].newer = to,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{FunctionSpec, StoreKind, Table, TableSpec, ValueType};
    use crate::update::Registry;

    fn located(keys: &[Key]) -> Located {
        let spec = TableSpec {
            id: 1,
            name: "t".to_owned(),
            value_type: ValueType::F32,
            width: 1,
            store: StoreKind::Sparse,
            function: FunctionSpec::named("add"),
            aggregation: Default::default(),
        };
        let mut table = Table::<f32>::new(spec, &Registry::with_builtins()).unwrap();
        Located { keys: KeysRef::List(keys.into()), at: table.resolve(keys, true).unwrap().into() }
    }

    #[test]
    fn the_least_recently_used_list_is_forgotten_first() {
        let one = located(&[1, 2]);
        let unit = size_of_val(&[1u64, 2]) + one.at.bytes() + size_of::<Entry>() + 64;
        let mut cache = KeyCache::new(3 * unit);
        let mut order: Vec<u128> = Vec::new(); // oldest first, the oracle
        let mut random = 1u64;
        for _ in 0..2000 {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let name = u128::from(random >> 60);
            let known = order.iter().position(|&other| other == name);
            assert_eq!(cache.get((1, name)).is_some(), known.is_some());
            if let Some(at) = known {
                order.remove(at);
            } else {
                cache.insert((1, name), one.clone());
                if order.len() == 3 {
                    order.remove(0);
                }
            }
            order.push(name);
            assert_eq!(cache.bytes(), order.len() * unit);
        }
        cache.forget(1);
        assert_eq!((cache.bytes(), cache.newest, cache.oldest), (0, NONE, NONE));
    }

    #[test]
    fn a_list_larger_than_the_cache_is_not_kept() {
        let mut cache = KeyCache::new(100);
        cache.insert((1, 7), located(&[1, 2]));
        assert!(cache.get((1, 7)).is_none());
    }
}
