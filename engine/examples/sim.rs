//! Plays seeded schedules: `sim --seed N` replays one, `sim --from A --count N` plays many.

use std::process::ExitCode;
use std::time::Instant;

use keyrange::sim::{SimConfig, SimReport, run, run_clocked};

const USAGE: &str = "usage: sim [--seed N | --from N --count N] [--clocked] [--planted-bug] [--planted-bound]
  --seed N        play schedule N and print what happened
  --from N        first schedule (default 0)
  --count N       how many (default 1000)
  --clocked       schedules of a clocked table
  --planted-bug   switch duplicate rejection off (clocked: read rows a clock too old); a violation must be found
  --planted-bound significant holds back up to twice its bound; a violation must be found";

struct Arguments {
    seed: Option<u64>,
    from: u64,
    count: u64,
    clocked: bool,
    planted_bug: bool,
    planted_bound: bool,
}

fn parse() -> Result<Arguments, String> {
    let (seed, from, count, clocked) = (None, 0, 1000, false);
    let mut arguments = Arguments { seed, from, count, clocked, planted_bug: false, planted_bound: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let text = words.next().ok_or(format!("{word} needs a number"))?;
            text.parse::<u64>().map_err(|error| format!("{word} {text}: {error}"))
        };
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--from" => arguments.from = number()?,
            "--count" => arguments.count = number()?,
            "--clocked" => arguments.clocked = true,
            "--planted-bug" => arguments.planted_bug = true,
            "--planted-bound" => arguments.planted_bound = true,
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let seeds = match arguments.seed {
        Some(seed) => seed..=seed,
        None => arguments.from..=arguments.from.saturating_add(arguments.count.max(1) - 1),
    };
    let (began, mut total, mut played) = (Instant::now(), SimReport::default(), 0u64);
    for seed in seeds {
        let config = SimConfig {
            planted_bug: arguments.planted_bug && !arguments.clocked,
            planted_bug_bound: arguments.planted_bound,
            planted_bug_staleness: arguments.planted_bug && arguments.clocked,
            ..SimConfig::seeded(seed)
        };
        if arguments.seed.is_some() {
            println!("{config:#?}");
        }
        let result = if arguments.clocked { run_clocked(&config) } else { run(&config) };
        match result {
            Ok(report) => add(&mut total, &report),
            Err(violation) => {
                eprintln!("VIOLATION after {played} schedules without one\n{violation}");
                return ExitCode::FAILURE;
            }
        }
        played += 1;
    }
    println!("{played} schedules without violation in {:.1} s: {total:?}", began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}

fn add(total: &mut SimReport, report: &SimReport) {
    total.ticks += report.ticks;
    total.frames += report.frames;
    total.resets += report.resets;
    total.crashes += report.crashes;
    total.repeated += report.repeated;
    total.key_misses += report.key_misses;
    total.reads += report.reads;
    total.filtered += report.filtered;
    total.held_back += report.held_back;
    total.restarts += report.restarts;
}
