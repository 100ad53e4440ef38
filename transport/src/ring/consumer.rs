//! The reading end: poll, hold, release, and the park until a record comes.

use super::layout::{LINE_BYTES, RingMemory, frame_bytes_max, padded};
use super::sync::{Ordering, fence, heavy_fence, register};
use crate::link::{Frame, LinkEnd, WORD_BYTES};

/// After this many polls in a row that found nothing, credits not yet returned are returned.
const IDLE_POLLS: u32 = 32;

/// The one reader of a ring, which owns its memory.
#[derive(Debug)]
pub struct Consumer<M: RingMemory> {
    memory: M,
    /// Where the next record will begin.
    next: u64,
    /// Everything before this was released by the caller...
    released: u64,
    /// ...and everything before this was told to the producer.
    published: u64,
    idle_polls: u32,
    ring_bytes: u64,
    frame_bytes_max: u32,
    notices: u32,
}

impl<M: RingMemory> Consumer<M> {
    /// The consumer of a fresh ring. Make it before the producer's side maps the memory.
    ///
    /// # Safety
    /// It must be the only consumer on this memory in this process, and the memory must be zeroed.
    pub unsafe fn new(memory: M) -> Self {
        let ring_bytes = memory.ring_bytes();
        let heavy = u32::from(register());
        memory.descriptor().consumer.0.heavy.store(heavy, Ordering::Relaxed);
        Self {
            next: 0,
            released: 0,
            published: 0,
            idle_polls: 0,
            ring_bytes,
            frame_bytes_max: frame_bytes_max(ring_bytes) as u32,
            notices: 0,
            memory,
        }
    }

    /// The memory under it.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// Position of the next record: bytes received so far, padding included.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// The next complete frame, if there is one. It stays until released.
    #[inline]
    pub fn poll(&mut self) -> Result<Option<Frame>, LinkEnd> {
        // SYNC POINT: commit. Acquires the record's contents and the zero of the word after it.
        let word = self.memory.word(self.next).load(Ordering::Acquire);
        if word == 0 {
            self.idle_polls = self.idle_polls.wrapping_add(1);
            return Ok(None);
        }
        let (len, tag) = (word as u32, (word >> 32) as u32);
        let end = self.next + padded(len);
        // An honest producer leaves a line free beyond the record; one that does not would overwrite held frames.
        if len < WORD_BYTES as u32
            || len > self.frame_bytes_max
            || end + LINE_BYTES - self.published > self.ring_bytes
        {
            return Err(self.broken_length(len));
        }
        let frame = Frame { position: self.next, len, tag };
        self.next = end;
        self.idle_polls = 0;
        Ok(Some(frame))
    }

    /// True if no complete record waits to be polled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.memory.word(self.next).load(Ordering::Acquire) == 0
    }

    /// Panics unless `frame` was received here and is still held: a caller's bug.
    #[inline]
    pub fn check_held(&self, frame: &Frame) {
        let Frame { position, len, .. } = *frame;
        let held = (self.released..self.next).contains(&position) && position + padded(len) <= self.next;
        assert!(held, "frame at {position} is not held ({}..{} are)", self.released, self.next);
    }

    /// Releases `frame` and all before it. True: the producer waits for room, ring its doorbell.
    ///
    /// Panics if it was released before.
    #[inline]
    pub fn release(&mut self, frame: &Frame) -> bool {
        self.check_held(frame);
        self.released = frame.position + padded(frame.len);
        // The flag is read without a fence: a stale 0 is put right by the next publish, at the latest before a park.
        let waits = self.memory.descriptor().producer.0.parked.load(Ordering::Relaxed) != 0;
        if waits || self.released - self.published >= self.ring_bytes / 8 {
            return self.publish();
        }
        false
    }

    /// Returns credits after a while without frames, so that a producer that spins for room is not left waiting.
    /// True: ring the producer's doorbell.
    #[inline]
    pub fn publish_when_idle(&mut self) -> bool {
        self.idle_polls >= IDLE_POLLS && self.publish()
    }

    /// Returns all credits now. True: ring the producer's doorbell.
    pub fn publish(&mut self) -> bool {
        self.idle_polls = 0;
        if self.published == self.released {
            return false;
        }
        self.published = self.released;
        // SYNC POINT: credit. Our reads of the released room happen before.
        self.memory.descriptor().head.0.store(self.published, Ordering::Release);
        self.producer_sleeps()
    }

    /// True once the producer said that nothing more will come. Poll once more after it: records committed
    /// before are visible then.
    #[inline]
    pub fn producer_closed(&self) -> bool {
        self.memory.descriptor().producer.0.closed.load(Ordering::Acquire) == 1
    }

    /// Says that nothing more will be read. True: ring the producer's doorbell.
    pub fn close(&mut self) -> bool {
        self.memory.descriptor().consumer.0.closed.store(1, Ordering::Release);
        self.producer_sleeps()
    }

    /// How many notices the producer has sent that were not [accepted](Consumer::accept_notices).
    #[inline]
    pub fn new_notices(&self) -> u32 {
        self.memory.descriptor().producer.0.notices.load(Ordering::Acquire).wrapping_sub(self.notices)
    }

    /// Counts notices as dealt with.
    pub fn accept_notices(&mut self, count: u32) {
        self.notices = self.notices.wrapping_add(count);
    }

    /// The producing side's heartbeat: it stands still when nobody polls there.
    pub fn producer_beats(&self) -> u64 {
        self.memory.descriptor().beat.0.load(Ordering::Relaxed)
    }

    /// First half of parking for a record: sets the flag. Follow with [`Consumer::park_fence`], then
    /// [`Consumer::may_park`].
    pub fn announce_park(&mut self) {
        // SYNC POINT: park for frames. Flag, fence, word; the producer: word, fence, flag.
        self.memory.descriptor().consumer.0.parked.swap(1, Ordering::AcqRel);
    }

    /// The fence between the halves, which also fences for the producer.
    pub fn park_fence() {
        heavy_fence();
    }

    /// Second half: false if a record, a notice or the close came meanwhile.
    pub fn may_park(&self) -> bool {
        self.is_empty() && !self.producer_closed() && self.new_notices() == 0
    }

    /// Ends a park, slept or not.
    pub fn finish_park(&mut self) {
        self.memory.descriptor().consumer.0.parked.swap(0, Ordering::AcqRel);
    }

    fn producer_sleeps(&self) -> bool {
        fence(Ordering::SeqCst);
        // SYNC POINT: park for room. Head, fence, flag; the producer: flag, fence, head.
        let parked = &self.memory.descriptor().producer.0.parked;
        parked.load(Ordering::Relaxed) != 0 && parked.swap(0, Ordering::AcqRel) != 0
    }

    #[cold]
    fn broken_length(&self, len: u32) -> LinkEnd {
        let room = self.ring_bytes - LINE_BYTES - (self.next - self.published);
        let max = room.min(u64::from(self.frame_bytes_max));
        LinkEnd::Protocol(format!("frame length: expected {WORD_BYTES}..={max}, got {len}"))
    }
}
