//! Nodes: how a server or a worker joins a job, gets its links, and serves.
//!
//! What a request means is not known here: frames go from links into cores and back.
//!
//! Reading order: [`meet`](Membership) (to the manager), [`carrier`] (which carrier, and why), `dial` and `inbox` (how
//! links come about at either end), `links` (the links of one thread as an outbox), `shard_thread` (the loop around
//! [`ShardCore`](crate::shard::ShardCore)), `server` (the process around the loops).

pub mod carrier;
pub(crate) mod dial;
mod error;
pub(crate) mod inbox;
pub(crate) mod links;
mod meet;
pub(crate) mod open;
pub(crate) mod server;
pub(crate) mod shard_thread;
pub(crate) mod verbs;
pub(crate) mod worker;

pub use error::NodeError;
pub use meet::Membership;
pub use server::{ServerConfig, ServerSummary, run_server};
pub use shard_thread::ShardSummary;
pub use worker::connect_worker;
