//! Atomics of the ring, and the fences of its park protocol.
//!
//! Parking is a Dekker handshake: the sleeper writes `parked` and then looks for work, the other side writes
//! work and then looks at `parked`; each needs a full fence between its two steps, or both could miss the other.
//! A full fence at every commit would cost more than the commit, so where the kernel offers it the sleeper pays
//! for both: `membarrier` runs a full fence on every thread of the registered processes, and the busy side gets by
//! with a compiler fence. Where it does not, both sides fence.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

#[cfg(not(loom))]
use rustix::thread::{MembarrierCommand, membarrier};

/// Registers this process for [`heavy_fence`]s of others; false if the kernel does not offer them.
/// Cheap to repeat.
pub fn register() -> bool {
    #[cfg(not(loom))]
    return membarrier(MembarrierCommand::RegisterGlobalExpedited).is_ok();
    #[cfg(loom)]
    return true;
}

/// The busy side's fence. `asymmetric` only if this process is registered and the sleeper uses [`heavy_fence`].
#[inline(always)]
pub fn light_fence(asymmetric: bool) {
    // loom knows no membarrier; its full fence on both sides is what membarrier amounts to.
    #[cfg(not(loom))]
    if asymmetric {
        return std::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
    let _ = asymmetric;
    fence(Ordering::SeqCst);
}

/// The sleeper's fence: a full one here, and on every running thread of every registered process.
pub fn heavy_fence() {
    // An error means "not supported", and then the other side was told so and fences itself.
    #[cfg(not(loom))]
    let _ = membarrier(MembarrierCommand::GlobalExpedited);
    fence(Ordering::SeqCst);
}
