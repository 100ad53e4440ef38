//! The simulator: the same cores under a network that loses, repeats, reorders and delays frames, breaks links, and pauses
//! and replaces workers, all drawn from one seed.
//!
//! A run plays scripts of several workers against several shards and checks that every acknowledged push, contribution and
//! call was applied exactly once, that nothing was ever applied twice, that pulls see what was acknowledged before they
//! began, and that everything comes to its end. A seed that fails, fails again: `cargo run -p keyrange --example sim --
//! --seed N`. No thread, clock or socket is involved.
//!
//! Each stroke at a key adds its own power of 4, so a key's value, read in base 4, tells how often each stroke was applied
//! (`ledger.rs`). Read `config.rs`, `network.rs`, `ledger.rs`, `actor.rs`, `graphs.rs`, `world.rs`; `mailbox.rs` is a plain
//! wire for tests. In more than half of the schedules requests go through filters (`filters/`). Clocked tables have a run of
//! their own, [`run_clocked`].

mod actor;
mod clocked;
mod config;
mod filters;
mod graphs;
mod ledger;
mod mailbox;
mod network;
mod world;

pub use clocked::run_clocked;
pub use config::SimConfig;
pub use filters::{ChainPair, SimChains};
pub use mailbox::{FrameBytes, Mailbox};
pub use world::{SimReport, Violation, run};
