//! What can be set.

use serde::{Deserialize, Serialize};

use super::filters::FilterPlan;
use crate::sparse_lr::protocol::Penalty;

/// Settings of the solver. All workers must have the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SolverConfig {
    /// The problem.
    pub penalty: Penalty,
    /// Blocks under way besides the one being computed.
    pub delay: usize,
    /// Whether steps are as long as the theorem of the method allows with the delay ([`guard`](super::guard)), by an
    /// estimate from the data; otherwise the metric is raised by `1 + delay / (4 block_ratio)`, and by half whenever a pass
    /// raises the objective.
    pub step_guard: bool,
    /// Passes over the blocks, at most.
    pub max_passes: u64,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f64,
    /// Whether to stop only when the duality gap proves the tolerance; otherwise a pass over all features that gains
    /// less than a ten-thousandth of it suffices, too.
    pub certificate: bool,
    /// Blocks per nonzero of an example.
    pub block_ratio: f64,
    /// What need not be sent.
    pub filters: FilterPlan,
    /// How much of the largest violation per example the KKT filter tolerates, if it is on.
    pub kkt_ratio: f64,
    /// Whether to make no Newton steps: only the published method's diagonal metric.
    pub diagonal_only: bool,
    /// Ids of features that form a block of their own, visited first.
    pub prior: Vec<u64>,
    /// How often the prior block is visited before the first pass.
    pub prior_rounds: u32,
    /// Seed of the block order.
    pub seed: u64,
    /// Longest wait for the other nodes, in seconds.
    pub patience_s: f64,
}

impl Default for SolverConfig {
    fn default() -> Self {
        SolverConfig {
            penalty: Penalty::default(),
            delay: 0,
            step_guard: false,
            max_passes: 100_000,
            tolerance: 1e-4,
            certificate: false,
            block_ratio: 4.0,
            filters: FilterPlan::default(),
            kkt_ratio: 10.0,
            diagonal_only: false,
            prior: Vec::new(),
            prior_rounds: 5,
            seed: 1,
            patience_s: 600.0,
        }
    }
}
