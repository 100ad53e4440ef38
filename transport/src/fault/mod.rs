//! Seeded faults around any carrier: drop, duplicate, delay, reorder, kill.
//!
//! [`Faulty`] wraps a link and is one. It lives on the sending side: the wrapped peer sees frames missing,
//! twice, late or out of order, or the link ending without a word. Which frame suffers what depends on the
//! plan's seed, the stream's number and the frame's number, never on time, so a failing run replays. Never here:
//! network simulation with delays in seconds. Read `plan` (what is asked for), then `faulty` (how it is done).

mod faulty;
mod plan;

pub use faulty::{FaultCounts, Faulty};
pub use plan::{FaultError, FaultPlan};
