//! How two nodes meet: who are you, which job, prove that you know its secret.
//!
//! Here live the handshake's bytes, the two sides of it as values without I/O ([`Initiator`], [`Responder`]),
//! and a driver with a deadline over any connected stream socket ([`initiate`], [`respond`]). What a link
//! carries afterwards never lives here. Read this page, then `wire`, `machine`, `driver`.
//!
//! Four messages, each a 16-byte preface and a body of bounded length:
//!
//! ```text
//! initiator                                   responder
//!   Hello  (job, identity, wishes, nonce)  ─►
//!                                          ◄─  Answer (job echoed, identity, nonce)
//!   Proof  (HMAC)                          ─►
//!                                          ◄─  Welcome (HMAC)   or   Refusal (reason)
//! ```
//!
//! Both proofs are HMAC-SHA256 under a key derived from the job's secret, over a label for the direction
//! and the exact bytes of Hello and Answer, so every field of both sides is covered, a recorded proof is
//! worth nothing against a fresh nonce, and a proof sent back to its maker fails. The responder answers
//! every well-formed Hello alike: whether job or secret were wrong it says only after the proof was checked,
//! and "wrong job" only to a peer whose proof was right.
//!
//! The handshake authenticates the peers once; it does not encrypt, and it does not protect the stream
//! after it against somebody who can rewrite packets on the path.

mod driver;
mod error;
mod machine;
mod wire;

use std::fmt;

pub use driver::{initiate, respond};
pub use error::{HandshakeError, Refusal};
pub use machine::{Initiator, Responder, Side};
pub use wire::{MESSAGE_BYTES_MAX, NAME_BYTES_MAX, VERSION};

use crate::link::CarrierKind;

/// A fresh random number of one side of one handshake.
pub type Nonce = [u8; 32];

/// The job both sides belong to and the secret that proves it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The job's id, chosen by whoever starts the job. Not secret.
    pub job: [u8; 16],
    /// The job's secret, any length. May be empty only between processes of one user on one host
    /// (Unix socket), or when both ends of a TCP connection are loopback addresses.
    pub secret: Vec<u8>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("job", &self.job).field("secret", &"(hidden)").finish()
    }
}

/// What one side says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Node id within the job; what an id not yet assigned looks like is the caller's convention.
    pub node: u32,
    /// Role, numbered by the caller.
    pub role: u8,
    /// A name for messages to people: at most [`NAME_BYTES_MAX`] bytes of UTF-8 without control characters.
    pub name: String,
    /// The epoch of the membership this side knows.
    pub epoch: u32,
    /// Bytes of the receive ring this side will use on the link (on tcp, a quarter of it bounds the peer's frames).
    pub ring_bytes: u32,
}

/// What the initiator wants of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// The carrier to be used afterwards.
    pub carrier: CarrierKind,
    /// What the link is for, numbered by the caller (control link, data link to shard k, ...).
    pub purpose: u32,
}

/// The peer as the handshake proved it, and what both agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub identity: Identity,
    /// What the initiator asked for and the responder granted.
    pub request: Request,
}

#[cfg(test)]
mod tests;
