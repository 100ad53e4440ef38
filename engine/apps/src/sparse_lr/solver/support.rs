//! The weights that are not 0, known alike to every worker, and this worker's examples with just their features.
//!
//! A *support vector* here is an array with one element per weight of the support, in the order of the table keys. Every
//! worker holds whole support vectors; what its examples add to one is summed over the workers.

use keyrange::client::WorkerError;
use keyrange_kernels::linear;

use super::local::{Columns, Local};
use super::servers::Servers;

/// The support and what one worker knows of it.
pub struct Support {
    /// Table keys, strictly increasing.
    pub keys: Vec<u64>,
    /// Their weights. Those that become 0 stay.
    pub weights: Vec<f64>,
    /// Place in the support and column number in [`Local`] of the features that occur in this worker's examples.
    pub mine: Vec<(u32, u32)>,
    columns: Columns,
}

impl Support {
    /// Asks the servers for the support. All workers must do so at the same time.
    pub fn gather(local: &Local, servers: &mut Servers<'_>) -> Result<Support, WorkerError> {
        Ok(Support::of(local, servers.support()?.into_iter()))
    }

    /// The support `weights`, pairs of table key and weight in the order of keys.
    pub fn of(local: &Local, weights: impl Iterator<Item = (u64, f64)>) -> Support {
        let (keys, weights): (Vec<u64>, Vec<f64>) = weights.unzip();
        let mut mine = Vec::new();
        keyrange_kernels::keys::intersect(&keys, &local.keys, &mut mine);
        let numbers: Vec<u32> = mine.iter().map(|&(_, column)| column).collect();
        let columns = Columns::select(&local.columns, &numbers);
        Support { keys, weights, mine, columns }
    }

    /// Corrects what `local` knows of the weights, and its margins with it, where filters told it less than the truth.
    pub fn settle(&self, local: &mut Local) {
        let mut steps: Vec<f64> =
            local.weights.iter().map(|&known| if known.is_nan() { 0.0 } else { -known }).collect();
        self.mine.iter().for_each(|&(place, column)| steps[column as usize] += self.weights[place as usize]);
        for (known, step) in local.weights.iter_mut().zip(&steps).filter(|(_, step)| **step != 0.0) {
            *known = if known.is_nan() { *step } else { *known + step };
        }
        // Known and told differ by roundings otherwise.
        self.mine
            .iter()
            .for_each(|&(place, column)| local.weights[column as usize] = self.weights[place as usize]);
        linear::csc_axpy_columns(local.columns.view(), &steps, &local.labels, &mut local.margins);
        local.refresh_all();
    }

    /// Nonzeros of this worker's examples among these features.
    pub fn nonzeros(&self) -> usize {
        self.columns.nonzeros()
    }

    /// The margins of the examples after the change `steps`, a support vector, of the weights.
    pub fn margins_after(&self, local: &Local, steps: &[f64]) -> Vec<f64> {
        let mut margins = local.margins.clone();
        self.add_margins(local, steps, &mut margins);
        margins
    }

    /// Adds to the support vectors `g` and `u` the gradient of the examples' loss and the diagonal of its Hessian.
    pub fn add_gradient_and_diagonal(&self, local: &Local, g: &mut [f64], u: &mut [f64]) {
        let count = self.columns.count();
        let (mut my_g, mut my_u) = (vec![0.0; count], vec![0.0; count]);
        let unbounded = vec![1.0; count];
        let view = self.columns.view();
        linear::csc_block_gradient_bound(view, &local.p, &local.h, &unbounded, &mut my_g, &mut my_u);
        for ((&(place, _), my_g), my_u) in self.mine.iter().zip(my_g).zip(my_u) {
            g[place as usize] += my_g;
            u[place as usize] += my_u;
        }
    }

    /// Adds to the support vector `out` the product of the Hessian of the examples' loss and the support vector `v`.
    pub fn add_hessian_product(&self, local: &Local, v: &[f64], out: &mut [f64]) {
        let mut along = vec![0.0; local.labels.len()];
        self.add_margins(local, v, &mut along);
        // The margins bring the label as a factor; its square is 1.
        for ((along, h), y) in along.iter_mut().zip(&local.h).zip(&local.labels) {
            *along *= h * y;
        }
        let mut mine = vec![0.0; self.columns.count()];
        linear::csc_tdot(self.columns.view(), &along, &mut mine);
        self.mine.iter().zip(mine).for_each(|(&(place, _), mine)| out[place as usize] += mine);
    }

    fn add_margins(&self, local: &Local, v: &[f64], margins: &mut [f64]) {
        let mine: Vec<f64> = self.mine.iter().map(|&(place, _)| v[place as usize]).collect();
        linear::csc_axpy_columns(self.columns.view(), &mine, &local.labels, margins);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::tests::any_dataset;
    use crate::sparse_lr::solver::local::table_key;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a worker was told before, its margins become those of the true weights.
        #[test]
        fn settled_margins_are_those_of_the_true_weights(
            set in any_dataset(),
            told in prop::collection::vec(prop_oneof![Just(f64::NAN), Just(0.0), -1.0..1.0f64], 20),
            truth in prop::collection::vec(prop_oneof![Just(0.0), -1.0..1.0f64], 20),
        ) {
            let mut local = Local::new(&set, 1.0);
            let penalty = crate::sparse_lr::protocol::Penalty::default();
            let all = local.columns.clone();
            let told = &told[..local.keys.len()];
            let steps: Vec<f64> =
                told.iter().enumerate().map(|(column, &told)| local.set_weight(column, told, &penalty)).collect();
            local.apply_steps(&all, 0..steps.len(), &steps);
            let true_weights = local.keys.clone().into_iter().zip(truth.iter().copied()).filter(|(_, w)| *w != 0.0);
            let support = Support::of(&local, true_weights);
            support.settle(&mut local);
            let mut margins = vec![0.0; local.labels.len()];
            linear::csc_axpy_columns(all.view(), &truth[..local.keys.len()], &local.labels, &mut margins);
            for (row, margin) in margins.iter().enumerate() {
                prop_assert!((margin - local.margins[row]).abs() < 1e-12);
            }
            for (known, truth) in local.weights.iter().zip(&truth) {
                prop_assert!(known == truth || (known.is_nan() && *truth == 0.0));
            }
        }

        /// Against dense arithmetic, for a support of which the examples have some features and lack others.
        #[test]
        fn sums_over_the_examples_are_those_of_the_dense_matrix(
            set in any_dataset(),
            chosen in prop::collection::vec((any::<bool>(), -1.0..1.0f64), 20),
            foreign: u64,
        ) {
            let mut local = Local::new(&set, 1.0);
            local.margins.iter_mut().enumerate().for_each(|(row, margin)| *margin = row as f64 * 0.1 - 1.0);
            local.refresh_all();
            let mut keys: Vec<u64> = set.keys().iter().zip(&chosen).filter(|(_, c)| c.0).map(|(k, _)| table_key(*k)).collect();
            keys.push(table_key(foreign));
            keys.sort_unstable();
            keys.dedup();
            let v: Vec<f64> = chosen.iter().map(|c| c.1).cycle().take(keys.len()).collect();
            let x: Vec<Vec<f64>> = set.iter().map(|row| {
                let mut dense = vec![0.0; keys.len()];
                for (column, value) in row.entries() {
                    if let Ok(at) = keys.binary_search(&table_key(set.keys()[column as usize])) {
                        dense[at] = value;
                    }
                }
                dense
            }).collect();
            let support = Support::of(&local, keys.iter().map(|&key| (key, 0.5)));

            let (mut g, mut u, mut hv) = (vec![0.0; keys.len()], vec![0.0; keys.len()], vec![0.0; keys.len()]);
            support.add_gradient_and_diagonal(&local, &mut g, &mut u);
            support.add_hessian_product(&local, &v, &mut hv);
            let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
            for at in 0..keys.len() {
                let sum = |of: &dyn Fn(usize) -> f64| (0..x.len()).map(|row| x[row][at] * of(row)).sum::<f64>();
                prop_assert!(near(g[at], sum(&|row| -local.p[row])));
                prop_assert!(near(u[at], sum(&|row| local.h[row] * x[row][at])));
                let along = |row: usize| x[row].iter().zip(&v).map(|(x, v)| x * v).sum::<f64>();
                prop_assert!(near(hv[at], sum(&|row| local.h[row] * along(row))));
            }
            for (row, margin) in support.margins_after(&local, &v).iter().enumerate() {
                let along: f64 = x[row].iter().zip(&v).map(|(x, v)| x * v).sum();
                prop_assert!(near(*margin, local.margins[row] + local.labels[row] * along));
            }
        }
    }
}
