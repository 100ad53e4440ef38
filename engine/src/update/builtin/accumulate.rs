//! Functions that keep the last, the sum, the greatest or the smallest of all pushes.

use keyrange_kernels::{fused, update};

use crate::table::Value;
use crate::update::{Combine, Rows, ServerFn, UpdateError};

/// `assign`: the value pushed last; of an aggregated push, that of the highest worker.
pub struct AssignFn;

impl<V: Value> ServerFn<V> for AssignFn {
    fn name(&self) -> &str {
        "assign"
    }
    fn combine(&self) -> Combine {
        Combine::Each
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.scatter(0, parts[0]);
        Ok(())
    }
}

/// `add`: the sum of all pushes.
pub struct AddFn;

impl<V: Value> ServerFn<V> for AddFn {
    fn name(&self) -> &str {
        "add"
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.scatter_add(0, parts[0]);
        Ok(())
    }
    fn update_fused(&mut self, rows: &mut Rows<'_, V>, sources: &[&[&[V]]]) -> bool {
        rows.apply(|[w]| fused::sum_add(w, sources[0]));
        true
    }
}

/// `max`: the greatest of all pushes; a row begins at minus infinity. NaN stays.
pub struct MaxFn;

impl<V: Value> ServerFn<V> for MaxFn {
    fn name(&self) -> &str {
        "max"
    }
    fn initial(&self, _column: usize) -> V {
        -V::INFINITY
    }
    fn combine(&self) -> Combine {
        Combine::Each
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.apply(|[w]| update::max(w, parts[0]));
        Ok(())
    }
}

/// `min`: the smallest of all pushes; a row begins at infinity. NaN stays.
pub struct MinFn;

impl<V: Value> ServerFn<V> for MinFn {
    fn name(&self) -> &str {
        "min"
    }
    fn initial(&self, _column: usize) -> V {
        V::INFINITY
    }
    fn combine(&self) -> Combine {
        Combine::Each
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.apply(|[w]| update::min(w, parts[0]));
        Ok(())
    }
}
