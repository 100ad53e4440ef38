//! Frames between two memories.
//!
//! A link joins two nodes and carries frames both ways, in order, without loss, until it ends with a reason.
//! The receiving end is always a byte ring in the receiver's own memory; the carriers differ in who fills it:
//! the peer's stores ([`shm`], [`in_process`]), the peer's RDMA device ([`verbs`]) or the local read side of a socket
//! ([`tcp`]). What a frame means is not known here: no keys, no gradients, no servers.
//!
//! Read [`link`] first: it is the contract that every carrier keeps. Then [`region`] (the memory), [`ring`]
//! (the protocol on it), [`shm`] (two rings and two doorbells), [`wait`] (how a thread sleeps on many links).

#[cfg(not(loom))]
pub mod fault;
#[cfg(not(loom))]
pub mod handshake;
#[cfg(not(loom))]
pub mod in_process;
pub mod link;
pub mod region;
pub mod ring;
#[cfg(not(loom))]
pub mod shm;
#[cfg(not(loom))]
pub mod tcp;
#[cfg(not(loom))]
pub mod verbs;
#[cfg(not(loom))]
pub mod wait;
