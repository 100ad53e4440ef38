//! The quadratic problem of a step in the full metric:
//! `min_z g'(z - w) + 1/2 (z - w)' H (z - w) + l1 |z|_1 + l2/2 |z|^2` for a few hundred features.
//!
//! Coordinate descent finds which weights are nonzero and with which signs; on that face the problem is smooth, and a
//! Newton step (by Cholesky, or by conjugate gradients when it is large) solves it. Nearly collinear features make long steps along which weights change
//! sign: the step is then cut, the weights that got to zero leave the face, and the two take turns.

use keyrange_kernels::dense::{self, dot};

/// Turns of coordinate descent and face step, at most.
const TURNS_MAX: usize = 200;

/// Sweeps of coordinate descent per turn.
const SWEEPS: usize = 5;

/// Multiplications for face steps, at most; what is missing then, later passes make up for.
const OPERATIONS_MAX: f64 = 4e9;

/// Largest face for Cholesky; a third of the cube of this is what [`GRADIENTS_MAX`] steps cost there.
const CHOLESKY_MAX: usize = 384;

/// Steps of conjugate gradients, at most.
const GRADIENTS_MAX: usize = 128;

/// Conjugate gradients end when the residual's norm (scaled by the diagonal) has shrunk by this factor.
const RESIDUAL_RELATIVE: f64 = 1e-4;

/// Added to the diagonal, relative to it, so that exact collinearity has a direction.
const RIDGE: f64 = 1e-9;

/// Entries of the lower triangle of an `n` by `n` matrix.
pub const fn triangle(n: usize) -> usize {
    n * (n + 1) / 2
}

/// The problem and the current point.
pub struct Quadratic {
    n: usize,
    /// H + l2, by rows.
    h: Vec<f64>,
    /// Gradient of the smooth part at `w`.
    g: Vec<f64>,
    w: Vec<f64>,
    l1: f64,
}

impl Quadratic {
    /// The problem around `w`: `lower` is the lower triangle of H by rows, `g` the gradient of the loss.
    pub fn new(lower: &[f64], g: &[f64], w: &[f64], l1: f64, l2: f64) -> Quadratic {
        let n = w.len();
        let mut h = vec![0.0; n * n];
        for a in 0..n {
            for b in 0..=a {
                h[a * n + b] = lower[triangle(a) + b];
                h[b * n + a] = lower[triangle(a) + b];
            }
            h[a * n + a] += l2 + 1e-10;
        }
        let g = g.iter().zip(w).map(|(g, w)| g + l2 * w).collect();
        Quadratic { n, h, g, w: w.to_vec(), l1 }
    }

    /// The weights near the optimum: it ends when a turn improves the problem by less than `gain_relative` of what the
    /// first turn did.
    pub fn solve(mut self, gain_relative: f64) -> Vec<f64> {
        let mut first_gain = None;
        let mut operations = 0.0;
        for _ in 0..TURNS_MAX {
            let swept: f64 = (0..SWEEPS).map(|_| self.sweep()).sum();
            let face: Vec<usize> = (0..self.n).filter(|&j| self.w[j] != 0.0).collect();
            let size = face.len() as f64;
            operations += size * size * (size / 3.0).min(GRADIENTS_MAX as f64);
            let stepped = if operations <= OPERATIONS_MAX { self.face_step(&face) } else { 0.0 };
            let gain = swept + stepped;
            if gain <= gain_relative * *first_gain.get_or_insert(gain) {
                break;
            }
        }
        self.w
    }

    /// One sweep of coordinate descent; returns by how much the problem improved.
    fn sweep(&mut self) -> f64 {
        let mut gain = 0.0;
        for a in 0..self.n {
            let curvature = self.h[a * self.n + a];
            let old = self.w[a];
            let target = old - self.g[a] / curvature;
            let new = target.signum() * (target.abs() - self.l1 / curvature).max(0.0);
            let step = new - old;
            if step != 0.0 {
                gain -= self.g[a] * step + 0.5 * curvature * step * step + self.l1 * (new.abs() - old.abs());
                self.shift(a, step);
            }
        }
        gain
    }

    /// Moves one weight.
    fn shift(&mut self, a: usize, step: f64) {
        self.w[a] += step;
        let row = &self.h[a * self.n..][..self.n];
        dense::axpy(&mut self.g, step, row);
    }

    /// A Newton step among the weights of `face`, as far as it improves; returns by how much.
    fn face_step(&mut self, face: &[usize]) -> f64 {
        if face.is_empty() {
            return 0.0;
        }
        let residual: Vec<f64> = face.iter().map(|&j| -(self.g[j] + self.l1 * self.w[j].signum())).collect();
        let solve = if face.len() <= CHOLESKY_MAX { Self::cholesky } else { Self::conjugate_gradients };
        let direction = solve(self, face, &residual);
        if !direction.iter().all(|d| d.is_finite()) {
            return 0.0;
        }
        // The way to the first sign change is downhill; farther on, weights that changed sign stay at zero.
        let crossing = face
            .iter()
            .zip(&direction)
            .filter(|&(&j, d)| self.w[j] * d < 0.0)
            .map(|(&j, d)| -self.w[j] / d)
            .fold(1.0, f64::min);
        let best = [1.0, 0.5, 0.1, 0.01, crossing]
            .into_iter()
            .map(|length| self.along(face, &direction, length))
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .expect("there are lengths");
        if best.1 >= 0.0 {
            return 0.0;
        }
        for (&j, step) in face.iter().zip(best.0) {
            if step != 0.0 {
                let old = self.w[j];
                self.shift(j, step);
                if step == -old {
                    self.w[j] = 0.0;
                }
            }
        }
        -best.1
    }

    /// The steps at `length` along `direction`, cut at zero, and what they change the problem by.
    fn along(&self, face: &[usize], direction: &[f64], length: f64) -> (Vec<f64>, f64) {
        let steps: Vec<f64> = face
            .iter()
            .zip(direction)
            .map(|(&j, d)| {
                let w = self.w[j];
                let crosses = w * d < 0.0 && length * d.abs() >= w.abs() * (1.0 - 1e-14);
                if crosses { -w } else { length * d }
            })
            .collect();
        let mut all = vec![0.0; self.n];
        face.iter().zip(&steps).for_each(|(&j, &step)| all[j] = step);
        let mut change = 0.0;
        for (&a, &step) in face.iter().zip(&steps) {
            let curved = dot(&self.h[a * self.n..][..self.n], &all);
            change +=
                step * (self.g[a] + 0.5 * curved) + self.l1 * ((self.w[a] + step).abs() - self.w[a].abs());
        }
        (steps, change)
    }

    /// Solves `(H + ridge) d = residual` on the face.
    fn cholesky(&self, face: &[usize], residual: &[f64]) -> Vec<f64> {
        let m = face.len();
        let mut l = vec![0.0; triangle(m)];
        let mut d = residual.to_vec();
        for a in 0..m {
            let (above, rest) = l.split_at_mut(triangle(a));
            let row = &mut rest[..=a];
            let h = &self.h[face[a] * self.n..][..self.n];
            for b in 0..a {
                let other = &above[triangle(b)..][..=b];
                row[b] = (h[face[b]] - dot(&row[..b], &other[..b])) / other[b];
            }
            let diagonal = h[face[a]];
            let pivot = diagonal * (1.0 + RIDGE) - dot(&row[..a], &row[..a]);
            row[a] = pivot.max(diagonal * RIDGE).sqrt();
            d[a] = (d[a] - dot(&row[..a], &d[..a])) / row[a];
        }
        for a in (0..m).rev() {
            let row = &l[triangle(a)..][..=a];
            d[a] /= row[a];
            let value = d[a];
            d[..a].iter_mut().zip(row).for_each(|(d, l)| *d -= value * l);
        }
        d
    }

    /// The same nearly, with the diagonal as preconditioner. Any number of steps gives a direction downhill.
    fn conjugate_gradients(&self, face: &[usize], residual: &[f64]) -> Vec<f64> {
        let m = face.len();
        let rows = face.iter().flat_map(|&a| face.iter().map(move |&b| self.h[a * self.n + b]));
        let matrix: Vec<f64> = rows.collect();
        let diagonal: Vec<f64> = (0..m).map(|a| matrix[a * m + a] * (1.0 + RIDGE)).collect();
        let scaled = |r: &[f64]| -> Vec<f64> { r.iter().zip(&diagonal).map(|(r, d)| r / d).collect() };
        let (mut d, mut r) = (vec![0.0; m], residual.to_vec());
        let mut z = scaled(&r);
        let mut along = z.clone();
        let mut norm = dot(&r, &z);
        let goal = norm * RESIDUAL_RELATIVE * RESIDUAL_RELATIVE;
        for _ in 0..GRADIENTS_MAX {
            let image: Vec<f64> = matrix.chunks_exact(m).map(|row| dot(row, &along)).collect();
            let curvature = dot(&along, &image);
            if curvature <= 0.0 || norm <= goal {
                break;
            }
            dense::axpy(&mut d, norm / curvature, &along);
            dense::axpy(&mut r, -norm / curvature, &image);
            z = scaled(&r);
            let next = dot(&r, &z);
            along.iter_mut().zip(&z).for_each(|(along, z)| *along = z + next / norm * *along);
            norm = next;
        }
        d
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Largest violation of the optimality conditions of the problem at `z`.
    fn violation(lower: &[f64], g: &[f64], w: &[f64], l1: f64, l2: f64, z: &[f64]) -> f64 {
        let n = w.len();
        let h = |a: usize, b: usize| lower[triangle(a.max(b)) + a.min(b)];
        let at = |a: usize| g[a] + l2 * z[a] + (0..n).map(|b| h(a, b) * (z[b] - w[b])).sum::<f64>();
        (0..n).fold(0.0, |most: f64, a| {
            let g = at(a);
            most.max(if z[a] == 0.0 { (g.abs() - l1).max(0.0) } else { (g + l1 * z[a].signum()).abs() })
        })
    }

    proptest! {
        /// `H = X'X` of more features than rows: rank-deficient, so L1 must choose.
        #[test]
        fn the_solution_meets_the_optimality_conditions(
            x in prop::collection::vec(prop::collection::vec(-2.0..2.0f64, 12), 3..30),
            w in prop::collection::vec(-1.0..1.0f64, 12),
            l1 in 0.01..2.0f64,
            l2 in prop_oneof![Just(0.0), 0.0..1.0f64],
        ) {
            let mut lower = vec![0.0; triangle(12)];
            for row in &x {
                for a in 0..12 {
                    for b in 0..=a {
                        lower[triangle(a) + b] += row[a] * row[b];
                    }
                }
            }
            // The gradient of a problem that has a minimum lies in the range of H.
            let g: Vec<f64> = (0..12).map(|a| x.iter().map(|row| row[a]).sum()).collect();
            let z = Quadratic::new(&lower, &g, &w, l1, l2).solve(1e-15);
            let found = violation(&lower, &g, &w, l1, l2, &z);
            prop_assert!(found < 1e-3, "violation {found}");
        }
    }
}
