//! Turns: work and limit one after the other, the CPU time of all sides over the work alone.

use std::io;
use std::time::{Duration, Instant};

use super::super::limits::thread_cpu;
use super::super::report::{median, median_ratio};
use super::cluster::Hands;
use super::figures::Rate;

/// A server that has done its work parks within this time; then its core is free for a limit.
pub const PARKED_AFTER: Duration = Duration::from_millis(5);

/// What is rated: the words for the table, and how many items a call of the work does on one worker.
pub struct Subject {
    pub request: String,
    pub items: &'static str,
    pub per_call: usize,
    pub limit: &'static str,
}

/// Work that makes so many calls; the answer is the CPU time of other workers' threads.
pub type Work<'a> = dyn FnMut(&mut Hands, usize) -> anyhow::Result<f64> + 'a;

/// What one turn took, in nanoseconds.
pub struct Taken {
    pub wall_ns: f64,
    /// All workers' threads.
    pub cpu_ns: f64,
    pub server_cpu_ns: f64,
}

impl Taken {
    /// Does `work` and says what it took.
    pub fn by(hands: &mut Hands, work: &mut Work<'_>, calls: usize) -> anyhow::Result<Taken> {
        let server = hands.clock.read_ns()?;
        let (cpu, began) = (thread_cpu(), Instant::now());
        let mates_cpu_ns = work(hands, calls)?;
        let wall_ns = began.elapsed().as_nanos() as f64;
        let cpu_ns = (thread_cpu() - cpu).as_nanos() as f64 + mates_cpu_ns;
        let workers = if hands.clock.counts_workers() { cpu_ns } else { 0.0 };
        Ok(Taken { wall_ns, cpu_ns, server_cpu_ns: (hands.clock.read_ns()? - server - workers).max(0.0) })
    }
}

/// Warms `work` up, then rates it in turns of about `turn` with its limit (items per second).
pub fn rate(
    hands: &mut Hands,
    (rounds, turn): (u32, Duration),
    subject: Subject,
    work: &mut Work<'_>,
    limit: &mut dyn FnMut() -> io::Result<f64>,
) -> anyhow::Result<Rate> {
    let calls = calls_of_a_turn(hands, turn, work)?;
    let workers = hands.worker.workers() as usize;
    let mut turns = Turns::default();
    for _ in 0..rounds {
        std::thread::sleep(PARKED_AFTER);
        turns.limits.push(limit()?);
        turns.add(&Taken::by(hands, work, calls)?, calls * subject.per_call * workers);
    }
    Ok(turns.rated(subject))
}

/// How many calls last about a turn. The first calls meet cold memory, so what they took is not believed: calls are doubled
/// until two attempts of at least half a turn, or one call alone, have shown it.
fn calls_of_a_turn(hands: &mut Hands, turn: Duration, work: &mut Work<'_>) -> anyhow::Result<usize> {
    let (mut calls, mut warm) = (1, 0);
    loop {
        let began = Instant::now();
        work(hands, calls)?;
        let taken = began.elapsed();
        warm += 1;
        let wanted = turn.as_secs_f64() * calls as f64 / taken.as_secs_f64();
        if taken * 2 >= turn && warm > 2 {
            return Ok((wanted as usize).max(1));
        }
        calls = (wanted as usize).clamp(1, calls * 16);
    }
}

/// What repeated turns have shown.
#[derive(Default)]
pub struct Turns {
    rates: Vec<f64>,
    cpus: Vec<f64>,
    server_cpus: Vec<f64>,
    pub limits: Vec<f64>,
}

impl Turns {
    /// A turn that handled so many items.
    pub fn add(&mut self, taken: &Taken, items: usize) {
        let items = items as f64;
        self.rates.push(items * 1e9 / taken.wall_ns);
        self.cpus.push(taken.cpu_ns / items);
        self.server_cpus.push(taken.server_cpu_ns / items);
    }

    /// The medians.
    pub fn rated(&self, subject: Subject) -> Rate {
        let per_second = median(&self.rates);
        Rate {
            request: subject.request,
            items: subject.items,
            per_second,
            wall_ns: 1e9 / per_second,
            cpu_ns: median(&self.cpus),
            server_cpu_ns: median(&self.server_cpus),
            limit: subject.limit,
            limit_per_second: median(&self.limits),
            of_limit: median_ratio(&self.rates, &self.limits),
        }
    }
}
