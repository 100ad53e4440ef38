//! A step in the full metric of the nonzero weights.
//!
//! Blocks with a diagonal metric are slow where features are nearly collinear. When few weights are nonzero, the
//! workers sum the Hessian of just those, `H = X' diag(h) X` (its lower triangle), and worker 0 solves
//! `min_z g'(z - w) + 1/2 (z - w)' H (z - w) + l1 |z|_1 + l2/2 |z|^2` for all ([`quadratic`](super::quadratic)): the others would
//! only do the same over again, and where workers share cores they would slow each other down. A line search on the true
//! objective makes the step safe. It is the block proximal step with the whole support as one block and the
//! full matrix as its metric.

use keyrange::client::WorkerError;

use super::local::{Columns, Local};
use super::quadratic::{Quadratic, triangle};
use super::servers::Servers;
use crate::sparse_lr::server::Penalty;

/// Step lengths tried, all at once.
const LENGTHS: [f64; 8] = [1.0, 0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125];

/// How precisely the quadratic problem is solved; it is only a model, and the next pass brings a better one.
const GAIN_RELATIVE: f64 = 1e-3;

/// A step that improves the objective.
pub struct MetricStep {
    /// Table keys of the support, sorted.
    pub keys: Vec<u64>,
    /// New weights.
    pub weights: Vec<f64>,
    /// The objective there.
    pub objective: f64,
    /// This worker's columns of the support, and the change of each.
    pub mine: Vec<(u32, f64)>,
}

/// Computes the step; `None` when no length improves on `objective`.
pub fn metric_step(
    local: &Local,
    servers: &mut Servers<'_>,
    penalty: &Penalty,
    objective: f64,
) -> Result<Option<MetricStep>, WorkerError> {
    let support = servers.support()?;
    if support.is_empty() {
        return Ok(None);
    }
    let (keys, old): (Vec<u64>, Vec<f64>) = support.into_iter().unzip();
    let n = keys.len();
    let mine = shared_columns(&keys, &local.keys);
    let columns: Vec<u32> = mine.iter().map(|&(_, column)| column).collect();
    let rows = Rows::new(&Columns::select(&local.columns, &columns), &mine, local.labels.len());

    let mut sums = vec![0.0; triangle(n) + n];
    rows.add_hessian(&local.h, &mut sums);
    rows.add_gradient(&local.p, &mut sums[triangle(n)..]);
    let new = match servers.sum_at_first(sums)? {
        Some(sums) => {
            let (lower, g) = sums.split_at(triangle(n));
            Quadratic::new(lower, g, &old, penalty.l1, penalty.l2).solve(GAIN_RELATIVE)
        }
        None => vec![0.0; n],
    };
    let new = servers.sum(new)?;

    let steps: Vec<f64> = new.iter().zip(&old).map(|(new, old)| new - old).collect();
    let along = rows.product(&steps);
    let losses = LENGTHS.map(|length| {
        let moved: Vec<f64> = local
            .margins
            .iter()
            .zip(&along)
            .zip(&local.labels)
            .map(|((m, a), y)| m + length * y * a)
            .collect();
        keyrange_kernels::logistic::loss(&moved)
    });
    let losses = servers.sum(losses.to_vec())?;
    for (length, loss) in LENGTHS.into_iter().zip(losses) {
        let weights: Vec<f64> = old.iter().zip(&steps).map(|(w, step)| w + length * step).collect();
        let value =
            loss + weights.iter().map(|w| penalty.l1 * w.abs() + 0.5 * penalty.l2 * w * w).sum::<f64>();
        if value < objective {
            let mine =
                mine.iter().map(|&(at, column)| (column, weights[at as usize] - old[at as usize])).collect();
            return Ok(Some(MetricStep { keys, weights, objective: value, mine }));
        }
    }
    Ok(None)
}

/// Operations to form the Hessian of `columns` of `local`, for deciding whether it pays.
pub fn cost(local: &Local) -> f64 {
    let mut counts = vec![0u32; local.labels.len()];
    for (column, weight) in local.weights.iter().enumerate() {
        if *weight != 0.0 && !weight.is_nan() {
            local.columns.column(column).for_each(|(row, _)| counts[row] += 1);
        }
    }
    counts.iter().map(|&count| 0.5 * f64::from(count) * f64::from(count)).sum()
}

/// Places in `support` and column numbers of the keys both lists have.
fn shared_columns(support: &[u64], columns: &[u64]) -> Vec<(u32, u32)> {
    let mut shared = Vec::new();
    keyrange_kernels::keys::intersect(support, columns, &mut shared);
    shared
}

/// The examples by rows, with only the features of the support, named by their place in it.
struct Rows {
    offsets: Vec<usize>,
    entries: Vec<(u32, f64)>,
}

impl Rows {
    fn new(columns: &Columns, mine: &[(u32, u32)], rows: usize) -> Rows {
        let mut offsets = vec![0; rows + 1];
        columns.rows.iter().for_each(|&row| offsets[row as usize + 1] += 1);
        for row in 0..rows {
            offsets[row + 1] += offsets[row];
        }
        let mut cursors = offsets.clone();
        let mut entries = vec![(0, 0.0); columns.nonzeros()];
        for (column, &(place, _)) in mine.iter().enumerate() {
            for (row, x) in columns.column(column) {
                entries[cursors[row]] = (place, x);
                cursors[row] += 1;
            }
        }
        Rows { offsets, entries }
    }

    fn iter(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        self.offsets.windows(2).map(|span| &self.entries[span[0]..span[1]])
    }

    /// Adds the lower triangle of `X' diag(h) X`, row after row. Entries of an example are in order of their places.
    fn add_hessian(&self, h: &[f64], out: &mut [f64]) {
        for (entries, &h) in self.iter().zip(h) {
            for (at, &(a, x)) in entries.iter().enumerate() {
                let row = &mut out[triangle(a as usize)..][..=a as usize];
                for &(b, z) in &entries[..=at] {
                    row[b as usize] += h * x * z;
                }
            }
        }
    }

    fn add_gradient(&self, p: &[f64], out: &mut [f64]) {
        for (entries, &p) in self.iter().zip(p) {
            entries.iter().for_each(|&(place, x)| out[place as usize] -= p * x);
        }
    }

    fn product(&self, steps: &[f64]) -> Vec<f64> {
        self.iter().map(|entries| entries.iter().map(|&(place, x)| x * steps[place as usize]).sum()).collect()
    }
}
