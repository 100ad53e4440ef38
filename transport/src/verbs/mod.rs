//! The carrier over RDMA verbs: the peer's device WRITEs frames into this side's ring.
//!
//! What lives here: libibverbs as far as it is needed (`ffi`, `library`), the choice of device and address (`sysfs`, `choose`,
//! `device`), and a link made of two rings. What never does: identity and trust; run [`crate::handshake`] on the socket first.
//!
//! **The road of a frame.** It is written into a *staged* ring of the same size as the peer's, registered for sending, with the
//! same [`Producer`](crate::ring::Producer) as on shared memory, brought to the same place of the peer's ring, and polled there by
//! the same [`Consumer`](crate::ring::Consumer). Nothing may rest on the order in which the bytes of *one* WRITE land, not even the
//! eight of the frame's word. So it goes in one of two ways:
//!
//! * small: the whole record, with the zero that the next word will land on, in one WRITE_WITH_IMM, whose completion at the peer says
//!   that everything lies there. Each takes a receive of the peer's, so only so many may be under way;
//! * large, or beyond those: two WRITEs in one doorbell: everything but the word, then the word alone, which carries an arrival bit in
//!   each byte (`wire`).
//!
//! (Two WRITEs take half as long again as one with a signal; for large frames the signal gained nothing. What a wait costs is the
//! poll: the next word alone is looked at, the completions when it has begun to land.)
//!
//! `bash ci/rdma.sh perftest`, Soft-RoCE on an emulated processor, where only ratios mean anything (best of 5, taking turns):
//!
//! ```text
//!                                            ours   perftest   ratio   target
//!   64 B round trip, typical, us one way    11.82       9.32    1.27   <= 1.5
//!   64 KiB stream, MB/s                     93.71     100.03    0.94   >= 0.9
//!   64 KiB, copied in and read              79.04     100.03    0.79
//!   1 MiB stream, MB/s                      97.41      99.27    0.98   >= 0.9
//!   1 MiB, copied in and read               93.37      99.27    0.94
//! ```
//!
//! A large frame's bytes may also lie in lent memory: the first WRITE is then gathered from there (`lend`, `pieces`).
//!
//! Credits are WRITEs into the producer's mailbox, with arrival bits of their own.
//!
//! **Sleeping.** A flag in the peer's memory could be missed while a frame is under way, so a sleeper *asks* for a wake and says
//! from which position on: WRITE_WITH_IMM, acknowledged before it sleeps. The peer answers with another when its stream is past that
//! position, at once or at its next commit. An asleep peer is woken by the question, looks, and sleeps again; questions stay
//! open until answered, so two idle sides fall silent.
//!
//! **Death** surfaces by the handshake's socket, which stays open, and by requests that the peer's device no longer acknowledges.
//! What befalls the device, its port or the queue pair itself comes as an
//! event of the device (`events`), in the same epoll set. Each link has a protection domain of its own: a peer reaches its own ring and mailbox and nothing else.
//!
//! **Why not the `ibverbs` crate:** it builds rdma-core's headers with cmake and libclang, links libibverbs and libnl, so that the
//! program would not start where they are missing, and lacks WRITE, inline data and selective signalling in its safe part. Here
//! the few declarations are written down, held to the header by assertions, and the library is loaded when it is wanted: one
//! program for machines with and without RDMA, built without either.
//!
//! Read `wire`, `endpoint`, `link`, `send`, `signals`, `lend`; then `queue_pair`, `completion`, `status`, `device`, `events`; `exchange` is what crosses the socket.

mod choose;
mod completion;
mod connect;
mod device;
mod endpoint;
mod error;
mod events;
mod exchange;
mod ffi;
mod lend;
mod library;
mod link;
mod memory;
mod pieces;
mod queue_pair;
mod send;
mod signals;
mod status;
pub mod sysfs;
mod wire;

pub use choose::Selection;
pub use connect::{VerbsConfig, connect};
pub use device::Device;
pub use error::VerbsError;
pub use link::VerbsLink;
pub use sysfs::LinkLayer;
