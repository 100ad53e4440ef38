//! Changed rows on their way to those who subscribed to them.
//!
//! A stream belongs to one worker and one table. When the least clock of the other workers advances, the subscribed rows that
//! they changed become *pending*; those that only the worker itself changed it knows, and they come back now and then. Frames
//! are made of pending rows when there is room for them, from the values of that moment, so a worker that reads slowly gets
//! each row once, in its newest state, and nothing grows but a bit per row. The last frame says how far that clock is. Frames
//! are numbered; when some are lost, the worker asks for the stream anew.

use super::early::EarlyRows;
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

    pub fn has(&self, slot: u32) -> bool {
        self.0.get(slot as usize / 64).is_some_and(|word| word & 1 << (slot % 64) != 0)
    }

    pub fn unset(&mut self, slot: u32) {
        if let Some(word) = self.0.get_mut(slot as usize / 64) {
            *word &= !(1 << (slot % 64));
        }
    }

    /// Takes away what `other` has.
    fn remove(&mut self, other: &Bits) {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= !other);
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

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
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

/// A row that only its reader has changed comes back to it at every so manieth advance: what it keeps of its own increments
/// until they come back stays short, and rounding does not add up.
const OWN_ROWS_EVERY: u32 = 64;

/// One worker's stream.
#[derive(Default)]
pub(super) struct Stream {
    generation: u32,
    /// Number of the next frame.
    number: u32,
    subscribed: Bits,
    pending: Bits,
    is_followed: bool,
    /// No other worker's clock was below this when last looked at: what the worker's rows are said to be of.
    least: u64,
    /// Slots changed since that advanced.
    dirty: Bits,
    /// Slots that the worker itself has changed since they last went, and advances since such went.
    own: Bits,
    own_age: u32,
    /// Something is to be sent, if only the clock.
    owes: bool,
    /// What goes before the least clock has advanced.
    pub early: Option<Box<EarlyRows>>,
}

impl Stream {
    /// From now on the worker hears of the others' clocks, which are at `least` or beyond, and of the rows it subscribes to.
    pub fn follow(&mut self, least: u64) {
        self.least = self.least.max(least);
        self.is_followed = true;
    }

    /// No other worker's clock was below this.
    pub fn least(&self) -> u64 {
        self.least
    }

    pub fn subscribe(&mut self, slot: u32) {
        self.subscribed.set(slot);
    }

    pub fn is_followed(&self) -> bool {
        self.is_followed
    }

    /// Whether something is to be sent that could not yet.
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// The worker itself has changed a row, and knows how.
    pub fn changed_by_itself(&mut self, slot: u32) {
        if self.is_followed {
            self.own.set(slot);
        }
    }

    /// A row has changed, by so much for its size.
    pub fn changed(&mut self, slot: u32, moved: f64) {
        if self.is_followed {
            self.dirty.set(slot);
        }
        if let Some(early) = self.early.as_mut().filter(|_| self.subscribed.has(slot)) {
            early.change(slot, moved);
        }
    }

    /// The others' clocks are at `least`. True if that is news, and a reply must be queued for it.
    pub fn advance(&mut self, least: u64) -> bool {
        if least <= self.least || !self.is_followed {
            return false;
        }
        self.least = least;
        let mut news = Bits::default();
        news.add_common(&self.dirty, &self.subscribed);
        self.dirty.clear();
        self.own_age += 1;
        if self.own_age == OWN_ROWS_EVERY {
            news.add_common(&self.own, &self.subscribed);
            self.own_age = 0;
        }
        self.own.remove(&news);
        self.early.iter_mut().for_each(|early| early.advance(&mut news));
        self.pending.add_common(&news, &news);
        !std::mem::replace(&mut self.owes, true)
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
pub(super) struct Batch {
    pub slots: Vec<u32>,
    keys: Vec<Key>,
    own_clock: u64,
    is_last: bool,
}

impl Batch {
    /// No rows; the worker's clock is at least `least`.
    pub fn empty(least: u64) -> Batch {
        Batch { slots: Vec::new(), keys: Vec::new(), own_clock: least, is_last: true }
    }

    /// Adds a row unless the worker's clock is another there than in the rows before.
    pub fn try_add(&mut self, slot: u32, keys: &[Key], clock: &RangeClock) -> bool {
        let key = keys.get(slot as usize).copied().unwrap_or_default();
        let own_clock = clock.get(key).unwrap_or(self.own_clock);
        if self.slots.is_empty() {
            self.own_clock = own_clock;
        }
        let fits = self.own_clock == own_clock;
        if fits {
            self.slots.push(slot);
            self.keys.push(key);
        }
        fits
    }
}

impl Stream {
    fn next_batch(&self, clock: &RangeClock, keys: &[Key], least: u64, rows_max: usize) -> Batch {
        let mut batch = Batch::empty(least);
        for slot in self.pending.iter() {
            if batch.slots.len() == rows_max || !batch.try_add(slot, keys, clock) {
                batch.is_last = false;
                break;
            }
        }
        batch
    }
}

impl Sender<'_> {
    /// Sends all pending rows of this worker, as far as there is room.
    pub fn send_rows(&self, slot: &mut TableSlot, out: &mut dyn Outbox) -> Result<(), OutboxError> {
        let rows_max = Layout::keys_max(self.config.frame_bytes_max, 1, slot.row_bytes());
        let rank = self.peer.0 as usize;
        loop {
            let Some(clocks) = &slot.clocks else { return Ok(()) };
            let Some((clock, stream)) = clocks.workers.get(rank).zip(clocks.streams.get(rank)) else {
                return Ok(());
            };
            if !stream.owes {
                return Ok(());
            }
            let batch = stream.next_batch(clock, &clocks.keys, stream.least, rows_max);
            self.send_batch(slot, &batch, false, out)?;
            let stream = slot.clocks.as_mut().and_then(|clocks| clocks.streams.get_mut(rank));
            if let Some(stream) = stream {
                batch.slots.iter().for_each(|&slot| stream.pending.unset(slot));
                stream.owes = !(batch.is_last && stream.pending.is_empty());
            }
        }
    }

    /// Sends one frame of the worker's stream.
    pub fn send_batch(
        &self,
        slot: &mut TableSlot,
        batch: &Batch,
        is_early: bool,
        out: &mut dyn Outbox,
    ) -> Result<(), OutboxError> {
        let (row_bytes, rank) = (slot.row_bytes(), self.peer.0 as usize);
        let Some(clocks) = slot.clocks.as_mut() else { return Ok(()) };
        let own_early = clocks.own_early(rank, self.epoch, batch.own_clock);
        let Some(stream) = clocks.streams.get_mut(rank) else { return Ok(()) };
        let header = Header {
            table: slot.spec.id,
            value_type: slot.spec.value_type as u8,
            parts: 1,
            time: stream.least,
            first: batch.own_clock,
            last: batch.own_clock.saturating_add(own_early.into()),
            key_count: batch.keys.len() as u32,
            aux: u32::from(batch.is_last) | u32::from(is_early) << 1,
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
