//! A set of examples by rows, and its division among workers.

use std::ops::Range;

use super::DataError;

/// Labelled sparse examples, compressed by rows (CSR).
///
/// Feature ids are `u64`; the distinct ones stand once, sorted, in [`keys`](Self::keys), and the nonzeros name them by
/// their `u32` place in that list. Within a row the places strictly increase. Values are absent when all of them
/// are 1. Labels are +1 and -1. All of this holds for every `Dataset`, so users need not check it again.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    row_offsets: Vec<usize>,
    columns: Vec<u32>,
    values: Option<Vec<f64>>,
    labels: Vec<f64>,
    keys: Vec<u64>,
    key_counts: Vec<u32>,
}

/// One example.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row<'a> {
    /// +1 or -1.
    pub label: f64,
    /// Places in the set's key list, strictly increasing.
    pub columns: &'a [u32],
    /// As long as `columns`, or absent when every value of the set is 1.
    pub values: Option<&'a [f64]>,
}

impl<'a> Row<'a> {
    /// Pairs of place in the key list and value.
    pub fn entries(self) -> impl Iterator<Item = (u32, f64)> + 'a {
        let value = move |at: usize| self.values.map_or(1.0, |values| values[at]);
        self.columns.iter().enumerate().map(move |(at, &column)| (column, value(at)))
    }
}

impl Dataset {
    /// A set out of its arrays: `row_offsets` has one entry more than there are rows, starts with 0 and ends with the
    /// number of nonzeros; `columns` are places in `keys`, strictly increasing in each row; `keys` strictly increase.
    /// Keys that no row uses are allowed. Values that are all 1 are dropped.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] names the rule broken; [`DataError::TooLarge`] from 2^32 - 1 rows or keys on.
    pub fn from_parts(
        row_offsets: Vec<usize>,
        columns: Vec<u32>,
        values: Option<Vec<f64>>,
        labels: Vec<f64>,
        keys: Vec<u64>,
    ) -> Result<Self, DataError> {
        check_sizes(labels.len(), keys.len())?;
        check_rows(&row_offsets, &columns, labels.len(), keys.len())?;
        let wrong = |expected, got: String| Err(DataError::Inconsistent { expected, got });
        if let Some(at) = keys.windows(2).position(|pair| pair[0] >= pair[1]) {
            return wrong("strictly increasing keys", format!("{} after {}", keys[at + 1], keys[at]));
        }
        if let Some(label) = labels.iter().find(|label| label.abs() != 1.0) {
            return wrong("labels +1 and -1", label.to_string());
        }
        if let Some(values) = &values {
            if values.len() != columns.len() {
                return wrong("a value for each nonzero", format!("{} for {}", values.len(), columns.len()));
            }
            if !values.iter().fold(true, |all, value| all & value.is_finite()) {
                return wrong("finite values", "an infinite one or NaN".into());
            }
        }
        let mut key_counts = vec![0u32; keys.len()];
        for &column in &columns {
            key_counts[column as usize] += 1;
        }
        Ok(Self::assemble(row_offsets, columns, values, labels, keys, key_counts))
    }

    /// The same for arrays that are right by construction.
    pub(crate) fn assemble(
        row_offsets: Vec<usize>,
        columns: Vec<u32>,
        values: Option<Vec<f64>>,
        labels: Vec<f64>,
        keys: Vec<u64>,
        key_counts: Vec<u32>,
    ) -> Self {
        let values = values.filter(|values| values.iter().any(|&value| value != 1.0));
        Self { row_offsets, columns, values, labels, keys, key_counts }
    }

    /// Number of examples.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// Number of keys in the key list.
    pub fn features(&self) -> usize {
        self.keys.len()
    }

    /// Number of stored entries.
    pub fn nonzeros(&self) -> usize {
        self.columns.len()
    }

    /// Number of examples labelled +1.
    pub fn positives(&self) -> usize {
        self.labels.iter().filter(|&&label| label > 0.0).count()
    }

    /// Where each row begins in [`columns`](Self::columns), and the end: `rows() + 1` entries.
    pub fn row_offsets(&self) -> &[usize] {
        &self.row_offsets
    }

    /// The place in [`keys`](Self::keys) of each nonzero, row after row.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The value of each nonzero; `None` when all are 1.
    pub fn values(&self) -> Option<&[f64]> {
        self.values.as_deref()
    }

    /// +1 or -1 for each row.
    pub fn labels(&self) -> &[f64] {
        &self.labels
    }

    /// The distinct feature ids, strictly increasing.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// In how many rows each key stands.
    pub fn key_counts(&self) -> &[u32] {
        &self.key_counts
    }

    /// The example at `row`. Panics beyond the last, as slices do.
    pub fn row(&self, row: usize) -> Row<'_> {
        let span = self.row_offsets[row]..self.row_offsets[row + 1];
        let values = self.values.as_deref().map(|values| &values[span.clone()]);
        Row { label: self.labels[row], columns: &self.columns[span], values }
    }

    /// All examples in order.
    pub fn iter(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.rows()).map(|row| self.row(row))
    }

    /// The rows of worker `worker` of `workers`: contiguous, every row in exactly one share, and the shares' work as
    /// equal as whole rows allow. Work is nonzeros, plus one for the row itself.
    /// The answer depends on nothing but the set and the two numbers. Panics unless `worker < workers`.
    pub fn share_rows(&self, worker: usize, workers: usize) -> Range<usize> {
        assert!(worker < workers, "worker {worker} of {workers}");
        balanced(self.rows(), worker, workers, |row| self.row_offsets[row] + row)
    }

    /// The set of the rows in `rows`, with only the keys these rows use. Panics if `rows` exceeds the set.
    pub fn select(&self, rows: Range<usize>) -> Self {
        let span = self.row_offsets[rows.start]..self.row_offsets[rows.end];
        let mut counts = vec![0u32; self.features()];
        for &column in &self.columns[span.clone()] {
            counts[column as usize] += 1;
        }
        let mut place = vec![0u32; self.features()];
        let (mut keys, mut key_counts) = (Vec::new(), Vec::new());
        for (at, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            place[at] = keys.len() as u32;
            keys.push(self.keys[at]);
            key_counts.push(count);
        }
        let row_offsets = self.row_offsets[rows.start..=rows.end].iter().map(|at| at - span.start).collect();
        let columns = self.columns[span.clone()].iter().map(|&column| place[column as usize]).collect();
        let values = self.values.as_deref().map(|values| values[span].to_vec());
        Self::assemble(row_offsets, columns, values, self.labels[rows].to_vec(), keys, key_counts)
    }

    /// [`select`](Self::select) of [`share_rows`](Self::share_rows).
    pub fn share(&self, worker: usize, workers: usize) -> Self {
        self.select(self.share_rows(worker, workers))
    }
}

/// The `part`-th of `parts` contiguous ranges of `0..count`, where `before(i)` is the work before item `i`, growing.
/// The cut between two parts is the first item at which their share of the work is reached.
pub(crate) fn balanced(
    count: usize,
    part: usize,
    parts: usize,
    before: impl Fn(usize) -> usize,
) -> Range<usize> {
    let total = before(count) as u128;
    let cut = |part: usize| {
        let want = (total * part as u128 / parts as u128) as usize;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle) < want { low = middle + 1 } else { high = middle }
        }
        low
    };
    let end = if part + 1 == parts { count } else { cut(part + 1) };
    cut(part)..end
}

/// Row and key numbers must fit `u32`, the last value kept free for "none".
pub(crate) fn check_sizes(rows: usize, keys: usize) -> Result<(), DataError> {
    let limit = u64::from(u32::MAX) - 1;
    for (what, got) in [("rows", rows as u64), ("features", keys as u64)] {
        if got > limit {
            return Err(DataError::TooLarge { what, limit, got });
        }
    }
    Ok(())
}

fn check_rows(row_offsets: &[usize], columns: &[u32], rows: usize, keys: usize) -> Result<(), DataError> {
    let wrong = |expected, got: String| Err(DataError::Inconsistent { expected, got });
    if row_offsets.len() != rows + 1 {
        return wrong("one row offset more than labels", format!("{} for {rows}", row_offsets.len()));
    }
    let ends = (row_offsets[0], row_offsets[rows]);
    if ends != (0, columns.len()) {
        return wrong("row offsets from 0 to the number of nonzeros", format!("{ends:?}"));
    }
    for (row, span) in row_offsets.windows(2).enumerate() {
        let Some(columns) = columns.get(span[0]..span[1]) else {
            return wrong("growing row offsets", format!("{span:?} at row {row}"));
        };
        // Without an early end, so that it is done several at a time.
        let sorted =
            columns.iter().zip(&columns[columns.len().min(1)..]).fold(true, |all, (a, b)| all & (a < b));
        if !sorted || columns.last().is_some_and(|&last| last as usize >= keys) {
            return wrong("columns below the number of keys, strictly increasing", format!("row {row}"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Small sets: any keys, empty rows, with and without values.
    pub(crate) fn any_dataset() -> impl Strategy<Value = Dataset> {
        let row = prop::collection::btree_map(0u32..20, prop_oneof![Just(1.0), -3.0..3.0], 0..12);
        (prop::collection::vec((row, any::<bool>()), 1..30), prop::collection::btree_set(any::<u64>(), 20))
            .prop_map(|(rows, keys)| {
                let mut offsets = vec![0];
                let (mut columns, mut values, mut labels) = (vec![], vec![], vec![]);
                for (row, positive) in rows {
                    columns.extend(row.keys());
                    values.extend(row.values());
                    offsets.push(columns.len());
                    labels.push(if positive { 1.0 } else { -1.0 });
                }
                Dataset::from_parts(offsets, columns, Some(values), labels, keys.into_iter().collect())
                    .unwrap()
            })
    }

    /// Rows as pairs of key and value: what a set means, however it numbers its keys.
    pub(crate) fn meaning(set: &Dataset) -> Vec<(f64, Vec<(u64, f64)>)> {
        set.iter()
            .map(|row| (row.label, row.entries().map(|(c, v)| (set.keys()[c as usize], v)).collect()))
            .collect()
    }

    proptest! {
        #[test]
        fn shares_cover_every_row_once_and_mean_the_same(set in any_dataset(), workers in 1usize..9) {
            let mut joined = vec![];
            for worker in 0..workers {
                let share = set.share(worker, workers);
                prop_assert!(share.key_counts().iter().all(|&count| count > 0));
                joined.extend(meaning(&share));
            }
            prop_assert_eq!(joined, meaning(&set));
        }

        #[test]
        fn shares_differ_by_at_most_the_largest_rows(set in any_dataset(), workers in 1usize..5) {
            let largest = set.iter().map(|row| row.columns.len() + 1).max().unwrap();
            let total = set.nonzeros() + set.rows();
            for worker in 0..workers {
                let rows = set.share_rows(worker, workers);
                let work = set.row_offsets()[rows.end] - set.row_offsets()[rows.start] + rows.len();
                prop_assert!(work <= total / workers + largest + 1);
                prop_assert!(work + largest + 1 >= total / workers);
            }
        }
    }

    #[test]
    fn inconsistent_arrays_are_refused() {
        let make = |offsets: &[usize], columns: &[u32], labels: &[f64], keys: &[u64]| {
            let made = Dataset::from_parts(offsets.into(), columns.into(), None, labels.into(), keys.into());
            made.unwrap_err().to_string()
        };
        assert!(make(&[0, 1], &[0], &[1.0, 1.0], &[5]).contains("one row offset more"));
        assert!(make(&[0, 2], &[0], &[1.0], &[5]).contains("from 0 to the number"));
        assert!(make(&[0, 2, 1], &[0], &[1.0, -1.0], &[5]).contains("growing row offsets"));
        assert!(make(&[0, 1], &[1], &[1.0], &[5]).contains("below the number of keys"));
        assert!(make(&[0, 2], &[0, 0], &[1.0], &[5]).contains("strictly increasing"));
        assert!(make(&[0, 1], &[0], &[1.0], &[5, 5]).contains("keys"));
        assert!(make(&[0, 1], &[0], &[0.0], &[5]).contains("labels"));
    }
}
