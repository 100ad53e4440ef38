//! How the program fails: a message and an exit code.

use std::fmt;

use keyrange_apps::application::ApplicationError;
use keyrange_apps::data::DataError;
use keyrange_apps::sparse_lr::ModelError;

/// An error with an exit code of its own.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
    quiet: bool,
}

/// Exit code of a job that failed.
pub const JOB_FAILED: u8 = 1;

/// Exit code for options, configuration and data that are not what they should be.
pub const BAD_INPUT: u8 = 2;

impl Failure {
    /// Bad input: expected, got, what to do.
    pub fn input(text: impl Into<String>) -> anyhow::Error {
        Failure::with_code(BAD_INPUT, text)
    }

    /// The job failed.
    pub fn job(text: impl Into<String>) -> anyhow::Error {
        Failure::with_code(JOB_FAILED, text)
    }

    /// Any exit code.
    pub fn with_code(code: u8, text: impl Into<String>) -> anyhow::Error {
        Failure { code, text: text.into(), quiet: false }.into()
    }

    /// An exit code without a message: everything has been told.
    pub fn silent(code: u8) -> anyhow::Error {
        Failure { code, text: String::new(), quiet: true }.into()
    }

    /// The same code without a message: the launcher tells it.
    pub fn hushed(error: &anyhow::Error) -> anyhow::Error {
        Failure { code: exit_code(error).0, text: format!("{error:#}"), quiet: true }.into()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Failure {}

/// The exit code of an error, and whether it has been told already.
pub fn exit_code(error: &anyhow::Error) -> (u8, bool) {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return (failure.code, failure.quiet);
    }
    let bad_input = error.is::<DataError>()
        || error.is::<ModelError>()
        || error.downcast_ref().is_some_and(ApplicationError::is_bad_input);
    (if bad_input { BAD_INPUT } else { JOB_FAILED }, false)
}
