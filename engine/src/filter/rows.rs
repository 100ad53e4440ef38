//! The first stage: rows are dropped or changed.

use std::borrow::Cow;
use std::time::Instant;

use keyrange_kernels::presence;
use keyrange_kernels::random::{Seed, gaussian};

use super::admission::mix;
use super::chain::{Chain, State};
use super::spec::{Direction, FilterSpec, FilterSpecError, Stage};
use super::streams::StreamName;
use super::user::{PartView, RowView};
use crate::key_range::Key;
use crate::message::Element;

/// The keys of rows, in their order.
#[derive(Debug, Clone, Copy)]
pub(crate) enum RowKeys<'a> {
    List(&'a [Key]),
    /// This key and those that follow it.
    From(Key),
    /// Not known here (answers to lists of which only the rows are cached).
    Unknown,
}

impl RowKeys<'_> {
    #[inline]
    pub fn get(&self, row: usize) -> Key {
        match self {
            RowKeys::List(keys) => keys[row],
            RowKeys::From(first) => first.wrapping_add(row as u64),
            RowKeys::Unknown => row as u64,
        }
    }
}

/// Values that are to leave: one array per part, rows of `width` values.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a, V> {
    pub table: u16,
    pub time: u64,
    pub width: usize,
    pub keys: RowKeys<'a>,
    pub arrays: &'a [&'a [V]],
    /// Says what is random in this request: the same for its repetitions, another for any other.
    pub seed: u64,
    /// For answers to a stream of pulls: its name, the number asked for, and whether everything is wanted.
    pub stream: Option<(StreamName, u32, bool)>,
}

/// Rows on their way through the first stage.
pub(super) struct Work<'a, V: Element> {
    pub arrays: Vec<Cow<'a, [V]>>,
    pub width: usize,
    pub rows: usize,
    /// Rows still there; `None` for all.
    pub present: Option<Vec<u64>>,
    /// Rows that are not there are as the stream's last answer left them.
    pub is_delta: bool,
    /// Of a push: rows that are not there are missing from a sum, not zero; or some are there for others.
    pub is_partial: bool,
}

impl<'a, V: Element> Work<'a, V> {
    pub fn new(out: &Outgoing<'a, V>) -> Work<'a, V> {
        let rows = out.arrays.first().map_or(0, |array| array.len() / out.width);
        let arrays = out.arrays.iter().map(|&array| Cow::Borrowed(array)).collect();
        Work { arrays, width: out.width, rows, present: None, is_delta: false, is_partial: false }
    }

    /// Rows that are there.
    pub fn count(&self) -> usize {
        self.present.as_ref().map_or(self.rows, |bitmap| presence::count(bitmap))
    }

    pub fn is_changed(&self) -> bool {
        self.arrays.iter().any(|array| matches!(array, Cow::Owned(_)))
    }

    fn row_bytes(&self) -> usize {
        self.arrays.len() * self.width * size_of::<V>()
    }

    /// Bytes of the rows there are, with their bitmap.
    pub fn bytes(&self) -> usize {
        self.count() * self.row_bytes() + self.present.as_ref().map_or(0, |bitmap| size_of_val(&bitmap[..]))
    }

    fn bitmap(&mut self) -> &mut Vec<u64> {
        let rows = self.rows;
        self.present.get_or_insert_with(|| all(rows))
    }

    /// Asks of each row that is there whether it stays.
    fn retain(&mut self, mut stays: impl FnMut(usize, &mut [Cow<'a, [V]>]) -> bool) {
        let mut bitmap = std::mem::take(self.bitmap());
        for (at, word) in bitmap.iter_mut().enumerate() {
            let mut left = *word;
            while left != 0 {
                let bit = left.trailing_zeros();
                if !stays(at * 64 + bit as usize, &mut self.arrays) {
                    *word &= !(1 << bit);
                }
                left &= left - 1;
            }
        }
        self.present = Some(bitmap);
    }

    fn zeros(&mut self) {
        if self.is_delta {
            return; // a row that is not there is as it was, not 0
        }
        let mut nonzero = vec![0; presence::words(self.rows)];
        for array in &self.arrays {
            presence::mark_nonzero(array, self.width, &mut nonzero);
        }
        self.bitmap().iter_mut().zip(&nonzero).for_each(|(word, nonzero)| *word &= nonzero);
    }

    fn skip(&mut self, probability: f64, seed: Seed) {
        let (width, scale) = (self.width, V::from_f64(1.0 / probability));
        self.retain(|row, arrays| {
            let stays = seed.unit(row as u32) < probability;
            if stays {
                for array in arrays {
                    array.to_mut()[row * width..][..width].iter_mut().for_each(|x| *x = *x * scale);
                }
            }
            stays
        });
    }

    fn noise(&mut self, sigma: f64, seed: u64) {
        for (part, array) in self.arrays.iter_mut().enumerate() {
            let mut draws = vec![0.0; array.len()];
            gaussian(Seed::new(mix(seed ^ part as u64)), &mut draws);
            let noisy = array.to_mut().iter_mut().zip(&draws);
            noisy.for_each(|(x, draw)| *x += V::from_f64(sigma * draw));
        }
    }

    /// Adds each row to what was held back of its key, and lets go what is now above the bound.
    fn held_back(&mut self, out: &Outgoing<'a, V>, bound: f64, state: &mut State) {
        let (width, bound) = (self.width, V::from_f64(bound));
        let rows = state.residuals.table::<V>(out.table, self.arrays.len(), width);
        self.retain(|row, arrays| {
            let held = rows.row::<V>(out.keys.get(row));
            let mut above = false;
            for (array, held) in arrays.iter().zip(held.chunks_exact_mut(width)) {
                for (held, &x) in held.iter_mut().zip(&array[row * width..][..width]) {
                    *held += x;
                    above |= !within(*held, bound);
                }
            }
            if above {
                for (array, held) in arrays.iter_mut().zip(held.chunks_exact_mut(width)) {
                    array.to_mut()[row * width..][..width].copy_from_slice(held);
                    held.fill(V::ZERO);
                }
            }
            above
        });
    }

    /// Leaves out the rows that moved by no more than the bound since the stream's last answer.
    fn moved(&mut self, out: &Outgoing<'a, V>, bound: f64, state: &mut State) {
        let Some((name, number, whole)) = out.stream else { return };
        let (width, bound, len) = (self.width, V::from_f64(bound), self.arrays[0].len());
        let last = state.streams.number(name);
        let follows = !whole && last.checked_add(1) == Some(number);
        match state.streams.kept::<V>(name, last, len).filter(|_| follows) {
            Some(kept) => {
                self.retain(|row, arrays| {
                    let (kept, now) = (&mut kept[row * width..][..width], &arrays[0][row * width..][..width]);
                    let moved = kept.iter().zip(now).any(|(&kept, &now)| !within(now - kept, bound));
                    if moved {
                        kept.copy_from_slice(now);
                    }
                    moved
                });
                self.is_delta = true;
                state.streams.advance(name, number);
            }
            None if whole || number > last => state.streams.keep(name, number, &self.arrays[0]),
            None => {} // an answer overtaken by a later one: the stream has moved on
        }
    }

    fn admitted(&mut self, keys: RowKeys<'_>, mut admit: impl FnMut(Key) -> bool) {
        self.retain(|row, _| admit(keys.get(row)));
    }

    fn user(&mut self, out: &Outgoing<'a, V>, filter: &mut dyn super::UserFilter) -> Result<(), String> {
        let mut bitmap = std::mem::take(self.bitmap());
        let parts = self.arrays.iter_mut().map(|array| PartView::of(array.to_mut())).collect();
        let (keys, width, time) = (out.keys, self.width, out.time);
        let before = bitmap.clone();
        let rows = &mut RowView { keys, width, time, table: out.table, parts, present: &mut bitmap };
        filter.rows(rows)?;
        if out.stream.is_some() {
            // What a stream leaves out is as it was; what this filter dropped is 0.
            let dropped = before.iter().zip(&bitmap).map(|(before, after)| before & !after).collect();
            self.present = Some(dropped);
            self.retain(|row, arrays| {
                arrays.iter_mut().for_each(|array| array.to_mut()[row * width..][..width].fill(V::ZERO));
                true
            });
            bitmap = before;
        }
        self.present = Some(bitmap);
        Ok(())
    }
}

/// Whether `x` is known to lie within plus or minus `bound`; NaN does not, so it is sent.
#[inline(always)]
fn within<V: Element>(x: V, bound: V) -> bool {
    x.abs() <= bound
}

/// The bitmap of all of `rows` rows.
pub(super) fn all(rows: usize) -> Vec<u64> {
    let mut bitmap = vec![u64::MAX; presence::words(rows)];
    if let (Some(last), true) = (bitmap.last_mut(), !rows.is_multiple_of(64)) {
        *last = (1 << (rows % 64)) - 1;
    }
    bitmap
}

impl Chain {
    /// Runs the filters that work on rows, in order.
    ///
    /// # Errors
    /// What a filter of the program's own says against it.
    pub(super) fn run_rows<'a, V: Element>(
        &self,
        out: &Outgoing<'a, V>,
        state: &mut State,
    ) -> Result<Work<'a, V>, FilterSpecError> {
        let (mut work, is_push) = (Work::new(out), self.direction() == Direction::Push);
        for (at, filter) in self.spec().filters.iter().enumerate() {
            if filter.stage() != Some(Stage::Rows) || work.rows == 0 {
                continue;
            }
            let (start, rows, bytes) = (Instant::now(), work.count(), work.bytes());
            let seed = mix(out.seed ^ (at as u64) << 56);
            work.is_partial |= is_push && filter.needs_sums();
            match filter {
                FilterSpec::Zeros => work.zeros(),
                FilterSpec::Skip { probability } => work.skip(*probability, Seed::new(seed)),
                FilterSpec::Noise { sigma } => work.noise(*sigma, seed),
                FilterSpec::Significant { threshold } => {
                    let bound = threshold / out.time.max(1) as f64;
                    match self.direction() {
                        Direction::Push => work.held_back(out, bound, state),
                        Direction::Pull => work.moved(out, bound, state),
                    }
                }
                FilterSpec::Frequency { pushes, .. } => {
                    if let Some(counts) = &mut state.count_min {
                        work.admitted(out.keys, |key| counts.add(key) >= *pushes);
                    }
                }
                FilterSpec::Bloom { .. } => {
                    if let Some(bloom) = &mut state.bloom {
                        work.admitted(out.keys, |key| bloom.add(key));
                    }
                }
                FilterSpec::User { name, .. } => {
                    if let Some(filter) = state.users.get_mut(name) {
                        let refused = |text| FilterSpecError::User { name: name.clone(), text };
                        work.user(out, filter.as_mut()).map_err(refused)?;
                        work.is_partial |= is_push && work.count() < rows;
                    }
                }
                _ => {}
            }
            let counter = &self.counters()[at];
            counter.add(bytes, work.bytes(), rows - work.count());
            counter.time(start);
        }
        Ok(work)
    }
}
