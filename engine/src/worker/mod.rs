//! The worker's core: push, pull and push-pull as tasks that end exactly once.
//!
//! [`WorkerCore`] cuts each request over the shards of the range map, numbers the pieces per session, keeps them until
//! they are answered, sends them again when asked, and ends every task with an [`Outcome`] or a [`TaskError`]. It has no
//! I/O, no clock and no threads: the caller gives it the received frames, an [`Outbox`](crate::session::Outbox) and the
//! time. It never waits; waiting is the client's business.
//!
//! Value arrays are handed over by ownership and come back in the outcome (foreign callers lend theirs for as long as the
//! task lives), so nothing is copied but into the frame, and a request can be sent again from where its values lie.
//!
//! # Order
//!
//! Tasks run at once unless told otherwise. Whoever wants an order has three ways, which compose:
//!
//! * *The caller walks the graph*: a task starts [after](Options::after) others have finished. [`BoundedDelay`] says after
//!   which, so that no task is more than tau ahead (0 is sequential, `u64::MAX` eventual; it may change at any time).
//!   Failure of a task fails those that follow it.
//! * *Groups*: tasks made of tasks. A [group](WorkerCore::group) ends when its sub-tasks have ended; its failure, cancel,
//!   deadline and order are theirs.
//! * *Shipped graphs*: a [`Graph`] leaves whole, one frame per shard, and each shard runs its part of it by itself.
//!
//! "The update depends on the pushes of all workers" is what a table that aggregates does; [`WorkerCore::wait_update`] and
//! [`Graph::wait`] tell when it is so, without values.
//!
//! The caller's loop: `handle` each received frame, then `poll(now)`; submit at any time; `take` finished tasks.
//!
//! Read `request.rs` (what is asked), `tasks.rs` (what is open), `arrays.rs` (its values), `call.rs`, `pieces.rs` (how it is cut), `session.rs` (what is
//! under way), `core.rs` with `check.rs` and `ending.rs`, `group.rs` (tasks made of tasks), `graph.rs` (graphs shipped whole), `send.rs`,
//! `receive.rs`, `filtered.rs`, `rows.rs` (what comes unasked), `delay.rs` (bounded delay) and `traffic.rs` (bytes by table).

mod arrays;
mod call;
mod check;
mod core;
mod delay;
mod ending;
mod filtered;
mod graph;
mod group;
mod pieces;
mod receive;
mod request;
mod rows;
mod send;
mod session;
mod tasks;
mod traffic;

pub use self::core::{WorkerConfig, WorkerCore};
pub use arrays::{Borrowed, BorrowedMut, LentPart, Part, PushArray};
pub use call::{BorrowedBytes, Receive};
pub use delay::BoundedDelay;
pub use graph::{Graph, NodeId};
pub use request::{
    Callback, Keys, Options, Outcome, PeerFault, SubmitError, TableHandle, Target, TaskError, TaskId,
    TaskState,
};
pub use rows::RowsFrame;
pub(crate) use send::{CACHED_KEYS_MIN, GATHERED_BYTES_MIN};
pub(crate) use session::{CALLS_KEPT, CALLS_MAX};
pub use traffic::{FrameBytes, TableTraffic};
