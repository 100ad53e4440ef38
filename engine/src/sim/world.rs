//! The run: time passes, frames arrive, links break, and at the end the books are compared.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use thiserror::Error;

use super::SimConfig;
use super::actor::{Actor, SUMS, Stage, TALLY, UPDATES};
use super::filters::{LOSSY, LossyKeys, Oracle, Updates, register, table_spec};
use super::ledger::{Ledger, check};
use super::network::Network;
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange, RangeMap};
use crate::session::PeerId;
use crate::shard::{ShardConfig, ShardCore};
use crate::table::{Aggregation, AnyTable, CallError, FunctionSpec, StoreKind, TableSpec, ValueType};
use crate::update::{CallView, Registry, Rows, ServerFn, UpdateError};

/// Ticks after which a run that has not ended never will.
const TICKS_MAX: u64 = 60_000;
/// Frames after which they only beget more of them.
const FRAMES_MAX: u64 = 1_000_000;
/// Ticks after which no more links break and no more workers crash, so that the run can end.
const UNREST_TICKS: u64 = 2_000;

/// Something happened that must not.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "seed {seed}, tick {tick}: {text}\nreplay: cargo run --release -p keyrange --example sim -- --seed {seed}{options}"
)]
pub struct Violation {
    /// The schedule.
    pub seed: u64,
    /// What else `sim` must be told to play it.
    pub options: &'static str,
    /// When it was noticed.
    pub tick: u64,
    /// What.
    pub text: String,
}

/// What a run without violation did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SimReport {
    /// Ticks it took.
    pub ticks: u64,
    /// Frames sent.
    pub frames: u64,
    /// Links broken.
    pub resets: u64,
    /// Workers replaced.
    pub crashes: u64,
    /// Requests that reached a shard more than once.
    pub repeated: u64,
    /// Key lists asked for again.
    pub key_misses: u64,
    /// Clocked runs: reads checked.
    pub reads: u64,
    /// Frames to shards that went through filters.
    pub filtered: u64,
    /// Rows that `significant` held back.
    pub held_back: u64,
    /// Pulls that asked for everything once more, for an answer of theirs did not follow its predecessor.
    pub restarts: u64,
}

/// Plays one schedule.
///
/// # Errors
/// The first [`Violation`].
pub fn run(config: &SimConfig) -> Result<SimReport, Violation> {
    let violation = |tick, text| {
        let options = match (config.planted_bug, config.planted_bug_bound) {
            (false, false) => "",
            (true, _) => " --planted-bug",
            (false, true) => " --planted-bound",
        };
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
    shards: Vec<ShardCore>,
    report: SimReport,
}

impl<'a> World<'a> {
    fn new(config: &'a SimConfig) -> Result<World<'a>, String> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(config.seed ^ 0x5eed);
        let updates = Updates::default();
        let stage = make_stage(config, &updates, &mut random)?;
        let registry = Arc::new(registry(config, &updates));
        let mut shards = Vec::new();
        for shard in 0..config.shards {
            let settings = ShardConfig {
                window_requests: config.window_requests,
                frame_bytes_max: config.frame_bytes_max(),
                key_cache_bytes: config.key_cache_bytes,
                planted_bug_apply_twice: config.planted_bug,
                ..ShardConfig::new(shard as u32, stage.map.range_of(shard), config.workers as u32)
            };
            let mut core = ShardCore::new(settings, Arc::clone(&registry));
            for spec in table_specs(config) {
                core.create_table(spec).map_err(|error| error.to_string())?;
            }
            shards.push(core);
        }
        let network = Network::new(config, random);
        let actors = (0..config.workers).map(|rank| Actor::new(rank, 0, config.requests, config, &stage));
        let actors = actors.collect::<Result<_, String>>()?;
        let mut world = World { config, network, stage, actors, shards, report: SimReport::default() };
        for rank in 0..config.workers {
            world.connect(rank)?;
        }
        Ok(world)
    }

    fn connect(&mut self, rank: usize) -> Result<(), String> {
        let epoch = self.actors[rank].core.config().epoch;
        let connect = |shard: &mut ShardCore| shard.connect(rank as u32, epoch);
        self.shards.iter_mut().try_for_each(connect).map_err(|error| error.to_string())
    }

    fn play(&mut self) -> Result<SimReport, String> {
        while !self.actors.iter().all(|actor| actor.is_done(self.config)) {
            if self.network.now > TICKS_MAX || self.network.frames > FRAMES_MAX {
                return Err("the run does not come to its end".to_owned());
            }
            self.network.now += 1;
            self.disturb()?;
            self.deliver()?;
            for actor in &mut self.actors {
                actor.turn(self.config, &mut self.stage, &mut self.network)?;
            }
            self.flush();
        }
        self.settle()?;
        self.audit()?;
        self.report.ticks = self.network.now;
        self.report.frames = self.network.frames;
        let seen = self.stage.oracle.seen;
        (self.report.filtered, self.report.held_back) = (seen.filtered, seen.held_back);
        self.report.restarts = seen.restarts;
        for shard in &self.shards {
            self.report.repeated += shard.stats().repeated;
            self.report.key_misses += shard.stats().key_misses;
        }
        Ok(self.report)
    }

    fn flush(&mut self) {
        for (index, shard) in self.shards.iter_mut().enumerate() {
            shard.flush(&mut self.network.of_shard(index));
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        while let Some(packet) = self.network.arrived() {
            let (worker, shard) = (packet.worker, packet.shard);
            let bytes = packet.frame.bytes();
            let result = if packet.to_shard {
                let taken = self.stage.oracle.frame(worker, shard, bytes)?;
                let out = &mut self.network.of_shard(shard);
                let result = self.shards[shard].handle(PeerId(worker as u32), bytes, out);
                self.stage.oracle.applied(taken)?;
                result
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
        if self.network.chance(self.config.reset) {
            let worker = self.network.random.random_range(0..self.config.workers);
            let shard = self.network.random.random_range(0..self.config.shards);
            self.report.resets += 1;
            self.network.reset(worker, shard);
            self.connect(worker)?;
            self.actors[worker].core.resend(PeerId(shard as u32), &mut self.network.of_worker(worker));
        }
        if self.network.chance(self.config.pause) {
            let worker = self.network.random.random_range(0..self.config.workers);
            self.actors[worker].paused_until = self.network.now + self.network.random.random_range(1..100);
        }
        if self.network.chance(self.config.crash) {
            let worker = self.network.random.random_range(0..self.config.workers);
            if !self.actors[worker].is_done(self.config) {
                self.report.crashes += 1;
                self.actors[worker] = self.actors[worker].replacement(self.config, &self.stage)?;
                self.connect(worker)?;
            }
        }
        Ok(())
    }

    /// Lets the last frames arrive.
    fn settle(&mut self) -> Result<(), String> {
        self.network.calm();
        for _ in 0..self.config.delay_max + 5 {
            self.network.now += 1;
            self.deliver()?;
            self.flush();
        }
        Ok(())
    }

    /// Compares the tables with the books.
    fn audit(&mut self) -> Result<(), String> {
        let mut struck: Vec<Key> = self.stage.ledger.keys().collect();
        let moment = self.stage.ledger.moment();
        for shard in &mut self.shards {
            for (key, value) in contents(shard, SUMS, 1) {
                let value = value[0];
                self.stage.ledger.check(key, value, moment)?;
                struck.retain(|&other| other != key);
            }
        }
        // A key without a row reads as 0: right only if no stroke at it was acknowledged.
        struck.into_iter().try_for_each(|key| self.stage.ledger.check(key, 0.0, moment))?;
        let (shards, width) = (&mut self.shards, self.config.chains.width);
        let lossy = shards.iter_mut().flat_map(|shard| contents(shard, LOSSY, width));
        self.stage.oracle.audit(&lossy.collect::<Vec<_>>())?;
        self.audit_updates()?;
        self.audit_calls()
    }

    fn audit_updates(&mut self) -> Result<(), String> {
        let workers = self.config.workers;
        for shard in &mut self.shards {
            for (key, value) in contents(shard, UPDATES, 1) {
                let value = value[0];
                let holds = |worker: usize| self.stage.shares[worker].as_slice().binary_search(&key).is_ok();
                let must = |index: usize| holds(index % workers);
                let strokes = self.config.times as usize * workers;
                check(value, strokes, must)
                    .map_err(|text| format!("after all updates, key {key}: {text}"))?;
            }
        }
        Ok(())
    }

    fn audit_calls(&mut self) -> Result<(), String> {
        for (index, answers) in self.stage.calls_answered.iter_mut().enumerate() {
            let tally = self.shards[index].table_mut(TALLY).ok_or("the table is gone")?;
            let count = tally.call("read", &[]).map_err(|error| error.to_string())?;
            let count = u64::from_le_bytes(count.try_into().map_err(|_| "rubbish")?);
            answers.sort_unstable();
            let twice = answers.windows(2).any(|pair| pair[0] == pair[1]);
            if twice || count < answers.len() as u64 || count > self.stage.calls_issued {
                let (answered, issued) = (answers.len(), self.stage.calls_issued);
                return Err(format!("shard {index} ran {count} calls: {issued} issued, {answered} answered"));
            }
        }
        Ok(())
    }
}

/// The rows of a table.
fn contents(shard: &mut ShardCore, table: u16, width: usize) -> Vec<(Key, Vec<f64>)> {
    let Some(AnyTable::F64(table)) = shard.table_mut(table) else { return Vec::new() };
    let (keys, at) = table.existing(0, Key::MAX);
    let mut values = vec![0.0; keys.len() * width];
    match table.pull(&at, &mut values) {
        Ok(()) => keys.into_iter().zip(values.chunks_exact(width).map(<[f64]>::to_vec)).collect(),
        Err(_) => Vec::new(),
    }
}

fn make_stage(
    config: &SimConfig,
    updates: &Updates,
    random: &mut Xoshiro256PlusPlus,
) -> Result<Stage, String> {
    let map = RangeMap::even(1, KeyRange::ALL, config.shards).map_err(|error| error.to_string())?;
    let mut universe: Vec<Key> = (0..100).map(|_| random.random()).chain([0, Key::MAX]).collect();
    universe.sort_unstable();
    universe.dedup();
    let mut subset = |probability: f64| {
        let keys: Vec<Key> = universe.iter().copied().filter(|_| random.random_bool(probability)).collect();
        KeyList::new(if keys.is_empty() { vec![universe[0]] } else { keys })
            .map_err(|error| error.to_string())
    };
    let mut lists = vec![subset(0.05)?];
    for _ in 0..3 {
        lists.push(subset(0.5)?);
    }
    // Shares may leave whole shards out; the range says that their contribution is awaited there all the same.
    let shares = (0..config.workers).map(|rank| subset(if rank == 0 { 0.02 } else { 0.6 }));
    let shares = shares.collect::<Result<Vec<KeyList>, String>>()?;
    Ok(Stage {
        oracle: Oracle::new(config.chains.clone(), config.frame_bytes_max(), updates.clone()),
        lossy_keys: LossyKeys::draw(&map, random)?,
        map: Arc::new(map),
        lists,
        shares,
        range: KeyRange::ALL,
        ledger: Ledger::default(),
        calls_issued: 0,
        calls_answered: vec![Vec::new(); config.shards],
    })
}

fn table_specs(config: &SimConfig) -> Vec<TableSpec> {
    let spec = |id: u16, function: &str, aggregation| TableSpec {
        id,
        name: format!("{function} {id}"),
        value_type: ValueType::F64,
        width: 1,
        store: StoreKind::Sparse,
        function: FunctionSpec::named(function),
        aggregation,
    };
    let mut specs = vec![
        spec(SUMS, "add", Aggregation::Immediate),
        spec(UPDATES, "add", Aggregation::AllWorkers),
        spec(TALLY, "tally", Aggregation::Immediate),
    ];
    if !config.chains.is_empty() {
        specs.push(table_spec(&config.chains));
    }
    specs
}

fn registry(config: &SimConfig, updates: &Updates) -> Registry {
    let mut registry = Registry::with_builtins();
    registry.register_f64("tally", |_| Ok(Box::new(Tally(0))));
    register(&mut registry, &config.chains, updates);
    registry
}

/// Counts its calls.
struct Tally(u64);

impl ServerFn<f64> for Tally {
    fn name(&self) -> &str {
        "tally"
    }

    fn update(&mut self, _: &mut Rows<'_, f64>, _: &[&[f64]]) -> Result<(), UpdateError> {
        Ok(())
    }

    fn call(&mut self, verb: &str, _: &[u8], _: &mut CallView<'_, f64>) -> Result<Vec<u8>, CallError> {
        self.0 += u64::from(verb == "count");
        Ok(self.0.to_le_bytes().to_vec())
    }
}
