//! What the cases share: tasks kept under way, the same work in plain memory, random lists, a process's counters.

use std::collections::VecDeque;
use std::hint::black_box;
use std::io;
use std::time::Instant;

use keyrange::client::{Worker, WorkerError};
use keyrange::key_list::KeyList;
use keyrange::message::Values;
use keyrange::worker::TaskId;

use super::LIMIT;

/// Tasks under way at a time on lists and ranges.
pub const OPEN_TASKS: usize = 4;

/// Values of one measurement in plain memory.
const PLAIN_VALUES: usize = 8 << 20;

/// Tasks under way, and the arrays that go out and come back with them.
pub struct Pipeline {
    spare: Vec<Vec<f32>>,
    open: VecDeque<TaskId>,
}

impl Pipeline {
    /// For tasks of `values` values.
    pub fn new(values: usize) -> Pipeline {
        Pipeline { spare: vec![vec![1.0; values]; OPEN_TASKS], open: VecDeque::with_capacity(OPEN_TASKS) }
    }

    /// Submits `calls` tasks, numbered from 0, and waits for the last.
    pub fn run(
        &mut self,
        worker: &mut Worker,
        calls: usize,
        mut submit: impl FnMut(&mut Worker, usize, Vec<f32>) -> Result<TaskId, WorkerError>,
    ) -> anyhow::Result<()> {
        for call in 0..calls {
            if self.spare.is_empty() {
                self.take_back(worker)?;
            }
            let array = self.spare.pop().unwrap_or_default();
            self.open.push_back(submit(worker, call, array)?);
        }
        while !self.open.is_empty() {
            self.take_back(worker)?;
        }
        Ok(())
    }

    fn take_back(&mut self, worker: &mut Worker) -> anyhow::Result<()> {
        if let Some(task) = self.open.pop_front() {
            let mut outcome = worker.wait(task, LIMIT)?;
            self.spare.push(f32s(outcome.parts.pop().unwrap_or(outcome.values)));
        }
        Ok(())
    }
}

/// The array inside.
pub fn f32s(values: Values) -> Vec<f32> {
    match values {
        Values::F32(values) => values,
        Values::F64(_) => Vec::new(),
    }
}

/// A table's rows and a task's values in plain memory of this process.
pub struct PlainTable {
    rows: Vec<f32>,
    values: Vec<f32>,
}

impl PlainTable {
    /// Rows for `parts` lists of `values` values.
    pub fn new(values: usize, parts: usize) -> PlainTable {
        PlainTable { rows: vec![1.0; values * parts], values: vec![1.0; values] }
    }

    /// How many tasks' values `kernel` gets through in a second, going over all rows in turn.
    pub fn walks_per_second(&mut self, kernel: impl Fn(&mut [f32], &[f32])) -> f64 {
        let values = self.values.len();
        let walks = (PLAIN_VALUES / values).max(1).next_multiple_of(self.rows.len() / values);
        let began = Instant::now();
        for (_, part) in (0..walks).zip((0..self.rows.len() / values).cycle()) {
            kernel(black_box(&mut self.rows[part * values..][..values]), black_box(&self.values));
        }
        walks as f64 / began.elapsed().as_secs_f64()
    }
}

/// Draw `k` of the random sequence (splitmix64: every 64-bit number once).
pub fn nth_key(k: u64) -> u64 {
    let state = k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(7);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The keys of these draws, which must differ.
pub fn list(draws: impl Iterator<Item = u64>) -> anyhow::Result<KeyList> {
    let mut list: Vec<u64> = draws.map(nth_key).collect();
    list.sort_unstable();
    Ok(KeyList::new(list)?)
}

/// Memory of a process that is in RAM, its own and shared.
pub fn resident_bytes(process: u32) -> io::Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/statm"))?;
    let pages = text.split(' ').nth(1).and_then(|field| field.parse::<u64>().ok());
    let pages = pages.ok_or_else(|| io::Error::other(format!("unexpected /proc/{process}/statm: {text}")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// 100000 as 100 k.
pub fn thousands(count: usize) -> String {
    match count {
        count if count >= 1_000_000 && count.is_multiple_of(1_000_000) => format!("{} M", count / 1_000_000),
        count if count >= 1000 && count.is_multiple_of(1000) => format!("{} k", count / 1000),
        count => count.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_share_no_key() {
        let lists: Vec<_> = (0..3).map(|of| list(of * 1000..(of + 1) * 1000).unwrap()).collect();
        let mut all: Vec<u64> = lists.iter().flat_map(|list| list.as_slice()).copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3000);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn plain_memory_is_walked_in_whole_tables() {
        assert!(PlainTable::new(100, 40).walks_per_second(|rows, values| rows.copy_from_slice(values)) > 0.0);
    }
}
