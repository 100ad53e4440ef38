//! The table: columns of values, the keys that find their rows, and the function that updates them.

use super::aggregate::Scratch;
use super::{CallError, KeySpace, Pages, Resolved, Slots, TableError, TableSpec, Value};
use crate::update::{Answer, CallView, Registry, Rows, ServerFn, Subtask, UpdateError};

/// Most keys of one range that a table without rows for them resolves at a time.
pub const RANGE_KEYS_MAX: u64 = 1 << 28;

/// One table of one shard. Column 0 holds the parameters; further columns are the server function's state.
pub struct Table<V: Value> {
    pub(super) spec: TableSpec,
    pub(super) space: KeySpace,
    pub(super) columns: Vec<Pages<V>>,
    pub(super) function: Box<dyn ServerFn<V>>,
    pub(super) scratch: Scratch<V>,
    initial: Vec<V>,
    generation: u32,
    /// The slot of a single key, so that looking one up allocates nothing.
    single: Vec<u32>,
}

/// One worker's part of an aggregated push.
#[derive(Clone, Copy)]
pub struct Contribution<'a, V> {
    /// The rows of its keys.
    pub at: &'a Resolved,
    /// Its value arrays, keys x width values each.
    pub parts: &'a [&'a [V]],
}

impl<V: Value> Table<V> {
    /// A table as described, its function made by the registry.
    ///
    /// # Errors
    /// [`TableError::Spec`], [`TableError::UnknownFunction`], [`TableError::Params`], and
    /// [`TableError::OutOfMemory`] for a dense interval that does not fit.
    pub fn new(spec: TableSpec, registry: &Registry) -> Result<Self, TableError> {
        let function = registry.make::<V>(&spec.function)?;
        Self::with_function(spec, function)
    }

    /// A table as described with the given function, whatever its description names.
    ///
    /// # Errors
    /// [`TableError::Spec`] and [`TableError::OutOfMemory`].
    pub fn with_function(spec: TableSpec, function: Box<dyn ServerFn<V>>) -> Result<Self, TableError> {
        spec.check()?;
        if spec.value_type != V::TYPE {
            let text = format!("expected value type {:?}, got {:?}", V::TYPE, spec.value_type);
            return Err(TableError::Spec { table: spec.id, text });
        }
        let initial: Vec<V> = (0..=function.state_columns()).map(|column| function.initial(column)).collect();
        let columns = initial.iter().map(|_| Pages::new()).collect();
        let space = KeySpace::new(spec.store);
        let (scratch, single) = (Scratch::new(), Vec::with_capacity(1));
        let mut table = Self { spec, space, columns, function, scratch, initial, generation: 0, single };
        table.reserve(0)?;
        table.fill_rows()?;
        Ok(table)
    }

    /// The description it was made from.
    pub fn spec(&self) -> &TableSpec {
        &self.spec
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.space.rows()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let columns: usize = self.columns.iter().map(Pages::bytes).sum();
        columns + self.space.bytes() + self.scratch.bytes()
    }

    /// Value arrays that a push carries.
    pub fn push_parts(&self) -> usize {
        self.function.push_parts()
    }

    /// Finds the rows of `keys`. With `insert`, keys without a row get one.
    ///
    /// # Errors
    /// [`TableError::Unsorted`]; [`TableError::NoSuchKey`] for keys outside a dense table, and with `insert` for
    /// keys that a frozen table lacks; [`TableError::Full`] and [`TableError::OutOfMemory`] when inserting (keys
    /// may then have got rows with initial values, which changes no value anybody can pull).
    pub fn resolve(&mut self, keys: &[u64], insert: bool) -> Result<Resolved, TableError> {
        if insert {
            self.reserve(keys.len())?;
        }
        let at = self.space.resolve(keys, insert);
        if insert {
            self.fill_rows()?;
        }
        at.map(|at| self.resolved(at))
    }

    /// Finds the row of one key as [`resolve`](Self::resolve) does. Allocates nothing unless the key gets a row.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_one(&mut self, key: u64, insert: bool) -> Result<Resolved, TableError> {
        match &self.space {
            KeySpace::Dense { .. } => self.resolve_range(key, key, insert),
            KeySpace::Hashed { index, .. } => {
                self.single.clear();
                index.find(&[key], &mut self.single);
                match self.single.first() {
                    Some(&start) if start != u32::MAX => Ok(self.resolved(Slots::Run { start, len: 1 })),
                    _ => self.resolve(&[key], insert),
                }
            }
            KeySpace::Sorted { .. } => self.resolve(&[key], insert),
        }
    }

    /// Finds the rows of all keys from `first` to `last` inclusive.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve), and [`TableError::Range`] for more than [`RANGE_KEYS_MAX`] keys.
    pub fn resolve_range(&mut self, first: u64, last: u64, insert: bool) -> Result<Resolved, TableError> {
        if first > last || last - first >= RANGE_KEYS_MAX {
            return Err(TableError::Range { first, last, limit: RANGE_KEYS_MAX });
        }
        if let KeySpace::Dense { first: low, last: high } = self.space {
            if first < low || last > high {
                let (key, index) = if first < low { (first, 0) } else { (last, (last - first) as usize) };
                let expected = format!("the table has keys {low} to {high}");
                return Err(TableError::NoSuchKey { key, index, expected });
            }
            let run = Slots::Run { start: (first - low) as u32, len: (last - first + 1) as u32 };
            return Ok(self.resolved(run));
        }
        let keys: Vec<u64> = (first..=last).collect();
        self.resolve(&keys, insert)
    }

    /// The keys from `first` to `last` inclusive that have rows, in order, and their rows.
    pub fn existing(&mut self, first: u64, last: u64) -> (Vec<u64>, Resolved) {
        self.existing_up_to(first, last, usize::MAX)
    }

    /// The first `limit` of [`existing`](Self::existing); go on from the last key plus one.
    pub fn existing_up_to(&mut self, first: u64, last: u64, limit: usize) -> (Vec<u64>, Resolved) {
        let (keys, at) = self.space.existing(first, last, limit);
        (keys, self.resolved(at))
    }

    /// Names rows by their slots, as found in [`Resolved::slots`] of this table before.
    pub(crate) fn at_slots(&self, slots: Vec<u32>) -> Resolved {
        self.resolved(Slots::List(keyrange_kernels::slots::SlotList::new(slots)))
    }

    /// Whether `at`, made by this table, still names the right rows. If not, resolve the keys again.
    pub fn is_current(&self, at: &Resolved) -> bool {
        at.fits(self.generation, self.len())
    }

    /// Applies one push at once.
    ///
    /// # Errors
    /// [`TableError::Stale`], [`TableError::Parts`], [`TableError::Values`] and [`TableError::Refused`]; nothing was applied.
    pub fn push(&mut self, at: &Resolved, parts: &[&[V]]) -> Result<(), TableError> {
        self.check_push(at, parts)?;
        if !at.is_empty() {
            let mut rows = Rows::new(&mut self.columns, &at.at, self.spec.width, &mut self.scratch.rows);
            let done = self.function.update(&mut rows, parts);
            done.map_err(|error| self.refused(error))?;
        }
        Ok(())
    }

    #[cold]
    pub(super) fn refused(&self, UpdateError(text): UpdateError) -> TableError {
        TableError::Refused { function: self.function.name().to_owned(), text }
    }

    /// Writes the parameters at `at` to `out`, keys x width values. A key without a row reads as the initial value.
    ///
    /// # Errors
    /// [`TableError::Stale`], [`TableError::Values`].
    pub fn pull(&self, at: &Resolved, out: &mut [V]) -> Result<(), TableError> {
        if !self.is_current(at) {
            return Err(TableError::Stale);
        }
        let width = self.spec.width as usize;
        let expected = at.len() * width;
        if out.len() != expected {
            return Err(TableError::Values { part: 0, expected, got: out.len() });
        }
        let column = &*self.columns[0];
        match &at.at {
            Slots::Run { start, len } => {
                let begin = *start as usize * width;
                out.copy_from_slice(&column[begin..begin + *len as usize * width]);
            }
            Slots::List(slots) => keyrange_kernels::sparse::gather(out, column, slots, width),
            Slots::Partial { slots, places, .. } => {
                out.fill(self.initial[0]);
                for (&slot, &place) in slots.as_slice().iter().zip(places) {
                    let (from, to) = (slot as usize * width, place as usize * width);
                    out[to..to + width].copy_from_slice(&column[from..from + width]);
                }
            }
        }
        Ok(())
    }

    /// Fixes the key set and puts the rows into the order of keys. Everything resolved before is out of date.
    ///
    /// # Errors
    /// [`TableError::Freeze`] unless the store is [`StoreKind::Frozen`](super::StoreKind::Frozen) and not yet
    /// frozen; [`TableError::OutOfMemory`].
    pub fn freeze(&mut self) -> Result<(), TableError> {
        let (space, slots) = self.space.frozen()?;
        let width = self.spec.width as usize;
        let slots = keyrange_kernels::slots::SlotList::new(slots);
        let mut moved = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let mut pages = Pages::new();
            pages.grow(column.len())?;
            keyrange_kernels::sparse::gather(&mut pages, column, &slots, width);
            moved.push(pages);
        }
        self.columns = moved;
        self.space = space;
        self.generation += 1;
        Ok(())
    }

    /// Calls the server function with a verb of its own.
    ///
    /// # Errors
    /// [`CallError`], whatever the function reports; [`CallError::Subtasks`] for verbs that issue some.
    pub fn call(&mut self, verb: &str, args: &[u8]) -> Result<Vec<u8>, CallError> {
        match self.call_issuing(verb, args)? {
            (answer, subtasks) if subtasks.is_empty() => Ok(answer.into_bytes()),
            _ => Err(CallError::Subtasks { verb: verb.to_owned() }),
        }
    }

    /// As [`call`](Self::call), for those who can run the sub-tasks it issued.
    pub(crate) fn call_issuing(
        &mut self,
        verb: &str,
        args: &[u8],
    ) -> Result<(Answer, Vec<Subtask>), CallError> {
        let generation = self.generation;
        let (columns, space) = (&mut self.columns, &mut self.space);
        let mut view = CallView::new(columns, space, self.spec.width, generation, &mut self.scratch.rows);
        let answer = self.function.answer(verb, args, &mut view)?;
        Ok((answer, view.into_subtasks()))
    }

    pub(super) fn check_push(&self, at: &Resolved, parts: &[&[V]]) -> Result<(), TableError> {
        if !self.is_current(at) || at.missing() > 0 {
            return Err(TableError::Stale);
        }
        if parts.len() != self.function.push_parts() {
            let function = self.function.name().to_owned();
            let expected = self.function.push_parts();
            return Err(TableError::Parts { function, expected, got: parts.len() });
        }
        let expected = at.len() * self.spec.width as usize;
        match parts.iter().position(|part| part.len() != expected) {
            Some(part) => Err(TableError::Values { part, expected, got: parts[part].len() }),
            None => Ok(()),
        }
    }

    fn resolved(&self, at: Slots) -> Resolved {
        Resolved::new(at, self.generation, self.len())
    }

    /// Takes the memory for `more` rows, so that inserting them cannot fail half-way.
    fn reserve(&mut self, more: usize) -> Result<(), TableError> {
        let grows = matches!(self.space, KeySpace::Hashed { .. });
        let rows = self.space.rows() + if grows { more } else { 0 };
        let values = rows.saturating_mul(self.spec.width as usize);
        self.columns.iter_mut().try_for_each(|column| column.reserve(values))
    }

    /// Gives rows that have just come into being their initial values; their memory is there already.
    fn fill_rows(&mut self) -> Result<(), TableError> {
        let values = self.space.rows() * self.spec.width as usize;
        for (column, &initial) in self.columns.iter_mut().zip(&self.initial) {
            let begin = column.len();
            column.grow(values)?;
            if bytemuck::bytes_of(&initial) != bytemuck::bytes_of(&V::ZERO) {
                column[begin..].fill(initial);
            }
        }
        Ok(())
    }
}
