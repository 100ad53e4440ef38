//! The worker's handle: push, pull and the rest as calls that wait when asked to.
//!
//! A blocking façade over [`WorkerCore`](crate::worker::WorkerCore), its links, and the session with the manager.
//! Everything that decides is in the core; here are only the loop and the deadlines. One [`Worker`] belongs to one
//! thread at a time (it is `Send`); nothing happens between its calls, so call [`Worker::poll`] now and then when
//! tasks should go on while the caller computes.
//!
//! Read `worker.rs` (the calls), `tasks.rs` (groups and graphs of them), `lend.rs` (pushes without a copy), `drive.rs` (views on top),
//! `pump.rs` (the loop under them), `error.rs`.

mod drive;
mod error;
mod lend;
#[cfg(test)]
mod mending_tests;
mod pump;
mod tasks;
mod worker;

pub use error::WorkerError;
pub use pump::Mending;
pub(crate) use pump::Pump;
pub use worker::{Worker, WorkerConfig};
