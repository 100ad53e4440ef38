//! What lies where: the data area's records and the descriptor page behind it.
//!
//! ```text
//!   data        | word 8 | frame ... | pad to 64 | word 8 | frame ... |     positions count bytes for ever,
//!   descriptor  | head | consumer's flags | producer's flags | beat |      address = position mod ring_bytes
//! ```
//!
//! Descriptor fields written by different sides, or at different rates, sit 128 bytes apart: processors fetch lines in
//! pairs.

use super::sync::{AtomicU32, AtomicU64};

/// Records start on multiples of this; also the room always left free for the next record's zeroed word.
pub const LINE_BYTES: u64 = 64;

/// A value alone on its pair of cache lines.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(super) struct Apart<T>(pub(super) T);

/// Rarely written words of the consumer, which the producer reads at every commit (and so keeps cached).
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct ConsumerFlags {
    /// 1 while the consumer sleeps, or is about to, until a record comes.
    pub(super) parked: AtomicU32,
    /// 1 once the consumer will read no more.
    pub(super) closed: AtomicU32,
    /// 1 if the consumer's park fences for the producer too (see `sync`).
    pub(super) heavy: AtomicU32,
}

/// Rarely written words of the producer.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct ProducerFlags {
    /// 1 while the producer sleeps, or is about to, until room comes.
    pub(super) parked: AtomicU32,
    /// 1 once the producer will write no more.
    pub(super) closed: AtomicU32,
    /// How many notices the producer has sent beside the ring (lent slabs).
    pub(super) notices: AtomicU32,
}

/// The words that steer a ring. All zero at birth, in the ring's memory, so either side may find anything in it.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Descriptor {
    /// Position up to which the consumer has released; moves lazily.
    pub(super) head: Apart<AtomicU64>,
    pub(super) consumer: Apart<ConsumerFlags>,
    pub(super) producer: Apart<ProducerFlags>,
    /// Heartbeat of the producing side. The consuming side's is in the ring that goes the other way.
    pub(super) beat: Apart<AtomicU64>,
}

/// Where a ring's words are. The protocol is written against this, so that loom can run it on plain words.
pub trait RingMemory {
    /// Bytes of data, a power of two.
    fn ring_bytes(&self) -> u64;

    /// The descriptor.
    fn descriptor(&self) -> &Descriptor;

    /// The carrier's word of the record at `position` (a multiple of [`LINE_BYTES`]; taken modulo the ring).
    fn word(&self, position: u64) -> &AtomicU64;

    /// A hint that the line at `position` will be written next.
    fn prefetch_for_write(&self, position: u64) {
        let _ = position;
    }
}

/// Bytes a frame takes in the ring.
#[inline(always)]
pub fn padded(frame_bytes: u32) -> u64 {
    (u64::from(frame_bytes) + LINE_BYTES - 1) & !(LINE_BYTES - 1)
}

/// The largest frame a ring carries: a quarter, so that a full ring always holds several.
pub fn frame_bytes_max(ring_bytes: u64) -> usize {
    (ring_bytes / 4).min(1 << 31) as usize
}
