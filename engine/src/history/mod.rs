//! Histories: who read what at which clock, and whether that was as promised.
//!
//! A worker with a [`Recorder`] notes every increment, read and closed clock of a clocked table. The table is made with an
//! *audit* ([`ClockedConfig::audit`](crate::clock::ClockedConfig::audit)): each row has one more value per worker that counts
//! that worker's increments, so what a read says it held, it says from the table's own contents, and [`check()`] need not
//! believe the program that is checked. (Counts are exact up to 2^24 in f32 tables.) Files are checked after the run by
//! `keyrange check-history`, schedules of the simulator in memory by the same function.
//!
//! ```text
//! file       8 bytes "krhist01", the last two digits being the version; u32 length; as many bytes of JSON, a [`Header`];
//!            then records, little endian, until the record End
//! Read   1   u64 key, u64 clock, u64 row_clock, u32 x workers counts
//! Inc    2   u64 key, u64 clock
//! Clock  3   u64 clock
//! Settled 4  u64 clock, f64 norm, f64 bound
//! Final  5   u64 key, u32 x workers counts
//! End    6
//! ```
//!
//! Read `file.rs`, then `check.rs`.

mod check;
mod file;
#[cfg(test)]
mod tests;

pub use check::{Summary, Violation, check};
pub use file::{FileRecorder, HistoryFile, open_folder};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::Staleness;
use crate::key_range::Key;

/// Something a worker did to a clocked table.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It read a row.
    Read {
        /// The row.
        key: Key,
        /// The worker's clock.
        clock: u64,
        /// The row is said to hold all increments at clocks below this.
        row_clock: u64,
        /// Increments it held, by rank of the worker who made them.
        counts: Vec<u32>,
    },
    /// It added to a row.
    Inc {
        /// The row.
        key: Key,
        /// The worker's clock.
        clock: u64,
    },
    /// It closed a clock.
    Clock {
        /// How many it has closed now.
        clock: u64,
    },
    /// It went on under a value bound.
    Settled {
        /// How many clocks it has closed.
        clock: u64,
        /// Largest element of its increments under way.
        norm: f64,
        /// The bound.
        bound: f64,
    },
    /// A row as it was when all workers were done; told by one worker.
    Final {
        /// The row.
        key: Key,
        /// Increments it held, by rank.
        counts: Vec<u32>,
    },
}

/// Whose history it is, and what was promised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Rank of the worker.
    pub rank: u32,
    /// Incarnation: a replacement has a higher one, and does the same clocks over again with the same increments.
    pub incarnation: u32,
    /// Workers of the job.
    pub workers: u32,
    /// How stale a read may be.
    pub staleness: Staleness,
    /// Whether changed rows come unasked.
    pub eager: bool,
}

/// Takes events as they happen.
pub trait Recorder: Send {
    /// Notes one. What goes wrong is told at the end.
    fn note(&mut self, event: &Event);
    /// Completes the record.
    ///
    /// # Errors
    /// The first error there was.
    fn finish(self: Box<Self>) -> Result<(), HistoryError>;
}

/// A history that can be gone through more than once.
pub trait History {
    /// Whose it is.
    fn header(&self) -> &Header;
    /// Its events from the first on.
    ///
    /// # Errors
    /// It cannot be read.
    fn events(&self) -> Result<Box<dyn Iterator<Item = Result<Event, HistoryError>> + '_>, HistoryError>;
}

/// A history in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Whose it is.
    pub header: Header,
    /// Its events.
    pub events: Vec<Event>,
}

impl History for Recorded {
    fn header(&self) -> &Header {
        &self.header
    }

    fn events(&self) -> Result<Box<dyn Iterator<Item = Result<Event, HistoryError>> + '_>, HistoryError> {
        Ok(Box::new(self.events.iter().cloned().map(Ok)))
    }
}

/// Why a history cannot be written or read.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The system said no.
    #[error("{file}: {error}")]
    Io {
        /// The file.
        file: PathBuf,
        /// What it said.
        error: std::io::Error,
    },
    /// It is not a history, or damaged.
    #[error("{file}, byte {at}: expected {expected}, got {got}")]
    Format {
        /// The file.
        file: PathBuf,
        /// Where.
        at: u64,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// Histories that do not belong together.
    #[error("the histories do not belong together: {0}")]
    Mixed(String),
}
