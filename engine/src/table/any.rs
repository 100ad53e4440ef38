//! A table of either value type.

use super::{CallError, Resolved, Table, TableError, TableSpec, ValueType};
use crate::update::{Answer, Registry, Subtask};

/// A table whose value type is known at run time only, so that a shard can hold both kinds.
pub enum AnyTable {
    /// Of f32.
    F32(Table<f32>),
    /// Of f64.
    F64(Table<f64>),
}

/// Does the same with whichever table there is.
macro_rules! each {
    ($any:expr, $table:ident => $body:expr) => {
        match $any {
            AnyTable::F32($table) => $body,
            AnyTable::F64($table) => $body,
        }
    };
}

impl AnyTable {
    /// A table as described.
    ///
    /// # Errors
    /// As [`Table::new`].
    pub fn new(spec: TableSpec, registry: &Registry) -> Result<Self, TableError> {
        Ok(match spec.value_type {
            ValueType::F32 => Self::F32(Table::new(spec, registry)?),
            ValueType::F64 => Self::F64(Table::new(spec, registry)?),
        })
    }

    /// See [`Table::spec`].
    pub fn spec(&self) -> &TableSpec {
        each!(self, table => table.spec())
    }

    /// See [`Table::len`].
    pub fn len(&self) -> usize {
        each!(self, table => table.len())
    }

    /// See [`Table::is_empty`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// See [`Table::bytes`].
    pub fn bytes(&self) -> usize {
        each!(self, table => table.bytes())
    }

    /// See [`Table::push_parts`].
    pub fn push_parts(&self) -> usize {
        each!(self, table => table.push_parts())
    }

    /// See [`Table::adds`].
    pub fn adds(&self) -> bool {
        each!(self, table => table.adds())
    }

    /// See [`Table::resolve`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve(&mut self, keys: &[u64], insert: bool) -> Result<Resolved, TableError> {
        each!(self, table => table.resolve(keys, insert))
    }

    /// See [`Table::resolve_range`].
    ///
    /// # Errors
    /// As there.
    pub fn resolve_range(&mut self, first: u64, last: u64, insert: bool) -> Result<Resolved, TableError> {
        each!(self, table => table.resolve_range(first, last, insert))
    }

    /// See [`Table::existing`].
    pub fn existing(&mut self, first: u64, last: u64) -> (Vec<u64>, Resolved) {
        each!(self, table => table.existing(first, last))
    }

    /// See [`Table::existing_up_to`].
    pub fn existing_up_to(&mut self, first: u64, last: u64, limit: usize) -> (Vec<u64>, Resolved) {
        each!(self, table => table.existing_up_to(first, last, limit))
    }

    /// See [`Table::at_slots`].
    pub(crate) fn at_slots(&self, slots: Vec<u32>) -> Resolved {
        each!(self, table => table.at_slots(slots))
    }

    /// See [`Table::is_current`].
    pub fn is_current(&self, at: &Resolved) -> bool {
        each!(self, table => table.is_current(at))
    }

    /// See [`Table::freeze`].
    ///
    /// # Errors
    /// As there.
    pub fn freeze(&mut self) -> Result<(), TableError> {
        each!(self, table => table.freeze())
    }

    /// See [`Table::call`].
    ///
    /// # Errors
    /// As there.
    pub fn call(&mut self, verb: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
        each!(self, table => table.call(verb, args))
    }

    pub(crate) fn call_issuing(
        &mut self,
        verb: &str,
        args: &[u8],
    ) -> Result<(Answer, Vec<Subtask>), CallError> {
        each!(self, table => table.call_issuing(verb, args))
    }
}
