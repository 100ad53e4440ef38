//! The ring on shared memory: where positions become bytes.

use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::slice;

use super::layout::{Descriptor, RingMemory};
use super::sync::AtomicU64;
use super::{Consumer, Producer};
use crate::link::{Frame, SendError, WORD_BYTES};
use crate::region::{MirroredMap, RegionError};

/// A ring's memory: data mapped twice, the descriptor's page behind it.
#[derive(Debug)]
pub struct MappedRing {
    map: MirroredMap,
}

impl MappedRing {
    /// Fresh memory for a ring of `ring_bytes` (a power of two, at least a page).
    pub fn create(ring_bytes: usize) -> Result<Self, RegionError> {
        Ok(Self { map: MirroredMap::with_tail(ring_bytes, descriptor_bytes())? })
    }

    /// The memory of a peer's ring, checked.
    pub fn adopt(fd: OwnedFd, ring_bytes: usize) -> Result<Self, RegionError> {
        Ok(Self { map: MirroredMap::from_fd_with_tail(fd, ring_bytes, descriptor_bytes())? })
    }

    /// The memfd, to pass to the peer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.map.fd()
    }

    /// The raw data, mapped twice; for tests that play a hostile peer.
    pub fn as_ptr(&self) -> *mut u8 {
        self.map.as_ptr()
    }

    #[inline(always)]
    fn at(&self, position: u64) -> *mut u8 {
        self.map.as_ptr().wrapping_add((position & (self.map.bytes() as u64 - 1)) as usize)
    }
}

fn descriptor_bytes() -> usize {
    size_of::<Descriptor>().next_multiple_of(rustix::param::page_size())
}

impl RingMemory for MappedRing {
    #[inline(always)]
    fn ring_bytes(&self) -> u64 {
        self.map.bytes() as u64
    }

    #[inline(always)]
    fn descriptor(&self) -> &Descriptor {
        // SAFETY: the tail is page-aligned, at least a Descriptor long (`descriptor_bytes`), mapped as long as `self`,
        // and holds only atomics, for which any bytes are valid.
        unsafe { &*self.map.tail_ptr().cast::<Descriptor>() }
    }

    #[inline(always)]
    fn word(&self, position: u64) -> &AtomicU64 {
        debug_assert!(position.is_multiple_of(super::LINE_BYTES));
        // SAFETY: `at` stays inside the first view, positions are multiples of 64, and a record's first 8 bytes are
        // accessed through atomics only: `claimed_bytes` leaves them out.
        unsafe { &*self.at(position).cast::<AtomicU64>() }
    }

    #[inline(always)]
    fn prefetch_for_write(&self, position: u64) {
        let line = self.at(position);
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch changes nothing and cannot fault; processors without it treat it as no operation.
        unsafe {
            std::arch::asm!("prefetchw [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        let _ = line;
    }
}

impl Producer<MappedRing> {
    /// Claims a frame and returns its bytes after the carrier's word.
    #[inline]
    pub fn claim_bytes(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError> {
        self.claim(frame_bytes)?;
        Ok(self.claimed_bytes())
    }

    /// The claimed frame's bytes after the carrier's word; none if nothing is claimed.
    #[inline(always)]
    pub fn claimed_bytes(&mut self) -> &mut [u8] {
        let len = self.claimed().saturating_sub(WORD_BYTES);
        let body = self.memory().at(self.position()).wrapping_add(WORD_BYTES);
        // SAFETY: a claim grants `claimed` bytes from `position` on, at most a quarter of the ring, so the slice lies inside
        // the two views; without one it is empty. Until the commit the consumer reads only the word, which is left out;
        // this producer is the only one (`new`), and `&mut self` makes this the only slice.
        unsafe { slice::from_raw_parts_mut(body, len) }
    }

    /// Copies `parts`, together as long as the claimed frame without its word, one after the other into it.
    #[inline]
    pub fn gather(&mut self, parts: &[IoSlice<'_>]) {
        let mut body = self.claimed_bytes();
        for part in parts {
            let (here, rest) = body.split_at_mut(part.len());
            here.copy_from_slice(part);
            body = rest;
        }
    }
}

impl Consumer<MappedRing> {
    /// The bytes of a held frame, carrier's word included. Panics if it was released.
    #[inline]
    pub fn bytes(&self, frame: &Frame) -> &[u8] {
        self.check_held(frame);
        let first = self.memory().at(frame.position());
        // SAFETY: a held frame's length was checked by `poll` (at most a quarter of the ring), so it lies inside the two
        // views. An honest producer does not write to it before it is released; a hostile one on shared memory can
        // change values, which callers treat as untrusted, never addresses.
        unsafe { slice::from_raw_parts(first, frame.len() as usize) }
    }
}
