//! What is trained: the part of a launch that differs between applications.

use std::path::Path;

use keyrange_apps::matrix_factorization::{FactorJob, FactorReport};
use keyrange_apps::sparse_lr::job::TrainJob;
use serde_json::{Value, json};

use super::Launch;

/// A job of any application.
pub enum Job {
    /// Sparse logistic regression.
    SparseLr(Box<TrainJob>),
    /// Matrix factorisation.
    MatrixFactorization(Box<FactorJob>),
}

impl From<TrainJob> for Job {
    fn from(job: TrainJob) -> Job {
        Job::SparseLr(Box::new(job))
    }
}

impl From<FactorJob> for Job {
    fn from(job: FactorJob) -> Job {
        Job::MatrixFactorization(Box::new(job))
    }
}

impl Job {
    /// What the workers are told; they know the application by it.
    pub fn parameters(&self) -> serde_json::Result<Value> {
        match self {
            Job::SparseLr(job) => serde_json::to_value(job),
            Job::MatrixFactorization(job) => Ok(json!({ "matrix_factorization": job })),
        }
    }

    /// Where the model goes.
    pub fn model(&self) -> Option<&Path> {
        match self {
            Job::SparseLr(job) => job.model.as_deref(),
            Job::MatrixFactorization(_) => None,
        }
    }
}

/// The header of progress lines of matrix factorisation.
pub const FACTOR_HEADER: &str = " epoch   train RMSE   seconds";

/// A progress line of matrix factorisation, if `body` is one.
pub fn factor_line(body: &Value) -> Option<String> {
    let number = |name: &str| body[name].as_f64();
    let (epoch, rmse, seconds) = (body["epoch"].as_u64()?, number("train_rmse")?, number("seconds")?);
    Some(format!("{epoch:6} {rmse:12.6} {seconds:9.3}"))
}

/// What people see of a report of matrix factorisation.
pub fn print_factor(report: &FactorReport, carrier: &str, launch: &Launch) {
    let job = &report.job;
    println!("ratings         {} to train, {} to test", report.train, report.test);
    println!("users, items    {}, {}", report.users, report.items);
    println!("nodes           {} servers, {} workers, {carrier}", launch.size.servers, launch.size.workers);
    let eager = if job.eager { "rows come unasked" } else { "rows are asked for" };
    println!("consistency     staleness {}, {eager}, {} clocks an epoch", job.staleness, job.clocks);
    println!("test RMSE       {:.6} (rank {}, {} epochs)", report.test_rmse, job.rank, job.epochs);
    println!("time            {:.3} s, {:.1} % of it waiting", report.seconds, 100.0 * report.waiting_share);
    let all = report.staleness.values().sum::<u64>().max(1) as f64;
    let bins = report.staleness.iter().rev().take(8);
    let bins: Vec<_> =
        bins.map(|(of, &count)| format!("{of}: {:.1} %", 100.0 * count as f64 / all)).collect();
    let (mean, variance) = (report.staleness_mean, report.staleness_variance);
    println!("staleness       mean {mean:.3}, variance {variance:.3} ({})", bins.join(", "));
    println!(
        "traffic         {:.3} MB pushed, {:.3} MB pulled; {} rows asked for, {} unasked",
        report.bytes_sent as f64 / 1e6,
        report.bytes_received as f64 / 1e6,
        report.rows_pulled,
        report.rows_pushed
    );
    if let Some(folder) = &job.history {
        println!("history         {} (keyrange check-history)", folder.display());
    }
    if let Some(file) = &launch.report {
        println!("report          {}", file.display());
    }
}
