//! Why each request counts exactly once.
//!
//! A session joins one worker (in one incarnation) and one shard. The worker numbers its requests 1, 2, 3, ... and
//! keeps at most a *window* of them unanswered; the shard remembers the outcome of the last window of numbers. So a
//! number outside the shard's memory can only be an echo of something answered long ago. Both sides are values of
//! fixed size: nothing grows with the length of a run. What a request means is not known here.
//!
//! `received.rs` is the shard's half. The worker's half is the ring in [`crate::worker`].

mod received;

use std::io::IoSlice;

use keyrange_transport::link::WORD_BYTES;
use keyrange_transport::region::LentRange;

pub use received::{Outcome, Received, Verdict, WINDOW_MAX};

/// Names the other end of a link to a core: at a worker the shard's index, at a shard the worker's rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u32);

/// Why a frame could not be handed to the carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OutboxError {
    /// No room now. The core keeps what it must send and tries again at its next call.
    #[error("no room for the frame now")]
    Full,
    /// The link has ended. The core keeps what must not be lost until the link is replaced.
    #[error("the link has ended")]
    Gone,
}

/// Where a core puts its frames: the runtime's links, the simulator's network.
pub trait Outbox {
    /// Sends one frame of `frame_bytes` (carrier's word included) to `to`. `fill` is called at most once, with the
    /// memory of everything behind the carrier's word: `frame_bytes - 8` bytes of unspecified contents that start 8
    /// bytes behind a multiple of 64. It writes all of it (padding between parts excepted) and returns the tag to commit
    /// with. It is not called on error.
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError>;

    /// Whether large frames to `to` are better sent from where their parts lie, because the carrier copies them anyway.
    fn gathers(&self, to: PeerId) -> bool {
        let _ = to;
        false
    }

    /// Sends one frame of these parts, everything behind the carrier's word, one after the other.
    fn send_parts(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        let body_bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.send(to, WORD_BYTES + body_bytes, &mut |mut body| {
            for part in parts {
                let (place, rest) = body.split_at_mut(part.len());
                place.copy_from_slice(part);
                body = rest;
            }
            tag
        })
    }

    /// Whether frames to `to` may name ranges of slab `slab` in place of their bytes.
    fn lends(&self, to: PeerId, slab: u32) -> bool {
        let _ = (to, slab);
        false
    }

    /// Whether frames to `to` are sent from slab `slab` without a copy, by [`Outbox::send_lent`].
    fn sends_from(&self, to: PeerId, slab: u32) -> bool {
        let _ = (to, slab);
        false
    }

    /// As [`Outbox::send_parts`]. Parts in slabs that frames are [sent from](Outbox::sends_from) stay as they are until `to` has
    /// answered.
    fn send_lent(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        self.send_parts(to, tag, parts)
    }

    /// The bytes that `from` lent under `range`; `None` if it lent no such bytes. Their values may be anything at any
    /// time.
    fn resolve(&self, from: PeerId, range: &LentRange) -> Option<&[u8]> {
        let _ = (from, range);
        None
    }
}
