//! Which application a job is: a worker finds out from the job's parameters.

use keyrange::client::Worker;
use thiserror::Error;

use crate::matrix_factorization::{self, FactorError};
use crate::sparse_lr::job::{self, JobError};

/// Why a worker of any application gave up.
#[derive(Debug, Error)]
pub enum ApplicationError {
    /// Of sparse logistic regression.
    #[error(transparent)]
    SparseLr(#[from] JobError),
    /// Of matrix factorisation.
    #[error(transparent)]
    MatrixFactorization(#[from] FactorError),
}

impl ApplicationError {
    /// Whether what the user gave is at fault.
    pub fn is_bad_input(&self) -> bool {
        matches!(
            self,
            ApplicationError::SparseLr(JobError::Data(_) | JobError::Model(_))
                | ApplicationError::MatrixFactorization(FactorError::Data(_) | FactorError::Diverged { .. })
        )
    }
}

/// Runs a worker's part of whatever job it is.
///
/// # Errors
/// As the application says; every other node has heard it.
pub fn run_worker(worker: Worker) -> Result<(), ApplicationError> {
    if worker.parameters().get("matrix_factorization").is_some() {
        Ok(matrix_factorization::job::run_worker(worker)?)
    } else {
        Ok(job::run_worker(worker)?)
    }
}
