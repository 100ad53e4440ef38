//! One set out of pieces made by several threads: tables merged, columns renumbered, arrays concatenated.

use std::thread;

use super::dataset::{balanced, check_sizes};
use super::intern::{Interned, Interner, Merged};
use super::{DataError, Dataset};

/// Consecutive rows of a set in the making.
pub(crate) struct Piece {
    /// Whose numbers the columns are: the place of the maker's list in the call of [`join`].
    pub table: usize,
    pub labels: Vec<f64>,
    /// Entries of each row.
    pub lengths: Vec<u32>,
    pub columns: Vec<u32>,
    /// Empty when all are 1.
    pub values: Vec<f64>,
}

/// Joins `parts`, in order; `lists` are their makers' tables.
pub(crate) fn join(
    parts: Vec<Piece>,
    lists: Vec<Vec<Interned>>,
    threads: usize,
) -> Result<Dataset, DataError> {
    let limit = Interner::LIMIT as u64;
    let merged = Merged::new(&lists).map_err(|got| DataError::TooLarge {
        what: "features",
        limit,
        got: got as u64,
    })?;
    drop(lists);
    let rows = parts.iter().map(|part| part.labels.len()).sum();
    check_sizes(rows, merged.keys.len())?;
    let mut labels = Vec::with_capacity(rows);
    let mut row_offsets = Vec::with_capacity(rows + 1);
    let mut nonzeros = 0;
    row_offsets.push(0);
    // Where each part's nonzeros begin.
    let mut begins = vec![0];
    for part in &parts {
        labels.extend_from_slice(&part.labels);
        for &length in &part.lengths {
            nonzeros += length as usize;
            row_offsets.push(nonzeros);
        }
        begins.push(nonzeros);
    }
    let valued = parts.iter().any(|part| !part.values.is_empty());
    let mut columns = vec![0u32; nonzeros];
    let mut values = valued.then(|| vec![0.0f64; nonzeros]);
    let places = &merged.places;
    thread::scope(|scope| {
        let mut parts = parts.into_iter();
        let mut columns_left = columns.as_mut_slice();
        let mut values_left = values.as_deref_mut().unwrap_or_default();
        for thread in 0..threads {
            let span = balanced(begins.len() - 1, thread, threads, |part| begins[part]);
            let size = begins[span.end] - begins[span.start];
            let mine: Vec<Piece> = parts.by_ref().take(span.len()).collect();
            let (columns_out, rest) = columns_left.split_at_mut(size);
            columns_left = rest;
            let (values_out, rest) = values_left.split_at_mut(if valued { size } else { 0 });
            values_left = rest;
            let copy = move || copy(mine, places, columns_out, values_out);
            if thread + 1 == threads { copy() } else { drop(scope.spawn(copy)) }
        }
    });
    Ok(Dataset::assemble(row_offsets, columns, values, labels, merged.keys, merged.counts))
}

/// Writes consecutive parts into their slices, freeing each when done. Where others have values, parts without get ones.
fn copy(parts: Vec<Piece>, places: &[Vec<u32>], columns_out: &mut [u32], values_out: &mut [f64]) {
    let mut at = 0;
    for part in parts {
        let places = &places[part.table];
        let end = at + part.columns.len();
        for (out, &column) in columns_out[at..end].iter_mut().zip(&part.columns) {
            *out = places[column as usize];
        }
        match (values_out.is_empty(), part.values.is_empty()) {
            (true, _) => {}
            (false, true) => values_out[at..end].fill(1.0),
            (false, false) => values_out[at..end].copy_from_slice(&part.values),
        }
        at = end;
    }
}
