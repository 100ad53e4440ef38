//! Why a node could not begin or go on.

use keyrange_transport::handshake::HandshakeError;
use keyrange_transport::link::LinkEnd;
use keyrange_transport::verbs::VerbsError;
use thiserror::Error;

use super::carrier::RouteError;
use crate::key_range::RangeMapError;
use crate::manager::{Address, NodeName, PlanError, SessionEnd};

/// Why a node could not begin or go on. The text names the peer it is about.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The manager cannot be reached.
    #[error("no manager answers at {address}: {error}")]
    NoManager {
        /// Where it should be.
        address: Address,
        /// What came instead.
        error: std::io::Error,
    },
    /// The manager's handshake failed.
    #[error("the manager at {address}: {error}")]
    ManagerHandshake {
        /// Where it is.
        address: Address,
        /// Why.
        error: HandshakeError,
    },
    /// The job is over for this node.
    #[error(transparent)]
    Session(#[from] SessionEnd),
    /// No carrier joins this node and a server.
    #[error("{server}: {error}")]
    Route {
        /// The server.
        server: NodeName,
        /// Why.
        error: RouteError,
    },
    /// RDMA was demanded, and this node has none that works.
    #[error("carrier verbs was demanded: {0}")]
    Verbs(#[from] VerbsError),
    /// The RDMA port that was named cannot be used.
    #[error("an RDMA port was selected: {0}")]
    VerbsSelection(#[source] VerbsError),
    /// A peer cannot be connected.
    #[error("cannot connect to {peer} at {address}: {error}")]
    Connect {
        /// Who.
        peer: NodeName,
        /// Where.
        address: Address,
        /// Why.
        error: String,
    },
    /// This node cannot make its half of a link; trying again would not help.
    #[error("no link to {peer}: {error}")]
    Open {
        /// Who.
        peer: NodeName,
        /// Why.
        error: String,
    },
    /// A link broke and could not be mended.
    #[error("the link to {peer} ended: {end}")]
    Link {
        /// Who is at the other end.
        peer: NodeName,
        /// Why.
        end: LinkEnd,
    },
    /// A peer sent what no correct peer sends.
    #[error("{peer} broke the protocol: {fault}")]
    Fault {
        /// Who.
        peer: NodeName,
        /// Expected and got.
        fault: String,
    },
    /// The job's keys cannot be split.
    #[error("the manager's range map: {0}")]
    Map(#[from] RangeMapError),
    /// The job cannot be as planned.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A setting is out of bounds.
    #[error("{what}: expected {expected}, got {got}")]
    Config {
        /// Which.
        what: &'static str,
        /// What would do.
        expected: String,
        /// What was given.
        got: String,
    },
    /// The operating system refused.
    #[error("{what}: {error}")]
    Os {
        /// What was being done.
        what: &'static str,
        /// Its error.
        error: std::io::Error,
    },
    /// A thread of this node panicked (a bug; the panic message is on the terminal).
    #[error("a thread of this node panicked")]
    Panicked,
}

impl NodeError {
    /// For `map_err` on system calls.
    pub(crate) fn os(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |error| NodeError::Os { what, error }
    }
}
