//! What crosses the handshake's socket before the first WRITE: each side's address, then "ready".
//!
//! ```text
//!   both    0 u32 magic "KRVB" · 4 u16 version · 6 u8 kind · 7 u8 link layer (1 InfiniBand, 2 Ethernet)
//!   kind 1  8 u8 mtu · 9 u8 zero · 10 u16 lid · 12 u32 queue pair · 16 [16] gid · 32 u32 first packet · 36 u32 ring key
//!          40 u64 ring address · 48 u64 ring bytes · 56 u64 mailbox address · 64 u32 mailbox key · 68 u32 zero
//!   kind 2  the rest zero: my queue pair receives
//! ```

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::{LinkLayer, VerbsError};

const MAGIC: u32 = u32::from_le_bytes(*b"KRVB");
const VERSION: u16 = 1;
const MESSAGE_BYTES: usize = 72;

/// Where a side's queue pair, ring and mailbox are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Address {
    pub link_layer: LinkLayer,
    /// As `enum ibv_mtu` numbers it.
    pub mtu: u8,
    pub lid: u16,
    pub gid: [u8; 16],
    pub queue_pair: u32,
    /// The number of the first packet it will send.
    pub first_packet: u32,
    pub ring: Remote,
    pub ring_bytes: u64,
    pub mailbox: Remote,
}

/// Memory of a peer's that we may write to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remote {
    pub address: u64,
    pub key: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Message {
    Address(Address),
    Ready,
}

impl Message {
    fn encode(&self) -> [u8; MESSAGE_BYTES] {
        let mut wire = [0; MESSAGE_BYTES];
        let mut put = |at: usize, bytes: &[u8]| wire[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC.to_le_bytes());
        put(4, &VERSION.to_le_bytes());
        match self {
            Message::Ready => put(6, &[2]),
            Message::Address(a) => {
                let layer = match a.link_layer {
                    LinkLayer::InfiniBand => 1,
                    LinkLayer::Ethernet => 2,
                };
                put(6, &[1, layer, a.mtu]);
                put(10, &a.lid.to_le_bytes());
                put(12, &a.queue_pair.to_le_bytes());
                put(16, &a.gid);
                put(32, &a.first_packet.to_le_bytes());
                put(36, &a.ring.key.to_le_bytes());
                put(40, &a.ring.address.to_le_bytes());
                put(48, &a.ring_bytes.to_le_bytes());
                put(56, &a.mailbox.address.to_le_bytes());
                put(64, &a.mailbox.key.to_le_bytes());
            }
        }
        wire
    }

    fn decode(wire: &[u8; MESSAGE_BYTES]) -> Result<Self, VerbsError> {
        let half = |at: usize| u16::from_le_bytes(std::array::from_fn(|i| wire[at + i]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| wire[at + i]));
        let double = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| wire[at + i]));
        let broken = |what: &str, expected: &str, got: u64| {
            Err(VerbsError::Protocol(format!("{what}: expected {expected}, got {got:#x}")))
        };
        if word(0) != MAGIC {
            return broken("magic of a verbs message", "\"KRVB\"", word(0).into());
        }
        if half(4) != VERSION {
            return broken("version of the verbs link", &VERSION.to_string(), half(4).into());
        }
        let link_layer = match (wire[6], wire[7]) {
            (2, _) => return Ok(Message::Ready),
            (1, 1) => LinkLayer::InfiniBand,
            (1, 2) => LinkLayer::Ethernet,
            (1, other) => return broken("link layer", "1 or 2", other.into()),
            (other, _) => return broken("kind of a verbs message", "1 or 2", other.into()),
        };
        if !(1..=5).contains(&wire[8]) {
            return broken("MTU number", "1 to 5", wire[8].into());
        }
        if word(12) >= 1 << 24 || word(32) >= 1 << 24 {
            let got = u64::from(word(12).max(word(32)));
            return broken("queue pair and packet numbers", "at most 24 bits", got);
        }
        Ok(Message::Address(Address {
            link_layer,
            mtu: wire[8],
            lid: half(10),
            gid: std::array::from_fn(|i| wire[16 + i]),
            queue_pair: word(12),
            first_packet: word(32),
            ring: Remote { address: double(40), key: word(36) },
            ring_bytes: double(48),
            mailbox: Remote { address: double(56), key: word(64) },
        }))
    }
}

/// Sends one message before the deadline.
pub(super) fn tell(socket: impl AsFd, message: &Message, deadline: Instant) -> Result<(), VerbsError> {
    let (socket, wire, began) = (socket.as_fd(), message.encode(), Instant::now());
    let mut sent = 0;
    while sent < MESSAGE_BYTES {
        match send(socket, &wire[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(bytes) => sent += bytes,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(socket, PollFlags::OUT, began, deadline)?,
            Err(Errno::PIPE | Errno::CONNRESET) => return Err(VerbsError::PeerGone),
            Err(error) => return Err(VerbsError::Os { call: "send", error }),
        }
    }
    Ok(())
}

/// Receives one message before the deadline, and not a byte more.
pub(super) fn hear(socket: impl AsFd, deadline: Instant) -> Result<Message, VerbsError> {
    let (socket, began) = (socket.as_fd(), Instant::now());
    let (mut wire, mut got) = ([0; MESSAGE_BYTES], 0);
    while got < MESSAGE_BYTES {
        match recv(socket, &mut wire[got..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::PIPE | Errno::CONNRESET) => return Err(VerbsError::PeerGone),
            Ok((bytes, _)) => got += bytes,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(socket, PollFlags::IN, began, deadline)?,
            Err(error) => return Err(VerbsError::Os { call: "recv", error }),
        }
        if Instant::now() >= deadline && got < MESSAGE_BYTES {
            return Err(VerbsError::TimedOut(began.elapsed()));
        }
    }
    Message::decode(&wire)
}

/// True once the peer's end of the socket is closed.
pub(super) fn hung_up(socket: impl AsFd) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::RDHUP)];
    let none = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut fds, Some(&none)), Ok(1..))
}

fn wait(
    socket: BorrowedFd<'_>,
    events: PollFlags,
    began: Instant,
    deadline: Instant,
) -> Result<(), VerbsError> {
    let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(3600));
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    match poll(&mut [PollFd::from_borrowed_fd(socket, events)], Some(&timeout)) {
        Ok(0) => Err(VerbsError::TimedOut(began.elapsed())),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(VerbsError::Os { call: "poll", error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn address() -> Address {
        Address {
            link_layer: LinkLayer::Ethernet,
            mtu: 5,
            lid: 3,
            gid: [7; 16],
            queue_pair: 0x12_3456,
            first_packet: 0xab_cdef,
            ring: Remote { address: 1 << 40, key: 9 },
            ring_bytes: 1 << 20,
            mailbox: Remote { address: 1 << 41, key: 10 },
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn messages_cross_whole_and_one_by_one() {
        let (a, b) = UnixStream::pair().unwrap();
        tell(&a, &Message::Address(address()), soon()).unwrap();
        tell(&a, &Message::Ready, soon()).unwrap();
        assert_eq!(hear(&b, soon()), Ok(Message::Address(address())));
        assert_eq!(hear(&b, soon()), Ok(Message::Ready));
        drop(a);
        assert_eq!(hear(&b, soon()), Err(VerbsError::PeerGone));
    }

    #[test]
    fn silence_ends_at_the_deadline_and_rubbish_is_named() {
        let (a, b) = UnixStream::pair().unwrap();
        let short = Instant::now() + Duration::from_millis(20);
        assert!(matches!(hear(&b, short), Err(VerbsError::TimedOut(_))));
        std::io::Write::write_all(&mut &a, &[b'G'; MESSAGE_BYTES]).unwrap();
        assert!(matches!(hear(&b, soon()), Err(VerbsError::Protocol(text)) if text.contains("magic")));
        let mut wire = Message::Address(address()).encode();
        wire[8] = 9;
        assert!(matches!(Message::decode(&wire), Err(VerbsError::Protocol(text)) if text.contains("MTU")));
        wire = Message::Address(address()).encode();
        wire[15] = 1;
        assert!(
            matches!(Message::decode(&wire), Err(VerbsError::Protocol(text)) if text.contains("24 bits"))
        );
    }
}
