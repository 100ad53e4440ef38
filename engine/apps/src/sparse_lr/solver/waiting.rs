//! What workers waited for, and what travelled: gathered from all of them at the end, when it costs the training nothing.

use keyrange::client::WorkerError;
use keyrange::worker::{FrameBytes, TableTraffic};
use serde::{Deserialize, Serialize};

use super::servers::Servers;
use crate::sparse_lr::server::{SUMS_TABLE, WEIGHTS_TABLE};

/// Longest array of counts that is summed at once.
const COUNTS_MAX: usize = 1 << 20;

/// How long a worker waited, by cause, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// For pushed gradients to be applied and for the new weights of blocks.
    pub weights_s: f64,
    /// For sums over the workers, which are barriers, too.
    pub sums_s: f64,
    /// For answers of the servers to calls: beginning and end of phases, the support.
    pub calls_s: f64,
}

impl Waiting {
    /// For anything.
    pub fn total_s(&self) -> f64 {
        self.weights_s + self.sums_s + self.calls_s
    }
}

/// One worker's waiting, as the report tells it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WorkerWaiting {
    /// Rank of the worker.
    pub worker: u64,
    /// By cause.
    #[serde(flatten)]
    pub waiting: Waiting,
    /// Part of the time of training that it waited.
    pub idle_share: f64,
}

/// The traffic of all workers for the sake of one table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// `weights` or `sums`.
    pub table: String,
    /// From workers to servers.
    pub requests: FrameBytes,
    /// From servers to workers.
    pub replies: FrameBytes,
}

impl Servers<'_> {
    /// Every worker's waiting, by rank; `mine` is this one's, in a training of `seconds`. All workers must ask at the same
    /// time.
    pub fn gather_waiting(&mut self, mine: Waiting, seconds: f64) -> Result<Vec<WorkerWaiting>, WorkerError> {
        let (rank, workers) = (self.worker.rank() as usize, self.worker.workers() as usize);
        let Waiting { weights_s, sums_s, calls_s } = mine;
        let mut all = vec![0.0; 4 * workers];
        all[4 * rank..][..4].copy_from_slice(&[weights_s, sums_s, calls_s, seconds]);
        let all = self.sum(all)?;
        let of = |(worker, &[weights_s, sums_s, calls_s, seconds]): (usize, &[f64; 4])| {
            let waiting = Waiting { weights_s, sums_s, calls_s };
            let idle_share = if seconds > 0.0 { waiting.total_s() / seconds } else { 0.0 };
            WorkerWaiting { worker: worker as u64, waiting, idle_share }
        };
        Ok(all.as_chunks::<4>().0.iter().enumerate().map(of).collect())
    }

    /// The traffic of all workers by table. All workers must ask at the same time.
    pub fn gather_traffic(&mut self) -> Result<Vec<Traffic>, WorkerError> {
        let tables = [(WEIGHTS_TABLE, "weights"), (SUMS_TABLE, "sums")];
        let known = self.worker.traffic();
        let of = |&(id, _): &(u16, &str)| {
            let traffic = known.iter().find(|traffic| traffic.table == id).copied().unwrap_or_default();
            let TableTraffic { requests, replies, .. } = traffic;
            [requests, replies].into_iter().flat_map(|b| [b.frames, b.headers, b.keys, b.values])
        };
        let mine: Vec<u64> = tables.iter().flat_map(of).collect();
        let all = self.gather_counts(&mine)?;
        let bytes = |at: &[u64; 4]| FrameBytes { frames: at[0], headers: at[1], keys: at[2], values: at[3] };
        let directions = all.as_chunks::<4>().0.as_chunks::<2>().0;
        let named = tables.iter().zip(directions).map(|((_, table), [requests, replies])| Traffic {
            table: (*table).to_owned(),
            requests: bytes(requests),
            replies: bytes(replies),
        });
        Ok(named.collect())
    }

    /// Sums of counts over the workers, exact up to 2^53.
    pub fn gather_counts(&mut self, counts: &[u64]) -> Result<Vec<u64>, WorkerError> {
        let mut all = Vec::with_capacity(counts.len());
        for some in counts.chunks(COUNTS_MAX) {
            let sums = self.sum(some.iter().map(|&count| count as f64).collect())?;
            all.extend(sums.into_iter().map(|sum| sum as u64));
        }
        Ok(all)
    }
}
