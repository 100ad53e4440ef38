//! The options of sparse logistic regression.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use keyrange_apps::data::synthetic::SyntheticSpec;
use keyrange_apps::sparse_lr::job::{Generated, TrainJob};
use keyrange_apps::sparse_lr::protocol::Penalty;
use keyrange_apps::sparse_lr::solver::SolverConfig;
use keyrange_apps::sparse_lr::solver::filters::FilterPlan;

use crate::failure::Failure;
use crate::launch::Job;
use crate::options::{JobArgs, SizeArgs, duration, non_negative, positive};

/// Options of the job, with `train` and with `manager`.
#[derive(Args)]
pub struct SparseLrArgs {
    /// Training data: libsvm text, plain or .gz, .bz2, .xz, .zst; several files are read as one
    #[arg(long, env = "KEYRANGE_DATA_FILES", num_args = 1.., value_delimiter = ',', value_name = "FILE", conflicts_with = "generate")]
    data: Vec<PathBuf>,

    /// Test data, evaluated at the end
    #[arg(long, env = "KEYRANGE_TEST_FILES", num_args = 1.., value_delimiter = ',', value_name = "FILE", conflicts_with = "generate")]
    test: Vec<PathBuf>,

    /// Train on made-up click data instead of files (see `keyrange gen sparse-lr --help`)
    #[arg(long, env = "KEYRANGE_GENERATE")]
    generate: bool,

    /// Examples to make up for training; a fifth more for testing
    #[arg(long, env = "KEYRANGE_GENERATE_ROWS", default_value_t = 200_000, value_name = "N", conflicts_with = "data", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    generate_rows: u64,

    /// Weight of the L1 norm: minimise sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1 + l2/2 |w|^2
    #[arg(long, env = "KEYRANGE_L1", allow_negative_numbers = true, default_value_t = 4.0, value_parser = non_negative, value_name = "X")]
    l1: f64,

    /// Weight of half the squared L2 norm
    #[arg(long, env = "KEYRANGE_L2", allow_negative_numbers = true, default_value_t = 0.0, value_parser = non_negative, value_name = "X")]
    l2: f64,

    /// Blocks a worker may have under way besides the one it computes; 0 makes the run repeatable to the last bit
    #[arg(long, env = "KEYRANGE_DELAY", default_value_t = 0, value_name = "T", value_parser = clap::value_parser!(u16).range(..=1024))]
    delay: u16,

    /// Steps as long as the convergence theorem allows with the delay, from the correlation of the data's blocks; without it
    /// they are 1 / (1 + T / (4 block ratio)) of what they were without delay, and shorter where the objective rises
    #[arg(long, env = "KEYRANGE_STEP_GUARD")]
    step_guard: bool,

    /// Passes over the data, at most
    #[arg(long, env = "KEYRANGE_MAX_PASSES", default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_passes: u64,

    /// Relative accuracy of the objective at which to stop
    #[arg(long, env = "KEYRANGE_TOLERANCE", allow_negative_numbers = true, default_value_t = 1e-4, value_parser = positive, value_name = "X")]
    tolerance: f64,

    /// Stop only when a duality gap proves the tolerance, not already when progress has ceased
    #[arg(long, env = "KEYRANGE_CERTIFICATE")]
    certificate: bool,

    /// Blocks per nonzero of an example
    #[arg(long, env = "KEYRANGE_BLOCK_RATIO", allow_negative_numbers = true, default_value_t = 4.0, value_parser = positive, value_name = "X")]
    block_ratio: f64,

    /// What need not be sent: kkt, key-cache, zeros, significant:C, skip:Q, noise:SIGMA, frequency:N, bloom, fixed:1..3, q2.13,
    /// f16, bf16, lz4, in the order of their application; with push/ or pull/ before it, in one direction only. `all` is
    /// kkt,key-cache,significant:0.01,zeros,push/fixed:2,pull/fixed:3,lz4. What loses something acts until passes gain little
    #[arg(long, env = "KEYRANGE_FILTER", default_value = "kkt,key-cache", value_name = "LIST", value_parser = filter_plan)]
    filter: FilterPlan,

    /// Send everything as it is, every time
    #[arg(long, env = "KEYRANGE_NO_FILTER", conflicts_with = "filter")]
    no_filter: bool,

    /// Slack of the KKT filter: this much of the largest violation per example; `inf` switches the filter off
    #[arg(long, env = "KEYRANGE_KKT_RATIO", allow_negative_numbers = true, default_value_t = 10.0, value_name = "X", value_parser = kkt_ratio)]
    kkt_ratio: f64,

    /// No Newton steps among the nonzero weights: only the published method's diagonal metric
    #[arg(long, env = "KEYRANGE_DIAGONAL_ONLY")]
    diagonal_only: bool,

    /// Ids of features that are visited first, as one block, before the first pass
    #[arg(long, env = "KEYRANGE_PRIOR", num_args = 1.., value_delimiter = ',', value_name = "ID")]
    prior: Vec<u64>,

    /// How often the prior features are visited
    #[arg(long, env = "KEYRANGE_PRIOR_ROUNDS", default_value_t = 5, value_name = "N")]
    prior_rounds: u32,

    /// Seed of the block order and of made-up data
    #[arg(long, env = "KEYRANGE_SEED", default_value_t = 1, value_name = "N")]
    seed: u64,

    /// Save the model to this directory
    #[arg(long, env = "KEYRANGE_MODEL", value_name = "DIR")]
    model: Option<PathBuf>,

    /// Keep parsed data in this directory and read it from there the next time
    #[arg(long, env = "KEYRANGE_CACHE", value_name = "DIR")]
    cache: Option<PathBuf>,

    /// Threads of each worker for reading data; by default this machine's processors are shared out among the workers
    /// (train), or 1 (manager)
    #[arg(long, env = "KEYRANGE_READ_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    read_threads: Option<u16>,

    /// Write the report to this file, as JSON
    #[arg(long, env = "KEYRANGE_REPORT", value_name = "FILE.json")]
    report: Option<PathBuf>,

    /// A node waits this long for the others during training before it gives up
    #[arg(long, env = "KEYRANGE_PATIENCE", default_value = "10m", value_parser = duration, value_name = "TIME")]
    patience: Duration,
}

fn kkt_ratio(text: &str) -> Result<f64, String> {
    if text == "inf" { Ok(f64::MAX) } else { non_negative(text) }
}

fn filter_plan(text: &str) -> Result<FilterPlan, String> {
    text.parse().map_err(|error: keyrange::filter::FilterSpecError| error.to_string())
}

impl JobArgs for SparseLrArgs {
    fn job(&self, _size: &SizeArgs, read_threads: usize) -> anyhow::Result<Job> {
        if self.l1 == 0.0 && self.l2 == 0.0 {
            return Err(Failure::input(
                "expected --l1 or --l2 above 0: without either the optimum may not exist",
            ));
        }
        if self.data.is_empty() != self.generate {
            let got = if self.generate { "both" } else { "neither" };
            return Err(Failure::input(format!("expected either --data FILE... or --generate, got {got}")));
        }
        let spec = SyntheticSpec { seed: self.seed, ..SyntheticSpec::default() };
        let generate = self.generate.then(|| Generated {
            spec,
            rows: self.generate_rows,
            test_rows: self.generate_rows.div_ceil(5),
        });
        let job = TrainJob {
            data: absolute(&self.data)?,
            test: absolute(&self.test)?,
            generate,
            model: self.model.clone().map(std::path::absolute).transpose()?,
            cache: self.cache.clone().map(std::path::absolute).transpose()?,
            threads: self.read_threads.map_or(read_threads, usize::from),
            solver: SolverConfig {
                penalty: Penalty { l1: self.l1, l2: self.l2, ..Penalty::default() },
                delay: usize::from(self.delay),
                step_guard: self.step_guard,
                max_passes: self.max_passes,
                tolerance: self.tolerance,
                certificate: self.certificate,
                block_ratio: self.block_ratio,
                filters: if self.no_filter {
                    filter_plan("none").map_err(Failure::input)?
                } else {
                    self.filter.clone()
                },
                kkt_ratio: self.kkt_ratio,
                diagonal_only: self.diagonal_only,
                prior: self.prior.clone(),
                prior_rounds: self.prior_rounds,
                seed: self.seed,
                patience_s: self.patience.as_secs_f64(),
            },
        };
        Ok(job.into())
    }

    fn files(&self) -> Vec<&Path> {
        self.data.iter().chain(&self.test).map(PathBuf::as_path).collect()
    }

    fn report(&self) -> Option<&Path> {
        self.report.as_deref()
    }
}

fn absolute(files: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    files.iter().map(std::path::absolute).collect()
}
