//! The outbound half: small frames are staged and leave together, large ones leave from the caller's memory.

use std::io::IoSlice;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

use super::CLOSE_WORD;
use super::buffer::StreamBuffer;
use crate::link::{FRAME_ALIGN, WORD_BYTES};

/// Frames from this size on go out at once from the caller's memory; below it one more copy costs less than
/// one more system call.
const DIRECT_BYTES: usize = 16 << 10;

/// Staged bytes from which on a commit does not wait for the next progress.
const FLUSH_BYTES: usize = 64 << 10;

/// The most pieces one vectored write takes; a frame of more pieces is staged.
const PIECES_MAX: usize = 64;

/// Room that frames never take, so that a close always finds its place.
const CLOSE_BYTES: usize = FRAME_ALIGN;

static ZEROS: [u8; FRAME_ALIGN] = [0; FRAME_ALIGN];

/// Bytes a frame takes on the wire and in the ring.
pub(super) fn padded(frame_bytes: usize) -> usize {
    frame_bytes.next_multiple_of(FRAME_ALIGN)
}

fn word(frame_bytes: u32, tag: u32) -> [u8; WORD_BYTES] {
    (u64::from(tag) << 32 | u64::from(frame_bytes)).to_le_bytes()
}

#[derive(Debug)]
pub(super) struct Sender {
    /// Accepted bytes not yet given to the socket. Positions are those of the stream.
    staged: StreamBuffer,
    /// Length of the frame claimed at the end of `staged`.
    claimed: Option<usize>,
    /// Calls that gave bytes to the socket.
    pub writes: u64,
}

impl Sender {
    pub fn new(staged: StreamBuffer) -> Self {
        Sender { staged, claimed: None, writes: 0 }
    }

    pub fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    /// Gives staged bytes to the socket, as many as it takes now.
    pub fn flush(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        while !self.staged.is_empty() {
            match send(socket, self.staged.filled(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) => {
                    self.writes += 1;
                    self.staged.consume_to(self.staged.start() + sent as u64);
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes room for `bytes` padded bytes in the staging memory; false if there is none now.
    fn make_room(&mut self, socket: BorrowedFd<'_>, bytes: usize) -> Result<bool, Errno> {
        if self.staged.room() < bytes + CLOSE_BYTES {
            self.flush(socket)?;
        }
        self.staged.rewind();
        Ok(self.staged.room() >= bytes + CLOSE_BYTES)
    }

    /// Claims a frame in the staging memory; false if there is no room now.
    pub fn claim(&mut self, socket: BorrowedFd<'_>, frame_bytes: usize) -> Result<bool, Errno> {
        self.claimed = None;
        let granted = self.make_room(socket, padded(frame_bytes))?;
        self.claimed = granted.then_some(frame_bytes);
        Ok(granted)
    }

    /// The claimed frame's bytes.
    pub fn claimed(&mut self) -> &mut [u8] {
        self.staged.spare(self.claimed.expect("a claim was granted"))
    }

    pub fn abort(&mut self) {
        self.claimed = None;
    }

    /// Stages the claimed frame and returns its padded length.
    pub fn commit(&mut self, socket: BorrowedFd<'_>, tag: u32) -> Result<usize, Errno> {
        let frame_bytes = self.claimed.take().expect("commit without a claim");
        let bytes = padded(frame_bytes);
        let record = self.staged.spare(bytes);
        record[..WORD_BYTES].copy_from_slice(&word(frame_bytes as u32, tag));
        record[frame_bytes..].fill(0);
        self.staged.advance(bytes);
        self.flush_if_much(socket)?;
        Ok(bytes)
    }

    /// Sends one frame of `frame_bytes` gathered from `parts`; false if there is no room now.
    pub fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        tag: u32,
        parts: &[IoSlice<'_>],
        frame_bytes: usize,
    ) -> Result<bool, Errno> {
        self.claimed = None;
        let head = word(frame_bytes as u32, tag);
        let pad = &ZEROS[..padded(frame_bytes) - frame_bytes];
        if frame_bytes < DIRECT_BYTES || parts.len() + 3 > PIECES_MAX {
            if !self.make_room(socket, padded(frame_bytes))? {
                return Ok(false);
            }
            self.stage(0, &head, parts, pad);
            self.flush_if_much(socket)?;
            return Ok(true);
        }
        // Large: only behind staged bytes that fit one write together with it, else wait for the socket to
        // drain, so that a saturated socket costs a copy of the remainder, not of everything.
        if self.staged.len() >= FLUSH_BYTES {
            self.flush(socket)?;
        }
        if self.staged.len() >= DIRECT_BYTES || !self.make_room(socket, padded(frame_bytes))? {
            return Ok(false);
        }
        self.send_direct(socket, &head, parts, pad)?;
        Ok(true)
    }

    /// Vectored writes of what is staged and the frame; what the socket did not take is staged.
    fn send_direct(
        &mut self,
        socket: BorrowedFd<'_>,
        head: &[u8],
        parts: &[IoSlice<'_>],
        pad: &[u8],
    ) -> Result<(), Errno> {
        let staged_bytes = self.staged.len();
        let frame = || std::iter::once(head).chain(parts.iter().map(|part| &part[..])).chain([pad]);
        let total = staged_bytes + frame().map(<[u8]>::len).sum::<usize>();
        let mut sent = 0;
        while sent < total {
            let mut pieces = [IoSlice::new(&[]); PIECES_MAX];
            let (mut count, mut passed) = (0, sent);
            for piece in std::iter::once(self.staged.filled()).chain(frame()) {
                let rest = &piece[passed.min(piece.len())..];
                passed -= passed.min(piece.len());
                if !rest.is_empty() {
                    pieces[count] = IoSlice::new(rest);
                    count += 1;
                }
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(socket, &pieces[..count], &mut SendAncillaryBuffer::default(), flags) {
                Ok(now) => {
                    self.writes += 1;
                    sent += now;
                }
                Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS) => break,
                Err(error) => return Err(error),
            }
        }
        self.staged.consume_to(self.staged.start() + sent.min(staged_bytes) as u64);
        let of_frame = sent.saturating_sub(staged_bytes);
        if of_frame > 0 {
            // The staging memory keeps the stream's positions, so the next frame finds itself aligned.
            self.staged.skip(of_frame);
        }
        self.stage(of_frame, head, parts, pad);
        Ok(())
    }

    /// Copies a frame's bytes from its `from`-th on. The caller made room.
    fn stage(&mut self, from: usize, head: &[u8], parts: &[IoSlice<'_>], pad: &[u8]) {
        let mut passed = from;
        let pieces = std::iter::once(head).chain(parts.iter().map(|part| &part[..])).chain([pad]);
        for piece in pieces {
            let rest = &piece[passed.min(piece.len())..];
            passed -= passed.min(piece.len());
            self.staged.spare(rest.len()).copy_from_slice(rest);
            self.staged.advance(rest.len());
        }
    }

    fn flush_if_much(&mut self, socket: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.staged.len() >= FLUSH_BYTES { self.flush(socket) } else { Ok(()) }
    }

    /// Stages the close record.
    pub fn stage_close(&mut self) {
        self.claimed = None;
        let record = self.staged.spare(CLOSE_BYTES);
        record.fill(0);
        record[..WORD_BYTES].copy_from_slice(&word(CLOSE_WORD, 0));
        self.staged.advance(CLOSE_BYTES);
    }

    /// Forgets what was staged: the socket is broken. A claim stays the caller's until commit or abort.
    pub fn discard(&mut self) {
        self.staged.consume_to(self.staged.end());
    }
}
