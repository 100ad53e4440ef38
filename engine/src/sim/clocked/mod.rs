//! Clocked tables under the same network: every read recorded, every schedule checked by
//! [`history::check`](crate::history::check()).
//!
//! Workers add to rows, close clocks and read as their staleness allows; frames are lost, repeated, reordered and late, links
//! break, workers pause, and crash to be replaced by one that does everything over again. What a worker adds at a clock
//! depends on its rank and the clock alone, as in a program that is started again.

mod actor;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use self::actor::Actor;
use super::network::Network;
use super::{SimConfig, SimReport, Violation};
use crate::clock::{EarlyConfig, EarlyOrder};
use crate::history::{Event, History, Recorded, check};
use crate::key_range::{Key, KeyRange, RangeMap};
use crate::session::PeerId;
use crate::shard::{ShardConfig, ShardCore};
use crate::table::{Aggregation, AnyTable, FunctionSpec, StoreKind, TableSpec, ValueType};
use crate::update::Registry;

/// Ticks after which a run that has not ended never will.
const TICKS_MAX: u64 = 120_000;
/// Ticks after which no more links break and no more workers crash or pause.
const UNREST_TICKS: u64 = 2_000;
const TABLE: u16 = 1;

/// In every third schedule rows and increments leave early, in small parts.
fn early_of(seed: u64) -> Option<EarlyConfig> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed ^ 0xea21);
    let orders = [EarlyOrder::Magnitude, EarlyOrder::Fifo, EarlyOrder::Random];
    (seed % 3 == 2).then(|| EarlyConfig {
        bytes_per_s: random.random_range(2_000..1_000_000),
        burst_bytes: random.random_range(300..3000),
        order: orders[random.random_range(0..orders.len())],
    })
}

/// What all workers know.
struct Stage {
    map: Arc<RangeMap>,
    rows: Vec<Key>,
    table: TableSpec,
    early: Option<EarlyConfig>,
}

/// Plays one schedule of a clocked table.
///
/// # Errors
/// The first [`Violation`].
pub fn run_clocked(config: &SimConfig) -> Result<SimReport, Violation> {
    let violation = |tick, text| {
        let options = if config.planted_bug_staleness { " --clocked --planted-bug" } else { " --clocked" };
        Violation { seed: config.seed, options, tick, text }
    };
    let mut world = World::new(config).map_err(|text| violation(0, text))?;
    let result = world.play();
    result.map_err(|text| violation(world.network.now, text))
}

struct World<'a> {
    config: &'a SimConfig,
    network: Network,
    stage: Stage,
    actors: Vec<Actor>,
    /// Of workers that were replaced.
    old: Vec<Recorded>,
    shards: Vec<ShardCore>,
    report: SimReport,
}

impl<'a> World<'a> {
    fn new(config: &'a SimConfig) -> Result<World<'a>, String> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed ^ 0xc10c);
        let map = RangeMap::even(1, KeyRange::ALL, config.shards).map_err(|error| error.to_string())?;
        let mut rows: Vec<Key> = (0..config.rows).map(|_| random.random()).chain([0, Key::MAX]).collect();
        rows.sort_unstable();
        rows.dedup();
        let table = TableSpec {
            id: TABLE,
            name: "clocked".to_owned(),
            value_type: ValueType::F64,
            width: 1 + config.workers as u32,
            store: StoreKind::Sparse,
            function: FunctionSpec::named("add"),
            aggregation: Aggregation::Clocked,
        };
        let stage = Stage { map: Arc::new(map), rows, table, early: early_of(config.seed) };
        let registry = Arc::new(Registry::with_builtins());
        let mut shards = Vec::new();
        for shard in 0..config.shards {
            let settings = ShardConfig {
                window_requests: config.window_requests,
                frame_bytes_max: config.frame_bytes_max,
                key_cache_bytes: config.key_cache_bytes,
                planted_bug_apply_twice: config.planted_bug,
                ..ShardConfig::new(shard as u32, stage.map.range_of(shard), config.workers as u32)
            };
            let mut core = ShardCore::new(settings, Arc::clone(&registry));
            core.create_table(stage.table.clone()).map_err(|error| error.to_string())?;
            shards.push(core);
        }
        let network = Network::new(config, random);
        let actors = (0..config.workers).map(|rank| Actor::new(rank, 0, config, &stage));
        let actors = actors.collect::<Result<_, String>>()?;
        let (old, report) = (Vec::new(), SimReport::default());
        let mut world = World { config, network, stage, actors, old, shards, report };
        (0..config.workers).try_for_each(|rank| world.connect(rank))?;
        Ok(world)
    }

    fn connect(&mut self, rank: usize) -> Result<(), String> {
        let epoch = self.actors[rank].core.config().epoch;
        let connect = |shard: &mut ShardCore| shard.connect(rank as u32, epoch);
        self.shards.iter_mut().try_for_each(connect).map_err(|error| error.to_string())
    }

    fn play(&mut self) -> Result<SimReport, String> {
        while !self.actors.iter().all(|actor| actor.is_done(self.config)) {
            if self.network.now > TICKS_MAX {
                return Err("the run does not come to its end".to_owned());
            }
            self.network.now += 1;
            self.disturb()?;
            self.deliver()?;
            for actor in &mut self.actors {
                actor.turn(self.config, &self.stage, &mut self.network)?;
            }
            let now = Duration::from_millis(self.network.now);
            for (index, shard) in self.shards.iter_mut().enumerate() {
                shard.poll(now, &mut self.network.of_shard(index));
                shard.flush(&mut self.network.of_shard(index));
            }
        }
        self.audit()?;
        self.report.ticks = self.network.now;
        self.report.frames = self.network.frames;
        for shard in &self.shards {
            self.report.repeated += shard.stats().repeated;
            self.report.key_misses += shard.stats().key_misses;
        }
        Ok(self.report)
    }

    fn deliver(&mut self) -> Result<(), String> {
        while let Some(packet) = self.network.arrived() {
            let (worker, shard) = (packet.worker, packet.shard);
            let bytes = packet.frame.bytes();
            let result = if packet.to_shard {
                self.shards[shard].handle(PeerId(worker as u32), bytes, &mut self.network.of_shard(shard))
            } else {
                let out = &mut self.network.of_worker(worker);
                self.actors[worker].core.handle(PeerId(shard as u32), bytes, out)
            };
            result.map_err(|fault| format!("worker {worker}, shard {shard}: {fault}"))?;
        }
        Ok(())
    }

    /// Breaks links, and pauses and replaces workers, for a while.
    fn disturb(&mut self) -> Result<(), String> {
        if self.network.now > UNREST_TICKS {
            return Ok(());
        }
        let worker = self.network.random.random_range(0..self.config.workers);
        if self.network.chance(self.config.reset) {
            let shard = self.network.random.random_range(0..self.config.shards);
            self.report.resets += 1;
            self.network.reset(worker, shard);
            self.actors[worker].core.resend(PeerId(shard as u32), &mut self.network.of_worker(worker));
        }
        if self.network.chance(self.config.pause) {
            self.actors[worker].paused_until = self.network.now + self.network.random.random_range(1..100);
        }
        if self.network.chance(self.config.crash) && !self.actors[worker].is_done(self.config) {
            self.report.crashes += 1;
            let epoch = self.actors[worker].core.config().epoch + 1;
            let next = Actor::new(worker, epoch, self.config, &self.stage)?;
            let before = std::mem::replace(&mut self.actors[worker], next);
            self.old.push(before.history());
            self.connect(worker)?;
        }
        Ok(())
    }

    /// Checks what the workers recorded, with the rows as they are at the end.
    fn audit(&mut self) -> Result<(), String> {
        let mut histories = std::mem::take(&mut self.old);
        histories.extend(self.actors.iter().map(Actor::history));
        histories.sort_by_key(|history| (history.header.rank, history.header.incarnation));
        for shard in &mut self.shards {
            let finals = final_rows(shard, 1 + self.config.workers)?;
            histories.last_mut().into_iter().for_each(|last| last.events.extend(finals.iter().cloned()));
        }
        let all: Vec<&dyn History> = histories.iter().map(|history| history as &dyn History).collect();
        let summary = check(&all).map_err(|violation| violation.to_string())?;
        self.report.reads += summary.reads;
        Ok(())
    }
}

/// The rows of a shard, with their counts; each increment was of 1, so a value is the sum of its counts.
fn final_rows(shard: &mut ShardCore, width: usize) -> Result<Vec<Event>, String> {
    let Some(AnyTable::F64(table)) = shard.table_mut(TABLE) else { return Ok(Vec::new()) };
    let (keys, at) = table.existing(0, Key::MAX);
    let mut values = vec![0.0; keys.len() * width];
    table.pull(&at, &mut values).map_err(|error| error.to_string())?;
    let mut events = Vec::new();
    for (key, row) in keys.into_iter().zip(values.chunks_exact(width)) {
        let counts: Vec<u32> = row[1..].iter().map(|&count| count as u32).collect();
        if row[0] != f64::from(counts.iter().sum::<u32>()) {
            return Err(format!("row {key} is {}, the sum of its increments {counts:?}", row[0]));
        }
        events.push(Event::Final { key, counts });
    }
    Ok(events)
}
