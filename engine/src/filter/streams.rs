//! What `significant` remembers of pulls, so that an answer need only bring the rows that moved.
//!
//! The pulls of one key list (or range) from one shard form a stream; the worker numbers them. Both ends keep the values
//! as the answer of some number left them. The shard leaves rows out only if the number asked for follows its own;
//! the worker takes such an answer only onto its predecessor, and otherwise asks the same pull again for everything.
//! So a lost, repeated, overtaken or forgotten answer costs bytes, never correctness.

use std::collections::{BTreeMap, HashMap};

use crate::message::{Element, Values};

/// Which pulls form a stream: shard (0 at the shard itself), table, and what names the keys.
pub(crate) type StreamName = (u32, u16, u128);

/// Bytes of values kept, at most; the stream used longest ago goes first.
const BYTES_MAX: usize = 256 << 20;

/// What a stream costs beside its values, about: many empty ones are bounded too.
const ENTRY_BYTES: usize = 256;

/// The streams of one end.
pub(crate) struct Streams {
    places: HashMap<StreamName, Stream>,
    by_use: BTreeMap<u64, StreamName>,
    uses: u64,
    bytes: usize,
    bytes_max: usize,
}

struct Stream {
    /// The pull asked for last (at a worker).
    asked: u32,
    /// The answer whose values these are; 0 before the first.
    number: u32,
    values: Values,
    used: u64,
}

impl Default for Streams {
    fn default() -> Streams {
        Streams::new(BYTES_MAX)
    }
}

impl Streams {
    pub fn new(bytes_max: usize) -> Streams {
        Streams { places: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, bytes_max }
    }

    /// The next pull's number, and whether everything is needed because nothing is kept.
    pub fn next(&self, name: StreamName) -> (u32, bool) {
        self.places
            .get(&name)
            .map_or((1, true), |stream| (stream.asked.wrapping_add(1).max(1), stream.number == 0))
    }

    /// Notes that the pull of this number has left.
    pub fn asked(&mut self, name: StreamName, number: u32) {
        let used = self.uses;
        let stream = self.places.entry(name).or_insert_with(|| {
            self.bytes += ENTRY_BYTES;
            Stream { asked: 0, number: 0, values: Values::default(), used }
        });
        stream.asked = number;
        self.touch(name);
    }

    /// The values as answer `number` left them, if they are `len` of this type.
    pub fn kept<V: Element>(&mut self, name: StreamName, number: u32, len: usize) -> Option<&mut [V]> {
        let stream = self.places.get_mut(&name).filter(|stream| stream.number == number && number > 0)?;
        V::vec_of(&mut stream.values).map(Vec::as_mut_slice).filter(|values| values.len() == len)
    }

    /// The number of the answer whose values are kept; 0 for none.
    pub fn number(&self, name: StreamName) -> u32 {
        self.places.get(&name).map_or(0, |stream| stream.number)
    }

    /// Notes that the kept values are now those of answer `number`.
    pub fn advance(&mut self, name: StreamName, number: u32) {
        if let Some(stream) = self.places.get_mut(&name) {
            stream.number = number;
        }
        self.touch(name);
    }

    /// Keeps all values of answer `number`, if there is room for them at all.
    pub fn keep<V: Element>(&mut self, name: StreamName, number: u32, values: &[V]) {
        self.asked(name, self.places.get(&name).map_or(number, |stream| stream.asked));
        let Some(stream) = self.places.get_mut(&name) else { return };
        self.bytes -= stream.bytes();
        match V::vec_of(&mut stream.values) {
            Some(kept) => {
                kept.clear();
                kept.extend_from_slice(values);
            }
            None => stream.values = V::wrap(values.to_vec()),
        }
        stream.number = number;
        self.bytes += stream.bytes();
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            self.bytes -= self.places.remove(&oldest).map_or(0, |stream| stream.bytes());
        }
    }

    fn touch(&mut self, name: StreamName) {
        let Some(stream) = self.places.get_mut(&name) else { return };
        self.by_use.remove(&stream.used);
        self.uses += 1;
        stream.used = self.uses;
        self.by_use.insert(self.uses, name);
    }
}

impl Stream {
    /// Memory held.
    fn bytes(&self) -> usize {
        let value_bytes = crate::message::value_bytes(self.values.value_type()).unwrap_or(0);
        ENTRY_BYTES + self.values.len() * value_bytes
    }
}
