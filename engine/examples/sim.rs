//! Plays seeded schedules: `sim --seed N` replays one, `sim --from A --count N` plays many, on all processors.

use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use keyrange::sim::{SimConfig, SimReport, Violation, run, run_clocked};

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
    let (first, count) = arguments.seed.map_or((arguments.from, arguments.count.max(1)), |seed| (seed, 1));
    let began = Instant::now();
    match play_all(&arguments, first, count) {
        Ok((played, total)) => {
            let seconds = began.elapsed().as_secs_f64();
            println!("{played} schedules without violation in {seconds:.1} s: {total:?}");
            ExitCode::SUCCESS
        }
        Err((played, violation)) => {
            eprintln!("VIOLATION after {played} schedules without one\n{violation}");
            ExitCode::FAILURE
        }
    }
}

/// Plays `count` schedules on all processors; after the last seed comes 0. Says how many and what they came to, or how many
/// went well and what did not.
fn play_all(arguments: &Arguments, first: u64, count: u64) -> Result<(u64, SimReport), (u64, Violation)> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let (next, played) = (AtomicU64::new(0), AtomicU64::new(0));
    let play_some = || {
        let mut total = SimReport::default();
        loop {
            let index = next.fetch_add(1, Relaxed);
            if index >= count {
                return Ok(total);
            }
            match play(arguments, first.wrapping_add(index)) {
                Ok(report) => add(&mut total, &report),
                Err(violation) => {
                    next.store(count, Relaxed); // the others stop soon
                    return Err(violation);
                }
            }
            played.fetch_add(1, Relaxed);
        }
    };
    std::thread::scope(|scope| {
        let players: Vec<_> = (0..threads).map(|_| scope.spawn(play_some)).collect();
        let mut total = SimReport::default();
        for player in players {
            let result = player.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            add(&mut total, &result.map_err(|violation| (played.load(Relaxed), violation))?);
        }
        Ok((played.load(Relaxed), total))
    })
}

fn play(arguments: &Arguments, seed: u64) -> Result<SimReport, Violation> {
    let config = SimConfig {
        planted_bug: arguments.planted_bug && !arguments.clocked,
        planted_bug_bound: arguments.planted_bound,
        planted_bug_staleness: arguments.planted_bug && arguments.clocked,
        ..SimConfig::seeded(seed)
    };
    if arguments.seed.is_some() {
        println!("{config:#?}");
    }
    if arguments.clocked { run_clocked(&config) } else { run(&config) }
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
