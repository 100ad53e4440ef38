//! Filters among the faults: chains drawn from the seed, and what must hold of the values they carry.
//!
//! Chains that lose nothing (and `significant` with a bound below every stroke) go with the requests whose books are exact
//! already. Any others go with requests about a table of their own, [`LOSSY`], and the [`oracle`] of that table: it knows
//! what was asked, sees every frame a shard takes in, and follows each row. Read `chains.rs`, `table.rs`, `oracle.rs` with
//! `expected.rs`, `requests.rs`.

mod chains;
mod expected;
mod oracle;
mod requests;
mod table;

pub(super) use self::chains::WorkerChains;
pub use self::chains::{ChainPair, SimChains};
pub(super) use self::oracle::{Oracle, Who};
pub(super) use self::requests::{LossyKeys, LossyRequest, begin, drain};
pub(super) use self::table::{LOSSY, Updates, register, table_spec};
