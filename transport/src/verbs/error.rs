//! Why there is no verbs link: what is missing, and what to do about it.

use std::time::Duration;

use rustix::io::Errno;
use thiserror::Error;

use crate::region::RegionError;

/// Why a device cannot be used or a link cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerbsError {
    /// libibverbs is not installed, or too old.
    #[error(
        "no RDMA library: {error}; install rdma-core's libraries (Debian: libibverbs1 ibverbs-providers)"
    )]
    NoLibrary {
        /// What the loader said.
        error: String,
    },
    /// The kernel has no RDMA device.
    #[error(
        "no RDMA device: /sys/class/infiniband is empty; load the card's driver, or try Soft-RoCE: modprobe rdma_rxe && rdma link add rxe0 type rxe netdev INTERFACE"
    )]
    NoDevice,
    /// Another device or port was asked for.
    #[error("no RDMA device {wanted}; there are: {found}")]
    NoSuchPort {
        /// What was asked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// Every port that would do is down.
    #[error("no active RDMA port: {found}; check the cable and the interface (ip link set INTERFACE up)")]
    NoActivePort {
        /// Ports and their states.
        found: String,
    },
    /// The port has no fitting address.
    #[error(
        "{port}: expected {wanted} in its table of GIDs, got {found:?}; give the interface an IP address"
    )]
    NoGid {
        /// Which port.
        port: String,
        /// What was needed.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// The kernel knows the device, the library does not.
    #[error(
        "libibverbs does not list the RDMA device {device}: install its provider (Debian: ibverbs-providers) and see that /dev/infiniband/uverbs* exists"
    )]
    NoProvider {
        /// Which device.
        device: String,
    },
    /// The device file may not be opened.
    #[error(
        "no permission to open RDMA device {device}: /dev/infiniband/uverbs* must be readable and writable"
    )]
    Permission {
        /// Which device.
        device: String,
    },
    /// Memory could not be pinned for the device.
    #[error(
        "{bytes} bytes cannot be registered with the RDMA device: the limit of locked memory is {limit}; raise it (ulimit -l unlimited, or memlock in limits.conf or in the batch system's configuration)"
    )]
    Memlock {
        /// Bytes of the registration that failed.
        bytes: usize,
        /// The limit in force.
        limit: String,
    },
    /// Memory for a ring could not be had.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The device cannot do what the carrier needs.
    #[error("RDMA device {device}: expected {expected}, got {got}")]
    Device {
        /// Which device.
        device: String,
        /// What the carrier needs.
        expected: &'static str,
        /// What there is.
        got: String,
    },
    /// The device finds no way to the peer's address.
    #[error(
        "RDMA device {device}: no way from its address {here} to the peer's {there}: {error}; choose addresses of one network on both sides (the GID index), and see that the interface is up"
    )]
    Unreachable {
        /// Which device.
        device: String,
        /// The address of its port.
        here: String,
        /// The peer's.
        there: String,
        /// What the library said.
        error: Box<VerbsError>,
    },
    /// A call of the library failed.
    #[error("{call}: {error}")]
    Os {
        /// Which call.
        call: &'static str,
        /// Its error.
        error: Errno,
    },
    /// The peer's device cannot be reached from ours, or it sent something else (expected/got in the text).
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// The peer hung up; its own log says why.
    #[error("the peer went away while the queue pairs were connected; its own log says why")]
    PeerGone,
    /// The peer did not answer in time.
    #[error("the peer did not connect its queue pair within {0:?}")]
    TimedOut(Duration),
}

/// A failed call of the library, from `errno`.
pub(super) fn os(call: &'static str) -> VerbsError {
    VerbsError::Os { call, error: last_error() }
}

/// A failed system call.
pub(super) fn errno(call: &'static str) -> impl Fn(Errno) -> VerbsError {
    move |error| VerbsError::Os { call, error }
}

/// `errno` of the call that just failed.
pub(super) fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// The number a call of the library returned instead of zero: an errno, or -1 with errno set.
pub(super) fn check(call: &'static str, status: i32) -> Result<(), VerbsError> {
    match status {
        0 => Ok(()),
        1.. => Err(VerbsError::Os { call, error: Errno::from_raw_os_error(status) }),
        _ => Err(os(call)),
    }
}
