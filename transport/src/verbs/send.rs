//! How a record leaves: room, the choice between its two ways, and the look around after it.

use std::sync::atomic::Ordering;

use super::link::{Lack, RECORD_REQUESTS, VerbsLink};
use super::pieces::Pieces;
use super::queue_pair::LANDINGS;
use super::wire::{decode_credit, encode_signalled_word, encode_word};
use crate::link::{LinkEnd, SendError};
use crate::ring::RingMemory;

impl VerbsLink {
    /// Claims room in the staged ring, the peer's ring and the send queue.
    #[inline]
    pub(super) fn claim(&mut self, frame_bytes: usize) -> Result<(), SendError> {
        if let Some(end) = &self.end {
            return Err(SendError::Ended(end.clone()));
        }
        if !self.endpoint.has_room(RECORD_REQUESTS, false) {
            self.look();
            if !self.endpoint.has_room(RECORD_REQUESTS, false) {
                return Err(self.refused(Lack::Queue));
            }
        }
        if self.outward.claim(frame_bytes).is_err() {
            // The ring's head comes by mail: look there before believing it.
            self.import_credit();
            match self.outward.claim(frame_bytes) {
                Ok(_) => {}
                Err(SendError::Full) => return Err(self.refused(Lack::Room)),
                Err(SendError::Ended(end)) => return Err(SendError::Ended(self.fail(end))),
                Err(too_large) => return Err(too_large),
            }
        }
        self.lack = Lack::Nothing;
        Ok(())
    }

    #[cold]
    fn refused(&mut self, lack: Lack) -> SendError {
        self.lack = lack;
        self.stats.full += 1;
        self.look();
        self.end.clone().map_or(SendError::Full, SendError::Ended)
    }

    /// Sends the record that begins at `from`, just committed to the staged ring.
    #[inline]
    pub(super) fn launch(&mut self, from: u64) {
        let (at, end) = (self.place(from), self.outward.position());
        if !self.endpoint.is_small(end - from) || !self.may_signal_landing() {
            let mut pieces = self.endpoint.pieces(at);
            pieces.push_staged((end - from) as usize);
            return self.launch_pieces(from, pieces);
        }
        let (len, tag) = self.word_of(from);
        // The producer never reads its words again.
        let word = self.outward.memory().word(from);
        word.store(encode_signalled_word(len, tag), Ordering::Relaxed);
        self.landings[self.landings_sent % LANDINGS] = end;
        self.landings_sent += 1;
        let posted = self.endpoint.write_landing(at, end - from, end);
        self.launched(from, posted);
    }

    /// As [`VerbsLink::launch`], for a record whose body (with the next word's zero) are these pieces: of the staged ring, or of
    /// slabs that this link holds.
    pub(super) fn launch_pieces(&mut self, from: u64, pieces: Pieces) {
        let ((len, tag), end) = (self.word_of(from), self.outward.position());
        // SAFETY: both callers fill the pieces up to the record's end.
        let posted =
            unsafe { self.endpoint.write_record(self.place(from), pieces, encode_word(len, tag), end) };
        self.launched(from, posted);
    }

    /// Where the record at a position of the stream lies in both rings.
    #[inline]
    pub(super) fn place(&self, position: u64) -> u64 {
        position & (self.outward.memory().ring_bytes() - 1)
    }

    /// Length and tag of a record committed to the staged ring.
    #[inline]
    fn word_of(&self, from: u64) -> (u32, u32) {
        let word = self.outward.memory().word(from).load(Ordering::Relaxed);
        (word as u32, (word >> 32) as u32)
    }

    #[inline]
    fn launched(&mut self, from: u64, posted: Result<(), LinkEnd>) {
        self.note(posted);
        self.quiet_rounds = 0;
        self.silent_rounds = 0;
        self.stats.sent_frames += 1;
        self.stats.sent_bytes += self.outward.position() - from;
        // The peer may have asked to be woken since the last look.
        self.look();
        self.settle();
    }

    /// Whether the peer has a receive left for the signal of one more frame: it has received the one a window ago.
    #[inline]
    fn may_signal_landing(&mut self) -> bool {
        let window_ago = self.landings[self.landings_sent % LANDINGS];
        window_ago == 0 || decode_credit(self.mailbox.credit()).is_some_and(|head| head >= window_ago)
    }
}
