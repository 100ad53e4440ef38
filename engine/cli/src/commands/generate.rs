//! `keyrange gen`: made-up data.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use keyrange_apps::data::synthetic::{Synthetic, SyntheticSpec};

/// What to make up.
#[derive(Subcommand)]
pub enum Generate {
    /// Click-like examples: one-hot fields with power-law words, labels from a hidden sparse logistic model
    SparseLr(GenerateArgs),
}

/// Options of `keyrange gen sparse-lr`.
#[derive(Args)]
pub struct GenerateArgs {
    /// File to write: libsvm text, compressed if it ends in .gz, .bz2, .xz or .zst
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Examples to write
    #[arg(long, default_value_t = 200_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,

    /// Number of the first example; other ranges of the same seed follow the same hidden model, so they can be tests
    #[arg(long, default_value_t = 0, value_name = "N")]
    first_row: u64,

    /// Categorical fields, so nonzeros of each example
    #[arg(long, default_value_t = 20, value_name = "N")]
    fields: u32,

    /// Words of all fields together, so features
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    features: u64,

    /// Real-valued features of each example besides
    #[arg(long, default_value_t = 0, value_name = "N")]
    real_features: u32,

    /// Exponent of Zipf's law within each field
    #[arg(long, default_value_t = 1.1, value_name = "X")]
    zipf_exponent: f64,

    /// Part of the rare words that have a hidden weight
    #[arg(long, default_value_t = 0.02, value_name = "X")]
    weight_density: f64,

    /// Standard deviation of the hidden margin: how much can be learned
    #[arg(long, default_value_t = 1.5, value_name = "X")]
    signal: f64,

    /// Part of examples labelled +1
    #[arg(long, default_value_t = 0.2, value_name = "X")]
    positive_rate: f64,

    /// Scatter feature ids over all 64-bit numbers instead of counting from 1
    #[arg(long)]
    spread_ids: bool,

    /// Everything follows from it
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
}

/// Writes the file.
pub fn run(Generate::SparseLr(args): Generate) -> anyhow::Result<()> {
    let source = Synthetic::new(SyntheticSpec {
        fields: args.fields,
        features: args.features,
        real_features: args.real_features,
        zipf_exponent: args.zipf_exponent,
        weight_density: args.weight_density,
        signal: args.signal,
        positive_rate: args.positive_rate,
        spread_ids: args.spread_ids,
        seed: args.seed,
    })?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows = args.first_row..args.first_row.saturating_add(args.rows);
    source.write(rows, &args.output, threads)?;
    let bytes = std::fs::metadata(&args.output)?.len();
    println!("wrote {} examples, {bytes} bytes, to {}", args.rows, args.output.display());
    Ok(())
}
