//! `bench push-pull`: one server with one shard, one worker, and a manager inside the worker's process.
//!
//! Read `cluster` (the processes), then `cases` (what is measured and against which limit);
//! `support` has the tasks' arrays and the plain memory beside them, `figures` what is found.

mod cases;
mod cluster;
mod figures;
mod support;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::options::{LinkCarrier, MeasureArgs, bytes, duration};
use super::report::{digits, rate, table, time, write_json};
use crate::failure::Failure;
use cases::Bench;
use cluster::Cluster;
pub use cluster::{ServerRole, serve};
use figures::Figures;

/// Longest wait for a task.
const LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `bench push-pull`.
#[derive(Args, Serialize)]
pub struct PushPullArgs {
    /// How worker and server exchange frames; in-process makes them threads of one process
    #[arg(long, env = "KEYRANGE_BENCH_CARRIER", value_enum, default_value_t = LinkCarrier::Shm)]
    carrier: LinkCarrier,

    /// What to measure [default: everything]
    #[arg(long, env = "KEYRANGE_BENCH_CASES", value_enum, value_delimiter = ',', num_args = 1.., value_name = "CASE")]
    cases: Vec<Case>,

    /// Lengths of the random key lists that are pushed and pulled again and again
    #[arg(long, env = "KEYRANGE_BENCH_LIST_KEYS", value_delimiter = ',', num_args = 1.., default_value = "10000,100000,1000000", value_parser = clap::value_parser!(u32).range(1..=100_000_000), value_name = "N")]
    list_keys: Vec<u32>,

    /// Bytes of the arrays pushed to and pulled from a dense table
    #[arg(long, env = "KEYRANGE_BENCH_DENSE_BYTES", value_delimiter = ',', num_args = 1.., default_value = "1M,4M", value_parser = dense_bytes, value_name = "BYTES")]
    dense_bytes: Vec<usize>,

    /// One-key pushes under way at a time
    #[arg(long, env = "KEYRANGE_BENCH_IN_FLIGHT", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(65..=16_384), value_name = "N")]
    in_flight: u32,

    /// Random keys whose memory is counted
    #[arg(long, env = "KEYRANGE_BENCH_MEMORY_KEYS", default_value_t = 16_000_000, value_parser = clap::value_parser!(u32).range(100_000..), value_name = "N")]
    memory_keys: u32,

    /// Receive ring of each side in bytes, a power of two from 4K
    #[arg(long, env = "KEYRANGE_BENCH_RING_BYTES", default_value = "1M", value_parser = bytes, value_name = "BYTES")]
    ring_bytes: usize,

    /// How long one repetition of one case lasts
    #[arg(long, env = "KEYRANGE_BENCH_TURN", default_value = "60ms", value_parser = duration, value_name = "TIME")]
    turn: Duration,

    #[command(flatten)]
    #[serde(skip)]
    measure: MeasureArgs,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Case {
    /// One key pushed (and pulled) and waited for, then as many as possible in flight
    OneKey,
    /// The same random list again and again, for each of --list-keys
    Lists,
    /// Forty random lists of 100000 keys in turn
    Cycling,
    /// Random lists of 100000 keys, none sent twice
    NewKeys,
    /// A whole dense table, for each of --dense-bytes
    Dense,
    /// Growth of the server process by --memory-keys keys; needs a server process
    Memory,
}

impl PushPullArgs {
    fn wants(&self, case: Case) -> bool {
        match self.cases.as_slice() {
            [] => case != Case::Memory || self.carrier != LinkCarrier::InProcess,
            cases => cases.contains(&case),
        }
    }
}

/// Four bytes to 1 GiB, whole 32-bit values.
fn dense_bytes(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        bytes if bytes.is_multiple_of(4) && (4..=1 << 30).contains(&bytes) => Ok(bytes),
        got => Err(format!("expected a multiple of 4 up to 1G, got {got}")),
    }
}

/// Measures and prints.
pub fn run(args: &PushPullArgs) -> anyhow::Result<()> {
    args.measure.check_json()?;
    if args.carrier == LinkCarrier::InProcess && args.cases.contains(&Case::Memory) {
        return Err(Failure::input("--cases memory: needs a server process; choose --carrier shm or tcp"));
    }
    let cores = args.measure.two_cores()?;
    let (mut cluster, worker) = Cluster::start(args.carrier, args.ring_bytes, cores)?;
    let figures = Bench::new(args, worker, cluster.server(), cores).run()?;
    cluster.finish()?;
    print(&figures);
    write_json("keyrange bench push-pull", &args.measure, args, &figures)
}

fn print(figures: &Figures) {
    let [worker, server] = figures.cores;
    println!(
        "push and pull over {}, worker on core {worker}, server on core {server}; f32 values, function add; medians",
        figures.carrier
    );
    if !figures.latencies.is_empty() {
        println!("\nLatency (limit: {})", figures.latency_limit);
        let mut rows = table(&[
            "request",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "CPU worker",
            "CPU server",
            "limit",
            "x limit",
        ]);
        for row in &figures.latencies {
            let percentiles = [row.p50_ns, row.p90_ns, row.p99_ns, row.p999_ns, row.max_ns];
            let mut cells = vec![row.request.clone()];
            cells.extend(percentiles.map(|ns| time(ns as f64)));
            cells.extend([time(row.cpu_ns), row.server_cpu_ns.map_or("-".into(), time), time(row.limit_ns)]);
            cells.push(digits(row.p50_over_limit));
            rows.add_row(cells);
        }
        println!("{rows}");
    }
    if !figures.rates.is_empty() {
        println!("\nRates (CPU per item)");
        let mut rows =
            table(&["request", "items", "rate", "CPU worker", "CPU server", "limit", "of limit", "limit is"]);
        for row in &figures.rates {
            rows.add_row([
                row.request.clone(),
                row.items.to_owned(),
                rate(row.per_second),
                time(row.cpu_ns),
                row.server_cpu_ns.map_or("-".into(), time),
                rate(row.limit_per_second),
                digits(row.of_limit),
                row.limit.to_owned(),
            ]);
        }
        println!("{rows}");
    }
    if let Some(memory) = &figures.memory {
        println!(
            "\nMemory: {} random keys with f32 values grew the server by {:.1} bytes a key (key and value are 12)",
            memory.keys, memory.server_bytes_per_key
        );
    }
}
