//! Changed rows on their way to those who subscribed to them.
//!
//! A stream belongs to one worker and one table. When the table's least clock advances, the subscribed rows that changed
//! become *pending*; frames are made of pending rows when there is room for them, from the values of that moment, so a
//! worker that reads slowly gets each row once, in its newest state, and nothing grows but a bit per row. The last frame
//! says how far the least clock is. Frames are numbered; when some are lost, the worker asks for the stream anew.

use super::key_cache::{KeysRef, Located};
use super::replies::{Sender, write_rows};
use super::tables::TableSlot;
use crate::clock::RangeClock;
use crate::key_range::{Key, KeyRange};
use crate::message::{HEADER_BYTES, Header, Kind, Layout, body_part, compose_header};
use crate::session::{Outbox, OutboxError};
use crate::table::{Resolved, Slots};

/// A set of slots.
#[derive(Debug, Clone, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    #[inline]
    pub fn set(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (slot % 64);
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }

    fn unset(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Adds what both `a` and `b` have.
    fn add_common(&mut self, a: &Bits, b: &Bits) {
        let words = a.0.len().min(b.0.len());
        if self.0.len() < words {
            self.0.resize(words, 0);
        }
        self.0.iter_mut().zip(a.0.iter().zip(&b.0)).for_each(|(word, (a, b))| *word |= a & b);
    }

    fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..).zip(&self.0).flat_map(|(index, &word): (u32, &u64)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(64 * index + bit)
            })
        })
    }
}

/// One worker's stream.
#[derive(Default)]
pub(super) struct Stream {
    generation: u32,
    /// Number of the next frame.
    number: u32,
    subscribed: Bits,
    pending: Bits,
    is_followed: bool,
    /// Something is to be sent, if only the clock.
    owes: bool,
}

impl Stream {
    /// From now on the worker hears of the table's clock, and of the rows it subscribes to.
    pub fn follow(&mut self) {
        self.is_followed = true;
    }

    pub fn subscribe(&mut self, slot: u32) {
        self.subscribed.set(slot);
    }

    pub fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// The least clock has advanced, and `dirty` changed meanwhile. True if a reply must be queued for it.
    pub fn advance(&mut self, dirty: &Bits) -> bool {
        self.pending.add_common(dirty, &self.subscribed);
        self.is_followed && !std::mem::replace(&mut self.owes, true)
    }

    /// Begins anew, with all rows. True if a reply must be queued for it.
    pub fn restart(&mut self, generation: u32) -> bool {
        if generation <= self.generation {
            return false; // a late repetition
        }
        (self.generation, self.number) = (generation, 0);
        self.pending = self.subscribed.clone();
        self.is_followed && !std::mem::replace(&mut self.owes, true)
    }
}

/// The rows of the next frame, and how far the worker's own increments are in all of them.
struct Batch {
    slots: Vec<u32>,
    keys: Vec<Key>,
    own_clock: u64,
    is_last: bool,
}

impl Stream {
    fn next_batch(&self, clock: &RangeClock, keys: &[Key], least: u64, rows_max: usize) -> Batch {
        let mut batch = Batch { slots: Vec::new(), keys: Vec::new(), own_clock: least, is_last: true };
        for slot in self.pending.iter() {
            let key = keys.get(slot as usize).copied().unwrap_or_default();
            let own_clock = clock.get(key).unwrap_or(least);
            if batch.slots.is_empty() {
                batch.own_clock = own_clock;
            } else if batch.slots.len() == rows_max || batch.own_clock != own_clock {
                batch.is_last = false;
                break;
            }
            batch.slots.push(slot);
            batch.keys.push(key);
        }
        batch
    }
}

impl Sender<'_> {
    /// Sends all pending rows of this worker, as far as there is room.
    pub fn send_rows(&self, slot: &mut TableSlot, out: &mut dyn Outbox) -> Result<(), OutboxError> {
        let (row_bytes, table) = (slot.row_bytes(), slot.spec.id);
        let rows_max = Layout::keys_max(self.config.frame_bytes_max, 1, row_bytes);
        let Some(clocks) = slot.clocks.as_mut() else { return Ok(()) };
        let (least, rank) = (clocks.least(), self.peer.0 as usize);
        let Some((clock, stream)) = clocks.workers.get(rank).zip(clocks.streams.get_mut(rank)) else {
            return Ok(());
        };
        while stream.owes {
            let batch = stream.next_batch(clock, &clocks.keys, least, rows_max);
            let ahead = batch.own_clock.saturating_sub(least).min(u64::from(u32::MAX >> 1)) as u32;
            let ends = batch.keys.iter().min().zip(batch.keys.iter().max());
            let (first, last) = ends.map_or((0, Key::MAX), |(first, last)| (*first, *last));
            let header = Header {
                table,
                value_type: slot.spec.value_type as u8,
                parts: 1,
                time: least,
                first,
                last,
                key_count: batch.keys.len() as u32,
                aux: ahead << 1 | u32::from(batch.is_last),
                ..self.header(Kind::Rows, u64::from(stream.generation) << 32 | u64::from(stream.number))
            };
            let layout = Layout::new(size_of_val::<[Key]>(&batch.keys), batch.keys.len() * row_bytes, 1);
            let at = slot.table.at_slots(batch.slots.clone());
            let located = Located { keys: KeysRef::Range(KeyRange::ALL), at: at.into() };
            out.send(self.peer, layout.frame_bytes, &mut |body| {
                let key_part = body_part(body, HEADER_BYTES..HEADER_BYTES + layout.key_bytes);
                key_part.copy_from_slice(bytemuck::cast_slice(&batch.keys));
                write_rows(&slot.table, &located, body_part(body, layout.array(0)));
                compose_header(body, &header)
            })?;
            stream.number = stream.number.wrapping_add(1);
            batch.slots.iter().for_each(|&slot| stream.pending.unset(slot));
            stream.owes = !(batch.is_last && stream.pending.is_empty());
        }
        Ok(())
    }
}

/// The slots of looked-up keys that have one, in the order of the keys.
pub(super) fn slots_of(at: &Resolved) -> impl Iterator<Item = u32> + '_ {
    let (run, list): (_, &[u32]) = match at.slots() {
        Slots::Run { start, len } => (*start..*start + *len, &[]),
        Slots::List(slots) | Slots::Partial { slots, .. } => (0..0, slots.as_slice()),
    };
    run.chain(list.iter().copied())
}
