//! What crosses the socket beside the rings: fixed messages of 32 bytes with descriptors attached.
//!
//! ```text
//!   0 u32 magic "KRSM" · 4 u16 version · 6 u16 kind · 8 u32 slab · 12 u32 zero · 16 u64 bytes · 24 u64 zero
//!   kind 1: my receive ring of `bytes` (memfd, doorbell)      kind 2: slab `slab` of `bytes`, lent to you (memfd)
//! ```

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

use super::ConnectError;

const MAGIC: u32 = u32::from_le_bytes(*b"KRSM");
const VERSION: u16 = 1;
const MESSAGE_BYTES: usize = 32;
const FDS_MAX: usize = 2;

/// One message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    /// The sender's receive ring.
    Ring { ring_bytes: u64 },
    /// A slab the sender lends.
    Slab { id: u32, bytes: u64 },
}

impl Message {
    fn encode(&self) -> [u8; MESSAGE_BYTES] {
        let (kind, slab, bytes) = match *self {
            Message::Ring { ring_bytes } => (1u16, 0, ring_bytes),
            Message::Slab { id, bytes } => (2, id, bytes),
        };
        let mut wire = [0; MESSAGE_BYTES];
        wire[..4].copy_from_slice(&MAGIC.to_le_bytes());
        wire[4..6].copy_from_slice(&VERSION.to_le_bytes());
        wire[6..8].copy_from_slice(&kind.to_le_bytes());
        wire[8..12].copy_from_slice(&slab.to_le_bytes());
        wire[16..24].copy_from_slice(&bytes.to_le_bytes());
        wire
    }

    fn decode(wire: &[u8; MESSAGE_BYTES]) -> Result<Self, ConnectError> {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| wire[at + i]));
        let (magic, version, kind) = (word(0) as u32, (word(0) >> 32) as u16, (word(0) >> 48) as u16);
        let broken = |what: &str, expected: u64, got: u64| {
            ConnectError::Protocol(format!("{what}: expected {expected:#x}, got {got:#x}"))
        };
        if magic != MAGIC {
            return Err(broken("magic of a shared-memory message", MAGIC.into(), magic.into()));
        }
        if version != VERSION {
            return Err(broken("version of the shared-memory link", VERSION.into(), version.into()));
        }
        match kind {
            1 => Ok(Message::Ring { ring_bytes: word(16) }),
            2 => Ok(Message::Slab { id: word(8) as u32, bytes: word(16) }),
            other => Err(broken("kind of a shared-memory message", 2, other.into())),
        }
    }
}

fn os(call: &'static str) -> impl Fn(Errno) -> ConnectError {
    move |error| match error {
        Errno::PIPE | Errno::CONNRESET => ConnectError::PeerGone,
        error => ConnectError::Os { call, error },
    }
}

/// Sends one message with its descriptors. Does not block.
pub(super) fn send(socket: &OwnedFd, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<(), ConnectError> {
    let wire = message.encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(fds)), "at most {FDS_MAX} descriptors fit");
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    let sent = sendmsg(socket, &[IoSlice::new(&wire)], &mut ancillary, flags).map_err(os("sendmsg"))?;
    // A stream socket may in principle take less; on a message this small that is a broken system.
    if sent != MESSAGE_BYTES {
        return Err(ConnectError::Os { call: "sendmsg", error: Errno::MSGSIZE });
    }
    Ok(())
}

/// Receives one message, or `None` if nothing has come. Does not block.
pub(super) fn receive(socket: &OwnedFd) -> Result<Option<(Message, Vec<OwnedFd>)>, ConnectError> {
    let mut wire = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let got = match recvmsg(socket, &mut [IoSliceMut::new(&mut wire)], &mut ancillary, flags) {
        Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
        other => other.map_err(os("recvmsg"))?,
    };
    let fds: Vec<OwnedFd> = ancillary
        .drain()
        .flat_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => fds.collect(),
            _ => Vec::new(),
        })
        .collect();
    if got.bytes == 0 {
        return Err(ConnectError::PeerGone);
    }
    if got.bytes != MESSAGE_BYTES || got.flags.contains(ReturnFlags::CTRUNC) {
        let text = format!(
            "expected {MESSAGE_BYTES} bytes and at most {FDS_MAX} descriptors, got {} bytes",
            got.bytes
        );
        return Err(ConnectError::Protocol(text));
    }
    Ok(Some((Message::decode(&wire)?, fds)))
}

/// Waits until the socket is readable; `None` at the deadline.
pub(super) fn wait_readable(socket: &OwnedFd, deadline: Instant) -> Result<Option<()>, ConnectError> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(Some(())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(os("poll")(error)),
        }
    }
}

/// True once the peer's end of the socket is closed.
pub(super) fn hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&none)), Ok(1..))
}
