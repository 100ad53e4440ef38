//! The rows of one update, as columns of values.

use std::convert::Infallible;

use keyrange_kernels::sparse;

use crate::table::{Pages, Slots, Value};

/// The rows that an update concerns, in the order of the pushed keys: in each column `len() * width()` values.
///
/// Consecutive rows are worked on where they lie; others are gathered into memory that stays in cache, worked on
/// there, and scattered back. [`apply`](Self::apply) does whichever it takes.
pub struct Rows<'a, V: Value> {
    columns: &'a mut [Pages<V>],
    at: &'a Slots,
    width: usize,
    scratch: &'a mut Vec<Vec<V>>,
}

impl<'a, V: Value> Rows<'a, V> {
    /// All of `at` must have rows.
    pub(crate) fn new(
        columns: &'a mut [Pages<V>],
        at: &'a Slots,
        width: u32,
        scratch: &'a mut Vec<Vec<V>>,
    ) -> Self {
        debug_assert!(!matches!(at, Slots::Partial { .. }));
        Self { columns, at, width: width as usize, scratch }
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        match self.at {
            Slots::Run { len, .. } => *len as usize,
            Slots::List(slots) | Slots::Partial { slots, .. } => slots.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The rows' numbers.
    pub fn slots(&self) -> &Slots {
        self.at
    }

    /// The first `N` columns where they lie, if the rows are consecutive.
    ///
    /// # Panics
    /// When the function has fewer columns than `N`.
    pub fn contiguous<const N: usize>(&mut self) -> Option<[&mut [V]; N]> {
        let Slots::Run { start, len } = *self.at else { return None };
        let begin = start as usize * self.width;
        let end = begin + len as usize * self.width;
        let columns = self.columns.first_chunk_mut::<N>().expect("the function declares its columns");
        Some(columns.each_mut().map(|column| &mut column[begin..end]))
    }

    /// Lets `work` change the first `N` columns of the rows, each as one array.
    ///
    /// # Panics
    /// When the function has fewer columns than `N`.
    pub fn apply<const N: usize, R>(&mut self, work: impl FnOnce([&mut [V]; N]) -> R) -> R {
        match self.try_apply(|columns| Ok::<R, Infallible>(work(columns))) {
            Ok(result) => result,
        }
    }

    /// As [`apply`](Self::apply), for work that can fail: then rows that are not consecutive stay as they were, and of
    /// consecutive ones, which are changed where they lie, whatever `work` left alone.
    ///
    /// # Errors
    /// Those of `work`.
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn try_apply<const N: usize, R, E>(
        &mut self,
        work: impl FnOnce([&mut [V]; N]) -> Result<R, E>,
    ) -> Result<R, E> {
        if let Slots::Run { .. } = self.at {
            return work(self.contiguous().expect("a run is contiguous"));
        }
        let values = self.len() * self.width;
        let mut scratch = std::mem::take(self.scratch);
        scratch.resize_with(scratch.len().max(N), Vec::new);
        let arrays = scratch.first_chunk_mut::<N>().expect("just lengthened");
        for (column, array) in arrays.iter_mut().enumerate() {
            array.resize(values.max(array.len()), V::ZERO);
            self.gather(column, &mut array[..values]);
        }
        let result = work(arrays.each_mut().map(|array| &mut array[..values]));
        if result.is_ok() {
            for (column, array) in arrays.iter().enumerate() {
                self.scatter(column, &array[..values]);
            }
        }
        *self.scratch = scratch;
        result
    }

    /// Copies one column of the rows to `out`, `len() * width()` values.
    pub fn gather(&self, column: usize, out: &mut [V]) {
        let table = &*self.columns[column];
        match self.at {
            Slots::Run { start, .. } => {
                let begin = *start as usize * self.width;
                out.copy_from_slice(&table[begin..begin + out.len()]);
            }
            Slots::List(slots) | Slots::Partial { slots, .. } => {
                sparse::gather(out, table, slots, self.width)
            }
        }
    }

    /// Replaces one column of the rows by `values`, `len() * width()` of them.
    pub fn scatter(&mut self, column: usize, values: &[V]) {
        let table = &mut *self.columns[column];
        match self.at {
            Slots::Run { start, .. } => {
                let begin = *start as usize * self.width;
                table[begin..begin + values.len()].copy_from_slice(values);
            }
            Slots::List(slots) | Slots::Partial { slots, .. } => {
                sparse::scatter_assign(table, slots, self.width, values);
            }
        }
    }

    /// Adds `values`, `len() * width()` of them, to one column of the rows.
    pub fn scatter_add(&mut self, column: usize, values: &[V]) {
        let table = &mut *self.columns[column];
        match self.at {
            Slots::Run { start, .. } => {
                let begin = *start as usize * self.width;
                keyrange_kernels::dense::add(&mut table[begin..begin + values.len()], values);
            }
            Slots::List(slots) | Slots::Partial { slots, .. } => {
                sparse::scatter_add(table, slots, self.width, values);
            }
        }
    }
}
