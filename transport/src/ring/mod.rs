//! The receive ring: one producer, one consumer, a run of bytes in the consumer's memory.
//!
//! A record starts on a 64-byte line with the carrier's word (`u32` length, `u32` tag) and is written in this
//! order: contents, then a zero where the *next* word will land, then the word itself with release order. So the
//! consumer polls the word it waits for, a small message costs one cache-line transfer, and there is no tail
//! counter to chase. The head goes back lazily, an eighth of the ring at a time.
//!
//! Small records are bound by instructions, not by lines: two cores hand over 270 million lines a second, and a record of one
//! line costs either side some 8 ns with its caller. So the busy paths (`Consumer::take`, `Producer::claim_known_room`) are short
//! and inline, and everything else is out of line. What does not help, measured: a consumer that lags or backs off,
//! publishing several records at once; a consumer that fetches lines ahead gains a fifth in one run and loses as much in the next,
//! as it takes them from a producer that is near; `cldemote` makes it ten times slower.
//!
//! Either side may be hostile: the producer checks every head it reads, the consumer every length. Nothing
//! here makes a system call except the park (one `membarrier`); ringing a doorbell is the link's business, told by
//! the `bool` that `commit`, `release` and `publish` return.
//!
//! Read `layout` first, then `producer` and `consumer`; `sync` holds the atomics (loom's under `cfg(loom)`) and
//! the park's fences; `mapped` is the part that touches bytes.

mod consumer;
mod layout;
#[cfg(not(loom))]
mod mapped;
mod producer;
mod replica;
pub mod sync;

pub use consumer::{Consumer, Taken};
pub use layout::{Descriptor, LINE_BYTES, RingMemory, frame_bytes_max, padded};
#[cfg(not(loom))]
pub use mapped::MappedRing;
pub use producer::Producer;
