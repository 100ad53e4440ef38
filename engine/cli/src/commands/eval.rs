//! `keyrange eval`: how good a model is on data.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyrange_apps::data::libsvm;
use keyrange_apps::sparse_lr::{Model, evaluate};

/// What to evaluate.
#[derive(Subcommand)]
pub enum Eval {
    /// A model of `keyrange train sparse-lr`
    SparseLr(EvalArgs),
}

/// Options of `keyrange eval sparse-lr`.
#[derive(Args)]
pub struct EvalArgs {
    /// Directory of the model, or one of its weight files
    #[arg(long, env = "KEYRANGE_MODEL", value_name = "DIR")]
    model: PathBuf,

    /// Data with labels: libsvm text, plain or .gz, .bz2, .xz, .zst
    #[arg(long, env = "KEYRANGE_DATA_FILES", num_args = 1.., required = true, value_delimiter = ',', value_name = "FILE")]
    data: Vec<PathBuf>,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Evaluates.
pub fn run(Eval::SparseLr(args): Eval) -> anyhow::Result<()> {
    let model = Model::load(&args.model)?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = evaluate(&model, &libsvm::read(&args.data, threads)?);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    println!("examples   {} ({} positive)", found.rows, found.positives);
    match found.auc {
        Some(auc) => println!("AUC        {auc:.6}"),
        None => println!("AUC        not defined: all labels are the same"),
    }
    println!("log-loss   {:.6}", found.logloss);
    println!("accuracy   {:.6}", found.accuracy);
    Ok(())
}
