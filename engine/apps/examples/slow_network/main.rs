//! Matrix factorisation on clocked tables over a slow network, in virtual time: the cores themselves, each frame late by
//! the latency and by its bytes, each rating taking its time. Figures are those of a cluster, and the same every time.
//!
//! `slow_network early` sets sending early against not doing so, `slow_network staleness` eager rows against rows on demand.

mod end;
mod network;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, ValueEnum, value_parser};
use keyrange::clock::{ClockedConfig, EarlyConfig, EarlyOrder, Staleness};
use keyrange_apps::matrix_factorization::ratings::Ratings;

use crate::end::End;
use crate::world::World;

/// What all runs have in common.
#[derive(Parser)]
#[command(
    about = "Matrix factorization on clocked tables over a slow network, in virtual time",
    args_override_self = true
)]
pub struct Plan {
    /// What to compare
    what: What,
    /// Ratings
    #[arg(long, value_name = "FILE", default_value = "../shared/data/mf/ml-latest-small.ratings.csv.zst")]
    data: PathBuf,
    /// Passes
    #[arg(long, value_name = "N", default_value_t = 10)]
    epochs: usize,
    /// Clocks per pass
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    clocks: usize,
    /// Workers, beside 2 servers
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    workers: usize,
    /// Latency of each frame, in microseconds
    #[arg(long, value_name = "X", default_value_t = 500)]
    latency_us: u64,
    /// What a node sends and receives, in bytes per second
    #[arg(long, value_name = "N", default_value_t = 12_500_000, value_parser = value_parser!(u64).range(1..))]
    bytes_per_s: u64,
    /// Time of a rating, in nanoseconds
    #[arg(long, value_name = "X", default_value_t = 20_000)]
    rating_ns: u64,
    /// Each worker stands still for up to twice this long in one of 10 clocks
    #[arg(long, value_name = "X", default_value_t = 0)]
    stall_ms: u64,
    /// The last worker's ratings take so many percent longer, the others' in proportion
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = value_parser!(u64).range(..=100_000))]
    uneven: u64,
    /// Seed of the order of ratings and of stalls
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Bound on the staleness, of `early`
    #[arg(long, value_name = "CLOCKS", default_value_t = 0)]
    staleness: u32,
    /// Budget of `early`, in parts of 2 KiB
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = value_parser!(u64).range(1..))]
    early_bytes_per_s: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Increments sent early, in each order, and not
    Early,
    /// Eager rows and rows on demand, at each staleness
    Staleness,
}

fn main() -> ExitCode {
    match run(&Plan::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(plan: &Plan) -> Result<(), String> {
    if !plan.data.exists() {
        println!("skipped: no {}; --data names another file", plan.data.display());
        return Ok(());
    }
    let ratings = Ratings::read(&plan.data).map_err(|error| error.to_string())?;
    match plan.what {
        What::Early => early(plan, &ratings),
        What::Staleness => staleness(plan, &ratings),
    }
}

fn early(plan: &Plan, ratings: &Ratings) -> Result<(), String> {
    println!(
        "{:>5} {:>6} {:>9} {:>9} {:>10} {:>8} {:>9} {:>8} {:>8} {:>9} {:>9}",
        "s", "eager", "budget", "order", "distance", "by row", "RMSE(1)", "RMSE", "s", "MB sent", "MB early"
    );
    let staleness = plan.staleness;
    for eager in [false, true] {
        let clocked = ClockedConfig {
            eager,
            ..ClockedConfig::new(Staleness::bounded(i64::from(staleness)).map_err(|error| error.to_string())?)
        };
        let mut cases = vec![None];
        let bytes_per_s = plan.early_bytes_per_s;
        let all = [EarlyOrder::Magnitude, EarlyOrder::Fifo, EarlyOrder::Random];
        cases.extend(all.map(|order| Some(EarlyConfig { bytes_per_s, burst_bytes: 2 << 10, order })));
        for early in cases {
            let end = World::new(plan, ratings, ClockedConfig { early, ..clocked })?.play()?;
            let (budget, order) = early.map_or(("-".into(), "off".into()), |early| {
                (early.bytes_per_s.to_string(), early.order.to_string())
            });
            println!(
                "{staleness:>5} {eager:>6} {budget:>9} {order:>9} {:>10.5} {:>8.5} {:>9.5} {:>8.5} {:>8.3} {:>9.2} {:>9.2}",
                end.distance,
                end.distance_by_row,
                end.curve[0].1,
                end.curve.last().ok_or("no epochs")?.1,
                end.seconds,
                end.bytes as f64 / 1e6,
                end.early_bytes as f64 / 1e6,
            );
        }
    }
    Ok(())
}

fn staleness(plan: &Plan, ratings: &Ratings) -> Result<(), String> {
    println!(
        "{:>3} {:>5} {:>7} {:>9} {:>9} {:>8} {:>9} {:>9} {:>8}",
        "s", "mode", "mean", "variance", "to RMSE", "RMSE", "pulled", "pushed", "MB"
    );
    for bound in [0, 1, 2, 4, 8] {
        let ends = [false, true].map(|eager| {
            let staleness = Staleness::bounded(bound).map_err(|error| error.to_string())?;
            World::new(plan, ratings, ClockedConfig { eager, ..ClockedConfig::new(staleness) })?.play()
        });
        let [ssp, essp] = ends;
        let (ssp, essp) = (ssp?, essp?);
        // The worse of the two ends: both get there.
        let last = |end: &End| end.curve.last().map_or(f64::MAX, |point| point.1);
        let goal = last(&ssp).max(last(&essp));
        for (mode, end) in [("SSP", &ssp), ("ESSP", &essp)] {
            let (mean, variance) = end.moments();
            println!(
                "{bound:>3} {mode:>5} {mean:>7.3} {variance:>9.3} {:>9.3} {:>8.5} {:>9} {:>9} {:>8.2}",
                end.seconds_to(goal),
                last(end),
                end.rows_pulled,
                end.rows_pushed,
                end.bytes as f64 / 1e6,
            );
        }
    }
    Ok(())
}
