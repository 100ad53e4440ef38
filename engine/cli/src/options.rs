//! Options that several subcommands share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use keyrange::client::Mending;
use keyrange::manager::{Address, Door};
use keyrange::node::Membership;
use keyrange::node::carrier::CarrierWish;
use keyrange_apps::data::synthetic::SyntheticSpec;
use keyrange_apps::sparse_lr::job::{Generated, TrainJob};
use keyrange_apps::sparse_lr::protocol::Penalty;
use keyrange_apps::sparse_lr::solver::SolverConfig;
use keyrange_apps::sparse_lr::solver::filters::FilterPlan;
use keyrange_transport::fault::FaultPlan;

use crate::failure::Failure;
use crate::verbs_options::VerbsArgs;

/// How nodes exchange frames.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Shared memory on one host, else RDMA verbs where both hosts have it, else TCP
    Auto,
    /// Shared memory or nothing
    Shm,
    /// TCP, also on one host
    Tcp,
    /// RDMA verbs, also on one host
    Verbs,
}

impl From<Carrier> for CarrierWish {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Auto => CarrierWish::Auto,
            Carrier::Shm => CarrierWish::Shm,
            Carrier::Tcp => CarrierWish::Tcp,
            Carrier::Verbs => CarrierWish::Verbs,
        }
    }
}

/// A finite number that is at least 0.
fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a finite number, 0 or more".into()),
    }
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    non_negative(text).ok().filter(|value| *value > 0.0).ok_or_else(|| "expected a number above 0".into())
}

/// A duration like 500ms or 20s.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("expected a duration like 20s: {error}"))
}

/// The size of a job.
#[derive(Args)]
pub struct SizeArgs {
    /// Server threads, each owning a range of the keys
    #[arg(long, env = "KEYRANGE_SERVERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub servers: u32,

    /// Workers, each with a share of the rows
    #[arg(long, env = "KEYRANGE_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: u32,

    /// Every node must have joined this long after the start
    #[arg(long, env = "KEYRANGE_JOIN_DEADLINE", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub join_deadline: Duration,

    /// Receive ring of each link in bytes, a power of two from 4096; a frame is at most a quarter of it
    #[arg(long, env = "KEYRANGE_RING_BYTES", default_value_t = 1 << 20, value_name = "BYTES")]
    pub ring_bytes: u32,
}

/// The training job: sparse logistic regression.
#[derive(Args)]
pub struct SparseLrArgs {
    /// Training data: libsvm text, plain or .gz, .bz2, .xz, .zst; several files are read as one
    #[arg(long, env = "KEYRANGE_DATA_FILES", num_args = 1.., value_delimiter = ',', value_name = "FILE", conflicts_with = "generate")]
    pub data: Vec<PathBuf>,

    /// Test data, evaluated at the end
    #[arg(long, env = "KEYRANGE_TEST_FILES", num_args = 1.., value_delimiter = ',', value_name = "FILE", conflicts_with = "generate")]
    pub test: Vec<PathBuf>,

    /// Train on made-up click data instead of files (see `keyrange gen sparse-lr --help`)
    #[arg(long, env = "KEYRANGE_GENERATE")]
    pub generate: bool,

    /// Examples to make up for training; a fifth more for testing
    #[arg(long, env = "KEYRANGE_GENERATE_ROWS", default_value_t = 200_000, value_name = "N", conflicts_with = "data", value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    pub generate_rows: u64,

    /// Weight of the L1 norm: minimise sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1 + l2/2 |w|^2
    #[arg(long, env = "KEYRANGE_L1", allow_negative_numbers = true, default_value_t = 4.0, value_parser = non_negative, value_name = "X")]
    pub l1: f64,

    /// Weight of half the squared L2 norm
    #[arg(long, env = "KEYRANGE_L2", allow_negative_numbers = true, default_value_t = 0.0, value_parser = non_negative, value_name = "X")]
    pub l2: f64,

    /// Blocks a worker may have under way besides the one it computes; 0 makes the run repeatable to the last bit
    #[arg(long, env = "KEYRANGE_DELAY", default_value_t = 0, value_name = "T", value_parser = clap::value_parser!(u16).range(..=1024))]
    pub delay: u16,

    /// Steps as long as the convergence theorem allows with the delay, from the correlation of the data's blocks; without it
    /// they are 1 / (1 + T / (4 block ratio)) of what they were without delay, and shorter where the objective rises
    #[arg(long, env = "KEYRANGE_STEP_GUARD")]
    pub step_guard: bool,

    /// Passes over the data, at most
    #[arg(long, env = "KEYRANGE_MAX_PASSES", default_value_t = 100_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub max_passes: u64,

    /// Relative accuracy of the objective at which to stop
    #[arg(long, env = "KEYRANGE_TOLERANCE", allow_negative_numbers = true, default_value_t = 1e-4, value_parser = positive, value_name = "X")]
    pub tolerance: f64,

    /// Stop only when a duality gap proves the tolerance, not already when progress has ceased
    #[arg(long, env = "KEYRANGE_CERTIFICATE")]
    pub certificate: bool,

    /// Blocks per nonzero of an example
    #[arg(long, env = "KEYRANGE_BLOCK_RATIO", allow_negative_numbers = true, default_value_t = 4.0, value_parser = positive, value_name = "X")]
    pub block_ratio: f64,

    /// What need not be sent: kkt, key-cache, zeros, significant:C, skip:Q, noise:SIGMA, frequency:N, bloom, fixed:1..3, q2.13,
    /// f16, bf16, lz4, in the order of their application; with push/ or pull/ before it, in one direction only. `all` is
    /// kkt,key-cache,significant:0.01,zeros,push/fixed:2,pull/fixed:3,lz4. What loses something acts until passes gain little
    #[arg(long, env = "KEYRANGE_FILTER", default_value = "kkt,key-cache", value_name = "LIST", value_parser = filter_plan)]
    pub filter: FilterPlan,

    /// Send everything as it is, every time
    #[arg(long, env = "KEYRANGE_NO_FILTER", conflicts_with = "filter")]
    pub no_filter: bool,

    /// Slack of the KKT filter: this much of the largest violation per example; `inf` switches the filter off
    #[arg(long, env = "KEYRANGE_KKT_RATIO", allow_negative_numbers = true, default_value_t = 10.0, value_name = "X", value_parser = kkt_ratio)]
    pub kkt_ratio: f64,

    /// No Newton steps among the nonzero weights: only the published method's diagonal metric
    #[arg(long, env = "KEYRANGE_DIAGONAL_ONLY")]
    pub diagonal_only: bool,

    /// Ids of features that are visited first, as one block, before the first pass
    #[arg(long, env = "KEYRANGE_PRIOR", num_args = 1.., value_delimiter = ',', value_name = "ID")]
    pub prior: Vec<u64>,

    /// How often the prior features are visited
    #[arg(long, env = "KEYRANGE_PRIOR_ROUNDS", default_value_t = 5, value_name = "N")]
    pub prior_rounds: u32,

    /// Seed of the block order and of made-up data
    #[arg(long, env = "KEYRANGE_SEED", default_value_t = 1, value_name = "N")]
    pub seed: u64,

    /// Save the model to this directory
    #[arg(long, env = "KEYRANGE_MODEL", value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// Keep parsed data in this directory and read it from there the next time
    #[arg(long, env = "KEYRANGE_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,

    /// Write the report to this file, as JSON
    #[arg(long, env = "KEYRANGE_REPORT", value_name = "FILE.json")]
    pub report: Option<PathBuf>,

    /// A node waits this long for the others during training before it gives up
    #[arg(long, env = "KEYRANGE_PATIENCE", default_value = "10m", value_parser = duration, value_name = "TIME")]
    pub patience: Duration,
}

fn kkt_ratio(text: &str) -> Result<f64, String> {
    if text == "inf" { Ok(f64::MAX) } else { non_negative(text) }
}

fn filter_plan(text: &str) -> Result<FilterPlan, String> {
    text.parse().map_err(|error: keyrange::filter::FilterSpecError| error.to_string())
}

impl SparseLrArgs {
    /// The job for `workers` workers on this machine's cores, or as many threads each as given.
    pub fn job(&self, threads: usize) -> anyhow::Result<TrainJob> {
        if self.l1 == 0.0 && self.l2 == 0.0 {
            return Err(Failure::input(
                "expected --l1 or --l2 above 0: without either the optimum may not exist",
            ));
        }
        if self.data.is_empty() != self.generate {
            let got = if self.generate { "both" } else { "neither" };
            return Err(Failure::input(format!("expected either --data FILE... or --generate, got {got}")));
        }
        if let Some(folder) = self.report.as_deref().and_then(Path::parent)
            && !folder.as_os_str().is_empty()
            && !folder.is_dir()
        {
            return Err(Failure::input(format!("--report: {} is no directory", folder.display())));
        }
        for file in self.data.iter().chain(&self.test) {
            if !file.exists() {
                return Err(Failure::input(format!("{}: no such file", file.display())));
            }
        }
        let spec = SyntheticSpec { seed: self.seed, ..SyntheticSpec::default() };
        let generate = self.generate.then(|| Generated {
            spec,
            rows: self.generate_rows,
            test_rows: self.generate_rows.div_ceil(5),
        });
        Ok(TrainJob {
            data: absolute(&self.data)?,
            test: absolute(&self.test)?,
            generate,
            model: self.model.clone().map(std::path::absolute).transpose()?,
            cache: self.cache.clone().map(std::path::absolute).transpose()?,
            threads,
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
        })
    }
}

fn absolute(files: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    files.iter().map(std::path::absolute).collect()
}

/// Which job it is and what proves that a node belongs to it.
#[derive(Args)]
pub struct DoorArgs {
    /// Name of the job, the same on all its nodes
    #[arg(long, env = "KEYRANGE_JOB", default_value = "keyrange", value_name = "NAME")]
    pub job: String,

    /// File with the job's secret, the same on all its nodes. Also KEYRANGE_SECRET holds one. Needed beyond loopback
    #[arg(long, env = "KEYRANGE_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// The variable that holds the secret of a job, for processes started by others.
pub const SECRET_VARIABLE: &str = "KEYRANGE_SECRET";

impl DoorArgs {
    /// Job id and secret.
    pub fn door(&self) -> anyhow::Result<Door> {
        let secret = match &self.secret_file {
            Some(file) => std::fs::read(file)
                .map_err(|error| Failure::input(format!("{}: cannot read: {error}", file.display())))?,
            None => std::env::var(SECRET_VARIABLE).unwrap_or_default().into_bytes(),
        };
        Ok(Door::named(&self.job, secret.trim_ascii()))
    }
}

/// Faults on purpose.
#[derive(Args, Clone, Copy, Default)]
pub struct FaultArgs {
    /// What the workers send meets these faults, seeded, and must still count exactly once; for trying it.
    /// Like seed=7,drop=0.01,dup=0.01,delay=0.02,reorder=0.01,kill=5000 (kill: a TCP link, after so many frames)
    #[arg(long, env = "KEYRANGE_FAULT", value_name = "PLAN")]
    pub fault: Option<FaultPlan>,
}

impl FaultArgs {
    /// How a worker is to deal with links that break.
    pub fn mending(self) -> Mending {
        Mending { fault: self.fault, ..Mending::default() }
    }
}

/// How a server or worker finds its job.
#[derive(Args)]
pub struct MemberArgs {
    /// Where the manager listens: tcp:HOST:PORT or unix:NAME
    #[arg(long, env = "KEYRANGE_MANAGER", value_name = "ADDRESS")]
    pub manager: Address,

    #[command(flatten)]
    pub door: DoorArgs,

    /// The rank to have; without one, the lowest free
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,

    /// How long to look for the manager and to wait for the other nodes
    #[arg(long, env = "KEYRANGE_JOIN_DEADLINE", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub join_deadline: Duration,

    /// How frames travel
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    pub carrier: Carrier,

    #[command(flatten)]
    pub verbs: VerbsArgs,

    /// End when the process that started this one ends, and leave messages to it
    #[arg(long, hide = true)]
    pub supervised: bool,
}

impl MemberArgs {
    /// What a node must know to join.
    pub fn membership(&self) -> anyhow::Result<Membership> {
        Ok(Membership {
            manager: self.manager.clone(),
            door: self.door.door()?,
            rank: self.rank,
            join_deadline: self.join_deadline,
        })
    }
}
