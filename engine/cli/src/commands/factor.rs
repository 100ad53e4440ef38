//! The options of matrix factorisation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyrange::clock::{ClockedConfig, EarlyConfig, EarlyOrder, Staleness};
use keyrange_apps::matrix_factorization::FactorJob;

use crate::failure::Failure;
use crate::launch::Job;
use crate::options::{JobArgs, SizeArgs, duration, positive};

/// Options of the job, with `train` and with `manager`.
#[derive(Args)]
pub struct FactorArgs {
    /// Ratings: lines `user,item,rating`, plain or .gz, .bz2, .xz, .zst; every tenth is kept for the test
    #[arg(long, env = "KEYRANGE_DATA_FILES", required = true, value_name = "FILE")]
    data: PathBuf,

    /// Factors per user and item
    #[arg(long, env = "KEYRANGE_RANK", default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    rank: u32,

    /// Passes over the ratings
    #[arg(long, env = "KEYRANGE_EPOCHS", default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    epochs: u64,

    /// Clocks per pass: each worker closes one after so many of its ratings
    #[arg(long, env = "KEYRANGE_CLOCKS", default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    clocks: u64,

    /// How many clocks a read may be behind: 0 (bulk synchronous), a number, or unbounded (asynchronous)
    #[arg(
        long,
        env = "KEYRANGE_STALENESS",
        allow_negative_numbers = true,
        default_value = "0",
        value_name = "S"
    )]
    staleness: Staleness,

    /// Servers send changed rows when the others' clocks have advanced, instead of being asked for old ones
    #[arg(long, env = "KEYRANGE_EAGER")]
    eager: bool,

    /// Go on after a clock only if no element of the increments under way is beyond X / sqrt(clock); with --eager
    #[arg(long, env = "KEYRANGE_VALUE_BOUND", allow_negative_numbers = true, value_parser = positive, value_name = "X")]
    value_bound: Option<f64>,

    /// Send up to N bytes per second of increments of the clock at hand before it is closed, and with --eager as many of
    /// changed rows before the others' clocks have advanced
    #[arg(long, env = "KEYRANGE_EARLY_BYTES_PER_S", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    early_bytes_per_s: Option<u64>,

    /// Bytes that a worker, and each server to a worker, sends early at once, at most
    #[arg(long, env = "KEYRANGE_EARLY_BURST_BYTES", default_value_t = 16 << 10, value_name = "BYTES", requires = "early_bytes_per_s")]
    early_burst_bytes: u64,

    /// Which rows are sent early first: magnitude (those that changed most for their size), fifo or random
    #[arg(
        long,
        env = "KEYRANGE_EARLY_ORDER",
        default_value = "magnitude",
        value_name = "ORDER",
        requires = "early_bytes_per_s"
    )]
    early_order: EarlyOrder,

    /// How far a step of the descent goes
    #[arg(long, env = "KEYRANGE_RATE", allow_negative_numbers = true, default_value_t = 0.005, value_parser = positive, value_name = "X")]
    rate: f64,

    /// How strongly parameters are drawn to 0
    #[arg(long, env = "KEYRANGE_REGULARIZATION", allow_negative_numbers = true, default_value_t = 0.08, value_parser = positive, value_name = "X")]
    regularization: f64,

    /// Record who read what at which clock in this directory, for `keyrange check-history`; rows get wider by a count
    /// per worker
    #[arg(long, env = "KEYRANGE_HISTORY", value_name = "DIR")]
    history: Option<PathBuf>,

    /// Seed of the beginning and of the order of ratings
    #[arg(long, env = "KEYRANGE_SEED", default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Write the report to this file, as JSON
    #[arg(long, env = "KEYRANGE_REPORT", value_name = "FILE.json")]
    report: Option<PathBuf>,

    /// A node waits this long for the others during training before it gives up
    #[arg(long, env = "KEYRANGE_PATIENCE", default_value = "1m", value_parser = duration, value_name = "TIME")]
    patience: Duration,
}

impl JobArgs for FactorArgs {
    fn job(&self, size: &SizeArgs, _read_threads: usize) -> anyhow::Result<Job> {
        let config = ClockedConfig {
            eager: self.eager,
            value_bound: self.value_bound,
            ..ClockedConfig::new(self.staleness)
        };
        config.check().map_err(|error| Failure::input(format!("--value-bound: {error}")))?;
        let early = self.early_bytes_per_s.map(|bytes_per_s| EarlyConfig {
            bytes_per_s,
            burst_bytes: self.early_burst_bytes,
            order: self.early_order,
        });
        let counters = self.history.as_ref().map_or(0, |_| size.workers);
        let row_bytes = (self.rank + 1 + counters) as usize * size_of::<f32>();
        if let Some(Err(error)) = early.map(|early| early.check(row_bytes)) {
            return Err(Failure::input(format!("--early-burst-bytes: {error}")));
        }
        if let Some(folder) = &self.history
            && folder.read_dir().is_ok_and(|mut files| files.next().is_some())
        {
            let text = format!("--history: expected an empty directory, {} has files", folder.display());
            return Err(Failure::input(text));
        }
        let job = FactorJob {
            data: std::path::absolute(&self.data)?,
            rank: self.rank as usize,
            epochs: self.epochs,
            clocks: self.clocks,
            rate: self.rate as f32,
            regularisation: self.regularization as f32,
            staleness: self.staleness,
            eager: self.eager,
            value_bound: self.value_bound,
            early,
            history: self.history.clone().map(std::path::absolute).transpose()?,
            seed: self.seed,
            patience_s: self.patience.as_secs_f64(),
        };
        Ok(job.into())
    }

    fn files(&self) -> Vec<&Path> {
        vec![&self.data]
    }

    fn report(&self) -> Option<&Path> {
        self.report.as_deref()
    }
}
