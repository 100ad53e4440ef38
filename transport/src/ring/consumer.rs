//! The reading end: poll, hold, release, and the park until a record comes.

use super::layout::{LINE_BYTES, RingMemory, frame_bytes_max, padded};
use super::sync::{Ordering, fence, heavy_fence, register};
use crate::link::{Frame, LinkEnd, WORD_BYTES};

/// After this many polls in a row that found nothing, credits not yet returned are returned.
const IDLE_POLLS: u32 = 32;

/// What [`Consumer::take`] found.
#[derive(Debug)]
pub enum Taken {
    /// A complete record.
    Frame(Frame),
    /// None.
    Nothing,
    /// A record behind a notice, to be dealt with first, or something broken, which [`Consumer::poll`] reports.
    Unclear,
}

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
    /// Where the next record must end at the latest: an honest producer leaves a line free beyond it, and one that does
    /// not would overwrite held frames.
    end_max: u64,
    /// Room of the last record, a guess at the next one's (see [`Consumer::guessed`]).
    usual_room: u64,
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
            end_max: ring_bytes - LINE_BYTES,
            usual_room: LINE_BYTES,
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
        let word = self.next_word();
        if word == 0 {
            self.idle_polls = self.idle_polls.wrapping_add(1);
            return Ok(None);
        }
        self.accept(word).map(Some).ok_or_else(|| self.broken_length(word as u32))
    }

    /// The same in few instructions.
    #[inline(always)]
    pub fn take(&mut self) -> Taken {
        let word = self.next_word();
        if word == 0 {
            self.idle_polls = self.idle_polls.wrapping_add(1);
            return Taken::Nothing;
        }
        if self.new_notices() != 0 {
            return Taken::Unclear;
        }
        self.accept(word).map_or(Taken::Unclear, Taken::Frame)
    }

    #[inline(always)]
    fn next_word(&self) -> u64 {
        // SYNC POINT: commit. Acquires the record's contents and the zero of the word after it.
        self.memory.word(self.next).load(Ordering::Acquire)
    }

    /// The record that begins with `word`, if there can be such a one.
    #[inline(always)]
    fn accept(&mut self, word: u64) -> Option<Frame> {
        let len = word as u32;
        let (position, end) = (self.next, self.next + self.guessed(padded(len)));
        let word_bytes = WORD_BYTES as u32;
        if len.wrapping_sub(word_bytes) > self.frame_bytes_max - word_bytes || end > self.end_max {
            return None;
        }
        self.next = end;
        self.idle_polls = 0;
        Some(Frame::new(position, word))
    }

    /// `room`, by way of the guess that it is the same as the last record's. Where the next record begins depends on this
    /// record's word, which the other core has only just written; with the guess it depends on nothing that has to be
    /// fetched, so the processor fetches the next lines while this one is on its way. A wrong guess is a mispredicted branch.
    #[inline(always)]
    fn guessed(&mut self, room: u64) -> u64 {
        let guess = unknown(self.usual_room);
        if room == self.usual_room {
            return guess;
        }
        self.usual_room = room;
        room
    }

    /// True if no complete record waits to be polled.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next_word() == 0
    }

    /// Panics unless `frame` was received here and is still held: a caller's bug.
    #[inline]
    pub fn check_held(&self, frame: &Frame) {
        let (position, len) = (frame.position(), frame.len());
        let left = self.next.wrapping_sub(position);
        let held = left <= self.next - self.released && padded(len) <= left;
        assert!(held, "frame at {position} is not held ({}..{} are)", self.released, self.next);
    }

    /// Releases `frame` and all before it. True: the producer waits for room, ring its doorbell.
    ///
    /// Panics if it was released before.
    #[inline]
    pub fn release(&mut self, frame: &Frame) -> bool {
        let end = frame.position().wrapping_add(padded(frame.len()));
        assert!(
            end > self.released && end <= self.next,
            "frame at {} is not held ({}..{} are)",
            frame.position(),
            self.released,
            self.next
        );
        self.released = end;
        // The flag is read without a fence: a stale 0 is put right by the next publish, at the latest before a park.
        let waits = self.memory.descriptor().producer.0.parked.load(Ordering::Relaxed) != 0;
        if waits || self.released - self.published >= self.ring_bytes / 8 {
            return self.publish();
        }
        false
    }

    /// True after a while without frames: time to [publish](Consumer::publish), so that a producer that spins for room is
    /// not left waiting.
    #[inline(always)]
    pub fn is_idle(&self) -> bool {
        self.idle_polls >= IDLE_POLLS
    }

    /// Returns all credits now. True: ring the producer's doorbell.
    #[inline(never)]
    pub fn publish(&mut self) -> bool {
        self.idle_polls = 0;
        if self.published == self.released {
            return false;
        }
        self.published = self.released;
        self.end_max = self.published + self.ring_bytes - LINE_BYTES;
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
        let room = self.end_max - self.next;
        let max = room.min(u64::from(self.frame_bytes_max));
        LinkEnd::Protocol(format!("frame length: expected {WORD_BYTES}..={max}, got {len}"))
    }
}

/// `value`, of which the compiler does not know what it equals: it would otherwise see that a guess adds nothing.
#[inline(always)]
fn unknown(mut value: u64) -> u64 {
    // SAFETY: no instruction at all.
    unsafe { std::arch::asm!("/* {0} */", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}
