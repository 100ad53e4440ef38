//! What a clocked table is asked to guarantee, and what can be wrong with it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::early::EarlyConfig;
use crate::client::WorkerError;
use crate::worker::{SubmitError, TaskError};

/// How many clocks a read may be behind; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Staleness(Option<u64>);

impl Staleness {
    /// Every read holds all that was done in the clocks before (bulk synchronous).
    pub const NONE: Staleness = Staleness(Some(0));
    /// Reads are never waited for.
    pub const UNBOUNDED: Staleness = Staleness(None);

    /// At most `clocks` behind.
    ///
    /// # Errors
    /// [`ClockError::Staleness`] below 0.
    pub fn bounded(clocks: i64) -> Result<Staleness, ClockError> {
        u64::try_from(clocks)
            .map(|clocks| Staleness(Some(clocks)))
            .map_err(|_| ClockError::Staleness { got: clocks.to_string() })
    }

    /// The bound, if there is one.
    pub fn bound(self) -> Option<u64> {
        self.0
    }

    /// The least clock a row must have to be read at `clock`.
    pub fn oldest_at(self, clock: u64) -> u64 {
        self.0.map_or(0, |bound| clock.saturating_sub(bound))
    }
}

impl FromStr for Staleness {
    type Err = ClockError;

    fn from_str(text: &str) -> Result<Staleness, ClockError> {
        if text == "unbounded" {
            return Ok(Staleness::UNBOUNDED);
        }
        let got = || ClockError::Staleness { got: text.to_owned() };
        Staleness::bounded(text.parse().map_err(|_| got())?)
    }
}

impl fmt::Display for Staleness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(bound) => write!(f, "{bound}"),
            None => f.write_str("unbounded"),
        }
    }
}

/// How one worker uses a clocked table. Staleness and audit must be the same for all workers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClockedConfig {
    /// How stale a read may be.
    pub staleness: Staleness,
    /// Have changed rows sent when the others' clocks have advanced, instead of asking for old ones.
    pub eager: bool,
    /// Value-bounded: [`ClockedTable::clock`](super::ClockedTable::clock) returns once no element of the sum of this
    /// worker's increments under way is beyond `v0 / sqrt(clock)`. Needs `eager`. An increment counts as under way until
    /// every worker has come to its clock and this worker has heard of it: an approximation from above, for when others
    /// really read it nobody can know.
    pub value_bound: Option<f64>,
    /// Rows have one more value per worker, which counts its increments: a history of the reads then proves what they held.
    /// Such a table has `width + workers` values per row.
    pub audit: bool,
    /// Have increments of the clock at hand leave before it is closed and, with `eager`, changed rows before the others'
    /// clocks have advanced. Reads get fresher than they must be and nothing else changes. Needs a table of the function `add`.
    pub early: Option<EarlyConfig>,
}

impl ClockedConfig {
    /// Staleness `staleness`, nothing else.
    pub fn new(staleness: Staleness) -> ClockedConfig {
        ClockedConfig { staleness, eager: false, value_bound: None, audit: false, early: None }
    }

    /// Whether it makes sense.
    ///
    /// # Errors
    /// [`ClockError::ValueBound`].
    pub fn check(&self) -> Result<(), ClockError> {
        match self.value_bound {
            Some(got) if !(self.eager && got.is_finite() && got > 0.0) => {
                Err(ClockError::ValueBound { got, eager: self.eager })
            }
            _ => Ok(()),
        }
    }
}

/// Why a call of a clocked table failed.
#[derive(Debug, Error)]
pub enum ClockError {
    /// Not a staleness.
    #[error("a staleness is a number of clocks from 0, or `unbounded`, got {got}")]
    Staleness {
        /// What was given.
        got: String,
    },
    /// Not a value bound, or one without eager rows.
    #[error("a value bound is finite, above 0 and needs eager rows, got {got} with eager {eager}")]
    ValueBound {
        /// What was given.
        got: f64,
        /// Whether rows come unasked.
        eager: bool,
    },
    /// Not an order of rows that leave early.
    #[error("rows leave early in the order magnitude, fifo or random, got {got:?}")]
    EarlyOrder {
        /// What was given.
        got: String,
    },
    /// A budget with which nothing could leave early.
    #[error(
        "a budget for sending early is above 0 bytes per second, in parts of at least {least} bytes (one row), \
             got {bytes_per_s} bytes per second in parts of {burst_bytes}"
    )]
    EarlyBudget {
        /// Bytes per second given.
        bytes_per_s: u64,
        /// Bytes of a part given.
        burst_bytes: u64,
        /// Bytes that a part needs.
        least: u64,
    },
    /// The table does not count clocks.
    #[error("table {table} does not count clocks: create it with Aggregation::Clocked")]
    NotClocked {
        /// Its number.
        table: u16,
    },
    /// An increment of the wrong length.
    #[error("a row has {expected} values, got {got}")]
    Width {
        /// Values of a row.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// Read without having been fetched at this clock.
    #[error("row {key} was not fetched at clock {clock}: fetch the rows of a clock before reading them")]
    NotFetched {
        /// The row.
        key: u64,
        /// The worker's clock.
        clock: u64,
    },
    /// The clock must wait for what was asked before it.
    #[error("rows asked for at clock {clock} have not come yet: wait for them before the clock goes on")]
    Fetching {
        /// The worker's clock.
        clock: u64,
    },
    /// It took too long. The text names the workers that are behind.
    #[error("{what}: not within {limit:?}; {waits_for}")]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: std::time::Duration,
        /// Who is behind, or what else is known.
        waits_for: String,
    },
    /// A server answered nonsense.
    #[error("shard {shard} answered nonsense: {text}")]
    Answer {
        /// Index of the shard.
        shard: u32,
        /// Expected and got.
        text: String,
    },
    /// A request was impossible.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// A request failed.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The job is over, or a link broke.
    #[error(transparent)]
    Worker(#[from] WorkerError),
}
