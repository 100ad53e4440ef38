//! A set of examples by columns, as block coordinate methods want it.

use std::ops::Range;
use std::thread;

use super::Dataset;
use super::dataset::balanced;

/// The nonzeros of a [`Dataset`] ordered by feature (CSC) over a key list of the caller's choice.
///
/// Within a column the rows strictly increase. Values are absent when all of the set's are 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Csc {
    rows: usize,
    column_offsets: Vec<usize>,
    row_indices: Vec<u32>,
    values: Option<Vec<f64>>,
}

/// Where a key of the set goes that is not in the list.
const NO_COLUMN: u32 = u32::MAX;

impl Csc {
    /// Column `j` is the feature `keys[j]`; `keys` strictly increase (typically the keys of all workers' shares).
    /// Keys the set does not know give empty columns; nonzeros of features that are not in `keys` are left out.
    ///
    /// Panics from 2^32 - 1 keys on, more than a set can have.
    ///
    /// Time is linear in rows, nonzeros and keys. The work is done by `threads` threads (at least one), each filling
    /// the columns of a range of equal nonzeros; the result does not depend on their number.
    pub fn new(set: &Dataset, keys: &[u64], threads: usize) -> Self {
        assert!(keys.len() < NO_COLUMN as usize, "{} keys", keys.len());
        // place[c] is the column of the set's key c, if it has one; monotone, so a row's entries stay sorted.
        let mut place = vec![NO_COLUMN; set.features()];
        let mut column_offsets = vec![0; keys.len() + 1];
        let mut at = 0;
        for (column, &key) in keys.iter().enumerate() {
            while at < set.features() && set.keys()[at] < key {
                at += 1;
            }
            let known = at < set.features() && set.keys()[at] == key;
            if known {
                place[at] = column as u32;
            }
            let count = if known { set.key_counts()[at] as usize } else { 0 };
            column_offsets[column + 1] = column_offsets[column] + count;
        }
        let nonzeros = column_offsets[keys.len()];
        let mut row_indices = vec![0u32; nonzeros];
        let mut values = set.values().map(|_| vec![0.0; nonzeros]);
        let threads = threads.max(1);
        thread::scope(|scope| {
            let mut rows_left = row_indices.as_mut_slice();
            let mut values_left = values.as_deref_mut();
            for part in 0..threads {
                // A range of the set's own columns, cut at equal nonzeros; its output is one contiguous slice.
                let columns = balanced(keys.len(), part, threads, |column| column_offsets[column]);
                let base = column_offsets[columns.start];
                let size = column_offsets[columns.end] - base;
                let (rows_out, rest) = rows_left.split_at_mut(size);
                rows_left = rest;
                let values_out = values_left.take().map(|all| {
                    let (mine, rest) = all.split_at_mut(size);
                    values_left = Some(rest);
                    mine
                });
                let cursors = column_offsets[columns.clone()].iter().map(|offset| offset - base).collect();
                let place = &place;
                let fill = move || fill(set, place, columns, cursors, rows_out, values_out);
                if part + 1 == threads { fill() } else { drop(scope.spawn(fill)) }
            }
        });
        Self { rows: set.rows(), column_offsets, row_indices, values }
    }

    /// Number of rows of the set it came from.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns: the length of the key list.
    pub fn columns(&self) -> usize {
        self.column_offsets.len() - 1
    }

    /// Number of stored entries.
    pub fn nonzeros(&self) -> usize {
        self.row_indices.len()
    }

    /// Where each column begins in [`row_indices`](Self::row_indices), and the end: `columns() + 1` entries.
    pub fn column_offsets(&self) -> &[usize] {
        &self.column_offsets
    }

    /// The row of each nonzero, column after column.
    pub fn row_indices(&self) -> &[u32] {
        &self.row_indices
    }

    /// The value of each nonzero; `None` when all are 1.
    pub fn values(&self) -> Option<&[f64]> {
        self.values.as_deref()
    }

    /// Rows and values of one column. Panics beyond the last, as slices do.
    pub fn column(&self, column: usize) -> (&[u32], Option<&[f64]>) {
        let span = self.column_offsets[column]..self.column_offsets[column + 1];
        (&self.row_indices[span.clone()], self.values.as_deref().map(|values| &values[span]))
    }
}

/// Writes the nonzeros of `columns` (of the result), row by row; `cursors` are the next free places of each.
fn fill(
    set: &Dataset,
    place: &[u32],
    columns: Range<usize>,
    mut cursors: Vec<usize>,
    rows_out: &mut [u32],
    mut values_out: Option<&mut [f64]>,
) {
    if columns.is_empty() {
        return;
    }
    // The set's own columns that fall into the range: between the first and the last that map into it.
    let inside = |place: &u32| *place != NO_COLUMN && columns.contains(&(*place as usize));
    let Some(first) = place.iter().position(inside) else { return };
    let last = place.iter().rposition(inside).unwrap_or(first);
    let whole = first == 0 && last + 1 == place.len();
    for row in 0..set.rows() {
        let entries = set.row(row);
        let (from, to) = if whole {
            (0, entries.columns.len())
        } else {
            let from = entries.columns.partition_point(|&column| (column as usize) < first);
            (from, from + entries.columns[from..].partition_point(|&column| column as usize <= last))
        };
        for at in from..to {
            let column = place[entries.columns[at] as usize];
            if column == NO_COLUMN {
                continue;
            }
            let cursor = &mut cursors[column as usize - columns.start];
            rows_out[*cursor] = row as u32;
            if let (Some(out), Some(values)) = (values_out.as_deref_mut(), entries.values) {
                out[*cursor] = values[at];
            }
            *cursor += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::tests::{any_dataset, meaning};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn columns_are_the_rows_turned(set in any_dataset(), threads in 1usize..5, kept: u32, extra: u64) {
            let mut keys: Vec<u64> =
                set.keys().iter().enumerate().filter(|(i, _)| kept >> i & 1 == 1).map(|(_, k)| *k).collect();
            keys.push(extra);
            keys.sort_unstable();
            keys.dedup();
            let csc = Csc::new(&set, &keys, threads);
            let mut want = vec![vec![]; keys.len()];
            for (row, (_, entries)) in meaning(&set).into_iter().enumerate() {
                for (key, value) in entries {
                    if let Ok(column) = keys.binary_search(&key) {
                        want[column].push((row as u32, value));
                    }
                }
            }
            for (column, want) in want.iter().enumerate() {
                let (rows, values) = csc.column(column);
                let got: Vec<_> =
                    rows.iter().enumerate().map(|(i, &r)| (r, values.map_or(1.0, |v| v[i]))).collect();
                prop_assert_eq!(&got, want);
            }
            prop_assert_eq!((csc.rows(), csc.columns()), (set.rows(), keys.len()));
        }
    }
}
