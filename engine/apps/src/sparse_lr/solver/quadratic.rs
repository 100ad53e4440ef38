//! The quadratic problem of a step in the full metric:
//! `min_z g'(z - w) + 1/2 (z - w)' H (z - w) + l1 |z|_1 + l2/2 |z|^2` for a few hundred features.
//!
//! Coordinate descent finds which weights are nonzero and with which signs; on that face the problem is smooth, and a
//! Newton step (Cholesky) solves it at once. Nearly collinear features make long steps along which weights change
//! sign: the step is then cut, the weights that got to zero leave the face, and the two take turns.

/// Turns of coordinate descent and face step, at most.
const TURNS_MAX: usize = 200;

/// Sweeps of coordinate descent per turn.
const SWEEPS: usize = 5;

/// Floating point operations for factorisations, at most; what is missing then, later passes make up for.
const OPERATIONS_MAX: f64 = 4e9;

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
            operations += (face.len() as f64).powi(3) / 3.0;
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
        self.g.iter_mut().zip(row).for_each(|(g, h)| *g += step * h);
    }

    /// A Newton step among the weights of `face`, as far as it improves; returns by how much.
    fn face_step(&mut self, face: &[usize]) -> f64 {
        if face.is_empty() {
            return 0.0;
        }
        let residual: Vec<f64> = face.iter().map(|&j| -(self.g[j] + self.l1 * self.w[j].signum())).collect();
        let Some(direction) = self.newton(face, &residual) else { return 0.0 };
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
        let mut change = 0.0;
        for (&a, &step) in face.iter().zip(&steps) {
            let row = &self.h[a * self.n..][..self.n];
            let curved: f64 = face.iter().zip(&steps).map(|(&b, step)| row[b] * step).sum();
            change += step * (self.g[a] + 0.5 * curved) + self.l1 * ((self.w[a] + step).abs() - self.w[a].abs());
        }
        (steps, change)
    }

    /// Solves `(H + ridge) d = residual` on the face by Cholesky; `None` if H is not finite.
    fn newton(&self, face: &[usize], residual: &[f64]) -> Option<Vec<f64>> {
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
        d.iter().all(|d| d.is_finite()).then_some(d)
    }
}

/// Over eight lanes, so that it vectorises; the same bits everywhere.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let (chunks_a, rest_a) = a.as_chunks::<8>();
    let (chunks_b, rest_b) = b.as_chunks::<8>();
    let mut lanes = [0.0; 8];
    for (a, b) in chunks_a.iter().zip(chunks_b) {
        for (lane, (a, b)) in lanes.iter_mut().zip(a.iter().zip(b)) {
            *lane += a * b;
        }
    }
    let rest: f64 = rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum();
    lanes.iter().sum::<f64>() + rest
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
