//! An outbox that keeps frames until somebody takes them: for tests that drive the cores by hand.

use std::collections::VecDeque;

use crate::session::{Outbox, OutboxError, PeerId};
use crate::shard::buffers::Buffer;

/// A frame in memory of its own, aligned as carriers align it.
#[derive(Clone)]
pub struct FrameBytes(Buffer);

impl FrameBytes {
    /// A frame of this length: `fill` writes it and returns its tag; the carrier's word is added.
    pub fn compose(frame_bytes: usize, fill: &mut dyn FnMut(&mut [u8]) -> u32) -> FrameBytes {
        let mut buffer = Buffer::zeroed(frame_bytes);
        let tag = fill(&mut buffer.bytes_mut()[8..]);
        let (len, word) = (frame_bytes as u32, buffer.bytes_mut());
        word[..4].copy_from_slice(&len.to_le_bytes());
        word[4..8].copy_from_slice(&tag.to_le_bytes());
        FrameBytes(buffer)
    }

    /// Any bytes, aligned.
    pub fn copy_of(bytes: &[u8]) -> FrameBytes {
        let mut buffer = Buffer::zeroed(bytes.len());
        buffer.bytes_mut().copy_from_slice(bytes);
        FrameBytes(buffer)
    }

    /// The bytes, carrier's word included.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The bytes, to damage them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }
}

/// Frames sent and not yet taken, oldest first.
#[derive(Default)]
pub struct Mailbox {
    /// The frames and whom they are for.
    pub frames: VecDeque<(PeerId, FrameBytes)>,
    /// Say "full" when as many frames wait; `None` is never.
    pub room: Option<usize>,
}

impl Outbox for Mailbox {
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        if self.room.is_some_and(|room| self.frames.len() >= room) {
            return Err(OutboxError::Full);
        }
        self.frames.push_back((to, FrameBytes::compose(frame_bytes, fill)));
        Ok(())
    }
}
