//! `keyrange doctor`: what this machine can do, and what to type to mend it.

use clap::Args;
use serde_json::json;

use crate::doctor::{Finding, Severity, examine};
use crate::failure::Failure;
use crate::options::Carrier;

/// Options of `keyrange doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// The carrier a job shall use: what it lacks is a problem then
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    carrier: Carrier,

    /// The manager's address: unix:NAME or tcp:HOST:PORT
    #[arg(long, env = "KEYRANGE_MANAGER", value_name = "ADDRESS")]
    manager: Option<String>,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Looks and tells. Exit code 0: fine, 3: warnings, 4: problems.
pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    let findings = examine(args.carrier, args.manager.as_deref());
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "severity": worst, "findings": findings }))?);
    } else {
        findings.iter().for_each(print);
    }
    match worst {
        Severity::Fine => Ok(()),
        worst => Err(Failure::silent(worst.exit_code())),
    }
}

fn print(finding: &Finding) {
    println!("{:<8} {:<14} {}", finding.severity.to_string(), finding.area, finding.found);
    if let Some(mend) = &finding.mend {
        println!("{:<8} {:<14} -> {mend}", "", "");
    }
}
