//! The writing end: claim, commit, and the park until room comes.

use super::layout::{LINE_BYTES, RingMemory, frame_bytes_max, padded};
use super::sync::{Ordering, fence, light_fence, register};
use crate::link::{LinkEnd, SendError, WORD_BYTES};

/// How far ahead of the tail lines are fetched for writing: several small records, so that their commits find the
/// lines here, and little enough not to take lines from a consumer that lags.
const AHEAD_BYTES: u64 = 512;

/// The one writer of a ring. Positions are private; the ring's memory is only told what the consumer needs.
#[derive(Debug)]
pub struct Producer<M: RingMemory> {
    memory: M,
    /// Where the next record begins.
    tail: u64,
    /// The head as last read: a lower bound of the true one.
    head: u64,
    /// Length of the claimed frame; 0 when nothing is claimed.
    claimed: u32,
    /// Room the last refused claim asked for; 0 when it was granted.
    wanted: u64,
    ring_bytes: u64,
    frame_bytes_max: usize,
    asymmetric: bool,
}

impl<M: RingMemory> Producer<M> {
    /// The producer of a fresh ring.
    ///
    /// # Safety
    /// It must be the only producer on this memory in this process, and the memory must not have carried records.
    pub unsafe fn new(memory: M) -> Self {
        let ring_bytes = memory.ring_bytes();
        let heavy = memory.descriptor().consumer.0.heavy.load(Ordering::Relaxed) == 1;
        Self {
            tail: 0,
            head: 0,
            claimed: 0,
            wanted: 0,
            ring_bytes,
            frame_bytes_max: frame_bytes_max(ring_bytes),
            asymmetric: heavy && register(),
            memory,
        }
    }

    /// The memory under it.
    pub fn memory(&self) -> &M {
        &self.memory
    }

    /// The largest frame, carrier's word included.
    pub fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    /// Position of the next record's first byte: bytes committed so far, padding included.
    pub fn position(&self) -> u64 {
        self.tail
    }

    /// Claims room for one frame and returns its position. Replaces an earlier claim.
    ///
    /// Panics if `frame_bytes` is less than the carrier's word.
    #[inline]
    pub fn claim(&mut self, frame_bytes: usize) -> Result<u64, SendError> {
        assert!(
            frame_bytes >= WORD_BYTES,
            "a frame of {frame_bytes} bytes has no room for the carrier's word"
        );
        self.claimed = 0;
        if frame_bytes > self.frame_bytes_max {
            return Err(SendError::TooLarge { got: frame_bytes, max: self.frame_bytes_max });
        }
        let room = padded(frame_bytes as u32) + LINE_BYTES;
        if self.tail - self.head + room > self.ring_bytes && !self.look_for_room(room)? {
            self.wanted = room;
            return Err(SendError::Full);
        }
        self.wanted = 0;
        self.claimed = frame_bytes as u32;
        Ok(self.tail)
    }

    /// Claims room if there is some as far as is known without a look at the head; false is not a refusal, and
    /// [`Producer::claim`] says more.
    #[inline(always)]
    pub fn claim_known_room(&mut self, frame_bytes: usize) -> bool {
        let fits = (WORD_BYTES..=self.frame_bytes_max).contains(&frame_bytes);
        if !fits || self.tail - self.head + padded(frame_bytes as u32) + LINE_BYTES > self.ring_bytes {
            return false;
        }
        self.wanted = 0;
        self.claimed = frame_bytes as u32;
        true
    }

    /// Bytes claimed, carrier's word included; 0 if nothing is.
    #[inline(always)]
    pub fn claimed(&self) -> usize {
        self.claimed as usize
    }

    /// True while a frame is claimed.
    pub fn has_claim(&self) -> bool {
        self.claimed != 0
    }

    /// Publishes the claimed frame. True: the consumer sleeps, ring its doorbell.
    ///
    /// Panics if nothing is claimed.
    #[inline]
    pub fn commit(&mut self, tag: u32) -> bool {
        assert!(self.claimed != 0, "commit without a claim");
        let room = padded(self.claimed);
        let next = self.tail + room;
        self.memory.word(next).store(0, Ordering::Relaxed);
        let word = u64::from(self.claimed) | u64::from(tag) << 32;
        // SYNC POINT: commit. Contents and the next word's zero happen before; the consumer's poll acquires.
        self.memory.word(self.tail).store(word, Ordering::Release);
        // Fetch for writing the lines that a later commit will use, off that commit's critical path.
        self.memory.prefetch_for_write(next + AHEAD_BYTES);
        if room > LINE_BYTES {
            self.memory.prefetch_for_write(next + AHEAD_BYTES - LINE_BYTES);
        }
        self.tail = next;
        self.claimed = 0;
        self.consumer_sleeps()
    }

    /// Forgets the claim.
    pub fn abort(&mut self) {
        self.claimed = 0;
    }

    /// True once the consumer said it reads no more.
    pub fn consumer_closed(&self) -> bool {
        self.memory.descriptor().consumer.0.closed.load(Ordering::Acquire) == 1
    }

    /// Says that nothing more will come. True: ring the consumer's doorbell.
    pub fn close(&mut self) -> bool {
        self.claimed = 0;
        self.memory.descriptor().producer.0.closed.store(1, Ordering::Release);
        self.consumer_sleeps()
    }

    /// Tells the consumer that something lies beside the ring, before any frame committed from now on.
    /// True: ring its doorbell.
    pub fn notify(&mut self) -> bool {
        self.memory.descriptor().producer.0.notices.fetch_add(1, Ordering::Release);
        self.consumer_sleeps()
    }

    /// Moves this side's heartbeat.
    pub fn beat(&mut self, count: u64) {
        self.memory.descriptor().beat.0.store(count, Ordering::Relaxed);
    }

    /// True if the last claim was refused for want of room.
    pub fn wants_room(&self) -> bool {
        self.wanted != 0
    }

    /// First half of parking for room: sets the flag (all its changes are read-modify-writes, one chain). Follow with a full fence, then [`Producer::may_park`].
    pub fn announce_park(&mut self) {
        // SYNC POINT: park for room. Flag, fence, head; the consumer: head, fence, flag.
        self.memory.descriptor().producer.0.parked.swap(1, Ordering::AcqRel);
    }

    /// Second half: false if the room wanted has come meanwhile, or the consumer closed.
    pub fn may_park(&mut self) -> Result<bool, LinkEnd> {
        Ok(!self.consumer_closed() && !self.look_for_room(self.wanted)?)
    }

    /// Ends a park, slept or not.
    pub fn finish_park(&mut self) {
        self.memory.descriptor().producer.0.parked.swap(0, Ordering::AcqRel);
    }

    /// Reads the head again; true if `room` bytes are free.
    fn look_for_room(&mut self, room: u64) -> Result<bool, LinkEnd> {
        // SYNC POINT: credit. The consumer's last reads of the room happen before its release of the head.
        let head = self.memory.descriptor().head.0.load(Ordering::Acquire);
        if head < self.head || head > self.tail || !head.is_multiple_of(LINE_BYTES) {
            let (low, high) = (self.head, self.tail);
            let text = format!("ring head: expected a multiple of 64 in {low}..={high}, got {head}");
            return Err(LinkEnd::Protocol(text));
        }
        self.head = head;
        Ok(self.tail - head + room <= self.ring_bytes)
    }

    /// Whether to ring: at most one commit per park is told so.
    #[inline(always)]
    fn consumer_sleeps(&self) -> bool {
        light_fence(self.asymmetric);
        // SYNC POINT: park for frames. Word, fence, flag; the consumer: flag, fence, word.
        let parked = &self.memory.descriptor().consumer.0.parked;
        parked.load(Ordering::Relaxed) != 0 && parked.swap(0, Ordering::AcqRel) != 0
    }

    /// A full fence between [`Producer::announce_park`] and [`Producer::may_park`].
    /// The consumer fences fully at every publish, so the sleeper need not fence for it.
    pub fn park_fence() {
        fence(Ordering::SeqCst);
    }
}
