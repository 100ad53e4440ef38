//! The carrier over one TCP connection: reads straight into the receive ring, vectored writes straight from the
//! caller's memory.
//!
//! The bytes on the wire are exactly the ring's records and nothing else: each frame begins with the carrier's
//! word (`u32` length, `u32` tag, little-endian) and is padded to a multiple of 64 bytes. One record is special:
//! the length [`CLOSE_WORD`] says that the sender closed in good order and nothing follows. A connection that
//! ends without it means that the peer is gone.
//!
//! Cost model: a small frame is staged by commit and leaves with the next [`progress`](crate::link::Link::progress)
//! or park, together with all that was committed since: a lone round trip costs each side one write and one
//! read that finds something, and a burst of small frames costs one write. Large frames go out at once from where they lie. The
//! measurements behind the two limits are in `keyrange bench carrier --carrier tcp`. Writes are as long as they come: on a
//! loopback without pacing, where every link sees to that, neither cutting them nor corking (`MSG_MORE`) nor larger socket
//! buffers gain anything.
//!
//! Identity and trust are not established here: run [`crate::handshake`] on the socket first. Read `buffer`
//! (the memory), `sender`, `receiver`, `host` (whether the peer's host still answers), then `carrier` (the link itself) and
//! `connect` (how sockets come about).

mod buffer;
mod carrier;
mod connect;
mod host;
mod receiver;
mod sender;

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

pub use carrier::TcpLink;
pub use connect::{Listener, connect};
pub use host::HostWatch;

use crate::region::RegionError;

/// The length word of the record that closes a stream in good order.
pub const CLOSE_WORD: u32 = u32::MAX;

/// What a TCP link needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpConfig {
    /// Bytes of this side's receive ring: a power of two, at least a page. A quarter of it bounds the frames received.
    pub ring_bytes: usize,
    /// Bytes of the peer's receive ring, as its handshake said. A quarter of it bounds the frames sent.
    pub peer_ring_bytes: usize,
    /// A peer whose host does not answer for this long is gone (on an idle link 5 s at the least). A peer that only does not read is
    /// not: its host answers. See [`HostWatch`].
    pub peer_timeout: Duration,
    /// How long dropping a closed link may wait for its last bytes to reach the peer's host.
    pub linger: Duration,
}

impl Default for TcpConfig {
    fn default() -> Self {
        TcpConfig {
            ring_bytes: 4 << 20,
            peer_ring_bytes: 4 << 20,
            peer_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(1),
        }
    }
}

/// Why a socket or a link over it could not be made.
#[derive(Debug, Error)]
pub enum TcpError {
    /// Somebody listens there already.
    #[error("port {} is in use (address {address}); stop the other program or choose another port", address.port())]
    AddressInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// Listening was impossible for another reason.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Nobody listens there.
    #[error("nothing listens on {address}; is the node started, and is the port right?")]
    Refused {
        /// The address tried.
        address: SocketAddr,
    },
    /// No answer before the deadline.
    #[error("no answer from {address} within {waited:?}; is the host reachable?")]
    ConnectTimedOut {
        /// The address tried.
        address: SocketAddr,
        /// How long it was tried.
        waited: Duration,
    },
    /// Connecting failed for another reason.
    #[error("cannot connect to {address}: {error}")]
    Connect {
        /// The address tried.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// Nobody connected before the deadline.
    #[error("nobody connected to {address} within {waited:?}")]
    AcceptTimedOut {
        /// Where we listen.
        address: SocketAddr,
        /// How long we waited.
        waited: Duration,
    },
    /// A field of [`TcpConfig`] cannot be.
    #[error("{field} is {got}, expected {expected}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What would do.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// The ring's memory could not be had.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The operating system refused.
    #[error("{call}: {error}")]
    Os {
        /// Which call.
        call: &'static str,
        /// What it said.
        error: std::io::Error,
    },
}
