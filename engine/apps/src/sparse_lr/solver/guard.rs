//! The step-size guard: how much smaller steps must be because blocks act on old margins.
//!
//! Theorem 2 of Li, Andersen, Smola and Yu (NIPS 2014): with delay `T` the method converges if the step `gamma` is at most
//! `M / (L_var + T L_cov + eps)`. `L_var` is the Lipschitz constant of a block's gradient within the block, `L_cov` that of a
//! block's gradient as another block moves, `M` the least curvature of the metric. Here both are taken in the metric
//! `U = diag(u)` in which the steps are made, so `M = 1` and features of different scale cost nothing:
//! `L_var = |U_b^-1/2 H_bb U_b^-1/2|`, `L_cov = |U_s^-1/2 H_st U_t^-1/2|`, each the largest over blocks and pairs of them,
//! for equal curvature `h` of all examples (then `h` cancels), estimated by power iteration on a sample.
//!
//! Workers combine theirs by the maximum: `H_w <= L_w U_w` for each worker `w` gives `H <= max(L_w) U` for the sums, and
//! by Cauchy and Schwarz the same holds for pairs.

use keyrange::client::WorkerError;
use rand::{Rng, RngExt};

use super::blocks::{ActiveSet, Block};
use super::servers::Servers;

/// Blocks and pairs of blocks that are looked at, at most each.
const SAMPLES: usize = 24;

/// Steps of the power iteration: enough for a tenth, and estimates are from below.
const ITERATIONS: usize = 8;

/// Added for the estimates being from below and from a sample.
const SLACK: f64 = 0.1;

/// The constants, in the metric of the steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guard {
    /// Within a block.
    pub variance: f64,
    /// Between two blocks.
    pub covariance: f64,
}

impl Guard {
    /// This worker's constants; the block size of the metric is that of `set`.
    pub fn estimate(set: &ActiveSet, rows: usize, random: &mut impl Rng) -> Guard {
        let blocks: Vec<&Block> = set.blocks.iter().filter(|block| !block.part.is_empty()).collect();
        if blocks.is_empty() {
            return Guard { variance: 0.0, covariance: 0.0 };
        }
        let mut power = Power { set, along: vec![0.0; rows] };
        let samples = SAMPLES.min(blocks.len());
        let mut pick = || random.random_range(0..blocks.len());
        let variance = (0..samples)
            .map(|at| if samples == blocks.len() { at } else { pick() })
            .map(|at| power.norm(blocks[at], blocks[at], &mut 1));
        let variance = variance.fold(0.0, f64::max);
        let covariance = (0..samples)
            .map(|_| (pick(), pick()))
            .filter(|(one, other)| one != other)
            .map(|(one, other)| power.norm(blocks[one], blocks[other], &mut 1));
        // No pair can be more correlated than its blocks are with themselves.
        let covariance = covariance.fold(0.0, f64::max).min(variance);
        Guard { variance, covariance }
    }

    /// The largest constants of all workers, the same at each. All must ask at the same time.
    pub fn combine(self, servers: &mut Servers<'_>) -> Result<Guard, WorkerError> {
        let (rank, workers) = (servers.worker.rank() as usize, servers.worker.workers() as usize);
        let mut all = vec![0.0; 2 * workers];
        all[2 * rank..][..2].copy_from_slice(&[self.variance, self.covariance]);
        let all = servers.sum(all)?;
        let most = |at: usize| all.as_chunks::<2>().0.iter().map(|pair| pair[at]).fold(0.0, f64::max);
        Ok(Guard { variance: most(0), covariance: most(1) })
    }

    /// The factor by which the metric is to be raised for delay `delay`: `1 / gamma`, at least 1.
    pub fn damping(&self, delay: usize) -> f64 {
        ((1.0 + SLACK) * (self.variance + delay as f64 * self.covariance)).max(1.0)
    }
}

/// Power iteration, with room for one number per example.
struct Power<'a> {
    set: &'a ActiveSet,
    along: Vec<f64>,
}

impl Power<'_> {
    /// About the spectral norm of `U_s^-1/2 X_s' X_t U_t^-1/2`, from below.
    fn norm(&mut self, s: &Block, t: &Block, seed: &mut u64) -> f64 {
        let mut start = || {
            // Any start with a part along the first singular vector will do; signs differ so that nothing cancels by rule.
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            0.5 + (*seed >> 40) as f64 / (1u64 << 24) as f64
        };
        let (scale_s, scale_t) = (self.scales(s), self.scales(t));
        let mut v: Vec<f64> = t.part.clone().map(|_| start()).collect();
        let mut norm = 0.0;
        for _ in 0..ITERATIONS {
            normalise(&mut v);
            let mut w = self.cross(t, &scale_t, &v, s, &scale_s);
            norm = normalise(&mut w);
            v = self.cross(s, &scale_s, &w, t, &scale_t);
        }
        norm
    }

    /// `u^-1/2` of each feature of a block, without the common factor `h`.
    fn scales(&self, block: &Block) -> Vec<f64> {
        let own = |column: usize| self.set.matrix.column(column).map(|(_, x)| x * x).sum::<f64>();
        let curvature = |column: usize| own(column) * self.set.spread[column];
        block
            .part
            .clone()
            .map(|column| curvature(column).sqrt())
            .map(|u| if u > 0.0 { 1.0 / u } else { 0.0 })
            .collect()
    }

    /// `U_to^-1/2 X_to' X_from U_from^-1/2 v`.
    fn cross(
        &mut self,
        from: &Block,
        scale_from: &[f64],
        v: &[f64],
        to: &Block,
        scale_to: &[f64],
    ) -> Vec<f64> {
        let matrix = &self.set.matrix;
        for ((column, v), scale) in from.part.clone().zip(v).zip(scale_from) {
            matrix.column(column).for_each(|(row, x)| self.along[row] += x * v * scale);
        }
        let columns = to.part.clone().zip(scale_to);
        let out = columns
            .map(|(column, scale)| {
                matrix.column(column).map(|(row, x)| x * self.along[row]).sum::<f64>() * scale
            })
            .collect();
        for column in from.part.clone() {
            matrix.column(column).for_each(|(row, _)| self.along[row] = 0.0);
        }
        out
    }
}

/// Makes the length 1 and returns what it was.
fn normalise(v: &mut [f64]) -> f64 {
    let length = v.iter().map(|v| v * v).sum::<f64>().sqrt();
    if length > 0.0 {
        v.iter_mut().for_each(|v| *v /= length);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Dataset;
    use crate::sparse_lr::solver::blocks;
    use crate::sparse_lr::solver::local::Local;
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    fn random() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(3)
    }

    /// Columns in as many blocks as asked for, or a block each.
    fn active(rows: &[&[(u64, f64)]], ratio: f64) -> (ActiveSet, usize) {
        let keys: std::collections::BTreeSet<u64> =
            rows.iter().flat_map(|row| row.iter().map(|x| x.0)).collect();
        let keys: Vec<u64> = keys.into_iter().collect();
        let (mut offsets, mut columns, mut values) = (vec![0], vec![], vec![]);
        for row in rows {
            columns.extend(row.iter().map(|x| keys.binary_search(&x.0).unwrap() as u32));
            values.extend(row.iter().map(|x| x.1));
            offsets.push(columns.len());
        }
        let labels = vec![1.0; rows.len()];
        let set = Dataset::from_parts(offsets, columns, Some(values), labels, keys).unwrap();
        let local = Local::new(&set, 1.0);
        let mut bins = vec![0.0; blocks::BINS];
        blocks::count_active(&local, &mut bins);
        let spans = blocks::cut(&bins, set.rows() as f64, ratio);
        (ActiveSet::new(&local, spans), set.rows())
    }

    #[test]
    fn features_that_never_meet_need_no_damping() {
        let (set, rows) = active(&[&[(1, 2.0)], &[(2, 0.5)], &[(3, 9.0)], &[(4, 1.0)]], 1e6);
        let guard = Guard::estimate(&set, rows, &mut random());
        assert!((guard.variance - 1.0).abs() < 1e-9 && guard.covariance == 0.0, "{guard:?}");
        assert!(guard.damping(16) < 1.2);
    }

    #[test]
    fn equal_features_in_blocks_of_their_own_are_as_bad_as_can_be() {
        let row: &[(u64, f64)] = &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0)];
        let (set, rows) = active(&[row; 4], 1e6);
        let guard = Guard::estimate(&set, rows, &mut random());
        assert!((guard.variance - 1.0).abs() < 1e-9 && (guard.covariance - 1.0).abs() < 1e-9, "{guard:?}");
    }

    /// The method on `f(w) = |X w - 1|^2 / 2` with equal features, one a block, and delay `delay`, steps `1 / damping` as large
    /// as the metric would have them: the value after many steps, relative to the first.
    fn delayed(damping: f64, delay: usize) -> f64 {
        let features = 8;
        let mut w = vec![0.0; features];
        let mut old: std::collections::VecDeque<f64> = vec![0.0; delay + 1].into();
        for step in 0..4000 {
            let gradient = old.pop_front().unwrap() - 1.0;
            w[step % features] -= gradient / damping;
            old.push_back(w.iter().sum());
        }
        (old[delay] - 1.0f64).powi(2)
    }

    #[test]
    fn guarded_steps_converge_at_every_delay_and_larger_ones_can_diverge() {
        let equal: &[(u64, f64)] =
            &[(1, 1.0), (2, 1.0), (3, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (7, 1.0), (8, 1.0)];
        let (set, rows) = active(&[equal; 4], 1e6);
        let guard = Guard::estimate(&set, rows, &mut random());
        for delay in 0..=16 {
            let damping = guard.damping(delay);
            assert!(delayed(damping, delay) < 1e-6, "delay {delay}, damping {damping}");
            if delay > 1 {
                assert!(delayed(damping / 3.0, delay) > 1e3, "delay {delay}");
            }
        }
    }
}
