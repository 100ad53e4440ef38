//! Memory that two parties can see: mirrored ring memory and lent slabs.
//!
//! Everything here is a memfd, so nothing has a name in the file system and nothing outlives the processes
//! that map it. Sizes are sealed before a map is made, so a peer that shares the descriptor cannot shrink the
//! file under us (which would be a SIGBUS). What the bytes mean is none of this module's business.
//!
//! Read `mirrored` first (the rings), then `slab` (arrays a trainer lends to its servers).

mod mirrored;
mod slab;

pub use mirrored::MirroredMap;
pub use slab::{LentRange, LentSlab, Slab, SlabBuf};

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::Errno;
use thiserror::Error;

/// Why a region could not be made or taken over from a peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RegionError {
    /// The size asked for cannot be mapped this way.
    #[error("a region of {got} bytes is impossible: {expected}")]
    Size {
        /// Bytes asked for.
        got: usize,
        /// What would do.
        expected: &'static str,
    },
    /// The descriptor a peer passed has another size than it said.
    #[error("the peer's region has {got} bytes where {expected} were announced")]
    WrongSize {
        /// Bytes announced.
        expected: u64,
        /// Bytes found.
        got: u64,
    },
    /// The descriptor a peer passed could still change its size under us.
    #[error("the peer's region is not sealed against shrinking and growing (seals {got:#x})")]
    Unsealed {
        /// The seals found, as `fcntl(F_GET_SEALS)` reports them.
        got: u32,
    },
    /// The operating system refused.
    #[error("{call}: {error}")]
    Os {
        /// Which call.
        call: &'static str,
        /// Its error.
        error: Errno,
    },
}

/// Turns a failed system call into a [`RegionError`] naming it.
fn os(call: &'static str) -> impl Fn(Errno) -> RegionError {
    move |error| RegionError::Os { call, error }
}

/// The seals every shared region carries: its size is final.
const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A new memfd of exactly `bytes`, its size sealed.
fn sealed_memfd(bytes: usize) -> Result<OwnedFd, RegionError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("keyrange", flags).map_err(os("memfd_create"))?;
    rustix::fs::ftruncate(&fd, bytes as u64).map_err(os("ftruncate"))?;
    rustix::fs::fcntl_add_seals(&fd, SEALS | SealFlags::SEAL).map_err(os("F_ADD_SEALS"))?;
    Ok(fd)
}

/// Checks that a descriptor from elsewhere is a sealed file of exactly `bytes`; only then is it safe to map.
fn verify_sealed(fd: impl AsFd, bytes: usize) -> Result<(), RegionError> {
    // F_GET_SEALS fails with EINVAL on anything that is not a memfd, which is the answer wanted.
    let seals = rustix::fs::fcntl_get_seals(&fd).map_err(os("F_GET_SEALS"))?;
    if !seals.contains(SEALS) {
        return Err(RegionError::Unsealed { got: seals.bits() });
    }
    let stat = rustix::fs::fstat(&fd).map_err(os("fstat"))?;
    if stat.st_size != bytes as i64 {
        return Err(RegionError::WrongSize { expected: bytes as u64, got: stat.st_size as u64 });
    }
    Ok(())
}

/// The page size of this machine.
fn page_bytes() -> usize {
    rustix::param::page_size()
}
