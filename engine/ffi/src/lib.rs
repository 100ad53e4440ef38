//! The C interface: the calls of the engine for programs in other languages.
//!
//! Each call checks what it is given (pointers, handles, lengths, threads), does one thing of the engine, and answers with
//! a [`kr_status`](status::kr_status) and a text of the calling thread. No panic crosses; what decides lives in the engine.
//! `include/keyrange.h` is made from these files by `ci/header.sh`; its opening words are in `cbindgen.toml`.
//!
//! Read `status.rs` (how calls end), `handle.rs` (what a pointer must be), `job.rs` (clusters, managers, servers),
//! `worker.rs`, `table.rs`, `keys.rs`, `request.rs` (push and pull), `bulk.rs` (calls with many bytes), `task.rs` (their
//! ends), `clocked.rs` (tables that are read at clocks), `clocked_config.rs` (how stale), `memory.rs` (lent arrays), `function.rs` (server functions in C) and `foreign.rs` (how they are run), `filter.rs` and
//! `foreign_filter.rs` (the same for filters), `chain.rs` (requests through filters), `log.rs`.
#![allow(non_camel_case_types, reason = "the names of the C interface")]
#![allow(clippy::missing_safety_doc, reason = "the header's first page says it for all calls")]
#![allow(clippy::too_many_arguments, reason = "C has no builders")]

pub mod bulk;
pub mod chain;
pub mod clocked;
pub mod clocked_config;
pub mod filter;
pub mod foreign;
pub mod foreign_filter;
pub mod function;
pub mod handle;
pub mod job;
pub mod keys;
pub mod log;
pub mod memory;
pub mod request;
pub mod status;
pub mod table;
pub mod task;
pub mod worker;
