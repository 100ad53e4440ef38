//! The memory a link registers: its rings, and the mailbox for the peer's credits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::VerbsError;
use super::device::{Access, Domain, Registration};
use crate::region::MirroredMap;
use crate::ring::{MappedRing, RingMemory};

/// Registers both views of a ring's data as one range, so that no WRITE has to be split at the ring's end. (The pages are
/// pinned twice over, and counted twice against the limit of locked memory.)
pub(super) fn register_ring(
    domain: &Arc<Domain>,
    ring: &MappedRing,
    access: Access,
) -> Result<Registration, VerbsError> {
    let bytes = 2 * ring.ring_bytes() as usize;
    // SAFETY: a ring's data is mapped twice in a row. What the peer writes there is read through the ring's atomics, and as
    // bytes of frames, which callers take for a peer's, the same as on shared memory.
    unsafe { Registration::of_range(domain, ring.as_ptr(), bytes, access) }
}

/// A page in which the peer leaves its credits.
#[derive(Debug)]
pub(super) struct Mailbox {
    map: MirroredMap,
}

impl Mailbox {
    pub(super) fn new() -> Result<Self, VerbsError> {
        Ok(Self { map: MirroredMap::new(rustix::param::page_size())? })
    }

    pub(super) fn register(&self, domain: &Arc<Domain>) -> Result<Registration, VerbsError> {
        // SAFETY: a page mapped by `map`, read only through the atomic below.
        unsafe { Registration::of_range(domain, self.map.as_ptr(), self.map.bytes(), Access::RemoteWrite) }
    }

    /// The last credit, as it lies there.
    #[inline]
    pub(super) fn credit(&self) -> u64 {
        // SAFETY: the map's first eight bytes, page-aligned, mapped as long as `self`; everybody in this process reaches them
        // through this atomic, and the device writes them from outside.
        let credit = unsafe { &*self.map.as_ptr().cast::<AtomicU64>() };
        // SYNC POINT: credit. The peer's reads of the room happened before it sent this.
        credit.load(Ordering::Acquire)
    }
}
