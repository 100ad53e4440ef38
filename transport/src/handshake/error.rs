//! What can go wrong in a handshake, as data.

use thiserror::Error;

use crate::link::CarrierKind;

/// Why the responder turned the initiator away, as the last message says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The versions differ (the preface of the refusal carries the responder's).
    Version,
    /// The proof did not verify: another secret, or an attack.
    Proof,
    /// The proof was right, the job is another one.
    Job,
    /// The carrier wanted is not served on this socket.
    Carrier,
    /// The initiator's bytes were not a valid message.
    Malformed,
}

/// Why a handshake failed. `expected` is always this side's view.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HandshakeError {
    /// The first bytes are not this protocol's.
    #[error("the peer is not a keyrange node: its first bytes are {got:02x?}; check the address and port")]
    NotKeyrange {
        /// The first bytes received.
        got: [u8; 8],
    },
    /// Another protocol version.
    #[error("the peer speaks protocol version {got}, expected {expected}; run the same release on all nodes")]
    WrongVersion {
        /// This side's version.
        expected: u16,
        /// The peer's.
        got: u16,
    },
    /// The peer proved the secret but belongs to another job.
    #[error("the peer belongs to another job than {ours:02x?}; check the job id and the address")]
    WrongJob {
        /// This side's job.
        ours: [u8; 16],
    },
    /// The peer did not prove that it knows this job's secret, or could not verify our proof.
    #[error("the peer does not have this job's secret; give all nodes the same secret")]
    WrongSecret,
    /// The carrier wanted is not served by the responder on this socket.
    #[error("carrier {wanted} is not served on this connection; choose another carrier or address")]
    WrongCarrier {
        /// What the initiator asked for.
        wanted: CarrierKind,
    },
    /// The peer found our bytes malformed.
    #[error("the peer refused our message as malformed; something on the path alters bytes")]
    RefusedAsMalformed,
    /// A field of a message is outside its bounds.
    #[error("malformed handshake: {field} is {got}, expected {expected}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What would have been right.
        expected: String,
        /// What came.
        got: String,
    },
    /// Nothing came in time.
    #[error("timed out waiting for the peer's {waiting_for}; is it running and reachable?")]
    TimedOut {
        /// Which message.
        waiting_for: &'static str,
    },
    /// Something came, but not all of it in time.
    #[error("the peer is too slow: {got} of {wanted} bytes of its {waiting_for} came before the deadline")]
    TooSlow {
        /// Which message.
        waiting_for: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        wanted: usize,
    },
    /// The peer hung up.
    #[error("the peer hung up before its {waiting_for}; its own log says why")]
    Closed {
        /// Which message was due.
        waiting_for: &'static str,
    },
    /// An empty secret where one is required.
    #[error(
        "a secret is required to talk to {peer}: it is neither a process of this user on this host nor a loopback address"
    )]
    SecretRequired {
        /// Who the peer is, as far as known.
        peer: String,
    },
    /// This side's own identity cannot be sent.
    #[error("this node's {field} is {got}, expected {expected}")]
    BadLocal {
        /// Which field.
        field: &'static str,
        /// What would have been right.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The operating system refused.
    #[error("{call} failed during the handshake: {error}")]
    Os {
        /// Which call.
        call: &'static str,
        /// Its error.
        error: String,
    },
}
