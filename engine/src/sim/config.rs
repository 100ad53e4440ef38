//! What a schedule is drawn from.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::SimChains;

/// One schedule. [`SimConfig::seeded`] draws it; fields may be changed before [`super::run`].
#[derive(Debug, Clone, PartialEq)]
pub struct SimConfig {
    /// Everything random comes from this number.
    pub seed: u64,
    /// Shards, at least 1.
    pub shards: usize,
    /// Workers, 1 to 4.
    pub workers: usize,
    /// Requests each worker makes beside its aggregated updates.
    pub requests: usize,
    /// Aggregated updates.
    pub times: u64,
    /// Delay bound of those.
    pub tau: u64,
    /// Largest frame, small so that lists are cut; filters take more.
    pub frame_bytes_max: usize,
    /// Requests under way per session.
    pub window_requests: usize,
    /// Bytes for key lists on a shard, small so that lists are forgotten.
    pub key_cache_bytes: usize,
    /// Probability that a frame is lost.
    pub drop: f64,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Probability that there is no room for a frame.
    pub full: f64,
    /// Longest delay of a frame, in ticks; different delays reorder frames.
    pub delay_max: u64,
    /// Probability per tick that some link breaks, losing what is on it.
    pub reset: f64,
    /// Probability per tick that some worker crashes and is replaced.
    pub crash: f64,
    /// Filters of the requests.
    pub chains: SimChains,
    /// Give `significant` twice the bound it says, to see that the simulator notices.
    pub planted_bug_bound: bool,
    /// Switch duplicate rejection off, to see that the simulator notices.
    pub planted_bug: bool,
    /// Clocked runs: rows of the table.
    pub rows: usize,
    /// Clocked runs: clocks each worker closes.
    pub clocks: u64,
    /// Clocked runs: how stale a read may be; `None` is any number of clocks.
    pub staleness: Option<u64>,
    /// Clocked runs: changed rows come unasked.
    pub eager: bool,
    /// Clocked runs with eager rows: bound of the increments under way.
    pub value_bound: Option<f64>,
    /// Probability per tick that some worker pauses.
    pub pause: f64,
    /// Clocked runs: workers read rows one clock older than they may, to see that the checker notices.
    pub planted_bug_staleness: bool,
}

impl SimConfig {
    /// Largest frame of this schedule: chains need room beside the rows.
    pub(super) fn frame_bytes_max(&self) -> usize {
        let chains = if self.chains.is_empty() { 0 } else { 1200 + self.seed as usize % 2000 };
        self.frame_bytes_max + chains
    }

    /// The schedule of a seed.
    pub fn seeded(seed: u64) -> SimConfig {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let workers = random.random_range(1..=4usize);
        let some = |random: &mut Xoshiro256PlusPlus, max: f64| match random.random_bool(0.5) {
            true => random.random_range(0.0..max),
            false => 0.0,
        };
        let chains = SimChains::draw(&mut Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xf117_e125));
        SimConfig {
            seed,
            shards: random.random_range(1..=4),
            workers,
            requests: random.random_range(4..=16),
            times: random.random_range(1..=(26 / workers as u64).min(7)),
            tau: random.random_range(0..=3),
            frame_bytes_max: random.random_range(512..2048),
            window_requests: 64,
            key_cache_bytes: if random.random_bool(0.3) { 2000 } else { 1 << 20 },
            drop: some(&mut random, 0.2),
            duplicate: some(&mut random, 0.3),
            full: some(&mut random, 0.3),
            delay_max: random.random_range(1..=20),
            reset: some(&mut random, 0.02),
            crash: some(&mut random, 0.01),
            chains,
            planted_bug_bound: false,
            planted_bug: false,
            rows: random.random_range(2..=30),
            clocks: random.random_range(2..=10),
            staleness: if random.random_bool(0.1) { None } else { Some(random.random_range(0..=3)) },
            eager: random.random_bool(0.6),
            value_bound: random.random_bool(0.2).then(|| random.random_range(0.5..4.0)),
            pause: some(&mut random, 0.01),
            planted_bug_staleness: false,
        }
    }
}
