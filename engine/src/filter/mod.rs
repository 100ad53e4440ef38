//! Filters: what need not be sent, and what may be sent in fewer bytes.
//!
//! A [`ChainSpec`] is a list of [`FilterSpec`]s, written `key-cache,significant:0.1,fixed:2,lz4`. A [`Chain`] is one at
//! work in one direction of one worker, with its memory and counters. [`Filters`] in a request's
//! [`Options`](crate::worker::Options) names the chain for what is pushed, and the chain that the shards are to apply to
//! what is pulled. A request without filters takes the plain road and pays one test of a flag.
//!
//! # Three stages
//!
//! Rows are dropped or changed (`significant`, `frequency`, `bloom`, `zeros`, `skip`, `noise`, the user's own); the values
//! of the rows left become shorter codes (`fixed`, `q2.13`, `f16`, `bf16`: one of them); keys and codes together become
//! an LZ4 block (`lz4`). [`ChainSpec::check`] refuses any other order with its reason. Dropping rows leaves the key list
//! and its signature as they are (a bitmap says which rows follow), so key caching goes with every filter. KKT is no
//! filter of messages: it decides what is computed at all and belongs to the application.
//!
//! The receiver undoes all that before anything else sees the frame, into memory of its own, so that everything behind it
//! works on plain frames only. It needs to know the code and the block, not the filters that dropped rows.
//!
//! # What holds
//!
//! * A push that is sent again has the same bytes but for its LZ4 block: random numbers follow from the chain's seed, sender and number, and what
//!   filters with a memory made is kept until the task ends. So exactly-once delivery makes `significant` exact:
//!   what was not sent is still held back ([`Chain::take_held_back`]).
//! * An answer of a stream of pulls (`significant`) leaves rows out only where it follows its predecessor (`streams.rs`).
//!   Of a request that came more than once only the first answer is part of its stream.
//! * Arrays that are not finite travel uncoded through `fixed` and `q2.13`: a range with infinity has no steps.
//! * A push that leaves out rows which are not zero (`significant`, `skip`, `frequency`, `bloom`, rows dropped by the user's
//!   own) is for functions that add: worker and shard refuse it for any other ([`ServerFn::adds`](crate::update::ServerFn::adds)).
//! * Nothing a peer sends can panic or grow memory beyond the largest frame; a request whose filters cannot be undone is
//!   refused, an answer ends its task, and the link lives on.
//!
//! # The body of a FILTERED frame
//!
//! ```text
//! header, 64 bytes    flags | FILTERED; all other fields as the undone frame has them
//! 64 u8  code         0 values as they are, 1 f16, 2 bf16, 3 q2.13, 4 to 6 fixed point of 1 to 3 bytes
//! 65 u8  flags        1 bitmap, 2 LZ4 block, 4 rows not there are as the stream's last answer left them,
//!                     8 pushes: rows not there are missing from a sum and not zero, or some are there for others
//! 66 u16 0
//! 68 u32 rows         rows there are
//! 72 u32 plain_bytes  of keys, bitmap and arrays together, before the block
//! 76 u32 number       answers: number within the stream of pulls, 0 for none
//! 80 keys, bitmap, arrays, or the LZ4 block that they became
//!      keys          as in the plain frame: u64 x key_count, a signature, or nothing
//!      bitmap        u64 x ceil(key_count / 64); row i is bit i mod 64 of word i / 64
//!      arrays        `parts` arrays of rows x width codes; fixed point has f64 smallest value, f64 step before them
//! ```
//!
//! # The wish: what the answer is to go through
//!
//! It stands at the end of requests with the flag WISH, whether they are filtered or plain; so a request that only wishes
//! is read where it lies.
//!
//! ```text
//!  +  0 u64 seed         of what is random in the answer
//!  +  8 u128 stream      names the keys among the streams of this worker and table
//!  + 24 u32 number       of this pull within the stream, 0 for none
//!  + 28 u32 whole        1 if everything is needed
//!  + 32 text             the chain, UTF-8, at most 512 bytes
//!  +    u16 bytes        of all this, these two included
//! ```
//!
//! Read `spec.rs` and `chain_spec.rs` (what can be said), `pair.rs` (what a request has), `chain.rs` (how it is run), `rows.rs` with `residuals.rs`,
//! `streams.rs` and `admission.rs`, `code.rs`, `pack.rs`, then `wire.rs` and `undo.rs`; `user.rs` for filters of the
//! program's own, `counters.rs` and `trial.rs` for figures. Worker and shard use all this in their own `filtered.rs`.

mod admission;
mod chain;
mod chain_spec;
mod code;
mod counters;
mod pack;
mod pair;
mod residuals;
mod rows;
mod spec;
mod streams;
#[cfg(test)]
mod tests;
mod trial;
mod undo;
mod user;
mod wire;

pub use admission::Sketch;
pub use chain::Chain;
pub use chain_spec::ChainSpec;
pub use counters::FilterReport;
pub use pair::Filters;
pub use spec::{Direction, FILTERS_MAX, FilterSpec, FilterSpecError, GRAMMAR, Stage};
pub use trial::{Trial, TrialResult};
pub use undo::FilterError;
pub use user::{FilterRegistry, PartView, RowView, UserFilter};

pub(crate) use code::Coded;
pub(crate) use rows::{Outgoing, RowKeys};
pub(crate) use streams::StreamName;
pub(crate) use undo::{Context, Scratch, undo};
pub(crate) use wire::{FILTER_BYTES_MAX, Parcel, TEXT_BYTES_MAX, Wish, chain_text, plain_bytes_max};
