//! Matrix factorisation on clocked tables over a slow network, in virtual time: the cores themselves, each frame late by
//! the latency and by its bytes, each rating taking its time. Figures are those of a cluster, and the same every time.
//!
//! `slow_network early` sets sending early against not doing so, `slow_network staleness` eager rows against rows on demand.

mod end;
mod network;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use keyrange::clock::{ClockedConfig, EarlyConfig, EarlyOrder, Staleness};
use keyrange_apps::matrix_factorization::ratings::Ratings;

use crate::end::End;
use crate::world::World;

const USAGE: &str = "usage: slow_network early|staleness [--data FILE] [--epochs N] [--clocks N] [--workers N] [--latency-us N]
                    [--bytes-per-s N] [--rating-ns N] [--stall-ms N] [--uneven PERCENT] [--seed N]
                    [--staleness S] [--early-bytes-per-s N]
  --data FILE     ratings (default ../shared/data/mf/ml-latest-small.ratings.csv.zst)
  --epochs N      passes (default 10)
  --clocks N      clocks per pass (default 100)
  --workers N     workers, beside 2 servers (default 4)
  --latency-us N  of each frame (default 500)
  --bytes-per-s N what a node sends and receives (default 12500000)
  --rating-ns N   time of a rating (default 20000)
  --stall-ms N    each worker stands still for up to twice this long in one of 10 clocks (default 0)
  --uneven P      the last worker's ratings take P percent longer, the others' in proportion (default 0)
  --staleness S   of `early` (default 0)
  --early-bytes-per-s N  budget of `early`, in parts of 2 KiB (default 200000)";

/// What all runs have in common.
pub struct Plan {
    data: PathBuf,
    epochs: usize,
    clocks: usize,
    workers: usize,
    latency_us: u64,
    bytes_per_s: u64,
    rating_ns: u64,
    stall_ms: u64,
    uneven: u64,
    seed: u64,
    staleness: u64,
    early_bytes_per_s: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut words = std::env::args().skip(1);
    let what = words.next().ok_or("expected early or staleness")?;
    let mut plan = Plan {
        data: "../shared/data/mf/ml-latest-small.ratings.csv.zst".into(),
        epochs: 10,
        clocks: 100,
        workers: 4,
        latency_us: 500,
        bytes_per_s: 12_500_000,
        rating_ns: 20_000,
        stall_ms: 0,
        uneven: 0,
        seed: 1,
        staleness: 0,
        early_bytes_per_s: 200_000,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word}: expected a value after it"))?;
        let number = || value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"));
        match word.as_str() {
            "--data" => plan.data = value.into(),
            "--epochs" => plan.epochs = number()? as usize,
            "--clocks" => plan.clocks = number()?.max(1) as usize,
            "--workers" => plan.workers = number()?.max(1) as usize,
            "--latency-us" => plan.latency_us = number()?,
            "--bytes-per-s" => plan.bytes_per_s = number()?.max(1),
            "--rating-ns" => plan.rating_ns = number()?,
            "--stall-ms" => plan.stall_ms = number()?,
            "--uneven" => plan.uneven = number()?,
            "--seed" => plan.seed = number()?,
            "--staleness" => plan.staleness = number()?,
            "--early-bytes-per-s" => plan.early_bytes_per_s = number()?.max(1),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    if !plan.data.exists() {
        println!("skipped: no {}; --data names another file", plan.data.display());
        return Ok(());
    }
    let ratings = Ratings::read(&plan.data).map_err(|error| error.to_string())?;
    match what.as_str() {
        "early" => early(&plan, &ratings),
        "staleness" => staleness(&plan, &ratings),
        other => Err(format!("expected early or staleness, got {other}")),
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
            ..ClockedConfig::new(Staleness::bounded(staleness as i64).map_err(|error| error.to_string())?)
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
