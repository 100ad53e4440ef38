//! `MirroredMap`: one memfd mapped twice back to back, so a run of bytes never wraps.
//!
//! ```text
//!   file      [ data 0 .. bytes ][ tail ]
//!   address   [ data ][ data again ][ tail ]
//! ```
//!
//! Byte `i` and byte `i + bytes` are the same memory. The optional tail (a ring's descriptor) is mapped once.
//! The kernel keeps the two views coherent: they are the same physical pages, and x86 and arm caches are
//! physically tagged.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{RegionError, os, page_bytes, sealed_memfd, verify_sealed};

/// Maps that are at least this long are aligned so that the kernel can use huge pages.
const HUGE_BYTES: usize = 2 << 20;

/// The largest ring memory accepted, from ourselves or from a peer.
const BYTES_MAX: usize = 1 << 36;

/// Shared memory mapped twice back to back. Unmapped on drop; the memory lives as long as somebody maps it.
///
/// The map hands out raw pointers only: who may read or write which bytes when is the ring's protocol.
#[derive(Debug)]
pub struct MirroredMap {
    base: *mut u8,
    bytes: usize,
    tail_bytes: usize,
    fd: OwnedFd,
}

// SAFETY: the map is plain memory owned by this value and reachable only through raw pointers; whoever
// dereferences them must synchronise, on whatever thread the value is.
unsafe impl Send for MirroredMap {}
// SAFETY: as above, `&MirroredMap` gives out nothing but addresses and sizes.
unsafe impl Sync for MirroredMap {}

impl MirroredMap {
    /// New zeroed memory of `bytes` (a power of two, at least a page), mapped twice.
    pub fn new(bytes: usize) -> Result<Self, RegionError> {
        Self::with_tail(bytes, 0)
    }

    /// As [`MirroredMap::new`], with `tail_bytes` (a multiple of the page size) of memory behind it, mapped once.
    pub fn with_tail(bytes: usize, tail_bytes: usize) -> Result<Self, RegionError> {
        let total = check_size(bytes, tail_bytes)?;
        Self::map(sealed_memfd(total)?, bytes, tail_bytes)
    }

    /// Takes over a descriptor made by [`MirroredMap::new`] elsewhere; checks its size and seals before mapping.
    pub fn from_fd(fd: OwnedFd, bytes: usize) -> Result<Self, RegionError> {
        Self::from_fd_with_tail(fd, bytes, 0)
    }

    /// As [`MirroredMap::from_fd`], for one made by [`MirroredMap::with_tail`].
    pub fn from_fd_with_tail(fd: OwnedFd, bytes: usize, tail_bytes: usize) -> Result<Self, RegionError> {
        let total = check_size(bytes, tail_bytes)?;
        verify_sealed(&fd, total)?;
        Self::map(fd, bytes, tail_bytes)
    }

    /// The first byte; [`MirroredMap::bytes`] times two bytes from here on are mapped.
    pub fn as_ptr(&self) -> *mut u8 {
        self.base
    }

    /// The first byte of the tail.
    pub fn tail_ptr(&self) -> *mut u8 {
        self.base.wrapping_add(2 * self.bytes)
    }

    /// Bytes of data, counted once.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The memfd, to pass to a peer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn map(fd: OwnedFd, bytes: usize, tail_bytes: usize) -> Result<Self, RegionError> {
        let base = reserve(2 * bytes + tail_bytes)?;
        // From here on `map` owns the reservation: an early return unmaps all of it.
        let map = Self { base, bytes, tail_bytes, fd };
        map.place(0, bytes, 0)?;
        map.place(bytes, bytes, 0)?;
        if tail_bytes > 0 {
            map.place(2 * bytes, tail_bytes, bytes)?;
        }
        if bytes >= HUGE_BYTES {
            // A hint: refused where transparent huge pages are off for shared memory, and then small pages do.
            // SAFETY: the range was just mapped by `place` and belongs to `map`; the advice changes no contents.
            let _ = unsafe { rustix::mm::madvise(base.cast(), 2 * bytes, Advice::LinuxHugepage) };
        }
        Ok(map)
    }

    /// Maps `len` bytes of the file from `file_offset` over the reservation at `offset`.
    fn place(&self, offset: usize, len: usize, file_offset: usize) -> Result<(), RegionError> {
        let address = self.base.wrapping_add(offset).cast::<c_void>();
        let prot = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED;
        // SAFETY: `address .. address + len` lies inside the reservation made by `reserve` for this value
        // (2 * bytes + tail_bytes long, offsets given by `map`), so MAP_FIXED replaces nobody else's pages.
        unsafe { rustix::mm::mmap(address, len, prot, flags, &self.fd, file_offset as u64) }
            .map_err(os("mmap"))?;
        Ok(())
    }
}

impl Drop for MirroredMap {
    fn drop(&mut self) {
        // SAFETY: exactly the range reserved for this value; every pointer handed out is dead by the callers'
        // contract that they keep the map alive while using them.
        let _ = unsafe { rustix::mm::munmap(self.base.cast(), 2 * self.bytes + self.tail_bytes) };
    }
}

/// Total file size, or why these sizes cannot be mapped.
fn check_size(bytes: usize, tail_bytes: usize) -> Result<usize, RegionError> {
    let page = page_bytes();
    if !bytes.is_power_of_two() || bytes < page || bytes > BYTES_MAX {
        let expected = "a power of two, at least one page, at most 64 GiB";
        return Err(RegionError::Size { got: bytes, expected });
    }
    if !tail_bytes.is_multiple_of(page) || tail_bytes > BYTES_MAX {
        return Err(RegionError::Size { got: tail_bytes, expected: "a tail of whole pages" });
    }
    Ok(bytes + tail_bytes)
}

/// Reserves `len` bytes of address space, aligned to a huge page when long enough to profit.
fn reserve(len: usize) -> Result<*mut u8, RegionError> {
    let slack = if len >= HUGE_BYTES { HUGE_BYTES } else { 0 };
    // SAFETY: a fresh anonymous map at an address of the kernel's choice touches no existing memory.
    let raw = unsafe {
        rustix::mm::mmap_anonymous(ptr::null_mut(), len + slack, ProtFlags::empty(), MapFlags::PRIVATE)
    }
    .map_err(os("mmap"))?
    .cast::<u8>();
    if slack == 0 {
        return Ok(raw);
    }
    let lead = raw.align_offset(HUGE_BYTES);
    let trail = slack - lead;
    let base = raw.wrapping_add(lead);
    // SAFETY: `lead` bytes before `base` and `trail` bytes after its `len` are parts of the map just made that
    // nobody else knows of; both are whole pages because raw, base and len are page-aligned.
    unsafe {
        if lead > 0 {
            let _ = rustix::mm::munmap(raw.cast(), lead);
        }
        if trail > 0 {
            let _ = rustix::mm::munmap(base.wrapping_add(len).cast(), trail);
        }
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_shows_in_both_views_and_through_the_descriptor() {
        for bytes in [page_bytes(), 1 << 16, 4 << 20] {
            let map = MirroredMap::with_tail(bytes, page_bytes()).unwrap();
            let twin =
                MirroredMap::from_fd_with_tail(map.fd().try_clone_to_owned().unwrap(), bytes, page_bytes());
            let twin = twin.unwrap();
            // SAFETY: both maps are alive, offsets are below 2 * bytes, and this thread is the only user.
            unsafe {
                map.as_ptr().add(bytes - 1).write(7);
                assert_eq!(map.as_ptr().add(2 * bytes - 1).read(), 7);
                assert_eq!(twin.as_ptr().add(bytes - 1).read(), 7);
                map.tail_ptr().write(9);
                assert_eq!(twin.tail_ptr().read(), 9);
                assert_eq!(twin.as_ptr().read(), 0);
            }
        }
    }

    #[test]
    fn impossible_sizes_and_foreign_descriptors_are_refused() {
        assert!(matches!(MirroredMap::new(12345), Err(RegionError::Size { got: 12345, .. })));
        assert!(matches!(MirroredMap::new(0), Err(RegionError::Size { .. })));
        let map = MirroredMap::new(1 << 16).unwrap();
        let fd = map.fd().try_clone_to_owned().unwrap();
        let wrong = MirroredMap::from_fd(fd, 1 << 17).unwrap_err();
        assert_eq!(wrong, RegionError::WrongSize { expected: 1 << 17, got: 1 << 16 });
        let loose = rustix::fs::memfd_create("loose", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&loose, 1 << 16).unwrap();
        assert!(matches!(MirroredMap::from_fd(loose, 1 << 16), Err(RegionError::Unsealed { got: 0 })));
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(
            MirroredMap::from_fd(file.into(), 1 << 16),
            Err(RegionError::Unsealed { .. } | RegionError::Os { .. })
        ));
    }

    #[test]
    fn the_size_cannot_change_under_a_map() {
        let map = MirroredMap::new(1 << 16).unwrap();
        assert!(rustix::fs::ftruncate(map.fd(), 0).is_err());
        assert!(rustix::fs::ftruncate(map.fd(), 1 << 20).is_err());
    }
}
