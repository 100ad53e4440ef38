//! What workers push and pull, told in a few numbers, so that several processes do the same work on one table.
//!
//! Rows are given in the order in which keys first come. A list that a table has never seen therefore gets consecutive rows,
//! which flatters every later pass over it; a [`Rows::Scattered`] table has its keys inserted in random order first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Context;
use keyrange::client::Worker;
use keyrange::key_range::KeyRange;
use keyrange::message::LentArray;
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::worker::{Keys, Options, TableHandle};
use serde::{Deserialize, Serialize};

use super::LIMIT;
use super::support::{OPEN_TASKS, Pipeline, list, nth_key};

/// A scattered table's keys come in about this many random parts.
const SCATTERED_PARTS: u64 = 1000;

/// ... of at least this many keys.
const PART_KEYS_MIN: u64 = 64;

/// A table, and what is pushed to it and pulled from it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    pub table: u16,
    pub rows: Rows,
}

/// Keys are numbered: key `k` is the k-th draw of one random sequence that all processes share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Rows {
    /// So many lists of so many keys each, in turn: the draws from `first` on.
    Lists { first: u64, keys: usize, lists: usize },
    /// A table of the draws 0 to `table_keys`, inserted in random order, and lists of random ones of them from list number
    /// `from` on.
    Scattered { table_keys: u64, keys: usize, from: u64, lists: usize },
    /// The whole of a dense table.
    Dense { values: usize },
}

/// What is done with the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verb {
    Push,
    /// From memory lent to the server.
    PushLent,
    Pull,
}

/// A table that adds what it is pushed.
pub fn table_spec(id: u16, store: StoreKind) -> TableSpec {
    TableSpec {
        id,
        name: format!("bench {id}"),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    }
}

impl Load {
    /// The values of one call.
    pub fn values(&self) -> usize {
        match self.rows {
            Rows::Lists { keys, .. } | Rows::Scattered { keys, .. } => keys,
            Rows::Dense { values } => values,
        }
    }

    /// Its table, created if this worker is the first, and its lists.
    pub fn prepare(&self, worker: &mut Worker) -> anyhow::Result<Prepared> {
        let store = match self.rows {
            Rows::Dense { values } => StoreKind::Dense { first: 0, last: values as u64 - 1 },
            Rows::Lists { .. } | Rows::Scattered { .. } => StoreKind::Sparse,
        };
        let table = worker.create_table(&table_spec(self.table, store), LIMIT)?;
        let keys = match self.rows {
            Rows::Dense { values } => vec![Keys::Range(KeyRange::new(0, values as u64 - 1)?)],
            Rows::Lists { lists, .. } | Rows::Scattered { lists, .. } => {
                let list = |of| Ok(Keys::List(list(self.draws(of))?));
                (0..lists).map(list).collect::<anyhow::Result<_>>()?
            }
        };
        Ok(Prepared {
            table,
            keys,
            pipeline: Pipeline::new(self.values()),
            lent: Vec::new(),
            values: self.values(),
        })
    }

    /// Which draws make list `of`.
    pub fn draws(&self, of: usize) -> Box<dyn Iterator<Item = u64>> {
        match self.rows {
            Rows::Dense { .. } => Box::new(0..0),
            Rows::Lists { first, keys, .. } => {
                let start = first + (of * keys) as u64;
                Box::new(start..start + keys as u64)
            }
            Rows::Scattered { table_keys, keys, from, .. } => {
                let (step, start) = (coprime_step(table_keys), (from + of as u64) * (keys as u64 + 1));
                Box::new((start..start + keys as u64).map(move |k| (k % table_keys) * step % table_keys))
            }
        }
    }

    /// Pushes a scattered table's keys for the first time, in random order; the time it took.
    pub fn insert(&self, worker: &mut Worker) -> anyhow::Result<Duration> {
        let Rows::Scattered { table_keys, .. } = self.rows else { return Ok(Duration::ZERO) };
        let table = worker.create_table(&table_spec(self.table, StoreKind::Sparse), LIMIT)?;
        let mut taken = Duration::ZERO;
        for part in parts(table_keys) {
            let keys = list(part)?;
            let zeros = vec![0.0f32; keys.len()];
            let began = Instant::now();
            let task = worker.push(table, Keys::List(keys), vec![zeros], Options::default())?;
            worker.wait(task, LIMIT)?;
            taken += began.elapsed();
        }
        Ok(taken)
    }
}

/// A number without a common factor with `count`, near its golden section: its multiples visit every number below `count`
/// once, and any few in a row are spread evenly.
fn coprime_step(count: u64) -> u64 {
    let coprime = |step: &u64| {
        let (mut a, mut b) = (*step, count);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a == 1
    };
    (((count as f64 * 0.618) as u64).max(1)..).find(coprime).unwrap_or(1)
}

/// A load ready to run: its arrays are used again and again.
pub struct Prepared {
    pub table: TableHandle,
    keys: Vec<Keys>,
    pipeline: Pipeline,
    lent: Vec<LentArray<f32>>,
    values: usize,
}

impl Prepared {
    /// Makes `calls` calls on the lists in turn and waits for the last.
    pub fn run(&mut self, worker: &mut Worker, verb: Verb, calls: usize) -> anyhow::Result<()> {
        let (table, keys) = (self.table, &self.keys);
        let of = |call: usize| keys[call % keys.len()].clone();
        match verb {
            Verb::Push => self.pipeline.run(worker, calls, |worker, call, array| {
                worker.push(table, of(call), vec![array], Options::default())
            }),
            Verb::Pull => self.pipeline.run(worker, calls, |worker, call, array| {
                worker.pull(table, of(call), array, Options::default())
            }),
            Verb::PushLent => self.push_lent(worker, calls),
        }
    }

    fn push_lent(&mut self, worker: &mut Worker, calls: usize) -> anyhow::Result<()> {
        while self.lent.len() < OPEN_TASKS {
            let mut array = worker.lend::<f32>(self.values)?;
            array.fill(1.0);
            self.lent.push(array);
        }
        let mut open = VecDeque::with_capacity(OPEN_TASKS);
        for call in 0..calls + OPEN_TASKS {
            if (call >= calls || self.lent.is_empty())
                && let Some(task) = open.pop_front()
            {
                let mut outcome = worker.wait(task, LIMIT)?;
                self.lent.extend(outcome.lent.drain(..).filter_map(|lent| lent.into_array()));
            }
            if call < calls {
                let array = self.lent.pop().context("a lent array did not come back")?;
                let keys = self.keys[call % self.keys.len()].clone();
                open.push_back(worker.push(self.table, keys, vec![array], Options::default())?);
            }
        }
        Ok(())
    }
}

/// The rows a scattered table gave to the keys of each list, in list order: a part's keys came sorted.
pub fn scattered_slots(load: &Load) -> Vec<Vec<u32>> {
    let Rows::Scattered { table_keys, lists, .. } = load.rows else { return Vec::new() };
    let sorted = |draws: &mut Vec<u64>| draws.sort_unstable_by_key(|&draw| nth_key(draw));
    let mut row_of = vec![0u32; table_keys as usize];
    let mut rows = 0..;
    for part in parts(table_keys) {
        let mut draws: Vec<u64> = part.collect();
        sorted(&mut draws);
        for (draw, row) in draws.into_iter().zip(&mut rows) {
            row_of[draw as usize] = row;
        }
    }
    let slots = |of| {
        let mut draws: Vec<u64> = load.draws(of).collect();
        sorted(&mut draws);
        draws.into_iter().map(|draw| row_of[draw as usize]).collect()
    };
    (0..lists).map(slots).collect()
}

/// The draws that a scattered table gets in one push each.
fn parts(table_keys: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let part_keys = (table_keys / SCATTERED_PARTS).max(PART_KEYS_MIN);
    (0..table_keys).step_by(part_keys as usize).map(move |start| start..(start + part_keys).min(table_keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scattered(table_keys: u64, keys: usize, from: u64, lists: usize) -> Load {
        Load { table: 1, rows: Rows::Scattered { table_keys, keys, from, lists } }
    }

    #[test]
    fn a_scattered_list_holds_different_keys_of_the_table() {
        for (table_keys, keys) in [(10, 10), (1000, 100), (31_623, 10_000)] {
            let load = scattered(table_keys, keys, 0, 3);
            for of in 0..3 {
                let mut draws: Vec<u64> = load.draws(of).collect();
                draws.sort_unstable();
                draws.dedup();
                assert_eq!(draws.len(), keys);
                assert!(draws.iter().all(|&draw| draw < table_keys));
            }
        }
    }

    #[test]
    fn every_key_has_a_row_of_its_own() {
        let mut rows = scattered_slots(&scattered(10_000, 10_000, 0, 1)).remove(0);
        assert!(rows.windows(2).filter(|pair| pair[1] != pair[0] + 1).count() > 9000);
        rows.sort_unstable();
        assert_eq!(rows, (0..10_000).collect::<Vec<u32>>());
    }

    #[test]
    fn later_lists_are_not_earlier_ones() {
        let of = |from| {
            let mut draws: Vec<u64> = scattered(10_000, 5000, from, 1).draws(0).collect();
            draws.sort_unstable();
            draws
        };
        let first: Vec<_> = (0..8).map(of).collect();
        assert!((8..40).all(|from| !first.contains(&of(from))));
    }
}
