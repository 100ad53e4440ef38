//! What a worker's call can end with.

use std::time::Duration;

use thiserror::Error;

use crate::manager::{NodeName, SessionEnd};
use crate::node::NodeError;
use crate::worker::{SubmitError, TaskError};

/// Why a call of [`Worker`](super::Worker) failed. The text names the node it is about.
#[derive(Debug, Error)]
pub enum WorkerError {
    /// The request is impossible as it stands; nothing was sent.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The task failed.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// The job is over: a node died, the launcher ended it, or this worker has finished.
    #[error(transparent)]
    Job(#[from] SessionEnd),
    /// A link broke and could not be mended.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// It is not done yet. The task goes on and can be waited for again.
    #[error("{what} not finished within {limit:?}{}", hint(waits_for, silent))]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        limit: Duration,
        /// Nodes that have not done their part, as far as known.
        waits_for: Vec<NodeName>,
        /// Nodes that say nothing at present (stopped, or their host overloaded).
        silent: Vec<NodeName>,
    },
}

fn hint(waits_for: &[NodeName], silent: &[NodeName]) -> String {
    let list = |names: &[NodeName]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let mut text = String::new();
    if !waits_for.is_empty() {
        text += &format!("; waiting for {}", list(waits_for));
    }
    if !silent.is_empty() {
        text += &format!("; silent at present: {}", list(silent));
    }
    text
}
