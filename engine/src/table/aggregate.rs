//! Aggregated pushes: the sum over workers, then one update.

use keyrange_kernels::dense;
use keyrange_kernels::slots::SlotList;

use super::places::Places;
use super::{Contribution, Pages, Slots, Table, TableError, Value};
use crate::update::{Combine, Rows};

/// Memory that updates use meanwhile, kept to avoid allocating anew.
pub(super) struct Scratch<V> {
    /// Gathered columns of rows that are not consecutive.
    pub rows: Vec<Vec<V>>,
    /// The sum of each part.
    sums: Vec<Vec<V>>,
    /// For each slot its place in the union plus one, zero outside of `unite`.
    marks: Pages<u32>,
}

/// Sums kept between updates beyond this size are given back.
const KEPT_VALUES_MAX: usize = 1 << 22;

impl<V: Value> Scratch<V> {
    pub fn new() -> Self {
        Self { rows: Vec::new(), sums: Vec::new(), marks: Pages::new() }
    }

    pub fn bytes(&self) -> usize {
        let values: usize = self.rows.iter().chain(&self.sums).map(Vec::capacity).sum();
        values * size_of::<V>() + self.marks.bytes()
    }

    /// One array of `values` neutral elements per part.
    fn clear_sums(&mut self, parts: usize, values: usize, neutral: impl Fn(usize) -> V) {
        self.sums.resize_with(parts, Vec::new);
        for (part, sum) in self.sums.iter_mut().enumerate() {
            sum.clear();
            sum.resize(values, neutral(part));
        }
    }

    fn trim(&mut self) {
        for scratch in self.rows.iter_mut().chain(&mut self.sums) {
            if scratch.capacity() > KEPT_VALUES_MAX {
                *scratch = Vec::new();
            }
        }
    }
}

impl<V: Value> Table<V> {
    /// Applies the pushes of all workers as one: the values of each key are summed over the contributions in the order
    /// given, then the function updates the union of their rows once. The result depends on nothing but that order.
    /// A function that [folds](Combine::Fold) does the summing itself. One that [combines each](Combine::Each) is for
    /// [`apply_each`](Self::apply_each); here all its contributions are tried, and the first error is told.
    ///
    /// # Errors
    /// As [`push`](Self::push), for any contribution, and [`TableError::OutOfMemory`]; nothing was applied.
    pub fn apply_sum(&mut self, contributions: &[Contribution<'_, V>]) -> Result<(), TableError> {
        if self.function.combine() == Combine::Each {
            return self.apply_each(contributions).into_iter().collect();
        }
        for contribution in contributions {
            self.check_push(contribution.at, contribution.parts)?;
        }
        let given: Vec<_> = contributions.iter().filter(|one| !one.at.is_empty()).copied().collect();
        let is_fold = self.function.combine() == Combine::Fold;
        match given.as_slice() {
            [] => {}
            each if is_fold => self.apply_union(each)?,
            [one] => self.push(one.at, one.parts)?,
            [first, rest @ ..] if rest.iter().all(|one| one.at.at.same(&first.at.at)) => {
                self.apply_aligned(&given)?;
            }
            _ => self.apply_union(&given)?,
        }
        self.scratch.trim();
        Ok(())
    }

    /// Applies the pushes of all workers one after the other, in the order given, each by itself: one that is refused does
    /// not keep the others from being applied. The results are in the order of the contributions.
    pub fn apply_each(&mut self, contributions: &[Contribution<'_, V>]) -> Vec<Result<(), TableError>> {
        let results = contributions.iter().map(|one| self.push(one.at, one.parts)).collect();
        self.scratch.trim();
        results
    }

    /// How the table's function combines aggregated pushes.
    pub fn combine(&self) -> Combine {
        self.function.combine()
    }

    /// Whether the table's function takes a row that a filter left out for zeros.
    pub fn adds(&self) -> bool {
        self.function.adds()
    }

    /// All contributions have the same rows.
    fn apply_aligned(&mut self, given: &[Contribution<'_, V>]) -> Result<(), TableError> {
        let at = &given[0].at.at;
        let sources: Vec<Vec<&[V]>> = (0..self.function.push_parts())
            .map(|part| given.iter().map(|one| one.parts[part]).collect())
            .collect();
        let sources: Vec<&[&[V]]> = sources.iter().map(Vec::as_slice).collect();
        let mut rows = Rows::new(&mut self.columns, at, self.spec.width, &mut self.scratch.rows);
        if self.function.update_fused(&mut rows, &sources) {
            return Ok(());
        }
        self.scratch.sums.resize_with(sources.len(), Vec::new);
        for (sum, sources) in self.scratch.sums.iter_mut().zip(&sources) {
            sum.resize(sources[0].len(), V::ZERO);
            dense::sum_into(sum, sources);
        }
        let sums: Vec<&[V]> = self.scratch.sums.iter().map(Vec::as_slice).collect();
        let done = self.function.update(&mut rows, &sums);
        done.map_err(|error| self.refused(error))
    }

    /// The contributions may have different rows.
    fn apply_union(&mut self, given: &[Contribution<'_, V>]) -> Result<(), TableError> {
        let width = self.spec.width as usize;
        let (at, places, rows) = match hull(given) {
            Some((start, len)) => {
                let from = |one: &Contribution<'_, V>| slot_at(&one.at.at, 0) - start;
                let places: Vec<Places> = given.iter().map(|one| Places::From(from(one) as usize)).collect();
                (Slots::Run { start, len }, places, len as usize)
            }
            None => {
                self.scratch.marks.grow(self.space.rows())?;
                let (union, places) = unite(&mut self.scratch.marks, given);
                let rows = union.len();
                (Slots::from_lookup(union), places, rows)
            }
        };
        let is_fold = self.function.combine() == Combine::Fold;
        let function = &mut *self.function;
        let neutral = |part| if is_fold { function.neutral(part) } else { V::NEGATIVE_ZERO };
        self.scratch.clear_sums(function.push_parts(), rows * width, neutral);
        let mut done = Ok(());
        for (one, places) in given.iter().zip(&places) {
            let sums = &mut self.scratch.sums;
            match is_fold {
                true => done = done.and_then(|()| places.fold(function, sums, one.parts, width)),
                false => places.add(sums, one.parts, width),
            }
        }
        let sums: Vec<&[V]> = self.scratch.sums.iter().map(Vec::as_slice).collect();
        let mut rows = Rows::new(&mut self.columns, &at, self.spec.width, &mut self.scratch.rows);
        let done = done.and_then(|()| function.update(&mut rows, &sums));
        done.map_err(|error| self.refused(error))
    }
}

/// The run that the union is, if all contributions are runs and no row between them is left out.
fn hull<V>(given: &[Contribution<'_, V>]) -> Option<(u32, u32)> {
    let mut runs = Vec::with_capacity(given.len());
    for one in given {
        let Slots::Run { start, len } = one.at.at else { return None };
        runs.push((start, start + len));
    }
    runs.sort_unstable();
    let (start, mut end) = runs[0];
    for (next, next_end) in runs {
        if next > end {
            return None;
        }
        end = end.max(next_end);
    }
    Some((start, end - start))
}

fn slot_at(at: &Slots, place: usize) -> u32 {
    match at {
        Slots::Run { start, .. } => start + place as u32,
        Slots::List(slots) | Slots::Partial { slots, .. } => slots.as_slice()[place],
    }
}

/// The union of the rows in the order of first appearance, and for each contribution the places of its rows in it.
/// All marks are zero before and after.
fn unite<V>(marks: &mut [u32], given: &[Contribution<'_, V>]) -> (Vec<u32>, Vec<Places>) {
    let mut union = Vec::new();
    let mut places = Vec::with_capacity(given.len());
    for one in given {
        let mut mine = Vec::with_capacity(one.at.len());
        for place in 0..one.at.len() {
            let slot = slot_at(&one.at.at, place);
            let mark = &mut marks[slot as usize];
            if *mark == 0 {
                union.push(slot);
                *mark = union.len() as u32;
            }
            mine.push(*mark - 1);
        }
        places.push(Places::At(SlotList::new(mine)));
    }
    for &slot in &union {
        marks[slot as usize] = 0;
    }
    (union, places)
}
