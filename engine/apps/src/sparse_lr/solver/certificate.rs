//! How far a point can be from the optimum: the largest violation of the optimality conditions, and the duality gap.
//!
//! For `P(w) = sum_i log(1 + exp(-m_i)) + l1 |w|_1 + l2/2 |w|^2` any `a` in `[0, 1]^n` bounds the optimum from below by
//! `D(a) = sum_i H(a_i) - sum_j max(|x_j' (y a)| - l1, 0)^2 / (2 l2)`, `H` the binary entropy in nats; for `l2 = 0` the
//! second term becomes the constraint `|x_j' (y a)| <= l1`. With `a = s` the gap closes at the optimum; without L2, `s` is
//! scaled to satisfy the constraint.

use keyrange::client::WorkerError;
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange_kernels::linear;
use serde::{Deserialize, Serialize};

use super::local::Local;
use super::servers::Servers;
use crate::sparse_lr::protocol::Penalty;

/// Proof of how good a point is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// Largest violation of the optimality conditions over all features.
    pub kkt_violation: f64,
    /// The objective is at most this far above the optimum.
    pub gap: f64,
}

/// Measures the current point. The servers must be in the phase `Measure`.
pub fn certify(
    local: &Local,
    servers: &mut Servers<'_>,
    penalty: &Penalty,
    objective: f64,
) -> Result<Certificate, WorkerError> {
    let features = local.keys.len();
    let (mut g, u) = (servers.array(features), servers.array(features));
    linear::csc_tdot(local.columns.view(), &local.p, &mut g);
    g.iter_mut().for_each(|g| *g = -*g);
    let keys = KeyList::new(local.keys.clone()).expect("columns are in key order");
    servers.push(keys, KeyRange::ALL, [g, u])?;
    let stats = servers.end()?;
    let scale = if penalty.l2 > 0.0 || stats.gradient_max <= penalty.l1 {
        1.0
    } else {
        penalty.l1 / stats.gradient_max
    };
    let entropies = local.p.iter().map(|p| entropy(scale * p.abs())).sum();
    let mut dual = servers.sum(vec![entropies])?[0];
    if penalty.l2 > 0.0 {
        dual -= stats.excess_squares / (2.0 * penalty.l2);
    }
    Ok(Certificate { kkt_violation: stats.kkt_violation, gap: objective - dual })
}

/// `-a log a - (1 - a) log(1 - a)`, 0 at both ends.
fn entropy(a: f64) -> f64 {
    let term = |x: f64| if x > 0.0 { -x * x.ln() } else { 0.0 };
    let rest = 1.0 - a;
    term(a) + if rest > 0.0 { -rest * (-a).ln_1p() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_symmetric_and_ends_at_zero() {
        assert_eq!((entropy(0.0), entropy(1.0)), (0.0, 0.0));
        assert!((entropy(0.5) - std::f64::consts::LN_2).abs() < 1e-15);
        assert!((entropy(0.1) - entropy(0.9)).abs() < 1e-15);
    }
}
