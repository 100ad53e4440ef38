//! What workers and servers tell each other: the problem, the phases of the solver, and what a phase came to.

use serde::{Deserialize, Serialize};

/// Bytes of a pair of key and weight in answers to `support`.
pub const PAIR_BYTES: usize = 16;

/// What the server must know of the problem. Parameters of the table's function.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Penalty {
    /// Weight of the L1 norm, at least 0.
    pub l1: f64,
    /// Weight of half the squared L2 norm, at least 0.
    pub l2: f64,
    /// Radius of the trust region at first.
    pub radius_first: f64,
    /// Largest radius.
    pub radius_max: f64,
}

impl Default for Penalty {
    fn default() -> Self {
        Penalty { l1: 1.0, l2: 0.0, radius_first: 1.0, radius_max: 5.0 }
    }
}

impl Penalty {
    /// The radius after a step of `step`; workers and servers compute it alike and never send it.
    pub fn radius_after(&self, step: f64) -> f64 {
        (2.0 * step.abs() + 0.1).min(self.radius_max)
    }

    /// `l1 |w|_1 + l2/2 |w|^2`.
    pub fn of(&self, weights: &[f64]) -> f64 {
        weights.iter().map(|w| self.l1 * w.abs() + 0.5 * self.l2 * w * w).sum()
    }

    /// The same if every number is in its range, else a text that says which is not.
    pub fn check(self) -> Result<Self, String> {
        let finite = [self.l1, self.l2].iter().all(|x| x.is_finite() && *x >= 0.0);
        if !finite {
            return Err(format!("expected finite l1 >= 0 and l2 >= 0, got {} and {}", self.l1, self.l2));
        }
        let radii =
            self.radius_first > 0.0 && self.radius_first <= self.radius_max && self.radius_max.is_finite();
        if !radii {
            let (first, max) = (self.radius_first, self.radius_max);
            return Err(format!("expected 0 < radius_first <= radius_max, got {first} and {max}"));
        }
        Ok(self)
    }
}

/// What a push to the weights does until the next `begin`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// One proximal step per push.
    Update,
    /// Nothing changes; `end` tells how far the pushed gradient is from optimal.
    Measure,
    /// The sum of the first part replaces the weights.
    Assign,
}

/// Arguments of `begin`. Every worker sends it before its first push of the phase; the first to come counts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Begin {
    /// Number of the phase, greater than that of the phase before.
    pub number: u64,
    /// What pushes do.
    pub phase: Phase,
    /// A zero weight leaves the active set when its gradient is below `l1 - kkt_threshold`; infinity switches that off.
    pub kkt_threshold: f64,
    /// Whether every feature becomes active again.
    pub reset: bool,
    /// Factor on the curvature bounds, at least 1 (the inverse learning rate).
    pub damping: f64,
    /// Whether filters leave rows out of pushes: a feature without curvature then keeps its weight.
    pub partial: bool,
}

/// Arguments of `support`: which of a shard's nonzero weights to tell.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Leave out this many.
    pub skip: u64,
    /// Tell this many at most.
    pub pairs_max: u64,
}

/// Answer of `end`: this shard's part, the same for all workers that ask for the same phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct PhaseStats {
    /// `l1 |w|_1 + l2/2 |w|^2`.
    pub penalty: f64,
    /// Weights that are not 0.
    pub nonzeros: u64,
    /// Features not set aside.
    pub active: u64,
    /// Features of the shard.
    pub features: u64,
    /// Update: largest violation among zero weights.
    pub violation: f64,
    /// Measure: largest violation of the optimality conditions over all pushed features.
    pub kkt_violation: f64,
    /// Measure: largest absolute gradient of the loss.
    pub gradient_max: f64,
    /// Measure: `sum max(|g| - l1, 0)^2`.
    pub excess_squares: f64,
}

impl PhaseStats {
    /// The parts of two shards together.
    pub fn merge(self, other: PhaseStats) -> PhaseStats {
        PhaseStats {
            penalty: self.penalty + other.penalty,
            nonzeros: self.nonzeros + other.nonzeros,
            active: self.active + other.active,
            features: self.features + other.features,
            violation: self.violation.max(other.violation),
            kkt_violation: self.kkt_violation.max(other.kkt_violation),
            gradient_max: self.gradient_max.max(other.gradient_max),
            excess_squares: self.excess_squares + other.excess_squares,
        }
    }
}
