//! What a worker tells of a run.

use keyrange::client::WorkerError;
use serde::{Deserialize, Serialize};

use super::Solver;
use super::certificate::Certificate;
use super::filters::FilterTotals;
use super::local::feature_id;
use super::passes::PassEnd;
use super::waiting::{Traffic, WorkerWaiting};

/// One pass, the same at every worker but for `seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PassReport {
    /// Number of the pass, from 0.
    pub pass: u64,
    /// The objective at its end.
    pub objective: f64,
    /// Weights that are not 0.
    pub nonzeros: u64,
    /// Features not set aside by the KKT filter.
    pub active: u64,
    /// Blocks visited.
    pub blocks: u64,
    /// Largest violation of the optimality conditions among the zero weights visited.
    pub violation: f64,
    /// Threshold of the KKT filter during the pass; absent while it is off.
    pub kkt_threshold: Option<f64>,
    /// Factor by which the metric was raised: the inverse of the step length.
    #[serde(default)]
    pub damping: f64,
    /// Time since the data was loaded.
    pub seconds: f64,
    /// Bytes that all workers had sent at its end. Only in the final report: during the training nobody knows.
    #[serde(default)]
    pub bytes_pushed: u64,
    /// Bytes that all workers had received at its end, likewise.
    #[serde(default)]
    pub bytes_pulled: u64,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// Feature ids and weights that are not 0, by id.
    pub weights: Vec<(u64, f64)>,
    /// The objective.
    pub objective: f64,
    /// Proof of it.
    pub certificate: Certificate,
    /// All passes.
    pub history: Vec<PassReport>,
    /// Time since the data was loaded.
    pub seconds: f64,
    /// Examples of all workers.
    pub examples: u64,
    /// Nonzeros of all workers' data.
    pub data_nonzeros: u64,
    /// Features of all workers.
    pub features: u64,
    /// What each worker waited for.
    pub waiting: Vec<WorkerWaiting>,
    /// Traffic by table.
    pub traffic: Vec<Traffic>,
    /// What each filter of messages did.
    pub filters: Vec<FilterTotals>,
    /// Bytes that the workers sent.
    pub bytes_pushed: u64,
    /// Bytes that the workers received.
    pub bytes_pulled: u64,
}

impl Solver<'_> {
    pub(super) fn pass_report(&self, pass: usize, end: &PassEnd, kkt_threshold: f64) -> PassReport {
        PassReport {
            pass: pass as u64,
            objective: end.objective,
            nonzeros: end.stats.nonzeros,
            active: end.stats.active,
            blocks: self.order.len() as u64,
            violation: end.stats.violation,
            kkt_threshold: kkt_threshold.is_finite().then_some(kkt_threshold),
            damping: self.damping * self.caution,
            seconds: self.started.elapsed().as_secs_f64(),
            bytes_pushed: 0,
            bytes_pulled: 0,
        }
    }

    /// Notes what the links have carried so far.
    pub(super) fn note_bytes(&mut self) {
        let stats = self.servers.worker.link_stats();
        self.bytes.push([stats.sent_bytes, stats.received_bytes]);
    }

    pub(super) fn solution(
        mut self,
        mut history: Vec<PassReport>,
        certificate: Certificate,
    ) -> Result<Solution, WorkerError> {
        let (seconds, waited) = (self.started.elapsed().as_secs_f64(), self.servers.waiting);
        let features = self.servers.end()?.features;
        let mut weights: Vec<(u64, f64)> =
            self.servers.support()?.into_iter().map(|(key, weight)| (feature_id(key), weight)).collect();
        weights.sort_unstable_by_key(|&(id, _)| id);
        // What only the report is for does not count as traffic of the training.
        self.note_bytes();
        let waiting = self.servers.gather_waiting(waited, seconds)?;
        let traffic = self.servers.gather_traffic()?;
        let filters = self.servers.gather_filters()?;
        let bytes = self.servers.gather_counts(self.bytes.as_flattened())?;
        let (bytes, _) = bytes.as_chunks::<2>();
        for (pass, &[pushed, pulled]) in history.iter_mut().zip(bytes) {
            (pass.bytes_pushed, pass.bytes_pulled) = (pushed, pulled);
        }
        let &[bytes_pushed, bytes_pulled] = bytes.last().expect("the end was noted");
        Ok(Solution {
            weights,
            objective: history.last().map_or(f64::NAN, |pass| pass.objective),
            certificate,
            history,
            seconds,
            examples: self.examples as u64,
            data_nonzeros: self.nonzeros as u64,
            features,
            waiting,
            traffic,
            filters,
            bytes_pushed,
            bytes_pulled,
        })
    }
}
