//! What each filter of a chain has saved, and what it cost.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use serde::Serialize;

/// What one filter did since its chain was made. Sizes are of what it was given and what it passed on: keys for
/// `key-cache`, value arrays (with the bitmap of rows present) for the others, everything behind the header for `lz4`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FilterReport {
    /// The filter as written in the chain.
    pub filter: String,
    /// Bytes before it.
    pub bytes_in: u64,
    /// Bytes after it.
    pub bytes_out: u64,
    /// Rows it left out.
    pub entries_dropped: u64,
    /// Time spent at this end: encoding for pushes, decoding for pulls.
    pub nanoseconds: u64,
}

#[derive(Default)]
pub(super) struct Counter {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    dropped: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Counter {
    pub fn add(&self, bytes_in: usize, bytes_out: usize, dropped: usize) {
        self.bytes_in.fetch_add(bytes_in as u64, Relaxed);
        self.bytes_out.fetch_add(bytes_out as u64, Relaxed);
        self.dropped.fetch_add(dropped as u64, Relaxed);
    }

    /// Adds the time since `start`. For people only: nothing is decided by it.
    pub fn time(&self, start: Instant) {
        self.nanoseconds.fetch_add(start.elapsed().as_nanos() as u64, Relaxed);
    }

    pub fn report(&self, filter: String) -> FilterReport {
        FilterReport {
            filter,
            bytes_in: self.bytes_in.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            entries_dropped: self.dropped.load(Relaxed),
            nanoseconds: self.nanoseconds.load(Relaxed),
        }
    }
}
