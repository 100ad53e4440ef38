//! The shard's core: who owns a range of keys applies what is asked of them.
//!
//! [`ShardCore`] takes one frame at a time and answers through an [`Outbox`](crate::session::Outbox). It has no I/O, no
//! clock and no threads, and it never waits: an answer that finds no room is kept as a description (not as bytes) and
//! sent by [`ShardCore::flush`]; an aggregated update keeps the contributions until all workers' are in.
//!
//! The caller's loop: `handle` every frame that has arrived, then `flush` once (acknowledgements of consecutive pushes
//! leave as one frame), then release the frames; `poll` with the time, for what goes before a clock has advanced.
//!
//! Cost of a repeated key list: one look-up of its signature, then the kernels on the frame's memory. Of a contribution
//! that is not the last: one copy into a recycled buffer.
//!
//! Read `core.rs`, `requests.rs` (immediate), `updates.rs` (aggregated), `clocked.rs` with `streams.rs` and `early.rs` (clocked), `replies.rs`,
//! `graph.rs` (requests made of requests), then `key_cache.rs`, `tables.rs`,
//! `lent.rs`, `filtered.rs` and `buffers.rs`.

pub(crate) mod buffers;
mod clocked;
mod core;
mod early;
mod filtered;
mod graph;
mod key_cache;
mod lent;
mod replies;
mod requests;
mod streams;
mod tables;
mod updates;

pub use self::core::{ShardConfig, ShardCore, ShardStats, StaleEpoch};
pub use crate::worker::PeerFault;

/// Most frames in which one worker's contribution to one aggregated update can come.
pub const CHUNKS_MAX: usize = 1024;
