//! One worker's examples and what follows from the current weights for them.
//!
//! Columns are in the order of table keys. For example `i` with margin `m_i = y_i <x_i, w>`: `p_i = y_i s_i` and
//! `h_i = s_i (1 - s_i)` with `s_i = 1 / (1 + exp(m_i))`, always in step with the margins.

use keyrange_kernels::{linear, logistic};

use crate::data::{Csc, Dataset};
use crate::sparse_lr::protocol::Penalty;

/// Columns of a sparse matrix, owned, all or some of a worker's.
#[derive(Debug, Default, Clone)]
pub struct Columns {
    /// Where each column begins in `rows`, and the end.
    pub offsets: Vec<usize>,
    /// The row of each nonzero.
    pub rows: Vec<u32>,
    /// The value of each nonzero; `None` when all are 1.
    pub values: Option<Vec<f64>>,
}

impl Columns {
    /// The columns of `other` with these numbers, in this order.
    pub fn select(other: &Columns, columns: &[u32]) -> Columns {
        let spans = || columns.iter().map(|&c| other.offsets[c as usize]..other.offsets[c as usize + 1]);
        let nonzeros = spans().map(|span| span.len()).sum();
        let mut offsets = Vec::with_capacity(columns.len() + 1);
        offsets.push(0);
        let mut rows = Vec::with_capacity(nonzeros);
        let mut values = other.values.as_ref().map(|_| Vec::with_capacity(nonzeros));
        for span in spans() {
            rows.extend_from_slice(&other.rows[span.clone()]);
            if let (Some(values), Some(from)) = (&mut values, &other.values) {
                values.extend_from_slice(&from[span]);
            }
            offsets.push(rows.len());
        }
        Columns { offsets, rows, values }
    }

    /// How many columns.
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    /// How many nonzeros.
    pub fn nonzeros(&self) -> usize {
        self.rows.len()
    }

    /// The view the kernels take.
    pub fn view(&self) -> linear::Csc<'_, f64> {
        linear::Csc::new(&self.offsets, &self.rows, self.values.as_deref()).expect("columns are well formed")
    }

    /// Rows and values of column `column`.
    pub fn column(&self, column: usize) -> impl Iterator<Item = (usize, f64)> + '_ {
        let span = self.offsets[column]..self.offsets[column + 1];
        let values = self.values.as_deref();
        span.map(move |at| (self.rows[at] as usize, values.map_or(1.0, |values| values[at])))
    }
}

/// A worker's share of the data and its state.
pub struct Local {
    /// Table key of each column, strictly increasing.
    pub keys: Vec<u64>,
    /// All columns.
    pub columns: Columns,
    /// +1 or -1 per row.
    pub labels: Vec<f64>,
    /// `y_i <x_i, w>`.
    pub margins: Vec<f64>,
    /// `y_i s_i`.
    pub p: Vec<f64>,
    /// `s_i (1 - s_i)`.
    pub h: Vec<f64>,
    /// The last weight seen of each column; NaN when set aside.
    pub weights: Vec<f64>,
    /// Radius of the trust region of each column.
    pub radius: Vec<f64>,
    /// Largest absolute value of each column.
    pub largest: Vec<f64>,
    touched: Touched,
}

/// Rows whose margins changed, each once.
#[derive(Default)]
struct Touched {
    rows: Vec<u32>,
    mark: Vec<u32>,
    round: u32,
}

impl Local {
    /// The share `set`, all weights 0. Feature ids become table keys by [`table_key`].
    pub fn new(set: &Dataset, radius_first: f64) -> Local {
        let by_id = Csc::new(set, set.keys(), 1);
        let by_id = Columns {
            offsets: by_id.column_offsets().to_vec(),
            rows: by_id.row_indices().to_vec(),
            values: by_id.values().map(<[f64]>::to_vec),
        };
        let mut order: Vec<u32> = (0..set.features() as u32).collect();
        order.sort_unstable_by_key(|&column| table_key(set.keys()[column as usize]));
        let columns = Columns::select(&by_id, &order);
        let keys = order.iter().map(|&column| table_key(set.keys()[column as usize])).collect();
        let largest = (0..columns.count())
            .map(|column| columns.column(column).fold(0.0, |most: f64, (_, x)| most.max(x.abs())))
            .collect();
        let (rows, features) = (set.rows(), columns.count());
        let mut local = Local {
            keys,
            columns,
            labels: set.labels().to_vec(),
            margins: vec![0.0; rows],
            p: vec![0.0; rows],
            h: vec![0.0; rows],
            weights: vec![0.0; features],
            radius: vec![radius_first; features],
            largest,
            touched: Touched { rows: Vec::new(), mark: vec![0; rows], round: 0 },
        };
        local.refresh_all();
        local
    }

    /// The loss of this worker's examples.
    pub fn loss(&self) -> f64 {
        logistic::loss(&self.margins)
    }

    /// Notes the new weight of a column (NaN: set aside) and its radius; returns the step. The margins stay as they are.
    pub fn set_weight(&mut self, column: usize, new: f64, penalty: &Penalty) -> f64 {
        let known = std::mem::replace(&mut self.weights[column], new);
        // Lossy filters may have told a weight that is not 0 of a feature whose weight is, and which is now set aside.
        let or_zero = |weight: f64| if weight.is_nan() { 0.0 } else { weight };
        let step = or_zero(new) - or_zero(known);
        self.radius[column] = penalty.radius_after(step);
        step
    }

    /// Brings `p` and `h` of all rows in step with the margins.
    pub fn refresh_all(&mut self) {
        logistic::evaluate(&self.margins, &self.labels, &mut self.p, &mut self.h);
    }

    /// Adds `steps` to the weights of the columns of `part` (a part of `matrix`) and brings everything in step.
    pub fn apply_steps(&mut self, matrix: &Columns, part: std::ops::Range<usize>, steps: &[f64]) {
        let changed = |at: usize| steps[at - part.start] != 0.0;
        let nonzeros: usize = part
            .clone()
            .filter(|&at| changed(at))
            .map(|at| matrix.offsets[at + 1] - matrix.offsets[at])
            .sum();
        if nonzeros == 0 {
            return;
        }
        linear::csc_axpy_columns(matrix.view_part(part.clone()), steps, &self.labels, &mut self.margins);
        if nonzeros >= self.labels.len() {
            return self.refresh_all();
        }
        let Touched { rows, mark, round } = &mut self.touched;
        *round += 1;
        rows.clear();
        for at in part.clone().filter(|&at| changed(at)) {
            for &row in &matrix.rows[matrix.offsets[at]..matrix.offsets[at + 1]] {
                if mark[row as usize] != *round {
                    mark[row as usize] = *round;
                    rows.push(row);
                }
            }
        }
        logistic::evaluate_rows(rows, &self.margins, &self.labels, &mut self.p, &mut self.h);
    }
}

impl Columns {
    /// The view of a range of columns.
    pub fn view_part(&self, part: std::ops::Range<usize>) -> linear::Csc<'_, f64> {
        let offsets = &self.offsets[part.start..=part.end];
        linear::Csc::new(offsets, &self.rows, self.values.as_deref()).expect("columns are well formed")
    }
}

/// Odd, so multiplication by it permutes the 64-bit numbers; near 2^64 / golden ratio, so that small ids spread evenly.
const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;

/// The inverse of [`SPREAD`] modulo 2^64.
const GATHER: u64 = inverse(SPREAD);

/// The key of a feature id in the table: ids are often small numbers, and the key ranges of the servers are not.
pub fn table_key(id: u64) -> u64 {
    id.wrapping_mul(SPREAD)
}

/// The feature id of a table key.
pub fn feature_id(key: u64) -> u64 {
    key.wrapping_mul(GATHER)
}

/// Newton's iteration doubles the number of right low bits; 3 are right at first.
const fn inverse(odd: u64) -> u64 {
    let mut x = odd;
    let mut round = 0;
    while round < 5 {
        x = x.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(x)));
        round += 1;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lead_back_to_ids() {
        for id in [0, 1, 2, 123_456, u64::MAX, u64::MAX - 1, 1 << 63] {
            assert_eq!(feature_id(table_key(id)), id);
        }
    }

    #[test]
    fn small_ids_spread_over_all_servers() {
        let mut counts = [0u32; 8];
        (1..=800u64).for_each(|id| counts[(table_key(id) >> 61) as usize] += 1);
        assert!(counts.iter().all(|&count| (90..=110).contains(&count)), "{counts:?}");
    }
}
