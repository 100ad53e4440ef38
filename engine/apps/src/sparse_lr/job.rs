//! A whole training job as one worker sees it: load, train, tell.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use keyrange::client::{Worker, WorkerError};
use keyrange::filter::FilterSpecError;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::solver::filters::{Chains, FilterTotals};
use super::solver::local::Local;
use super::solver::servers::Servers;
use super::solver::waiting::{Traffic, WorkerWaiting};
use super::solver::{PassReport, Solution, Solver, SolverConfig};
use super::{Evaluation, Model, ModelError, ModelMeta, evaluate};
use crate::data::cache::Cache;
use crate::data::libsvm::Negatives;
use crate::data::synthetic::{Synthetic, SyntheticSpec};
use crate::data::{DataError, Dataset, libsvm};

/// Progress is told at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(50);

/// How long a worker waits for its last requests when the job is done.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// What to train on and how, the same for all workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainJob {
    /// Training files in libsvm text, compressed or not.
    pub data: Vec<PathBuf>,
    /// Test files; may be empty.
    pub test: Vec<PathBuf>,
    /// Made-up examples instead of files.
    pub generate: Option<Generated>,
    /// Where to save the model.
    pub model: Option<PathBuf>,
    /// Folder in which parsed data is kept.
    pub cache: Option<PathBuf>,
    /// Threads for reading, per worker.
    pub threads: usize,
    /// The solver's settings.
    pub solver: SolverConfig,
}

/// Examples made up from a seed: each worker makes its own share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generated {
    /// How they are drawn.
    pub spec: SyntheticSpec,
    /// Examples to train on.
    pub rows: u64,
    /// Examples to test on.
    pub test_rows: u64,
}

/// The report of a training job. Fields are stable; new ones may come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainReport {
    /// Objective reached: `sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1 + l2/2 |w|^2`.
    pub objective: f64,
    /// Weight of the L1 norm.
    pub l1: f64,
    /// Weight of half the squared L2 norm.
    pub l2: f64,
    /// Weights that are not 0.
    pub nonzeros: u64,
    /// Largest violation of the optimality conditions over all features.
    pub kkt_violation: f64,
    /// The objective is at most this far above the optimum.
    pub duality_gap: f64,
    /// Passes over the blocks.
    pub passes: u64,
    /// Time of training, without loading.
    pub seconds: f64,
    /// Time of loading, of worker 0.
    pub load_seconds: f64,
    /// Training examples.
    pub examples: u64,
    /// Features that occur in them.
    pub features: u64,
    /// Nonzeros of the training data.
    pub data_nonzeros: u64,
    /// Bytes that workers sent to servers.
    pub bytes_pushed: u64,
    /// Bytes that workers received from servers.
    pub bytes_pulled: u64,
    /// Blocks under way besides the one being computed.
    pub delay: u64,
    /// What each worker waited for.
    pub waiting: Vec<WorkerWaiting>,
    /// Mean of the workers' idle shares.
    pub idle_share: f64,
    /// Traffic by table.
    pub traffic: Vec<Traffic>,
    /// The filters asked for.
    pub filter: String,
    /// What each filter of messages did.
    pub filters: Vec<FilterTotals>,
    /// One entry per pass.
    pub history: Vec<PassReport>,
    /// Figures on the test files, if any.
    pub test: Option<Evaluation>,
}

/// Why a worker gave up.
#[derive(Debug, Error)]
pub enum JobError {
    /// The data is not what it should be.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model could not be saved.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The servers could not be reached, or another node failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The filters make no sense.
    #[error(transparent)]
    Filters(#[from] FilterSpecError),
    /// The job's description does not parse (a launcher of another version, most likely).
    #[error("the job's parameters: {0}")]
    Parameters(#[from] serde_json::Error),
}

/// Runs a worker's part from its connection to its good-bye; the job is in the plan's parameters. On failure every
/// other node hears the reason.
pub fn run_worker(mut worker: Worker) -> Result<(), JobError> {
    let result = serde_json::from_value(worker.parameters().clone())
        .map_err(JobError::from)
        .and_then(|job| run(&mut worker, &job));
    match result {
        Ok(()) => Ok(worker.finish(FINISH_LIMIT)?),
        Err(error) => {
            worker.fail(&error.to_string());
            Err(error)
        }
    }
}

fn run(worker: &mut Worker, job: &TrainJob) -> Result<(), JobError> {
    let started = Instant::now();
    let (rank, workers) = (worker.rank() as usize, worker.workers() as usize);
    let patience = Duration::from_secs_f64(job.solver.patience_s);
    let loaded = load_share(job, rank, workers);
    // Whatever is wrong with the test data shall be known before the work, not after it.
    let test = if rank == 0 && loaded.is_ok() { load_test(job)? } else { None };
    let chains = Chains::new(&job.solver.filters, job.solver.seed)?;
    let mut servers = Servers::new(worker, &job.solver.penalty, chains, patience)?;
    let share = join_shares(&mut servers, job, loaded)?;
    let local = Local::new(&share, job.solver.penalty.radius_first);
    drop(share);
    // Everybody has its data, by columns, before the clock of the training starts.
    servers.worker.barrier("loaded", patience)?;
    let load_seconds = started.elapsed().as_secs_f64();

    let mut told: Option<Instant> = None;
    let solution = Solver::new(servers, local, &job.solver)?.train(|worker, pass| {
        if rank == 0 && told.is_none_or(|at| at.elapsed() >= PROGRESS_EVERY) {
            told = Some(Instant::now());
            let traffic = worker.link_stats();
            let mut body = serde_json::to_value(pass).expect("a pass is plain numbers");
            body["bytes_moved"] = (traffic.sent_bytes + traffic.received_bytes).into();
            // A launcher that is gone ends the job by itself.
            let _ = worker.report_progress(body);
        }
    })?;
    if rank == 0 {
        conclude(worker, job, solution, load_seconds, test.as_ref())?;
    }
    Ok(())
}

fn load_share(job: &TrainJob, rank: usize, workers: usize) -> Result<(Dataset, Negatives), DataError> {
    match (&job.generate, &job.cache) {
        (Some(Generated { spec, rows, .. }), _) => {
            let cut = |rank: usize| (u128::from(*rows) * rank as u128 / workers as u128) as u64;
            let share = Synthetic::new(spec.clone())?.dataset(cut(rank)..cut(rank + 1), job.threads)?;
            Ok((share, Negatives::default()))
        }
        (None, Some(folder)) => Cache::new(folder).read_share(&job.data, rank, workers, job.threads),
        (None, None) => libsvm::read_share(&job.data, rank, workers, job.threads),
    }
}

/// Makes sure that the shares of all workers form a set. If they do not, one worker tells why, and the others wait for
/// its word: the first whose share is faulty, or else the first of all, which reads the whole set to name the place.
fn join_shares(
    servers: &mut Servers<'_>,
    job: &TrainJob,
    loaded: Result<(Dataset, Negatives), DataError>,
) -> Result<Dataset, JobError> {
    let flag = |some: bool| f64::from(u8::from(some));
    let (rank, workers) = (servers.worker.rank() as usize, servers.worker.workers() as usize);
    let mut sums = vec![0.0; 3 + workers];
    match &loaded {
        Ok((set, negatives)) => {
            sums[..3].copy_from_slice(&[set.rows() as f64, flag(negatives.zero), flag(negatives.minus)]);
        }
        Err(_) => sums[3 + rank] = 1.0,
    }
    let sums = servers.sum(sums)?;
    let disagree = sums[0] == 0.0 || (sums[1] > 0.0 && sums[2] > 0.0);
    let teller = sums[3..].iter().position(|faulty| *faulty > 0.0).or(disagree.then_some(0));
    if teller == Some(rank) {
        loaded?;
        libsvm::read(&job.data, job.threads)?;
        let got = "no row, or labels 0 and -1, in the shares of all workers, but not in the whole".into();
        let expected = "files that do not change while they are read";
        return Err(DataError::Inconsistent { expected, got }.into());
    }
    if teller.is_some() {
        // It fails when the teller does.
        servers.worker.barrier("shares", Duration::from_secs_f64(job.solver.patience_s))?;
    }
    Ok(loaded?.0)
}

fn load_test(job: &TrainJob) -> Result<Option<Dataset>, DataError> {
    match &job.generate {
        Some(Generated { spec, rows, test_rows }) => {
            Synthetic::new(spec.clone())?.dataset(*rows..rows + test_rows, job.threads).map(Some)
        }
        None if job.test.is_empty() => Ok(None),
        None => match &job.cache {
            Some(folder) => Cache::new(folder).read(&job.test, job.threads).map(Some),
            None => libsvm::read(&job.test, job.threads).map(Some),
        },
    }
}

/// Saves, evaluates and reports.
fn conclude(
    worker: &mut Worker,
    job: &TrainJob,
    solution: Solution,
    load_seconds: f64,
    test: Option<&Dataset>,
) -> Result<(), JobError> {
    let passes = solution.history.len() as u64;
    let meta = ModelMeta {
        l1: job.solver.penalty.l1,
        l2: job.solver.penalty.l2,
        objective: solution.objective,
        examples: solution.examples,
        features: solution.features,
        passes,
        ..ModelMeta::default()
    };
    let nonzeros = solution.weights.len() as u64;
    let model = Model::from_weights(solution.weights, meta)?;
    if let Some(folder) = &job.model {
        model.save(folder)?;
    }
    let test = test.map(|test| evaluate(&model, test));
    let report = TrainReport {
        objective: solution.objective,
        l1: job.solver.penalty.l1,
        l2: job.solver.penalty.l2,
        nonzeros,
        kkt_violation: solution.certificate.kkt_violation,
        duality_gap: solution.certificate.gap,
        passes,
        seconds: solution.seconds,
        load_seconds,
        examples: solution.examples,
        features: solution.features,
        data_nonzeros: solution.data_nonzeros,
        bytes_pushed: solution.bytes_pushed,
        bytes_pulled: solution.bytes_pulled,
        delay: job.solver.delay as u64,
        idle_share: mean(solution.waiting.iter().map(|waiting| waiting.idle_share)),
        waiting: solution.waiting,
        traffic: solution.traffic,
        filter: job.solver.filters.to_string(),
        filters: solution.filters,
        history: solution.history,
        test,
    };
    Ok(worker.report(serde_json::to_value(report).expect("a report is plain numbers"))?)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    values.sum::<f64>() / count
}
