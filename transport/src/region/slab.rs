//! Slabs: memory a trainer allocates its arrays from, so that a server on the same host reads them where they lie.
//!
//! The owner makes a [`Slab`], allocates [`SlabBuf`]s from it and lends the whole slab over a link once. From then
//! on a frame may carry a [`LentRange`] instead of bytes; the receiver resolves it to the same memory, mapped
//! read-only. The owner must not change a lent range before the receiver has answered: that is the engine's
//! rule. A receiver treats the bytes like any other bytes of a peer, as values that may change under its hands.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::mm::{Advice, MapFlags, ProtFlags};

use super::{RegionError, os, page_bytes, sealed_memfd, verify_sealed};
use crate::link::FRAME_ALIGN;

/// The largest slab accepted, from ourselves or from a peer.
const BYTES_MAX: usize = 1 << 40;

/// Names bytes inside a lent slab; what a frame carries in place of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LentRange {
    /// The id the owner gave the slab.
    pub slab: u32,
    /// First byte, from the slab's beginning.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl LentRange {
    /// Size of [`LentRange::to_bytes`].
    pub const WIRE_BYTES: usize = 24;

    /// Little-endian form: `u32` slab, `u32` zero, `u64` offset, `u64` bytes.
    pub fn to_bytes(self) -> [u8; Self::WIRE_BYTES] {
        let mut wire = [0; Self::WIRE_BYTES];
        wire[..4].copy_from_slice(&self.slab.to_le_bytes());
        wire[8..16].copy_from_slice(&self.offset.to_le_bytes());
        wire[16..].copy_from_slice(&self.bytes.to_le_bytes());
        wire
    }

    /// Reads [`LentRange::to_bytes`] back. Any bytes give a range; [`LentSlab::get`] judges it.
    pub fn from_bytes(wire: &[u8; Self::WIRE_BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| wire[at + i]));
        Self { slab: word(0) as u32, offset: word(8), bytes: word(16) }
    }

    /// The part `from .. from + bytes` of this range, or `None` if it does not lie inside.
    pub fn part(self, from: u64, bytes: u64) -> Option<Self> {
        let end = from.checked_add(bytes)?;
        (end <= self.bytes).then(|| Self { slab: self.slab, offset: self.offset + from, bytes })
    }
}

/// A shared map of a whole memfd, unmapped on drop.
#[derive(Debug)]
struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    fd: OwnedFd,
}

// SAFETY: plain memory owned by this value; the types built on it hand out disjoint ranges (SlabBuf) or
// read-only views (LentSlab).
unsafe impl Send for Mapping {}
// SAFETY: `&Mapping` gives an address and a size only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `fd` must have been verified or made by `sealed_memfd(bytes)`.
    fn new(fd: OwnedFd, bytes: usize, prot: ProtFlags) -> Result<Self, RegionError> {
        // SAFETY: a new map at an address of the kernel's choice; the file's size is sealed, so no access inside
        // `bytes` can fault.
        let base = unsafe { rustix::mm::mmap(ptr::null_mut(), bytes, prot, MapFlags::SHARED, &fd, 0) };
        let base = NonNull::new(base.map_err(os("mmap"))?.cast::<u8>());
        let base = base.ok_or(RegionError::Os { call: "mmap", error: rustix::io::Errno::NOMEM })?;
        // A hint; refused where transparent huge pages are off for shared memory.
        // SAFETY: exactly the range just mapped; the advice changes no contents.
        let _ = unsafe { rustix::mm::madvise(base.as_ptr().cast(), bytes, Advice::LinuxHugepage) };
        Ok(Self { base, bytes, fd })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the range mapped in `new`; whoever holds a view of it also holds the mapping.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// Memory to allocate lendable arrays from. Clones share it; it lives until the last buffer is gone.
#[derive(Debug, Clone)]
pub struct Slab {
    id: u32,
    mapping: Arc<Mapping>,
    /// Free ranges by offset: length. Neighbours are always merged.
    free: Arc<Mutex<BTreeMap<usize, usize>>>,
}

impl Slab {
    /// A new slab of at least `bytes`, rounded up to pages. `id` is the owner's name for it, unique among
    /// the slabs it lends over one link.
    pub fn new(id: u32, bytes: usize) -> Result<Self, RegionError> {
        let rounded = bytes.checked_next_multiple_of(page_bytes()).filter(|&b| b > 0 && b <= BYTES_MAX);
        let size = RegionError::Size { got: bytes, expected: "between 1 byte and 1 TiB" };
        let bytes = rounded.ok_or(size)?;
        let mapping = Mapping::new(sealed_memfd(bytes)?, bytes, ProtFlags::READ | ProtFlags::WRITE)?;
        let free = Arc::new(Mutex::new(BTreeMap::from([(0, bytes)])));
        Ok(Self { id, mapping: Arc::new(mapping), free })
    }

    /// The owner's name for it.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.mapping.bytes
    }

    /// Where it begins.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.mapping.base.as_ptr()
    }

    /// The memfd, which a link passes to the peer.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.mapping.fd.as_fd()
    }

    /// A zeroed buffer of `bytes` on a 64-byte boundary, first fit, or `None` when no hole is large enough.
    pub fn alloc(&self, bytes: usize) -> Option<SlabBuf> {
        let room = bytes.checked_next_multiple_of(FRAME_ALIGN)?.max(FRAME_ALIGN);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let (&offset, &len) = free.iter().find(|&(_, &len)| len >= room)?;
        free.remove(&offset);
        if len > room {
            free.insert(offset + room, len - room);
        }
        drop(free);
        let mut buf = SlabBuf { slab: self.clone(), offset, bytes, room };
        buf.fill(0);
        Some(buf)
    }

    fn give_back(&self, mut offset: usize, mut len: usize) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((&before, &before_len)) = free.range(..offset).next_back()
            && before + before_len == offset
        {
            free.remove(&before);
            (offset, len) = (before, before_len + len);
        }
        if let Some(after_len) = free.remove(&(offset + len)) {
            len += after_len;
        }
        free.insert(offset, len);
    }
}

/// A range of a slab that belongs to its holder alone; given back on drop.
#[derive(Debug)]
pub struct SlabBuf {
    slab: Slab,
    offset: usize,
    bytes: usize,
    room: usize,
}

impl SlabBuf {
    /// The whole buffer's name, to send over a link to which its slab was lent.
    pub fn lent(&self) -> LentRange {
        LentRange { slab: self.slab.id, offset: self.offset as u64, bytes: self.bytes as u64 }
    }

    /// Where it begins, for holders who share it and keep the rules of references themselves.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.slab.mapping.base.as_ptr().wrapping_add(self.offset)
    }
}

impl Deref for SlabBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `offset .. offset + bytes` lies inside the mapping, which `slab` keeps alive; `Slab::alloc` gave the
        // range to this buffer alone and peers map the slab read-only, so `&self` excludes writers.
        unsafe { slice::from_raw_parts(self.slab.mapping.base.as_ptr().add(self.offset), self.bytes) }
    }
}

impl DerefMut for SlabBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only view in this process.
        unsafe { slice::from_raw_parts_mut(self.slab.mapping.base.as_ptr().add(self.offset), self.bytes) }
    }
}

impl Drop for SlabBuf {
    fn drop(&mut self) {
        self.slab.give_back(self.offset, self.room);
    }
}

/// A peer's slab, mapped read-only.
#[derive(Debug)]
pub struct LentSlab {
    mapping: Mapping,
}

impl LentSlab {
    /// Takes over the descriptor a peer lent; checks its size and seals before mapping.
    pub fn from_fd(fd: OwnedFd, bytes: u64) -> Result<Self, RegionError> {
        let size = RegionError::Size { got: bytes as usize, expected: "between 1 byte and 1 TiB" };
        let bytes = usize::try_from(bytes).ok().filter(|&b| b > 0 && b <= BYTES_MAX).ok_or(size)?;
        verify_sealed(&fd, bytes)?;
        Ok(Self { mapping: Mapping::new(fd, bytes, ProtFlags::READ)? })
    }

    /// The bytes `range` names, or `None` if it does not lie inside the slab.
    pub fn get(&self, range: &LentRange) -> Option<&[u8]> {
        let offset = usize::try_from(range.offset).ok()?;
        let bytes = usize::try_from(range.bytes).ok()?;
        let end = offset.checked_add(bytes)?;
        if end > self.mapping.bytes {
            return None;
        }
        // SAFETY: checked above to lie inside the mapping, which `&self` keeps alive; its size is sealed. The owner keeps
        // its hands off until it is answered; one that does not changes values, never addresses.
        Some(unsafe { slice::from_raw_parts(self.mapping.base.as_ptr().add(offset), bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_borrower_reads_what_the_owner_writes_and_nothing_outside() {
        let slab = Slab::new(3, 10_000).unwrap();
        let mut buf = slab.alloc(100).unwrap();
        buf[..5].copy_from_slice(b"hello");
        let lent = LentSlab::from_fd(slab.fd().try_clone_to_owned().unwrap(), slab.bytes() as u64).unwrap();
        let range = LentRange::from_bytes(&buf.lent().to_bytes());
        assert_eq!(range, buf.lent());
        assert_eq!(&lent.get(&range).unwrap()[..5], b"hello");
        assert_eq!(lent.get(&range.part(1, 4).unwrap()).unwrap(), b"ello");
        assert_eq!(range.part(1, 100), None);
        for (offset, bytes) in
            [(slab.bytes() as u64, 1), (u64::MAX, 1), (0, u64::MAX), (8, slab.bytes() as u64)]
        {
            assert!(lent.get(&LentRange { slab: 3, offset, bytes }).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn buffers_never_overlap_and_all_room_comes_back(steps in prop::collection::vec((any::<bool>(), 0usize..3000), 1..60)) {
            let slab = Slab::new(0, 16 << 10).unwrap();
            let mut live: Vec<(SlabBuf, u8)> = Vec::new();
            for (step, (free, bytes)) in steps.into_iter().enumerate() {
                if free && !live.is_empty() {
                    live.swap_remove(bytes % live.len());
                } else if let Some(mut buf) = slab.alloc(bytes) {
                    prop_assert_eq!(buf.as_ptr() as usize % FRAME_ALIGN, 0);
                    prop_assert!(buf.iter().all(|&b| b == 0));
                    buf.fill(step as u8 + 1);
                    live.push((buf, step as u8 + 1));
                }
                for (buf, mark) in &live {
                    prop_assert!(buf.iter().all(|b| b == mark));
                }
            }
            drop(live);
            prop_assert!(slab.alloc(16 << 10).is_some());
        }
    }
}
