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
//! The caller's loop: `handle` each received frame, then `poll(now)`; submit at any time; `take` finished tasks.
//!
//! Read `request.rs` (what is asked), `tasks.rs` (what is open), `arrays.rs` (its values), `pieces.rs` (how it is cut), `session.rs` (what is under
//! way), `core.rs` with `check.rs` and `ending.rs`, `send.rs`, `receive.rs`, `filtered.rs`, `delay.rs` (bounded delay) and
//! `traffic.rs` (bytes by table).

mod arrays;
mod check;
mod core;
mod delay;
mod ending;
mod filtered;
mod pieces;
mod receive;
mod request;
mod send;
mod session;
mod tasks;
mod traffic;

pub use self::core::{WorkerConfig, WorkerCore};
pub use arrays::{Borrowed, BorrowedMut, LentPart, Part, PushArray};
pub use delay::BoundedDelay;
pub use request::{
    Callback, Keys, Options, Outcome, PeerFault, SubmitError, TableHandle, Target, TaskError, TaskId,
    TaskState,
};
pub(crate) use send::CACHED_KEYS_MIN;
pub(crate) use session::CALLS_MAX;
pub use traffic::{FrameBytes, TableTraffic};
