//! What a job came to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::FactorJob;

/// The model at the end of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Epochs done by all workers.
    pub epoch: u64,
    /// When the last worker had done them, from the beginning of training.
    pub seconds: f64,
    /// Error on the test ratings (root of the mean square), with each worker's users and the servers' items at that time.
    pub test_rmse: f64,
}

/// The report of a job. Fields are stable; new ones may come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FactorReport {
    /// The job.
    pub job: FactorJob,
    /// Training ratings.
    pub train: u64,
    /// Test ratings.
    pub test: u64,
    /// Users.
    pub users: u64,
    /// Items.
    pub items: u64,
    /// Error on the test ratings when all were done.
    pub test_rmse: f64,
    /// Time of training, without loading.
    pub seconds: f64,
    /// Share of the workers' time spent waiting for rows and clocks.
    pub waiting_share: f64,
    /// After each epoch.
    pub curve: Vec<Point>,
    /// Reads by the newest clock they wholly held minus the reader's clock: -1 is the freshest that can be promised.
    pub staleness: BTreeMap<i64, u64>,
    /// Mean of that.
    pub staleness_mean: f64,
    /// Variance of that.
    pub staleness_variance: f64,
    /// Rows that workers asked for.
    pub rows_pulled: u64,
    /// Rows that servers sent unasked.
    pub rows_pushed: u64,
    /// Bytes that workers sent.
    pub bytes_sent: u64,
    /// Bytes that workers received.
    pub bytes_received: u64,
    /// Rows of increments that workers sent before their clock was closed.
    pub rows_sent_early: u64,
    /// Bytes of the frames of those.
    pub bytes_sent_early: u64,
    /// Rows that servers sent before the others' clocks had advanced.
    pub rows_received_early: u64,
    /// Bytes of the frames of those.
    pub bytes_received_early: u64,
}

/// Mean and variance of a histogram.
pub(super) fn moments(histogram: &BTreeMap<i64, u64>) -> (f64, f64) {
    let all = histogram.values().sum::<u64>().max(1) as f64;
    let mean = histogram.iter().map(|(&of, &count)| of as f64 * count as f64).sum::<f64>() / all;
    let square = |(&of, &count): (&i64, &u64)| (of as f64 - mean).powi(2) * count as f64;
    (mean, histogram.iter().map(square).sum::<f64>() / all)
}
