//! The inbound half: the socket's bytes go into the ring, frames are found where they lie.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::CLOSE_WORD;
use super::buffer::StreamBuffer;
use super::sender::padded;
use crate::link::{FRAME_ALIGN, Frame, LinkEnd, WORD_BYTES};

/// What one read asks for when no large record is under way: enough to amortise the call, little enough that
/// it is still in the near caches when it is parsed.
const READ_BYTES: usize = 64 << 10;

/// A record of which at least so much is missing is read to its end and no further. Then the ring is empty once
/// it was released, starts anew at its first byte, and a stream of large records stays in the near caches
/// instead of wandering through the whole ring.
const EXACT_BYTES: usize = 16 << 10;

/// What stands at the place of the next record.
pub(super) enum Next {
    /// A complete frame.
    Frame(Frame),
    /// The peer's close record.
    Close,
    /// Nothing, or not all of it yet.
    Partial,
}

#[derive(Debug)]
pub(super) struct Receiver {
    ring: StreamBuffer,
    /// Where the next record begins. Frames between the ring's start and here are held by the caller.
    next: u64,
    frame_bytes_max: usize,
    /// Why no more bytes will come, once that is known.
    cut: Option<String>,
}

impl Receiver {
    pub fn new(ring: StreamBuffer, frame_bytes_max: usize) -> Self {
        Receiver { ring, next: 0, frame_bytes_max, cut: None }
    }

    /// Reads once what the socket has, as far as there is room. False when no more will ever come.
    pub fn fill(&mut self, socket: BorrowedFd<'_>) -> Result<bool, LinkEnd> {
        if self.cut.is_some() {
            return Ok(false);
        }
        self.ring.rewind();
        let missing = self.missing_bytes();
        let wanted = if missing >= EXACT_BYTES { missing } else { READ_BYTES };
        let len = self.ring.room().min(wanted);
        if len == 0 {
            return Ok(true);
        }
        match recv(socket, self.ring.spare(len), RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.cut = Some("the connection ended without a close".into()),
            Ok((got, _)) => self.ring.advance(got),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.cut = Some(gone(error).ok_or_else(|| LinkEnd::Os(format!("recv: {error}")))?),
        }
        Ok(self.cut.is_none())
    }

    /// Bytes still to come of the record under way, 0 if its length is not known yet.
    fn missing_bytes(&self) -> usize {
        let there = (self.ring.end() - self.next) as usize;
        if there < WORD_BYTES {
            return 0;
        }
        let len = self.ring.bytes(self.next, 4).try_into().map_or(0, u32::from_le_bytes) as usize;
        padded(len.min(self.frame_bytes_max)).saturating_sub(there)
    }

    /// Looks at the next record without taking it; a length out of bounds ends the link.
    pub fn peek(&self) -> Result<Next, LinkEnd> {
        self.peek_at(self.next)
    }

    fn peek_at(&self, position: u64) -> Result<Next, LinkEnd> {
        let there = (self.ring.end() - position) as usize;
        if there < WORD_BYTES {
            return Ok(Next::Partial);
        }
        let word = u64::from_le_bytes(self.ring.bytes(position, WORD_BYTES).try_into().expect("eight bytes"));
        let len = word as u32;
        if len == CLOSE_WORD {
            return Ok(Next::Close);
        }
        if (len as usize) < WORD_BYTES || len as usize > self.frame_bytes_max {
            let max = self.frame_bytes_max;
            return Err(LinkEnd::Protocol(format!(
                "frame length: expected {WORD_BYTES} to {max}, got {len}"
            )));
        }
        Ok(if there < padded(len as usize) { Next::Partial } else { Next::Frame(Frame::new(position, word)) })
    }

    /// Bytes received since the link began.
    pub fn received(&self) -> u64 {
        self.ring.end()
    }

    /// Takes the frame that [`Receiver::peek`] showed.
    pub fn take(&mut self, frame: &Frame) {
        self.next = frame.position() + padded(frame.len() as usize) as u64;
    }

    /// True when the peer's close is among what was read, however many frames lie before it.
    pub fn saw_close(&self) -> bool {
        let mut at = self.next;
        loop {
            match self.peek_at(at) {
                Ok(Next::Frame(frame)) => at += padded(frame.len() as usize) as u64,
                Ok(Next::Close) => return true,
                Ok(Next::Partial) | Err(_) => return false,
            }
        }
    }

    /// Why the peer is gone, once no more bytes come and everything complete was taken.
    pub fn end(&self) -> Option<LinkEnd> {
        let cut = self.cut.as_ref()?;
        let rest = self.ring.end() - self.next;
        Some(LinkEnd::PeerGone(match rest {
            0 => cut.clone(),
            _ => format!("{cut}, {rest} bytes into a record"),
        }))
    }

    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        self.check_held(frame);
        self.ring.bytes(frame.position(), frame.len() as usize)
    }

    pub fn release(&mut self, frame: &Frame) {
        self.check_held(frame);
        self.ring.consume_to(frame.position() + padded(frame.len() as usize) as u64);
    }

    fn check_held(&self, frame: &Frame) {
        let end = frame.position().wrapping_add(padded(frame.len() as usize) as u64);
        let held = frame.position() >= self.ring.start()
            && end <= self.next
            && frame.position().is_multiple_of(FRAME_ALIGN as u64);
        assert!(held, "frame at {} is not held ({}..{} are)", frame.position(), self.ring.start(), self.next);
    }
}

/// What an error of the socket says about the peer, if it is about the peer.
pub(super) fn gone(error: Errno) -> Option<String> {
    let text = match error {
        Errno::CONNRESET => "it reset the connection",
        Errno::PIPE => "it closed the connection",
        Errno::TIMEDOUT => "its host did not answer within the link's deadline",
        Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::HOSTDOWN | Errno::NETDOWN => {
            "its host is unreachable"
        }
        Errno::CONNABORTED | Errno::CONNREFUSED | Errno::NOTCONN | Errno::SHUTDOWN => {
            "the connection is broken"
        }
        _ => return None,
    };
    Some(text.into())
}
