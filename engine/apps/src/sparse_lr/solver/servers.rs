//! What the solver asks of the servers, one method per question.
//!
//! All workers go through the same calls in the same order, so the task numbers need no agreement beyond counting.

use std::time::{Duration, Instant};

use keyrange::client::{Worker, WorkerError};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::message::Values;
use keyrange::worker::{Keys, Options, Outcome, TableHandle, Target, TaskId};

use super::filters::Chains;
use super::waiting::Waiting;
use crate::sparse_lr::protocol::{Begin, PAIR_BYTES, Page, Penalty, PhaseStats};
use crate::sparse_lr::server;

/// The worker's connection to the tables of the solver.
pub struct Servers<'a> {
    /// The connection itself.
    pub worker: &'a mut Worker,
    weights: TableHandle,
    sums: TableHandle,
    time: u64,
    phase: u64,
    patience: Duration,
    spare: Vec<Vec<f64>>,
    /// What this worker waited for.
    pub waiting: Waiting,
    /// How requests travel.
    pub chains: Chains,
    lossy: bool,
}

impl<'a> Servers<'a> {
    /// Creates the tables, still without features.
    pub fn new(
        worker: &'a mut Worker,
        penalty: &Penalty,
        chains: Chains,
        patience: Duration,
    ) -> Result<Self, WorkerError> {
        let weights = worker.create_table(&server::weights_table(penalty), patience)?;
        let sums = worker.create_table(&server::sums_table(), patience)?;
        Ok(Servers {
            worker,
            weights,
            sums,
            time: 0,
            phase: 0,
            patience,
            spare: Vec::new(),
            waiting: Waiting::default(),
            chains,
            lossy: false,
        })
    }

    /// Fixes the set of features as those of all workers: `keys` are this worker's.
    pub fn fix_features(&mut self, keys: &[u64]) -> Result<(), WorkerError> {
        // Before the first `begin`, a push makes the rows and changes nothing in them.
        let list = KeyList::new(keys.to_vec()).expect("columns are in key order");
        let zeros = || vec![0.0; keys.len()];
        self.push(list, KeyRange::ALL, [zeros(), zeros()])?;
        self.worker.freeze(self.weights, self.patience)
    }

    fn next(&mut self) -> Options {
        self.time += 1;
        let filters = if self.lossy { &self.chains.lossy } else { &self.chains.lossless };
        Options { filters: filters.clone(), ..Options::at(self.time) }
    }

    /// An array of the given length with unspecified contents, reused where possible.
    pub fn array(&mut self, len: usize) -> Vec<f64> {
        let mut array = self.spare.pop().unwrap_or_default();
        array.resize(len, 0.0);
        array
    }

    /// Gives an array back for later.
    pub fn recycle(&mut self, array: Vec<f64>) {
        self.spare.push(array);
    }

    /// Begins to push gradient and curvature of the worker's keys in `range` and to pull their new weights.
    pub fn exchange(
        &mut self,
        keys: KeyList,
        range: KeyRange,
        parts: [Vec<f64>; 2],
    ) -> Result<TaskId, WorkerError> {
        let options = self.next();
        let into = self.spare.pop().unwrap_or_default();
        self.worker.push_pull(self.weights, Keys::ListIn(keys, range), parts.into(), into, options)
    }

    /// The weights that [`exchange`](Self::exchange) brought. Waits.
    pub fn finish_exchange(&mut self, task: TaskId) -> Result<Vec<f64>, WorkerError> {
        let (values, waited_s) = self.finish(task)?;
        self.waiting.weights_s += waited_s;
        Ok(values)
    }

    /// What a task brought, and how long that took from now.
    fn finish(&mut self, task: TaskId) -> Result<(Vec<f64>, f64), WorkerError> {
        let (outcome, waited_s) = self.wait(task)?;
        self.spare.extend(outcome.parts.into_iter().map(Values::into_vec));
        Ok((outcome.values.into_vec(), waited_s))
    }

    fn wait(&mut self, task: TaskId) -> Result<(Outcome, f64), WorkerError> {
        let since = Instant::now();
        let outcome = self.worker.wait(task, self.patience)?;
        Ok((outcome, since.elapsed().as_secs_f64()))
    }

    /// Pushes two values per key and waits until all workers' pushes are applied.
    pub fn push(&mut self, keys: KeyList, range: KeyRange, parts: [Vec<f64>; 2]) -> Result<(), WorkerError> {
        let options = self.next();
        let task = self.worker.push(self.weights, Keys::ListIn(keys, range), parts.into(), options)?;
        let (_, waited_s) = self.finish(task)?;
        self.waiting.weights_s += waited_s;
        Ok(())
    }

    /// The element-wise sum of all workers' arrays, the same bits at every worker. Also a barrier.
    pub fn sum(&mut self, values: Vec<f64>) -> Result<Vec<f64>, WorkerError> {
        let last = values.len().checked_sub(1).expect("there is something to sum") as u64;
        let range = Keys::Range(KeyRange::new(0, last).expect("not empty"));
        let options = Options { filters: self.chains.sums.clone(), ..self.next() };
        let into = self.spare.pop().unwrap_or_default();
        let task = self.worker.push_pull(self.sums, range, vec![values], into, options)?;
        let (sums, waited_s) = self.finish(task)?;
        self.waiting.sums_s += waited_s;
        Ok(sums)
    }

    /// Announces what pushes to the weights do from now on, and whether they and the answers may pass lossy filters. The
    /// number of the phase is filled in here.
    pub fn begin(&mut self, begin: Begin, lossy: bool) -> Result<(), WorkerError> {
        self.phase += 1;
        self.lossy = lossy;
        let begin = Begin { number: self.phase, partial: lossy && self.chains.partial, ..begin };
        self.call("begin", serde_json::to_vec(&begin).expect("plain numbers are JSON")).map(drop)
    }

    /// Statistics of the phase over all servers. All workers' pushes of the phase must have been applied.
    pub fn end(&mut self) -> Result<PhaseStats, WorkerError> {
        let replies = self.call("end", self.phase.to_string().into_bytes())?;
        let parts = replies.iter().map(|reply| {
            serde_json::from_slice::<PhaseStats>(reply).expect("servers answer `end` with statistics")
        });
        Ok(parts.fold(PhaseStats::default(), PhaseStats::merge))
    }

    /// Keys and weights that are not 0, in key order, however many.
    pub fn support(&mut self) -> Result<Vec<(u64, f64)>, WorkerError> {
        let mut support = Vec::new();
        let page = self.worker.answer_bytes_max() / PAIR_BYTES;
        let mut skip = 0;
        loop {
            let ask = Page { skip, pairs_max: page as u64 };
            let replies = self.call("support", serde_json::to_vec(&ask).expect("plain numbers are JSON"))?;
            let pairs = replies.iter().flat_map(|reply| reply.as_chunks::<PAIR_BYTES>().0);
            support.extend(pairs.map(|pair| {
                let (key, weight) = pair.split_at(8);
                let bytes = |half: &[u8]| half.try_into().expect("half of a pair");
                (u64::from_le_bytes(bytes(key)), f64::from_le_bytes(bytes(weight)))
            }));
            if replies.iter().all(|reply| reply.len() < page * PAIR_BYTES) {
                break;
            }
            skip += page as u64;
        }
        support.sort_unstable_by_key(|&(key, _)| key);
        Ok(support)
    }

    fn call(&mut self, verb: &str, arguments: Vec<u8>) -> Result<Vec<Vec<u8>>, WorkerError> {
        let task = self.worker.call(self.weights, Target::All, verb, arguments, Options::default())?;
        let (outcome, waited_s) = self.wait(task)?;
        self.waiting.calls_s += waited_s;
        Ok(outcome.replies.into_iter().map(|(_, reply)| reply).collect())
    }
}
