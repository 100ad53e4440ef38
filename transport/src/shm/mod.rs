//! Links on shared memory: two rings, two doorbells and one socket between two processes of a host.
//!
//! Each side makes its own receive ring and its own doorbell (an eventfd), and passes both over a Unix socket.
//! The socket stays open: its hang-up is the news that the peer died, and lent slabs arrive on it. Nothing has a
//! name in the file system, so nothing is left behind, whoever is killed when.
//!
//! The socket comes connected and, where that matters, authenticated; who may connect is the handshake's affair.
//! Read `control` (what crosses the socket), then `link`.

mod control;
mod link;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use thiserror::Error;

pub use link::{SLABS_MAX, ShmLink};

use crate::link::CarrierKind;
use crate::region::RegionError;
use crate::ring::{Consumer, MappedRing, Producer};
use control::Message;

/// How to set up a link on shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingConfig {
    /// Bytes of this side's receive ring, a power of two of at least a page. The peer's frames are at most a quarter
    /// of it. One MiB stays inside a core's second-level cache; more helps bursts, not streams.
    pub ring_bytes: usize,
    /// How long the peer may take to send its half of the exchange.
    pub connect_timeout: Duration,
}

impl Default for RingConfig {
    fn default() -> Self {
        Self { ring_bytes: 1 << 20, connect_timeout: Duration::from_secs(5) }
    }
}

/// Why two processes could not set up a link on shared memory.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// Memory of ours or of the peer's is unusable.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The peer sent something else than its ring (expected/got in the text).
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer closed the socket before the exchange was done.
    #[error("the peer went away during the exchange")]
    PeerGone,
    /// The peer did not send its ring in time.
    #[error("the peer sent no ring within {0:?}")]
    TimedOut(Duration),
    /// The operating system refused.
    #[error("{call}: {error}")]
    Os {
        /// Which call.
        call: &'static str,
        /// Its error.
        error: Errno,
    },
}

/// Makes a link over a connected Unix stream socket. Both sides call this; it is symmetric and blocks until the
/// peer's half came, at most `config.connect_timeout`. Nothing else may use the socket from here on.
pub fn connect(socket: impl Into<OwnedFd>, config: RingConfig) -> Result<ShmLink, ConnectError> {
    Half::offer(socket.into(), config)?.complete(CarrierKind::Shm)
}

/// This side's ring and doorbell, offered to the peer; waiting for the peer's.
pub(crate) struct Half {
    socket: OwnedFd,
    config: RingConfig,
    inward: Consumer<MappedRing>,
    doorbell: OwnedFd,
}

impl Half {
    /// Makes ring and doorbell and sends them. Does not block.
    pub(crate) fn offer(socket: OwnedFd, config: RingConfig) -> Result<Self, ConnectError> {
        let memory = MappedRing::create(config.ring_bytes)?;
        let doorbell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|error| ConnectError::Os { call: "eventfd", error })?;
        // SAFETY: the memory is new, so zeroed, and this is its first and only consumer.
        let inward = unsafe { Consumer::new(memory) };
        let hello = Message::Ring { ring_bytes: config.ring_bytes as u64 };
        control::send(&socket, &hello, &[inward.memory().fd(), doorbell.as_fd()])?;
        Ok(Self { socket, config, inward, doorbell })
    }

    /// Waits for the peer's offer and joins the halves.
    pub(crate) fn complete(self, kind: CarrierKind) -> Result<ShmLink, ConnectError> {
        let timeout = self.config.connect_timeout;
        let deadline = Instant::now() + timeout;
        control::wait_readable(&self.socket, deadline)?.ok_or(ConnectError::TimedOut(timeout))?;
        let (message, fds) = control::receive(&self.socket)?.ok_or(ConnectError::TimedOut(timeout))?;
        let Message::Ring { ring_bytes } = message else {
            return Err(ConnectError::Protocol(format!("expected the peer's ring, got {message:?}")));
        };
        let [memory, peer_doorbell] = <[OwnedFd; 2]>::try_from(fds)
            .map_err(|fds| ConnectError::Protocol(format!("expected 2 descriptors, got {}", fds.len())))?;
        let ring_bytes = usize::try_from(ring_bytes).unwrap_or(usize::MAX);
        let memory = MappedRing::adopt(memory, ring_bytes)?;
        // SAFETY: the peer made this ring for us and sent it once, so this process has no other producer on it; that it
        // carried nothing yet is the peer's word, and breaking it costs the peer a Protocol end.
        let outward = unsafe { Producer::new(memory) };
        Ok(ShmLink::new(kind, outward, self.inward, [self.doorbell, peer_doorbell, self.socket]))
    }
}

/// Who is at the other end of a Unix socket, as the kernel says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCredentials {
    /// Its process id at connect time.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

impl PeerCredentials {
    /// SO_PEERCRED of a connected Unix socket.
    pub fn of(socket: impl AsFd) -> Result<Self, ConnectError> {
        let cred = rustix::net::sockopt::socket_peercred(socket)
            .map_err(|error| ConnectError::Os { call: "SO_PEERCRED", error })?;
        Ok(Self { pid: cred.pid.as_raw_nonzero().get(), uid: cred.uid.as_raw(), gid: cred.gid.as_raw() })
    }

    /// True if the peer runs as this process's user.
    pub fn is_same_user(&self) -> bool {
        self.uid == rustix::process::geteuid().as_raw()
    }
}
