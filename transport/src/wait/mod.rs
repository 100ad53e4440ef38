//! How a thread waits for many links: spin, then yield, then park on one epoll set.
//!
//! Spinning answers soonest, but only while no other thread wants the core; yielding lets others run for about a
//! microsecond each; a parked thread costs nothing, but takes 40 to 60 microseconds to wake on an idle core (about
//! 4 on a busy one). `budget` decides between them as a value without clock; `Waiter` does what it says.
//!
//! ```text
//!   loop {
//!       poll every link: progress, receive, send        found something: waiter.worked(), again
//!       waiter.wait(links, deadline)                    Poll or Ready: again · TimedOut: the caller's affair
//!   }
//! ```

mod budget;
mod waiter;

pub use waiter::{LinkSet, WaitConfig, Waiter, Woken};
