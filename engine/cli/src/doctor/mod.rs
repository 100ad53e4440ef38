//! What this machine can do for a job, and what to type to mend it.
//!
//! Each part looks at one thing ([`rdma`], [`memory`], [`processors`], [`network`]) and returns findings: a pure judgement of
//! facts read before, so that it can be tested with facts of other machines. Nothing is changed, and nothing needs root.
//!
//! With another machine there are two doctors: [`visit`] is their conversation, [`pair`] judges which carrier the two would
//! choose, [`peer`] makes findings of both.

mod cgroup;
mod memory;
mod network;
mod pair;
pub mod peer;
mod processors;
mod rdma;
mod visit;

use std::fmt;

use serde::Serialize;

use crate::options::Carrier;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be, or as it is.
    Fine,
    /// A job runs, slower than it could.
    Warning,
    /// A job as asked for will fail.
    Problem,
}

impl Severity {
    /// What the program exits with.
    pub fn exit_code(self) -> u8 {
        match self {
            Severity::Fine => 0,
            Severity::Warning => 3,
            Severity::Problem => 4,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Fine => "fine",
            Severity::Warning => "warning",
            Severity::Problem => "PROBLEM",
        })
    }
}

/// One thing found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub area: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is there.
    pub found: String,
    /// What to do about it; for something fine, what would make more possible.
    pub mend: Option<String>,
}

impl Finding {
    /// Nothing to do.
    fn fine(area: &'static str, found: impl Into<String>) -> Self {
        Finding { area, severity: Severity::Fine, found: found.into(), mend: None }
    }

    /// Something to do.
    fn new(
        area: &'static str,
        severity: Severity,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Finding { area, severity, found: found.into(), mend: Some(mend.into()) }
    }
}

/// Looks at everything for a job over `carrier` whose manager is at `manager`.
pub fn examine(carrier: Carrier, manager: Option<&str>) -> Vec<Finding> {
    let demanded = carrier == Carrier::Verbs;
    let mut findings = rdma::examine(demanded);
    findings.extend(memory::examine(rdma::may_matter(demanded)));
    findings.extend(processors::examine());
    findings.extend(network::examine(manager));
    findings
}

/// The first line of a file, if it can be read.
fn line(path: impl AsRef<std::path::Path>) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().next().map(|line| line.trim().to_owned())
}
