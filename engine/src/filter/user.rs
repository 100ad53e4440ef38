//! Filters of the program's own.

use std::collections::BTreeMap;

use super::chain_spec::ChainSpec;
use super::rows::RowKeys;
use super::spec::{FilterSpec, FilterSpecError};
use crate::key_range::Key;
use crate::message::Element;
use crate::table::ValueType;

/// The values of one part, by type.
#[derive(Debug)]
pub enum PartView<'a> {
    /// 32-bit values.
    F32(&'a mut [f32]),
    /// 64-bit values.
    F64(&'a mut [f64]),
}

impl<'a> PartView<'a> {
    pub(super) fn of<V: Element>(values: &'a mut [V]) -> PartView<'a> {
        if V::CODE == f64::CODE {
            PartView::F64(bytemuck::cast_slice_mut(values))
        } else {
            PartView::F32(bytemuck::cast_slice_mut(values))
        }
    }
}

/// What a filter sees of a message: rows of values it may change or drop.
pub struct RowView<'a> {
    pub(super) keys: RowKeys<'a>,
    pub(super) width: usize,
    pub(super) time: u64,
    pub(super) table: u16,
    pub(super) parts: Vec<PartView<'a>>,
    pub(super) present: &'a mut [u64],
}

impl<'a> RowView<'a> {
    /// Number of rows, those dropped before included.
    pub fn rows(&self) -> usize {
        let values = self.parts.first().map_or(0, |part| match part {
            PartView::F32(values) => values.len(),
            PartView::F64(values) => values.len(),
        });
        values / self.width
    }

    /// Values per row and part.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The task's time.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// Number of the table.
    pub fn table(&self) -> u16 {
        self.table
    }

    /// The key of a row; `None` for a row there is not, and in answers to key lists, where the shard knows rows only.
    pub fn key(&self, row: usize) -> Option<Key> {
        (row < self.rows() && !matches!(self.keys, RowKeys::Unknown)).then(|| self.keys.get(row))
    }

    /// The value arrays, rows one after the other.
    pub fn parts(&mut self) -> &mut [PartView<'a>] {
        &mut self.parts
    }

    /// Whether a row is still there.
    pub fn is_present(&self, row: usize) -> bool {
        row < self.rows() && self.present[row / 64] >> (row % 64) & 1 == 1
    }

    /// Leaves a row out: a push adds nothing for it (and is refused by a table whose function does not add), a pull
    /// reads it as 0.
    pub fn drop_row(&mut self, row: usize) {
        if row < self.rows() {
            self.present[row / 64] &= !(1 << (row % 64));
        }
    }
}

/// A filter of the program's own, named `user:NAME[:PARAMETER]` in chains. It works on rows before they are coded, so the
/// receiver need not know it; one of a pull's chain runs at the shards and must be registered there.
///
/// ```
/// use keyrange::filter::{FilterRegistry, PartView, RowView, UserFilter};
///
/// /// Holds no value above a limit.
/// struct Clip(f64);
///
/// impl UserFilter for Clip {
///     fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String> {
///         for part in rows.parts() {
///             match part {
///                 PartView::F32(values) => values.iter_mut().for_each(|x| *x = x.min(self.0 as f32)),
///                 PartView::F64(values) => values.iter_mut().for_each(|x| *x = x.min(self.0)),
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let mut filters = FilterRegistry::default();
/// filters.register("clip", |limit| Ok(Box::new(Clip(limit.parse().map_err(|_| "expected a number")?))));
/// ```
pub trait UserFilter: Send {
    /// The only type of values it works on, if there is one: a request for a table of the other type is refused.
    fn value_type(&self) -> Option<ValueType> {
        None
    }

    /// Changes the values of a message, or drops rows. Called once per message, on the thread that sends it.
    ///
    /// # Errors
    /// Why the request fails: a push is not sent, a pull gets this for an answer. (A large request is several messages,
    /// and what filters before this one remember of the message they go on remembering.)
    fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String>;
}

type Maker = Box<dyn Fn(&str) -> Result<Box<dyn UserFilter>, String> + Send + Sync>;

/// Constructors of user filters by name. A value, not a global; shards find theirs in
/// [`Registry::filters`](crate::update::Registry).
#[derive(Default)]
pub struct FilterRegistry {
    makers: BTreeMap<String, Maker>,
}

impl FilterRegistry {
    /// Registers a filter, replacing one of the same name. The constructor gets the parameter of the chain's word and
    /// answers with what is wrong with it, if anything.
    pub fn register(
        &mut self,
        name: &str,
        make: impl Fn(&str) -> Result<Box<dyn UserFilter>, String> + Send + Sync + 'static,
    ) {
        self.makers.insert(name.to_owned(), Box::new(make));
    }

    /// The user filters of a chain, by name; without those that are not registered, unless `all` are needed.
    pub(super) fn make(&self, spec: &ChainSpec, all: bool) -> Result<UserFilters, FilterSpecError> {
        let mut made = UserFilters::new();
        for filter in &spec.filters {
            let FilterSpec::User { name, parameter } = filter else { continue };
            let wrong = |text| FilterSpecError::User { name: name.clone(), text };
            match self.makers.get(name) {
                Some(make) => drop(made.insert(name.clone(), make(parameter).map_err(wrong)?)),
                None if all => {
                    let known = self.makers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    let there = if known.is_empty() { "none" } else { &known };
                    return Err(wrong(format!(
                        "no filter of this name is registered here (there are: {there})"
                    )));
                }
                None => {}
            }
        }
        Ok(made)
    }
}

pub(super) type UserFilters = BTreeMap<String, Box<dyn UserFilter>>;
