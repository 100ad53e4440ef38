//! Growing arrays on anonymous pages.
//!
//! Growth moves page tables, not bytes, and memory that was never written costs nothing, so an array's
//! resident size is its length, not its capacity. Large arrays ask for huge pages: random access to a
//! big table is bound by address translation otherwise.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};

use bytemuck::Zeroable;
use rustix::mm::{self, Advice, MapFlags, MremapFlags, ProtFlags};

use super::TableError;

const PAGE_BYTES: usize = 4096;
const HUGE_BYTES: usize = 2 << 20;

/// An array of `T` that only grows; new elements are zero.
///
/// Invariant: `start` begins `mapped_bytes` of private readable and writable memory that nobody else
/// knows (dangling if zero), the first `len` elements of which fit in it; bytes past them are zero.
pub(crate) struct Pages<T> {
    start: NonNull<T>,
    len: usize,
    mapped_bytes: usize,
    owns: PhantomData<T>,
}

// SAFETY: the mapping is private to this value, which therefore is as sendable as the elements it owns.
unsafe impl<T: Send> Send for Pages<T> {}
// SAFETY: shared access only reads elements, through `&[T]`.
unsafe impl<T: Sync> Sync for Pages<T> {}

impl<T: Zeroable + Copy> Pages<T> {
    pub fn new() -> Self {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= PAGE_BYTES) };
        Self { start: NonNull::dangling(), len: 0, mapped_bytes: 0, owns: PhantomData }
    }

    /// Lengthens the array to `len` elements; shorter lengths change nothing.
    pub fn grow(&mut self, len: usize) -> Result<(), TableError> {
        self.reserve(len)?;
        self.len = self.len.max(len);
        Ok(())
    }

    /// Takes address space for `len` elements; memory follows when they are written.
    pub fn reserve(&mut self, len: usize) -> Result<(), TableError> {
        let refused = || TableError::OutOfMemory { bytes: len.saturating_mul(size_of::<T>()) };
        let needed_bytes = len.checked_mul(size_of::<T>()).ok_or_else(refused)?;
        if needed_bytes > self.mapped_bytes {
            let bytes = needed_bytes.max(PAGE_BYTES).checked_next_power_of_two().ok_or_else(refused)?;
            self.remap(bytes).map_err(|_| refused())?;
        }
        Ok(())
    }

    /// Resident bytes at most: whole pages up to the last element.
    pub fn bytes(&self) -> usize {
        (self.len * size_of::<T>()).next_multiple_of(PAGE_BYTES)
    }

    fn remap(&mut self, bytes: usize) -> rustix::io::Result<()> {
        let fresh = map_aligned(bytes)?;
        let old: *mut c_void = self.start.as_ptr().cast();
        if self.mapped_bytes >= HUGE_BYTES {
            // Growing while moving keeps one kernel mapping, which the next move needs.
            // SAFETY: `old` begins `mapped_bytes` of our own mapping and `fresh` begins `bytes` that nobody
            // uses, so replacing them destroys nothing; `old` is not used again.
            let moved =
                unsafe { mm::mremap_fixed(old, self.mapped_bytes, bytes, MremapFlags::MAYMOVE, fresh) };
            if let Err(error) = moved {
                unmap(fresh, bytes);
                return Err(error);
            }
        } else if self.mapped_bytes > 0 {
            // SAFETY: both mappings are ours, distinct, and at least `mapped_bytes` long.
            unsafe { ptr::copy_nonoverlapping(old.cast::<u8>(), fresh.cast::<u8>(), self.mapped_bytes) };
            unmap(old, self.mapped_bytes);
        }
        self.start = NonNull::new(fresh.cast()).expect("a mapping is never at address zero");
        self.mapped_bytes = bytes;
        Ok(())
    }
}

/// Maps `bytes` (a power of two of whole pages), aligned to huge pages when that large.
fn map_aligned(bytes: usize) -> rustix::io::Result<*mut c_void> {
    let slack_bytes = if bytes >= HUGE_BYTES { HUGE_BYTES } else { 0 };
    let total_bytes = bytes.checked_add(slack_bytes).ok_or(rustix::io::Errno::NOMEM)?;
    // SAFETY: a fresh private mapping at an address of the kernel's choice touches no existing memory.
    let start = unsafe {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        mm::mmap_anonymous(ptr::null_mut(), total_bytes, protection, MapFlags::PRIVATE | MapFlags::NORESERVE)?
    };
    if slack_bytes == 0 {
        return Ok(start);
    }
    let head_bytes = start.addr().wrapping_neg() % HUGE_BYTES;
    let aligned = start.wrapping_byte_add(head_bytes);
    unmap(start, head_bytes);
    unmap(aligned.wrapping_byte_add(bytes), slack_bytes - head_bytes);
    // SAFETY: the advice concerns the mapping just made and changes no contents. Refusal only costs speed.
    let _ = unsafe { mm::madvise(aligned, bytes, Advice::LinuxHugepage) };
    Ok(aligned)
}

fn unmap(start: *mut c_void, bytes: usize) {
    if bytes > 0 {
        // SAFETY: callers pass whole pages of a mapping that they own and do not use afterwards.
        let result = unsafe { mm::munmap(start, bytes) };
        debug_assert!(result.is_ok(), "unmapping our own pages cannot fail");
    }
}

impl<T> Deref for Pages<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: by the invariant `len` elements lie at `start`; pages are zero at first, which is a valid
        // `T` (only `T: Zeroable` can be grown past length zero).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl<T> DerefMut for Pages<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the exclusive borrow of self is an exclusive borrow of the elements.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl<T> Drop for Pages<T> {
    fn drop(&mut self) {
        unmap(self.start.as_ptr().cast(), self.mapped_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_keeps_elements_and_zeroes_the_rest() {
        let mut pages = Pages::<u64>::new();
        assert!(pages.is_empty());
        let mut expected = Vec::new();
        for len in [1, 511, 512, 513, 5_000, 262_144, 262_145, 700_000, 3_000_000] {
            pages.grow(len).unwrap();
            assert!(pages[expected.len()..].iter().all(|&value| value == 0));
            for index in expected.len()..len {
                pages[index] = index as u64 * 3;
                expected.push(index as u64 * 3);
            }
            assert_eq!(*pages, *expected);
        }
        pages.grow(3).unwrap();
        assert_eq!(pages.len(), 3_000_000);
    }

    #[test]
    fn absurd_sizes_are_refused_and_nothing_changes() {
        let mut pages = Pages::<u64>::new();
        pages.grow(10).unwrap();
        assert!(matches!(pages.grow(usize::MAX), Err(TableError::OutOfMemory { .. })));
        assert!(matches!(pages.grow(1 << 58), Err(TableError::OutOfMemory { .. })));
        assert_eq!(pages.len(), 10);
    }
}
