//! The carrier contract: what every link does, whoever fills the peer's ring.
//!
//! A link joins exactly two nodes and carries *frames* both ways, in order, without loss and without
//! duplicates, until it ends. A frame is a run of bytes that starts on a 64-byte boundary; its first
//! [`WORD_BYTES`] bytes belong to the carrier (length, and a 32-bit tag of the caller's), the rest is the
//! caller's. Frames are written where they will be read and read where they lie.
//!
//! Nothing here blocks. "Full" is an answer, not an error of the link: try again after
//! [`Link::progress`] or after a park. A link ends once, with a [`LinkEnd`] that says why, and every later
//! call repeats that end.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use thiserror::Error;

use crate::region::{LentRange, Slab};

/// Frames and their parts start on multiples of this many bytes.
pub const FRAME_ALIGN: usize = 64;

/// The first bytes of each frame, which the carrier writes at commit: `u32` frame length, `u32` tag.
pub const WORD_BYTES: usize = 8;

/// Why a link ended. Cloneable, because every later call reports the same end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkEnd {
    /// This side closed it.
    #[error("the link was closed on this side")]
    ClosedHere,
    /// The peer closed it in good order; everything it had committed was received.
    #[error("the peer closed the link")]
    ClosedByPeer,
    /// The peer's process or host went away without closing.
    #[error("the peer is gone: {0}")]
    PeerGone(String),
    /// The peer broke the protocol (expected/got in the text). Only this link suffers.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The operating system refused (which call, which error).
    #[error("carrier failure: {0}")]
    Os(String),
}

/// Why a frame could not be claimed or sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SendError {
    /// No room now; try again after the peer released frames. Nothing was written.
    #[error("the peer's ring is full")]
    Full,
    /// Larger than this link ever carries.
    #[error("a frame of {got} bytes exceeds the link's limit of {max}")]
    TooLarge {
        /// Bytes asked for.
        got: usize,
        /// [`Link::frame_bytes_max`].
        max: usize,
    },
    /// The link ended.
    #[error(transparent)]
    Ended(#[from] LinkEnd),
}

/// What a lent slab is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LentAs {
    /// The peer, on the same host, reads it where it lies: frames may name ranges of it ([`LentRange`]).
    Ranges,
    /// Frames are sent from it without a copy ([`Link::try_send_lent`]). All its pages are locked in memory.
    Source,
}

/// Why a slab could not be lent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LendError {
    /// The carrier has no use for it: send the bytes instead.
    #[error("memory cannot be lent over {0}")]
    Unsupported(CarrierKind),
    /// The device cannot take it (memory that may be locked, for example): send the bytes instead.
    #[error("{0}")]
    Refused(String),
    /// The link carries no more slabs.
    #[error("a link lends at most {max} slabs")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The link ended.
    #[error(transparent)]
    Ended(#[from] LinkEnd),
}

/// A received frame: a place in the ring, not yet released. Read it with [`Link::bytes`].
///
/// Frames are numbered by their byte position in the stream, so a stale handle is detected. Two words, so that it travels
/// in registers: copied through memory as one vector right after it was written in pieces, it would stall the processor.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    position: u64,
    word: u64,
}

impl Frame {
    /// The frame at `position` whose carrier's word is `word`.
    #[inline(always)]
    pub(crate) fn new(position: u64, word: u64) -> Self {
        Self { position, word }
    }

    /// Position of the frame's first byte since the link began.
    #[inline(always)]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Length including the carrier's word, excluding padding.
    #[inline(always)]
    #[expect(
        clippy::len_without_is_empty,
        reason = "no frame is empty: it holds the carrier's word at least"
    )]
    pub fn len(&self) -> u32 {
        self.word as u32
    }

    /// The tag the sender gave at commit.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        (self.word >> 32) as u32
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, .. } = self;
        write!(f, "Frame {{ position: {position}, len: {}, tag: {} }}", self.len(), self.tag())
    }
}

/// Which carrier moves the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CarrierKind {
    /// The same ring inside one process.
    InProcess,
    /// A memfd shared by two processes of one host.
    Shm,
    /// A TCP connection.
    Tcp,
    /// RDMA WRITEs between two devices.
    Verbs,
}

impl fmt::Display for CarrierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CarrierKind::InProcess => "in-process",
            CarrierKind::Shm => "shm",
            CarrierKind::Tcp => "tcp",
            CarrierKind::Verbs => "verbs",
        })
    }
}

/// Counters of one link since it began. Frames count once committed, bytes include headers and padding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Frames committed by this side.
    pub sent_frames: u64,
    /// Bytes committed by this side.
    pub sent_bytes: u64,
    /// Bytes of those that were sent from lent memory ([`Link::try_send_lent`]), untouched by this processor.
    pub lent_bytes: u64,
    /// Frames handed to this side's caller.
    pub received_frames: u64,
    /// Bytes handed to this side's caller.
    pub received_bytes: u64,
    /// Times the answer was [`SendError::Full`].
    pub full: u64,
    /// Times this side rang the peer's doorbell (a system call each).
    pub wakes: u64,
}

/// One end of a link. Owned by one thread at a time (`Send`, used through `&mut`).
pub trait Link: Send {
    /// Which carrier this is.
    fn kind(&self) -> CarrierKind;

    /// The largest frame (carrier's word included) this link carries in the sending direction.
    fn frame_bytes_max(&self) -> usize;

    /// Claims room for a frame of `frame_bytes` (carrier's word included) and returns **the caller's part of it:
    /// the `frame_bytes - WORD_BYTES` bytes after the carrier's word**, contents unspecified. Byte `i` of the slice is
    /// byte `WORD_BYTES + i` of the frame, so the slice's bytes from `FRAME_ALIGN - WORD_BYTES` on are 64-byte aligned.
    /// (The word itself is what the peer polls; handing it out would let safe code publish half a frame.)
    /// Nothing is visible to the peer before [`Link::commit`]. A second claim before commit or abort replaces the first.
    /// Panics if `frame_bytes < WORD_BYTES`.
    fn try_claim(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError>;

    /// Publishes the claimed frame with `tag` in the second half of the carrier's word.
    /// Panics if nothing is claimed (a bug of the caller's, never of a peer's).
    fn commit(&mut self, tag: u32);

    /// Gives the claim back; the peer never sees it.
    fn abort(&mut self);

    /// Sends one frame gathered from `parts` straight from the caller's memory: the carrier's word is added in
    /// front (so the frame is `WORD_BYTES + sum of parts`). All or nothing.
    fn try_send(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError>;

    /// Moves what can be moved now without blocking (socket reads and writes, credits). Cheap when idle;
    /// call it once per poll. Also notices a peer that went away.
    fn progress(&mut self) -> Result<(), LinkEnd>;

    /// Bytes accepted by commit or send that have not yet left this side (0 on shared memory).
    fn unsent_bytes(&self) -> usize;

    /// The next frame in order, if one is complete. Several frames may be held before they are released.
    /// After the peer is gone, frames it had committed are still delivered before the end is reported.
    fn try_recv(&mut self) -> Result<Option<Frame>, LinkEnd>;

    /// The frame's bytes, carrier's word included, 64-byte aligned. A peer on shared memory could still write
    /// to them: copy what must not change between check and use.
    /// Panics if the frame was released (a bug of the caller's).
    fn bytes(&self, frame: &Frame) -> &[u8];

    /// Releases `frame` and every frame received before it, giving the room back to the peer (lazily).
    fn release(&mut self, frame: Frame);

    /// Declares that this side is about to sleep on [`Link::park_fds`]. Returns false when there is something to
    /// do already (a frame, or room if the last send said full): then do not sleep. The peer's next commit, and its next
    /// release of room if a send was refused, make `park_fd` readable.
    fn prepare_park(&mut self) -> bool;

    /// Ends a park: clears the flag and drains `park_fd`.
    fn finish_park(&mut self);

    /// Descriptors to watch for readability while parked: doorbell first, then the one that reports the peer's death.
    /// (On tcp both are the socket.)
    fn park_fds(&self) -> [BorrowedFd<'_>; 2];

    /// True while [`Link::park_fds`] must also be watched for writability (unsent bytes on a socket).
    fn wants_writable(&self) -> bool {
        false
    }

    /// Set if [`Link::progress`] must be called this often even while parked, because no descriptor reports what it looks
    /// for: a host that no longer answers.
    fn look_every(&self) -> Option<Duration> {
        None
    }

    /// Sends one frame as [`Link::try_send`] does; parts in slabs lent as [`LentAs::Source`] are not copied. They must stay as
    /// they are until the peer has answered the frame, else the peer may see the changes.
    fn try_send_lent(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        self.try_send(tag, parts)
    }

    /// Lends a slab over this link, and says what that is good for. Lending one twice does nothing.
    fn lend(&mut self, slab: &Slab) -> Result<LentAs, LendError> {
        let _ = slab;
        Err(LendError::Unsupported(self.kind()))
    }

    /// The bytes the peer lent under `range`, or `None` if it lent no such bytes. They may change while they are
    /// read if the peer breaks its word.
    fn resolve(&self, range: &LentRange) -> Option<&[u8]> {
        let _ = range;
        None
    }

    /// Closes in good order: what was committed is delivered, then the peer sees [`LinkEnd::ClosedByPeer`].
    fn close(&mut self);

    /// Counters.
    fn stats(&self) -> LinkStats;
}
