//! Where the rows of one contribution lie among those of an aggregated push, and how its values get there.

use keyrange_kernels::slots::SlotList;
use keyrange_kernels::{dense, sparse};

use super::Value;
use crate::update::{ServerFn, UpdateError};

/// The rows of one contribution, by their places in the sums.
pub(super) enum Places {
    /// One after the other from this one on.
    From(usize),
    /// Those.
    At(SlotList),
}

impl Places {
    /// Adds the contribution's values to the sums.
    pub fn add<V: Value>(&self, sums: &mut [Vec<V>], parts: &[&[V]], width: usize) {
        for (sum, values) in sums.iter_mut().zip(parts) {
            match self {
                Places::From(first) => {
                    let begin = first * width;
                    dense::add(&mut sum[begin..begin + values.len()], values);
                }
                Places::At(places) => sparse::scatter_add(sum, places, width, values),
            }
        }
    }

    /// Lets the function fold the contribution's values into the sums.
    pub fn fold<V: Value>(
        &self,
        function: &mut dyn ServerFn<V>,
        sums: &mut [Vec<V>],
        parts: &[&[V]],
        width: usize,
    ) -> Result<(), UpdateError> {
        match self {
            Places::From(first) => {
                let begin = first * width;
                let part = |(sum, values): (_, &&[V])| {
                    let sum: &mut Vec<V> = sum;
                    &mut sum[begin..begin + values.len()]
                };
                let mut sums: Vec<&mut [V]> = sums.iter_mut().zip(parts).map(part).collect();
                function.fold(&mut sums, parts)
            }
            Places::At(places) => {
                let gather = |(sum, values): (&Vec<V>, &&[V])| {
                    let mut gathered = vec![V::ZERO; values.len()];
                    sparse::gather(&mut gathered, sum, places, width);
                    gathered
                };
                let mut gathered: Vec<Vec<V>> = sums.iter().zip(parts).map(gather).collect();
                let mut slices: Vec<&mut [V]> = gathered.iter_mut().map(Vec::as_mut_slice).collect();
                function.fold(&mut slices, parts)?;
                for (sum, values) in sums.iter_mut().zip(&gathered) {
                    sparse::scatter_assign(sum, places, width, values);
                }
                Ok(())
            }
        }
    }
}
