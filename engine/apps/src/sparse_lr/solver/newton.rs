//! Newton steps among the weights that are not 0.
//!
//! Blocks with a diagonal metric find out which weights are nonzero, but are slow where features are nearly collinear.
//! As long as no weight changes its sign the objective is smooth: with `H` its Hessian among the nonzero weights and `r`
//! its negative gradient, every worker runs the same conjugate gradients on `(H + ridge diag(H)) d = r`, and only the
//! products `H v`, sums over the workers, travel. A weight that would change its sign on the way stops at 0, and a
//! search over step lengths on the true objective makes the step safe. Passes and Newton steps take turns; where the
//! support no longer changes this is Newton's method.
//!
//! Collinear features (the one-hot groups of click data are exactly so) have directions in which only the L1 norm
//! changes. Without a ridge a step runs far along them, its length is cut where the first weight gets to 0, and
//! weights leave the support one by one. So the ridge begins large, falls after whole steps and grows after short ones.

use keyrange::client::WorkerError;
use keyrange_kernels::dense::{axpy, dot};
use keyrange_kernels::logistic;

use super::local::Local;
use super::servers::Servers;
use super::support::Support;
use crate::sparse_lr::protocol::Penalty;

/// Steps in a row, at most; then the passes get their turn.
const STEPS_MAX: usize = 5;

/// A step that gains less than this part of the first one's gain is the last.
const GAIN_RELATIVE: f64 = 0.1;

/// A whole step that gains this part of what it would on a quadratic objective is taken; else shorter ones are tried.
const GAIN_ENOUGH: f64 = 0.25;

/// The shorter lengths, besides the one at which the first weight gets to 0.
const LENGTHS: [f64; 7] = [0.5, 0.25, 0.125, 0.0625, 0.03, 0.01, 0.001];

/// Conjugate gradients end when the residual's norm (scaled by the diagonal) has shrunk by this factor.
const RESIDUAL_RELATIVE: f64 = 0.1;

/// Products with the Hessian per step, at most.
const PRODUCTS_MAX: f64 = 200.0;

/// Added to the diagonal of the Hessian, so that features without curvature (all margins far out) divide by no zero.
const CURVATURE_MIN: f64 = 1e-10;

/// Newton steps, with what they learn from one to the next.
pub struct Newton {
    penalty: Penalty,
    /// Relative to the diagonal of the Hessian.
    ridge: f64,
}

/// The smooth problem among the nonzero weights at the current point.
struct Face {
    /// Negative gradient of the objective, 0 where the weight is.
    residual: Vec<f64>,
    /// What L2 and the ridge add to the diagonal of the Hessian of the loss.
    added: Vec<f64>,
    /// The diagonal with these.
    diagonal: Vec<f64>,
    /// Multiplications of all workers for half a product with the Hessian.
    nonzeros: f64,
}

/// A point at some length of a step.
struct Trial {
    length: f64,
    weights: Vec<f64>,
    margins: Vec<f64>,
    objective: f64,
}

impl Newton {
    /// With the largest ridge at first.
    pub fn new(penalty: Penalty) -> Newton {
        Newton { penalty, ridge: 0.1 }
    }

    /// Improves on the current point, whose value is `objective`. `local` follows; the servers do not know the new
    /// weights yet. No step computes more than about `work_max` multiplications, all workers together. Returns the new
    /// weights and their value; `None` when there is no gain. All workers must do so at the same time.
    pub fn improve(
        &mut self,
        local: &mut Local,
        servers: &mut Servers<'_>,
        objective: f64,
        work_max: f64,
    ) -> Result<Option<(Support, f64)>, WorkerError> {
        let mut support = Support::gather(local, servers)?;
        let (mut reached, mut first_gain) = (objective, None);
        for _ in 0..STEPS_MAX {
            if support.keys.is_empty() {
                break;
            }
            let face = self.face(local, servers, &support)?;
            let products_max = (work_max / (2.0 * face.nonzeros)).clamp(1.0, PRODUCTS_MAX) as u32;
            let direction = conjugate_gradients(&face.residual, &face.diagonal, products_max, |v| {
                face.product(local, servers, &support, v)
            })?;
            let expected = 0.5 * dot(&direction, &face.residual);
            let trial =
                self.search(local, servers, &support, &direction, reached - GAIN_ENOUGH * expected)?;
            let gain = reached - trial.objective;
            self.adapt_ridge(trial.length, gain > 0.0);
            if gain.is_nan() || gain <= 0.0 {
                break;
            }
            reached = trial.objective;
            support.weights = trial.weights;
            local.margins = trial.margins;
            local.refresh_all();
            if gain < GAIN_RELATIVE * *first_gain.get_or_insert(gain) {
                break;
            }
        }
        if first_gain.is_none() {
            return Ok(None);
        }
        for &(place, column) in &support.mine {
            local.set_weight(column as usize, support.weights[place as usize], &self.penalty);
        }
        Ok(Some((support, reached)))
    }

    fn face(&self, local: &Local, servers: &mut Servers<'_>, support: &Support) -> Result<Face, WorkerError> {
        let Penalty { l1, l2, .. } = self.penalty;
        let n = support.keys.len();
        let mut sums = vec![0.0; 2 * n + 1];
        let (g, rest) = sums.split_at_mut(n);
        support.add_gradient_and_diagonal(local, g, &mut rest[..n]);
        rest[n] = support.nonzeros() as f64;
        let sums = servers.sum(sums)?;
        let (g, u) = (&sums[..n], &sums[n..2 * n]);
        let downhill = |(g, &w): (&f64, &f64)| if w == 0.0 { 0.0 } else { -(g + l2 * w + l1 * w.signum()) };
        let residual = g.iter().zip(&support.weights).map(downhill).collect();
        let added: Vec<f64> = u.iter().map(|u| l2 + self.ridge * u + CURVATURE_MIN).collect();
        let diagonal = u.iter().zip(&added).map(|(u, added)| u + added).collect();
        Ok(Face { residual, added, diagonal, nonzeros: sums[2 * n] })
    }

    /// The whole step along `direction` if its value is at most `enough`, else the best of it and shorter ones.
    fn search(
        &self,
        local: &Local,
        servers: &mut Servers<'_>,
        support: &Support,
        direction: &[f64],
        enough: f64,
    ) -> Result<Trial, WorkerError> {
        let whole = self.best_of(local, servers, support, direction, &[1.0])?;
        if whole.objective <= enough {
            return Ok(whole);
        }
        let to_zero = |(w, d): (&f64, &f64)| (w * d < 0.0).then_some(-w / d);
        let first = support.weights.iter().zip(direction).filter_map(to_zero).fold(1.0, f64::min);
        let lengths: Vec<f64> = LENGTHS.into_iter().chain([first]).collect();
        let shorter = self.best_of(local, servers, support, direction, &lengths)?;
        Ok(if shorter.objective < whole.objective { shorter } else { whole })
    }

    /// The best of `lengths` of the step along `direction`. A weight that would change its sign stops at 0.
    fn best_of(
        &self,
        local: &Local,
        servers: &mut Servers<'_>,
        support: &Support,
        direction: &[f64],
        lengths: &[f64],
    ) -> Result<Trial, WorkerError> {
        let mut trials = Vec::with_capacity(lengths.len());
        for &length in lengths {
            let moved = |(w, d): (&f64, &f64)| {
                // The length at which the first weight gets to 0 may miss it by a rounding.
                let stops = w * d < 0.0 && length * d.abs() >= w.abs() * (1.0 - 1e-14);
                if stops { 0.0 } else { w + length * d }
            };
            let weights: Vec<f64> = support.weights.iter().zip(direction).map(moved).collect();
            let steps: Vec<f64> = weights.iter().zip(&support.weights).map(|(new, old)| new - old).collect();
            let margins = support.margins_after(local, &steps);
            trials.push(Trial { length, weights, objective: logistic::loss(&margins), margins });
        }
        let losses = servers.sum(trials.iter().map(|trial| trial.objective).collect())?;
        for (trial, loss) in trials.iter_mut().zip(losses) {
            trial.objective = loss + self.penalty.of(&trial.weights);
        }
        Ok(trials.into_iter().min_by(|a, b| a.objective.total_cmp(&b.objective)).expect("there are lengths"))
    }

    fn adapt_ridge(&mut self, length: f64, gained: bool) {
        let factor = match length {
            _ if !gained => 100.0,
            1.0.. => 0.1,
            0.3.. => 1.0,
            _ => 10.0,
        };
        self.ridge = (self.ridge * factor).clamp(1e-9, 1.0);
    }
}

impl Face {
    /// The matrix of the problem times `v`, which is 0 where the weight is.
    fn product(
        &self,
        local: &Local,
        servers: &mut Servers<'_>,
        support: &Support,
        v: &[f64],
    ) -> Result<Vec<f64>, WorkerError> {
        let mut image = vec![0.0; v.len()];
        support.add_hessian_product(local, v, &mut image);
        let mut image = servers.sum(image)?;
        for (at, image) in image.iter_mut().enumerate() {
            *image = if support.weights[at] == 0.0 { 0.0 } else { *image + self.added[at] * v[at] };
        }
        Ok(image)
    }
}

/// Nearly solves `A d = residual` by conjugate gradients with `diagonal` of `A` as preconditioner, `product` being the
/// product with `A`. After any number of products `d` leads downhill.
fn conjugate_gradients<E>(
    residual: &[f64],
    diagonal: &[f64],
    products_max: u32,
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>, E>,
) -> Result<Vec<f64>, E> {
    let scaled = |r: &[f64]| -> Vec<f64> { r.iter().zip(diagonal).map(|(r, d)| r / d).collect() };
    let (mut d, mut r) = (vec![0.0; residual.len()], residual.to_vec());
    let mut along = scaled(&r);
    let mut norm = dot(&r, &along);
    let goal = norm * RESIDUAL_RELATIVE * RESIDUAL_RELATIVE;
    for _ in 0..products_max {
        let image = product(&along)?;
        let curvature = dot(&along, &image);
        // Only rounding gets here (or nothing is left to solve); what was found so far is good.
        if curvature.is_nan() || curvature <= 0.0 {
            break;
        }
        axpy(&mut d, norm / curvature, &along);
        axpy(&mut r, -norm / curvature, &image);
        let z = scaled(&r);
        let next = dot(&r, &z);
        if next <= goal {
            break;
        }
        along.iter_mut().zip(&z).for_each(|(along, z)| *along = z + next / norm * *along);
        norm = next;
    }
    Ok(d)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// `A = X'X + added`, also of more unknowns than rows.
        #[test]
        fn conjugate_gradients_shrink_the_residual_and_lead_downhill_at_once(
            x in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 12), 3..30),
            residual in prop::collection::vec(-1.0..1.0f64, 12),
            added in 1e-6..1.0f64,
            products in 1u32..5,
        ) {
            let product = |v: &[f64]| -> Result<Vec<f64>, ()> {
                let mut out: Vec<f64> = v.iter().map(|v| added * v).collect();
                for row in &x {
                    let along = dot(row, v);
                    axpy(&mut out, along, row);
                }
                Ok(out)
            };
            let diagonal: Vec<f64> = (0..12).map(|j| added + x.iter().map(|row| row[j] * row[j]).sum::<f64>()).collect();
            let early = conjugate_gradients(&residual, &diagonal, products, product).unwrap();
            prop_assert!(dot(&early, &residual) > 0.0);
            let d = conjugate_gradients(&residual, &diagonal, 500, product).unwrap();
            let image = product(&d).unwrap();
            let norm = |r: &[f64]| r.iter().zip(&diagonal).map(|(r, d)| r * r / d).sum::<f64>().sqrt();
            let left: Vec<f64> = residual.iter().zip(&image).map(|(r, a)| r - a).collect();
            prop_assert!(norm(&left) <= 1.01 * RESIDUAL_RELATIVE * norm(&residual));
        }
    }

    #[test]
    fn nothing_to_solve_is_solved() {
        let d = conjugate_gradients(&[0.0; 3], &[1.0; 3], 9, |v| Ok::<_, ()>(v.to_vec())).unwrap();
        assert_eq!(d, [0.0; 3]);
    }
}
