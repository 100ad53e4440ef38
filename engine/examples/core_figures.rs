//! Nanoseconds of one worker core and one shard core, joined by plain memory on one thread: what the protocol and the table
//! cost without any carrier. Prints a table; takes about ten seconds.
//!
//! `core_figures CASE...` runs some cases only: rows, short, filtered, lists, fresh, dense, or one of
//! the chains that `filtered` goes through. What a change costs a short request is seen
//! best in instructions, which repeat: `valgrind --tool=callgrind target/release/examples/core_figures short`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use keyrange::filter::{ChainSpec, Filters};
use keyrange::key_list::KeyList;
use keyrange::key_range::{KeyRange, RangeMap};
use keyrange::session::PeerId;
use keyrange::shard::{ShardConfig, ShardCore};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, Table, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, TableHandle, TaskId, WorkerConfig, WorkerCore};

#[path = "../tests/plain_wire/mod.rs"]
mod plain_wire;

use plain_wire::Wire;

/// Keys of a request in the filtered case.
const FILTERED_KEYS: usize = 320;
/// Chains of the filtered case.
const CHAINS: [&str; 6] = ["none", "key-cache", "zeros", "fixed:2", "lz4", "key-cache,zeros,fixed:2,lz4"];

struct Pair {
    worker: WorkerCore,
    shard: ShardCore,
    up: Wire,
    down: Wire,
    worker_ns: u64,
    shard_ns: u64,
}

impl Pair {
    fn new(spec: &TableSpec) -> Pair {
        let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).expect("one shard"));
        let worker = WorkerCore::new(WorkerConfig::new(0), map);
        let mut shard =
            ShardCore::new(ShardConfig::new(0, KeyRange::ALL, 1), Arc::new(Registry::with_builtins()));
        shard.connect(0, 0).expect("first incarnation");
        shard.create_table(spec.clone()).expect("a good table");
        Pair { worker, shard, up: Wire::new(1 << 20), down: Wire::new(1 << 20), worker_ns: 0, shard_ns: 0 }
    }

    /// One round: the shard takes what the worker sent, the worker what the shard answered.
    fn round(&mut self) {
        let began = Instant::now();
        for index in 0..self.up.frames.len() {
            self.shard.handle(PeerId(0), self.up.frame(index), &mut self.down).expect("a good frame");
        }
        self.shard.flush(&mut self.down);
        self.up.clear();
        let turn = Instant::now();
        for index in 0..self.down.frames.len() {
            self.worker.handle(PeerId(0), self.down.frame(index), &mut self.up).expect("a good answer");
        }
        self.down.clear();
        self.worker.poll(std::time::Duration::ZERO, &mut self.up);
        self.shard_ns += (turn - began).as_nanos() as u64;
        self.worker_ns += turn.elapsed().as_nanos() as u64;
    }

    fn wait(&mut self, task: TaskId) -> keyrange::worker::Outcome {
        loop {
            if let Some(outcome) = self.worker.take(task) {
                return outcome.expect("no refusal");
            }
            self.round();
        }
    }
}

fn spec(store: StoreKind) -> TableSpec {
    TableSpec {
        id: 1,
        name: "figures".to_owned(),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    }
}

fn random_keys(count: usize, seed: u64) -> Vec<u64> {
    let mut state = seed;
    let mut keys: Vec<u64> = (0..count)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

fn one_key_pushes(store: StoreKind, name: &str) {
    let spec = spec(store);
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let keys: Vec<u64> = (0..10_000u64).map(|key| key * 7919 % 10_000).collect();
    let (mut submit_ns, rounds) = (0, 2000);
    for round in 0..rounds {
        let began = Instant::now();
        for at in 0..1000 {
            let key = keys[(round * 1000 + at) % keys.len()];
            pair.worker.push_one(table, key, &[1f32], u64::MAX, &mut pair.up).expect("room");
        }
        submit_ns += began.elapsed().as_nanos() as u64;
        pair.round();
    }
    let each = |ns: u64| ns as f64 / (rounds as f64 * 1000.0);
    let worker = each(submit_ns) + each(pair.worker_ns);
    println!("one-key push, {name:<18} worker {worker:6.1} ns  shard {:6.1} ns", each(pair.shard_ns));
}

fn lists(count: usize, repeats: usize) {
    let spec = spec(StoreKind::Sparse);
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let list = KeyList::new(random_keys(count, 1)).expect("sorted");
    let mut values = vec![1f32; list.len()];
    let mut per_key = [0f64; 3];
    for repeat in 0..repeats + 2 {
        for (way, total) in per_key.iter_mut().enumerate() {
            let began = Instant::now();
            let (keys, given) = (Keys::List(list.clone()), std::mem::take(&mut values));
            let (options, up) = (Options::default(), &mut pair.up);
            let task = match way {
                0 => pair.worker.push(table, keys, vec![given], options, up),
                1 => pair.worker.pull(table, keys, given, options, up),
                _ => pair.worker.push_pull(table, keys, vec![given.clone()], given, options, up),
            };
            let outcome = pair.wait(task.expect("accepted"));
            let back =
                if way == 0 { outcome.parts.into_iter().next().expect("returned") } else { outcome.values };
            values = black_box(back.into_vec());
            if repeat >= 2 {
                *total += began.elapsed().as_nanos() as f64 / list.len() as f64 / repeats as f64;
            }
        }
    }
    let rate = per_key.map(|ns| 1000.0 / ns);
    println!(
        "list of {count:>8} keys: push {:6.0}  pull {:6.0}  push_pull {:6.0} M keys/s (both sides on one core)",
        rate[0], rate[1], rate[2]
    );
}

/// Requests of a few keys, each waited for: what a task costs by itself.
fn short(count: usize) {
    let spec = spec(StoreKind::Sparse);
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let list = KeyList::new(random_keys(count, 1)).expect("sorted");
    let (mut values, repeats) = (vec![1f32; list.len()], 20_000);
    let mut each_ns = [0f64; 2];
    for (way, each_ns) in each_ns.iter_mut().enumerate() {
        let began = Instant::now();
        for _ in 0..repeats {
            let (keys, given) = (Keys::List(list.clone()), std::mem::take(&mut values));
            let (options, up) = (Options::default(), &mut pair.up);
            let task = match way {
                0 => pair.worker.push(table, keys, vec![given], options, up),
                _ => pair.worker.pull(table, keys, given, options, up),
            };
            let outcome = pair.wait(task.expect("accepted"));
            let back =
                if way == 0 { outcome.parts.into_iter().next().expect("returned") } else { outcome.values };
            values = black_box(back.into_vec());
        }
        *each_ns = began.elapsed().as_nanos() as f64 / f64::from(repeats);
    }
    println!(
        "list of {count:>8} keys, one at a time: push {:6.0} ns  pull {:6.0} ns",
        each_ns[0], each_ns[1]
    );
}

/// Requests of some hundred keys through a chain, each waited for; 1 row in 20 is not zero.
fn filtered(text: &str) {
    let spec = TableSpec { value_type: ValueType::F64, ..spec(StoreKind::Sparse) };
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let list = KeyList::new(random_keys(FILTERED_KEYS, 1)).expect("sorted");
    let chain: ChainSpec = text.parse().expect("a chain");
    let filters = Filters::new(&chain, &chain, 1).expect("a chain for both directions");
    let gradient: Vec<f64> =
        (0..list.len()).map(|at| if at % 20 == 0 { 1.0 / (at + 3) as f64 } else { 0.0 }).collect();
    let (mut push_ns, mut pull_ns, repeats) = (0, 0, 10_000);
    for _ in 0..repeats {
        let options = || Options { filters: filters.clone(), ..Options::default() };
        let began = Instant::now();
        let (keys, given) = (Keys::List(list.clone()), vec![gradient.clone()]);
        let task = pair.worker.push(table, keys, given, options(), &mut pair.up).expect("accepted");
        black_box(pair.wait(task));
        let turn = Instant::now();
        let (keys, into) = (Keys::List(list.clone()), Vec::<f64>::new());
        let task = pair.worker.pull(table, keys, into, options(), &mut pair.up).expect("accepted");
        black_box(pair.wait(task));
        push_ns += (turn - began).as_nanos();
        pull_ns += turn.elapsed().as_nanos();
    }
    let each = |ns: u128| ns as f64 / f64::from(repeats);
    println!(
        "list of {FILTERED_KEYS:>8} keys through {text:<28} push {:6.0} ns  pull {:6.0} ns",
        each(push_ns),
        each(pull_ns)
    );
}

fn fresh_keys() {
    let spec = spec(StoreKind::Sparse);
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let (lists, count) = (40, 100_000);
    let prepared: Vec<KeyList> = (0..lists)
        .map(|seed| KeyList::new(random_keys(count, seed * 1_000_000_007)).expect("sorted"))
        .collect();
    let mut values = vec![1f32; count];
    let began = Instant::now();
    for list in &prepared {
        values.resize(list.len(), 1.0);
        let given = vec![std::mem::take(&mut values)];
        let task = pair.worker.push(table, Keys::List(list.clone()), given, Options::default(), &mut pair.up);
        let outcome = pair.wait(task.expect("accepted"));
        values = outcome.parts.into_iter().next().expect("returned").into_vec();
    }
    let ns = began.elapsed().as_nanos() as f64;
    let mut alone = Table::<f32>::new(spec, &Registry::with_builtins()).expect("a good table");
    let began = Instant::now();
    for list in &prepared {
        black_box(alone.resolve(list.as_slice(), true).expect("room"));
    }
    let alone_ns = began.elapsed().as_nanos() as f64;
    let rate = |ns: f64| lists as f64 * count as f64 * 1000.0 / ns;
    println!(
        "keys never sent before: {:6.1} M keys/s (shard alone {:6.1}, its table alone {:6.1})",
        rate(ns),
        rate(pair.shard_ns as f64),
        rate(alone_ns)
    );
}

fn dense(bytes: usize) {
    let count = (bytes / 4) as u64;
    let spec = spec(StoreKind::Dense { first: 0, last: count - 1 });
    let table = TableHandle::from(&spec);
    let mut pair = Pair::new(&spec);
    let range = KeyRange::new(0, count - 1).expect("ordered");
    let (mut values, repeats) = (vec![1f32; count as usize], 100);
    let mut seconds = [0f64; 2];
    for _ in 0..repeats {
        for (way, total) in seconds.iter_mut().enumerate() {
            let began = Instant::now();
            let given = std::mem::take(&mut values);
            let (keys, options) = (Keys::Range(range), Options::default());
            let task = match way {
                0 => pair.worker.push(table, keys, vec![given], options, &mut pair.up),
                _ => pair.worker.pull(table, keys, given, options, &mut pair.up),
            };
            let outcome = pair.wait(task.expect("accepted"));
            let back =
                if way == 0 { outcome.parts.into_iter().next().expect("returned") } else { outcome.values };
            values = black_box(back.into_vec());
            *total += began.elapsed().as_secs_f64();
        }
    }
    let rate = seconds.map(|seconds| bytes as f64 * f64::from(repeats) / seconds / 1e9);
    println!(
        "dense {:>8} bytes: push {:5.1} GB/s  pull {:5.1} GB/s (both sides on one core)",
        bytes, rate[0], rate[1]
    );
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |case: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == case);
    if is_wanted("rows") {
        one_key_pushes(StoreKind::Dense { first: 0, last: 9_999 }, "dense");
        one_key_pushes(StoreKind::Sparse, "sparse, 10 k keys");
    }
    if is_wanted("short") {
        [1, 10, 100].into_iter().for_each(short);
    }
    for chain in CHAINS {
        if is_wanted("filtered") || is_wanted(chain) {
            filtered(chain);
        }
    }
    if is_wanted("lists") {
        lists(10_000, 200);
        lists(100_000, 50);
        lists(1_000_000, 5);
    }
    if is_wanted("fresh") {
        fresh_keys();
    }
    if is_wanted("dense") {
        dense(1 << 20);
        dense(4 << 20);
    }
}
