//! `bench filters`: what each chain saves on values of several kinds, and what coding and undoing cost, beside a copy of
//! the same bytes in the same run.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use keyrange::filter::{Chain, ChainSpec, Direction, Trial};
use keyrange_kernels::keys::signature;
use keyrange_kernels::random::{Seed, gaussian};
use serde::Serialize;

use super::limits::{Array, pin};
use super::options::{MeasureArgs, bytes, duration};
use super::report::{digits, gigabytes, median, table, write_json};
use crate::failure::Failure;

/// The chains measured unless others are asked for.
const CHAINS: &str = "zeros lz4 zeros,lz4 significant:1 skip:0.5 noise:0.01 frequency:2 fixed:1 fixed:2 fixed:3 q2.13 f16 bf16 zeros,fixed:1,lz4";

/// Arguments of `keyrange bench filters`.
#[derive(Args, Serialize)]
pub struct FiltersArgs {
    /// Chains to measure, as they are given to train
    #[arg(long, env = "KEYRANGE_BENCH_CHAINS", value_delimiter = ' ', num_args = 1.., default_value = CHAINS, value_name = "CHAIN")]
    chains: Vec<String>,

    /// Bytes of values of one message
    #[arg(long, env = "KEYRANGE_BENCH_MESSAGE", default_value = "128K", value_parser = bytes, value_name = "BYTES")]
    message: usize,

    /// A file of little-endian f32 to measure too: weights or gradients of your own
    #[arg(long, env = "KEYRANGE_BENCH_VALUES", value_name = "FILE")]
    values: Option<std::path::PathBuf>,

    /// How long each chain runs on each kind of values
    #[arg(long, env = "KEYRANGE_BENCH_TURN", default_value = "20ms", value_parser = duration, value_name = "TIME")]
    turn: Duration,

    #[command(flatten)]
    #[serde(skip)]
    measure: MeasureArgs,
}

/// One chain on one kind of values.
#[derive(Serialize)]
struct Row {
    chain: String,
    values: String,
    size_ratio: f64,
    encode_bytes_per_second: f64,
    decode_bytes_per_second: f64,
    copy_bytes_per_second: f64,
}

/// Measures and prints.
pub fn run(args: &FiltersArgs) -> anyhow::Result<()> {
    args.measure.check_json()?;
    let core = args.measure.one_core()?;
    pin(core).with_context(|| format!("pinning to core {core}"))?;
    let count = (args.message / size_of::<f32>()).max(1);
    let mut rows = Vec::new();
    for text in &args.chains {
        let spec: ChainSpec = text.parse().map_err(|error| Failure::input(format!("--chains: {error}")))?;
        spec.check(Direction::Push).map_err(|error| Failure::input(format!("--chains: {error}")))?;
        for (name, values) in kinds(args, count)? {
            rows.push(measure(args, &spec, name, &values)?);
        }
    }
    print(&rows, signing(args));
    write_json("keyrange bench filters", &args.measure, args, &rows)
}

/// Values to send: mostly zeros, Gaussian, and the user's.
fn kinds(args: &FiltersArgs, count: usize) -> anyhow::Result<Vec<(&'static str, Array<f32>)>> {
    let mut draws = vec![0.0; count];
    gaussian(Seed::new(1), &mut draws);
    let seed = Seed::new(2);
    let sparse = |(at, x): (usize, &f64)| if seed.unit(at as u32) < 0.05 { *x as f32 } else { 0.0 };
    let mut kinds = vec![
        ("95 % zeros", Array::of(draws.iter().enumerate().map(sparse), 0.0)),
        ("Gaussian", Array::of(draws.iter().map(|&x| x as f32), 0.0)),
    ];
    if let Some(path) = &args.values {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let numbers = bytes.as_chunks::<4>().0;
        if numbers.is_empty() {
            return Err(Failure::input(format!("--values: {} holds no f32", path.display())));
        }
        let numbers = numbers[..numbers.len().min(count)].iter();
        kinds.push(("file", Array::of(numbers.map(|&bytes| f32::from_le_bytes(bytes)), 0.0)));
    }
    Ok(kinds)
}

fn measure(args: &FiltersArgs, spec: &ChainSpec, name: &str, values: &[f32]) -> anyhow::Result<Row> {
    let chain = Chain::new(spec, Direction::Push, 1)?;
    let mut trial = Trial::new(chain, 1);
    let mut copy = Array::new(values.len(), 0f32);
    let (mut encode, mut decode, mut copies, mut sizes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let plain = size_of_val(values) as f64;
    let began = Instant::now();
    while began.elapsed() < args.turn || encode.len() < 8 {
        let start = Instant::now();
        copy.copy_from_slice(black_box(values));
        black_box(&copy[..]);
        copies.push(plain / start.elapsed().as_secs_f64());
        let result = trial.run(values)?;
        encode.push(plain / result.encode.as_secs_f64());
        decode.push(plain / result.decode.as_secs_f64());
        sizes.push(result.bytes as f64);
    }
    let mean_size = sizes.iter().sum::<f64>() / sizes.len() as f64;
    Ok(Row {
        chain: spec.to_string(),
        values: name.to_owned(),
        size_ratio: plain / mean_size,
        encode_bytes_per_second: median(&encode),
        decode_bytes_per_second: median(&decode),
        copy_bytes_per_second: median(&copies),
    })
}

/// Bytes of keys signed per second, for key caching: once per list, when it is first cut.
fn signing(args: &FiltersArgs) -> f64 {
    let keys = Array::of((0..args.message / 8).map(|key| key as u64 * 0x9e37_79b9), 0);
    let mut rates = Vec::new();
    let began = Instant::now();
    while began.elapsed() < args.turn {
        let start = Instant::now();
        black_box(signature(black_box(&keys)));
        rates.push(size_of_val(&keys[..]) as f64 / start.elapsed().as_secs_f64());
    }
    median(&rates)
}

fn print(rows: &[Row], signing: f64) {
    let mut table = table(&["chain", "values", "times smaller", "encode", "decode", "copy", "encode/copy"]);
    for row in rows {
        let undone = row.decode_bytes_per_second.is_finite();
        table.add_row([
            row.chain.clone(),
            row.values.clone(),
            digits(row.size_ratio),
            gigabytes(row.encode_bytes_per_second),
            if undone { gigabytes(row.decode_bytes_per_second) } else { "as it is".to_owned() },
            gigabytes(row.copy_bytes_per_second),
            digits(row.encode_bytes_per_second / row.copy_bytes_per_second),
        ]);
    }
    println!("{table}");
    println!("key lists are signed at {}", gigabytes(signing));
}
