//! `keyrange check-history`: whether a recorded run kept what it promised.

use std::path::PathBuf;

use clap::Args;
use keyrange::history::{History, Violation, check, open_folder};

use crate::failure::Failure;

/// Options of `keyrange check-history`.
#[derive(Args)]
pub struct CheckHistoryArgs {
    /// Directory of a recorded run (--history of `keyrange train matrix-factorization`)
    #[arg(value_name = "DIR")]
    folder: PathBuf,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Checks; the first violation is told in words (exit code 1; 2 if the files are no histories).
pub fn run(args: &CheckHistoryArgs) -> anyhow::Result<()> {
    let files = open_folder(&args.folder).map_err(|error| Failure::input(error.to_string()))?;
    let histories: Vec<&dyn History> = files.iter().map(|file| file as &dyn History).collect();
    let summary = check(&histories).map_err(|violation| match violation {
        Violation::History(error) => Failure::input(error.to_string()),
        broken => Failure::job(format!("violation: {broken}")),
    })?;
    let (mean, variance) = (summary.mean().unwrap_or(0.0), summary.variance().unwrap_or(0.0));
    if args.json {
        let mut json = serde_json::to_value(&summary)?;
        (json["staleness_mean"], json["staleness_variance"]) = (mean.into(), variance.into());
        println!("{}", serde_json::to_string_pretty(&json)?);
        return Ok(());
    }
    let promise = files[0].header();
    println!("promised     staleness {} for {} workers", promise.staleness, promise.workers);
    println!("no violation of staleness bound, read-my-writes, monotonicity, exactly-once");
    println!(
        "checked      {} reads, {} increments, {} clocks, {} rows at the end",
        summary.reads, summary.increments, summary.clocks, summary.rows
    );
    println!(
        "staleness    mean {mean:.3}, variance {variance:.3} (clock a row holds wholly - clock of its reader)"
    );
    for (of, &count) in summary.staleness.iter().rev() {
        let share = count as f64 / summary.reads.max(1) as f64;
        println!(
            "{of:12} {count:10} {:5.1} % {}",
            100.0 * share,
            "#".repeat((60.0 * share).round() as usize)
        );
    }
    Ok(())
}
