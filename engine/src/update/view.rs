//! What a server function sees of its table when it is called.

use super::{Rows, Subtask};
use crate::table::{KeySpace, Pages, Resolved, TableError, Value};

/// Keys and columns of a whole table, for [`ServerFn::call`](super::ServerFn::call). Rows can be read and changed; no row
/// comes or goes.
pub struct CallView<'a, V: Value> {
    columns: &'a mut [Pages<V>],
    space: &'a mut KeySpace,
    width: u32,
    generation: u32,
    scratch: &'a mut Vec<Vec<V>>,
    subtasks: Vec<Subtask>,
}

impl<'a, V: Value> CallView<'a, V> {
    pub(crate) fn new(
        columns: &'a mut [Pages<V>],
        space: &'a mut KeySpace,
        width: u32,
        generation: u32,
        scratch: &'a mut Vec<Vec<V>>,
    ) -> Self {
        Self { columns, space, width, generation, scratch, subtasks: Vec::new() }
    }

    /// Makes `subtask` part of this call: it begins when the call has returned well, and the call is answered when all
    /// its sub-tasks have ended. Those of one call may run in any order; there may be some 250 in all.
    pub fn issue(&mut self, subtask: Subtask) {
        self.subtasks.push(subtask);
    }

    pub(crate) fn into_subtasks(self) -> Vec<Subtask> {
        self.subtasks
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.space.rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// One column of all rows, in the order of slots: for sums over the table, where keys do not matter.
    pub fn column(&self, column: usize) -> &[V] {
        &self.columns[column]
    }

    /// One column of all rows, in the order of slots, to be changed.
    pub fn column_mut(&mut self, column: usize) -> &mut [V] {
        &mut self.columns[column]
    }

    /// The keys from `first` to `last` inclusive that have rows, in order, and where those lie.
    pub fn existing(&mut self, first: u64, last: u64) -> (Vec<u64>, Resolved) {
        let (keys, at) = self.space.existing(first, last, usize::MAX);
        (keys, Resolved::new(at, self.generation, self.space.rows()))
    }

    /// Where the rows of `keys` lie; keys may be missing.
    ///
    /// # Errors
    /// As [`Table::resolve`](crate::table::Table::resolve) without inserting.
    pub fn resolve(&mut self, keys: &[u64]) -> Result<Resolved, TableError> {
        let at = self.space.resolve(keys, false)?;
        Ok(Resolved::new(at, self.generation, self.space.rows()))
    }

    /// The rows at `at`, made by this view, to be read or changed.
    ///
    /// # Errors
    /// [`TableError::Stale`] when a key has no row, or when `at` is not this table's.
    pub fn rows<'b>(&'b mut self, at: &'b Resolved) -> Result<Rows<'b, V>, TableError> {
        if at.missing() > 0 || !at.fits(self.generation, self.space.rows()) {
            return Err(TableError::Stale);
        }
        Ok(Rows::new(self.columns, at.slots(), self.width, self.scratch))
    }
}
