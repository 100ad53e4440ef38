//! Workers and servers in virtual time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use keyrange::clock::{ClockedConfig, ClockedCore};
use keyrange::key_range::{Key, KeyRange, RangeMap};
use keyrange::session::PeerId;
use keyrange::shard::{ShardConfig, ShardCore};
use keyrange::sim::FrameBytes;
use keyrange::table::{Aggregation, AnyTable, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{TableHandle, WorkerConfig, WorkerCore};
use keyrange_apps::matrix_factorization::ratings::{Rating, Ratings};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::Plan;
use crate::end::End;
use crate::network::{Event, Network, Port};

const RANK: usize = 20;
const WIDTH: usize = RANK + 1;
const TABLE: u16 = 1;
const SHARDS: usize = 2;
const RATE: f32 = 0.005;
const REGULARISATION: f32 = 0.08;
/// Ratings between two looks at what has come.
const CHUNK: usize = 16;

enum Stage {
    Fetching,
    /// Rating of the clock that is next.
    Working(usize),
    Settling,
    Done,
}

struct Node {
    core: WorkerCore,
    table: ClockedCore<f32>,
    train: Vec<Rating>,
    random: Xoshiro256PlusPlus,
    /// Epochs begun.
    epochs: usize,
    rating_ns: u64,
    stage: Stage,
    busy_until: u64,
    inbox: Vec<(PeerId, FrameBytes)>,
}

pub struct World<'a> {
    plan: &'a Plan,
    ratings: &'a Ratings,
    keys: Vec<Key>,
    network: Network,
    nodes: Vec<Node>,
    shards: Vec<ShardCore>,
    users: Vec<Vec<f32>>,
    first_items: Vec<Vec<f32>>,
    /// All increments made so far, by item.
    made: Vec<Vec<f32>>,
    epochs_done: usize,
    /// Distances of rows when read, and what they are to be divided by: sizes, or rows.
    far: (f64, f64),
    far_by_row: (f64, f64),
    end: End,
}

impl<'a> World<'a> {
    pub fn new(plan: &'a Plan, ratings: &'a Ratings, clocked: ClockedConfig) -> Result<World<'a>, String> {
        let map = Arc::new(RangeMap::even(1, KeyRange::ALL, SHARDS).map_err(|error| error.to_string())?);
        let spec = TableSpec {
            id: TABLE,
            name: "items".to_owned(),
            value_type: ValueType::F32,
            width: WIDTH as u32,
            store: StoreKind::Sparse,
            function: FunctionSpec::named("add"),
            aggregation: Aggregation::Clocked,
        };
        let registry = Arc::new(Registry::with_builtins());
        let mut shards = Vec::new();
        for shard in 0..SHARDS {
            let mut core = ShardCore::new(
                ShardConfig::new(shard as u32, map.range_of(shard), plan.workers as u32),
                Arc::clone(&registry),
            );
            core.create_table(spec.clone()).map_err(|error| error.to_string())?;
            (0..plan.workers)
                .try_for_each(|rank| core.connect(rank as u32, 0))
                .map_err(|error| error.to_string())?;
            shards.push(core);
        }
        let owners = ratings.owners(plan.workers);
        let mut nodes = Vec::new();
        for rank in 0..plan.workers {
            let mut core = WorkerCore::new(WorkerConfig::new(rank as u32), Arc::clone(&map));
            let table = ClockedCore::new(TableHandle::from(&spec), clocked, plan.workers as u32, &mut core)
                .map_err(|error| error.to_string())?;
            let train = ratings
                .train
                .iter()
                .copied()
                .filter(|rating| owners[rating.user as usize] as usize == rank)
                .collect();
            let random = Xoshiro256PlusPlus::seed_from_u64(plan.seed ^ (rank as u64) << 32);
            let share =
                if plan.workers > 1 { rank as u64 * plan.uneven / (plan.workers as u64 - 1) } else { 0 };
            let rating_ns = plan.rating_ns * (100 + share) / 100;
            nodes.push(Node {
                core,
                table,
                train,
                random,
                epochs: 0,
                rating_ns,
                stage: Stage::Fetching,
                busy_until: 0,
                inbox: Vec::new(),
            });
        }
        let all = plan.workers + SHARDS;
        let mut network = Network::new(all, plan.latency_us * 1000, plan.bytes_per_s);
        (0..plan.workers).for_each(|node| network.put(0, Event { node, from: PeerId(0), frame: None }));
        let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
        let mut initial = |count: usize| -> Vec<Vec<f32>> {
            let mut row = || {
                (0..WIDTH)
                    .map(|place| if place < RANK { random.random_range(-0.17..0.17) } else { 0.0 })
                    .collect()
            };
            (0..count).map(|_| row()).collect()
        };
        Ok(World {
            plan,
            ratings,
            keys: ratings.items.iter().map(|&id| id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect(),
            network,
            nodes,
            shards,
            users: initial(ratings.users.len()),
            first_items: initial(ratings.items.len()),
            made: vec![vec![0.0; WIDTH]; ratings.items.len()],
            epochs_done: 0,
            far: (0.0, 0.0),
            far_by_row: (0.0, 0.0),
            end: End::default(),
        })
    }

    pub fn play(mut self) -> Result<End, String> {
        while let Some(Event { node, from, frame }) = self.network.next() {
            let workers = self.plan.workers;
            if node >= workers {
                let shard = &mut self.shards[node - workers];
                let out = &mut Port(&mut self.network, node, workers);
                if let Some(frame) = frame {
                    shard.handle(from, frame.bytes(), out).map_err(|error| error.to_string())?;
                }
                shard.poll(Duration::from_nanos(out.0.now_ns), out);
                shard.flush(out);
                if let Some(at) = shard.next_wake() {
                    self.network.put(at.as_nanos() as u64, Event { node, from: PeerId(0), frame: None });
                }
                continue;
            }
            self.nodes[node].inbox.extend(frame.map(|frame| (from, frame)));
            if self.network.now_ns >= self.nodes[node].busy_until {
                self.turn(node)?;
            }
        }
        if !self.nodes.iter().all(|node| matches!(node.stage, Stage::Done)) {
            return Err("the run does not come to its end".to_owned());
        }
        for node in &self.nodes {
            let stats = node.table.stats();
            let behind = &mut self.end.behind;
            behind.resize(behind.len().max(stats.reads_behind.len()), 0);
            behind.iter_mut().zip(&stats.reads_behind).for_each(|(sum, count)| *sum += count);
            self.end.rows_pulled += stats.rows_pulled;
            self.end.rows_pushed += stats.rows_pushed;
            self.end.early_bytes += stats.early.bytes_sent + stats.early.bytes_received;
        }
        self.end.bytes = self.network.bytes;
        let share = |(sum, of): (f64, f64)| sum / of.max(f64::MIN_POSITIVE);
        (self.end.distance, self.end.distance_by_row) = (share(self.far), share(self.far_by_row));
        Ok(self.end)
    }

    /// A worker goes on as far as what has come allows.
    fn turn(&mut self, rank: usize) -> Result<(), String> {
        let (workers, now_ns) = (self.plan.workers, self.network.now_ns);
        let (node, now) = (&mut self.nodes[rank], Duration::from_nanos(now_ns));
        let out = &mut Port(&mut self.network, rank, workers);
        for (from, frame) in std::mem::take(&mut node.inbox) {
            node.core.handle(from, frame.bytes(), out).map_err(|error| error.to_string())?;
        }
        node.core.poll(now, out);
        let text = |error: keyrange::clock::ClockError| error.to_string();
        let clock = node.table.clock() as usize;
        let epoch_len = node.train.len();
        let cut = |clock: usize| epoch_len * (clock % self.plan.clocks) / self.plan.clocks;
        let end = if (clock + 1).is_multiple_of(self.plan.clocks) { epoch_len } else { cut(clock + 1) };
        match node.stage {
            Stage::Done => return node.table.poll(&mut node.core, now, out).map_err(text),
            Stage::Fetching => {
                if clock / self.plan.clocks == node.epochs {
                    node.train.shuffle(&mut node.random);
                    node.epochs += 1;
                }
                let mut wanted: Vec<Key> = node.train[cut(clock)..end]
                    .iter()
                    .map(|rating| self.keys[rating.item as usize])
                    .collect();
                wanted.sort_unstable();
                wanted.dedup();
                if !node.table.fetch(&wanted, &mut node.core, now, out).map_err(text)? {
                    return self.sleep(rank);
                }
                node.stage = Stage::Working(cut(clock));
                let stalls = self.plan.stall_ms > 0 && node.random.random_bool(0.1);
                let stall_ns =
                    if stalls { node.random.random_range(0..2_000_000 * self.plan.stall_ms) } else { 0 };
                return self.busy(rank, stall_ns);
            }
            Stage::Working(at) if at < end => {
                node.table.poll(&mut node.core, now, out).map_err(text)?;
                let until = end.min(at + CHUNK);
                node.stage = Stage::Working(until);
                let busy_ns = node.rating_ns * (until - at) as u64;
                (at..until).try_for_each(|at| self.step(rank, at))?;
                return self.busy(rank, busy_ns);
            }
            Stage::Working(_) => {
                node.table.close(&mut node.core, out).map_err(text)?;
                node.stage = Stage::Settling;
            }
            Stage::Settling => {}
        }
        if !node.table.settled(&mut node.core, now, out).map_err(text)? {
            return self.sleep(rank);
        }
        let is_done = node.table.clock() as usize == self.plan.epochs * self.plan.clocks;
        node.stage = if is_done { Stage::Done } else { Stage::Fetching };
        self.measure()?;
        self.busy(rank, 0)
    }

    fn busy(&mut self, rank: usize, ns: u64) -> Result<(), String> {
        let until = self.network.now_ns + ns;
        self.nodes[rank].busy_until = until;
        self.network.put(until, Event { node: rank, from: PeerId(0), frame: None });
        Ok(())
    }

    /// Until something comes, or the core wants to be asked.
    fn sleep(&mut self, rank: usize) -> Result<(), String> {
        if let Some(at) = self.nodes[rank].core.next_wake() {
            let at = (at.as_nanos() as u64).max(self.network.now_ns + 1);
            self.network.put(at, Event { node: rank, from: PeerId(0), frame: None });
        }
        Ok(())
    }

    /// One rating.
    fn step(&mut self, rank: usize, at: usize) -> Result<(), String> {
        let node = &mut self.nodes[rank];
        let rating = node.train[at];
        let (item, key) = (rating.item as usize, self.keys[rating.item as usize]);
        let row = node.table.get(key, &node.core).map_err(|error| error.to_string())?;
        let sum = |of: &dyn Fn(f32, f32) -> f32| -> f64 {
            row.iter().zip(&self.made[item]).map(|(&value, &made)| f64::from(of(value, made))).sum()
        };
        let (apart, size) = (sum(&|value, made| (value - made).abs()), sum(&|_, made| made.abs()));
        self.far.0 += apart;
        self.far.1 += size;
        if size > 0.0 {
            self.far_by_row.0 += (apart / size).min(1.0);
            self.far_by_row.1 += 1.0;
        }
        let q: Vec<f32> =
            self.first_items[item].iter().zip(row).map(|(first, change)| first + change).collect();
        let user = &mut self.users[rating.user as usize];
        let error = rating.value - self.ratings.mean - predict(user, &q);
        let mut delta = [0.0; WIDTH];
        for place in 0..RANK {
            delta[place] = RATE * (error * user[place] - REGULARISATION * q[place]);
            user[place] += RATE * (error * q[place] - REGULARISATION * user[place]);
        }
        delta[RANK] = RATE * (error - REGULARISATION * q[RANK]);
        user[RANK] += RATE * (error - REGULARISATION * user[RANK]);
        self.made[item].iter_mut().zip(delta).for_each(|(made, delta)| *made += delta);
        node.table.inc(key, &delta).map_err(|error| error.to_string())
    }

    /// When the slowest has done another epoch, the error with the servers' items as they are now.
    fn measure(&mut self) -> Result<(), String> {
        let slowest = self.nodes.iter().map(|node| node.table.clock()).min().unwrap_or(0) as usize;
        if slowest / self.plan.clocks <= self.epochs_done {
            return Ok(());
        }
        self.epochs_done = slowest / self.plan.clocks;
        let mut items = self.first_items.clone();
        for shard in &mut self.shards {
            let Some(AnyTable::F32(table)) = shard.table_mut(TABLE) else {
                return Err("no table".to_owned());
            };
            let (keys, at) = table.existing(0, Key::MAX);
            let mut values = vec![0.0; keys.len() * WIDTH];
            table.pull(&at, &mut values).map_err(|error| error.to_string())?;
            let by_key: HashMap<Key, &[f32]> = keys.iter().copied().zip(values.chunks_exact(WIDTH)).collect();
            for (item, key) in items.iter_mut().zip(&self.keys) {
                by_key
                    .get(key)
                    .into_iter()
                    .for_each(|row| item.iter_mut().zip(*row).for_each(|(value, change)| *value += change));
            }
        }
        let (low, high) = self.ratings.scale;
        let square = |rating: &Rating| {
            let predicted =
                self.ratings.mean + predict(&self.users[rating.user as usize], &items[rating.item as usize]);
            f64::from(predicted.clamp(low, high) - rating.value).powi(2)
        };
        let squares: f64 = self.ratings.test.iter().map(square).sum();
        self.end.seconds = self.network.now_ns as f64 / 1e9;
        self.end.curve.push((self.end.seconds, (squares / self.ratings.test.len() as f64).sqrt()));
        Ok(())
    }
}

fn predict(user: &[f32], item: &[f32]) -> f32 {
    let product: f32 = user[..RANK].iter().zip(&item[..RANK]).map(|(p, q)| p * q).sum();
    user[RANK] + item[RANK] + product
}
