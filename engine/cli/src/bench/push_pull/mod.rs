//! `bench push-pull`: a server of one or more shard threads, one or more workers, and a manager inside the measuring worker's
//! process.
//!
//! Read `cluster` (the processes), `crew` (the other workers), `load` (what is pushed), then `cases` and `latency` (what is
//! measured and against which limit); `turns` times, `server_clock` reads the server's CPU time, `support` has the tasks'
//! arrays and the plain memory beside them, `figures` what is found.

mod cases;
mod cluster;
mod crew;
mod figures;
mod latency;
mod load;
mod server_clock;
mod support;
mod turns;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::options::{LinkCarrier, MeasureArgs, bytes, duration};
use super::report::{digits, rate, table, time, write_json};
use crate::failure::Failure;
use crate::verbs_options::VerbsArgs;
use cases::Bench;
use cluster::Cluster;
pub use cluster::{NodeRole, serve, work};
use figures::Figures;

/// Longest wait for a task.
const LIMIT: Duration = Duration::from_secs(60);

/// Arguments of `bench push-pull`.
#[derive(Args, Serialize)]
pub struct PushPullArgs {
    /// How worker and server exchange frames; in-process makes them threads of one process
    #[arg(long, env = "KEYRANGE_BENCH_CARRIER", value_enum, default_value_t = LinkCarrier::Shm)]
    carrier: LinkCarrier,

    #[command(flatten)]
    verbs: VerbsArgs,

    /// Server threads, of one process; the keys are split evenly over them
    #[arg(long, env = "KEYRANGE_BENCH_SERVERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    servers: u32,

    /// Worker processes; with several, all do the same at the same time, and only cases of lists and ranges are measured
    #[arg(long, env = "KEYRANGE_BENCH_WORKERS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256), value_name = "N")]
    workers: u32,

    /// What to measure [default: everything but growth]
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

    /// Keys of the table of case growth
    #[arg(long, env = "KEYRANGE_BENCH_TABLE_KEYS", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1000..=1_000_000_000), value_name = "N")]
    table_keys: u32,

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
    /// The same random list again and again, for each of --list-keys; its first push gave it consecutive rows
    Lists,
    /// The same where the keys were inserted in random order before, so that their rows are scattered
    Scattered,
    /// Forty random lists of 100000 keys in turn
    Cycling,
    /// Random lists of 100000 keys, none sent twice
    NewKeys,
    /// A table of --table-keys keys inserted in random order: filling it, lists of 100000 random ones of its keys that the
    /// server knows, and lists it sees for the first time
    Growth,
    /// A whole dense table, for each of --dense-bytes; over shm from lent memory too
    Dense,
    /// CPU time of all sides while a worker waits for what does not come
    Idle,
    /// Growth of the server process by --memory-keys keys; needs a server process
    Memory,
}

impl Case {
    /// Whether several workers can do it at the same time.
    fn takes_workers(self) -> bool {
        matches!(self, Case::Lists | Case::Scattered | Case::Cycling | Case::Growth | Case::Dense)
    }
}

impl PushPullArgs {
    fn wants(&self, case: Case) -> bool {
        match self.cases.as_slice() {
            [] if case == Case::Growth || (self.workers > 1 && !case.takes_workers()) => false,
            [] => case != Case::Memory || self.carrier != LinkCarrier::InProcess,
            cases => cases.contains(&case),
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        self.measure.check_json()?;
        if self.carrier == LinkCarrier::InProcess && self.cases.contains(&Case::Memory) {
            return Err(Failure::input(
                "--cases memory: needs a server process; choose --carrier shm or tcp",
            ));
        }
        match self.cases.iter().find(|case| self.workers > 1 && !case.takes_workers()) {
            Some(case) => {
                let name =
                    case.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
                Err(Failure::input(format!("--cases {name}: measures one worker; leave --workers at 1")))
            }
            None => Ok(()),
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
    args.check()?;
    let places = args.measure.places(args.workers as usize, args.servers as usize)?;
    let (mut cluster, hands) = Cluster::start(args.carrier, &args.verbs, args.ring_bytes, &places)?;
    let figures = Bench::new(args, &cluster, hands, &places).run()?;
    cluster.finish()?;
    print(&figures);
    write_json("keyrange bench push-pull", &args.measure, args, &figures)
}

fn print(figures: &Figures) {
    let places = match figures.cores {
        Some([worker, server]) if figures.workers + figures.servers == 2 => {
            format!("worker on core {worker}, server on core {server}")
        }
        Some(_) => format!(
            "{} workers and {} server threads, each on a core of its own",
            figures.workers, figures.servers
        ),
        None => format!("{} workers and {} server threads on fewer cores", figures.workers, figures.servers),
    };
    println!("push and pull over {}, {places}; f32 values, function add; medians", figures.carrier);
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
            cells.extend([time(row.cpu_ns), time(row.server_cpu_ns), time(row.limit_ns)]);
            cells.push(digits(row.p50_over_limit));
            rows.add_row(cells);
        }
        println!("{rows}");
    }
    if !figures.rates.is_empty() {
        println!("\nRates (CPU per item, of all threads of a side)");
        let mut rows =
            table(&["request", "items", "rate", "CPU worker", "CPU server", "limit", "of limit", "limit is"]);
        for row in &figures.rates {
            rows.add_row([
                row.request.clone(),
                row.items.to_owned(),
                rate(row.per_second),
                time(row.cpu_ns),
                time(row.server_cpu_ns),
                rate(row.limit_per_second),
                digits(row.of_limit),
                row.limit.to_owned(),
            ]);
        }
        println!("{rows}");
    }
    if let Some(idle) = &figures.idle {
        println!(
            "\nIdle for {:.0} s, a worker waiting: worker and manager {:.3} %, server {:.3} % of a core",
            idle.seconds,
            100.0 * idle.here_of_a_core,
            100.0 * idle.server_of_a_core
        );
    }
    if let Some(memory) = &figures.memory {
        println!(
            "\nMemory: {} random keys with f32 values grew the server by {:.1} bytes a key (key and value are 12)",
            memory.keys, memory.server_bytes_per_key
        );
    }
}
