//! Clocks: how stale what a worker reads may be.
//!
//! A clocked table ([`Aggregation::Clocked`](crate::table::Aggregation::Clocked)) is read row by row and added to; each of
//! its workers says now and then that a clock of its work is done. [`Staleness`] is the one knob: a worker at clock `c`
//! reads all increments of the clocks before `c - s`, of whichever worker, and always its own. 0 is bulk synchronous,
//! unbounded is asynchronous. The switch `eager` has the servers send changed rows when the clocks of all others have
//! advanced (ESSP), instead of the worker asking when what it has is too old (SSP).
//!
//! Clocks count from 0; a row of clock `r` holds every increment made at the clocks below `r`, so it may be read at clock
//! `c` if `r >= c - s`. Sources: Ho et al., NIPS'13; Dai et al., arXiv 1410.8043; and the behaviour of their program.
//!
//! A [`Worker`](crate::client::Worker) belongs to one thread at a time, so there is one cache per worker: what the papers
//! call thread cache and process cache is the same here. No I/O and no time live in [`ClockedCore`], so that the simulator
//! drives it too.
//!
//! [`EarlyConfig`] has the most significant increments of the clock at hand leave before it is closed, within a budget of
//! bytes per second, and the servers' changed rows before the others' clocks have advanced. It promises nothing: reads get
//! fresher, the bound, read-my-writes and exactly-once stay what they are. What a worker sent so of a clock that it did
//! not live to close is made good by the worker that replaces it. For the value bound such increments are under way until
//! their clock has been reached by all, like those that leave when it is closed.
//!
//! Read `range_clock.rs` (what servers count with), `config.rs`, `rows.rs` (the cache), `streams.rs` (rows that come
//! unasked), `linger.rs` and `level.rs` (a moment for the others), `core.rs` and `fetch.rs` (what decides), `early.rs` and
//! `sender.rs` (what leaves early), `takeover.rs` (a worker that replaces another), `stats.rs`, `table.rs` (the calls).

mod config;
mod core;
pub(crate) mod early;
mod fetch;
mod level;
mod linger;
mod range_clock;
mod rows;
mod sender;
mod stats;
mod streams;
mod table;
mod takeover;
#[cfg(test)]
mod tests;

pub use self::core::ClockedCore;
pub use config::{ClockError, ClockedConfig, Staleness};
pub use early::{EarlyConfig, EarlyOrder};
pub use range_clock::RangeClock;
pub use stats::{ClockStats, EarlyTraffic};
pub use table::ClockedTable;

/// Which of these workers' clocks (by rank) are below `time`, and where they are.
pub fn behind(workers: &[RangeClock], time: u64) -> impl Iterator<Item = (u32, u64)> + '_ {
    (0..).zip(workers.iter().map(RangeClock::min)).filter(move |&(_, at)| at < time)
}
