//! In its steady state a shard allocates nothing. What the worker allocates is printed, not bounded: six calls for a push and a pull.
//!
//! The allocator of this program counts, so nothing else is tested here.

#[path = "../../transport/tests/counting/mod.rs"]
mod counting;
mod plain_wire;

use std::sync::Arc;
use std::time::Duration;

use keyrange::key_list::KeyList;
use keyrange::key_range::{KeyRange, RangeMap};
use keyrange::session::PeerId;
use keyrange::shard::{ShardConfig, ShardCore};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, TableHandle, WorkerConfig, WorkerCore};

use plain_wire::Wire;

struct Pair {
    worker: WorkerCore,
    shard: ShardCore,
    up: Wire,
    down: Wire,
    shard_calls: u64,
    worker_calls: u64,
}

impl Pair {
    fn new() -> Pair {
        let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).unwrap());
        let worker = WorkerCore::new(WorkerConfig::new(0), map);
        let mut shard =
            ShardCore::new(ShardConfig::new(0, KeyRange::ALL, 1), Arc::new(Registry::with_builtins()));
        shard.connect(0, 0).unwrap();
        Pair {
            worker,
            shard,
            up: Wire::new(1 << 20),
            down: Wire::new(1 << 20),
            shard_calls: 0,
            worker_calls: 0,
        }
    }

    fn table(&mut self, id: u16, store: StoreKind) -> TableHandle {
        let spec = TableSpec {
            id,
            name: format!("table {id}"),
            value_type: ValueType::F32,
            width: 1,
            store,
            function: FunctionSpec::named("add"),
            aggregation: Aggregation::Immediate,
        };
        self.shard.create_table(spec.clone()).unwrap();
        TableHandle::from(&spec)
    }

    /// The shard takes what the worker sent, the worker what the shard answered.
    fn round(&mut self) {
        let before = counting::calls();
        for index in 0..self.up.frames.len() {
            self.shard.handle(PeerId(0), self.up.frame(index), &mut self.down).unwrap();
        }
        self.shard.flush(&mut self.down);
        self.up.clear();
        let between = counting::calls();
        for index in 0..self.down.frames.len() {
            self.worker.handle(PeerId(0), self.down.frame(index), &mut self.up).unwrap();
        }
        self.down.clear();
        self.worker.poll(Duration::ZERO, &mut self.up);
        self.shard_calls += between - before;
        self.worker_calls += counting::calls() - between;
    }

    /// One push and one pull, with the same array; returns it.
    fn push_and_pull(&mut self, table: TableHandle, keys: &Keys, values: Vec<f32>) -> Vec<f32> {
        let before = counting::calls();
        let task = self.worker.push(table, keys.clone(), vec![values], Options::default(), &mut self.up);
        self.worker_calls += counting::calls() - before;
        let values: Vec<f32> = self.wait(task.unwrap()).parts.pop().unwrap().into_vec();
        let before = counting::calls();
        let task = self.worker.pull(table, keys.clone(), values, Options::default(), &mut self.up);
        self.worker_calls += counting::calls() - before;
        self.wait(task.unwrap()).values.into_vec()
    }

    fn wait(&mut self, task: keyrange::worker::TaskId) -> keyrange::worker::Outcome {
        for _ in 0..1000 {
            if let Some(outcome) = self.worker.take(task) {
                return outcome.unwrap();
            }
            self.round();
        }
        panic!("the task does not end");
    }
}

#[test]
fn a_shard_in_its_steady_state_allocates_nothing() {
    const ROUNDS: u64 = 1000;
    let mut pair = Pair::new();
    let list = KeyList::new((0..3_000u64).map(|key| key * key * 7919 + key).collect()).unwrap();
    // Half of the list before the rest, so that its rows are scattered.
    let half = KeyList::new(list.as_slice().iter().copied().step_by(2).collect()).unwrap();
    let dense = pair.table(1, StoreKind::Dense { first: 0, last: 9_999 });
    let sparse = pair.table(2, StoreKind::Sparse);
    let cases = [
        ("one key", sparse, Keys::Range(KeyRange::one(1 << 60))),
        ("half a list", sparse, Keys::List(half)),
        ("a list", sparse, Keys::List(list)),
        ("a dense range", dense, Keys::Range(KeyRange::new(0, 9_999).unwrap())),
    ];
    for (name, table, keys) in cases {
        let count = match &keys {
            Keys::List(list) => list.len(),
            Keys::Range(range) => range.count() as usize,
            _ => unreachable!("no other case"),
        };
        let mut values = vec![1f32; count];
        for _ in 0..100 {
            values = pair.push_and_pull(table, &keys, values);
            values.fill(1.0);
        }
        (pair.shard_calls, pair.worker_calls) = (0, 0);
        for _ in 0..ROUNDS {
            values = pair.push_and_pull(table, &keys, values);
            values.fill(1.0);
        }
        assert_eq!(pair.shard_calls, 0, "{name}: allocations of the shard");
        let worker_calls = pair.worker_calls as f64 / ROUNDS as f64;
        println!("{name}: {worker_calls} allocations of the worker per push and pull");
        values = pair.push_and_pull(table, &keys, values);
        let pushes = |place: usize| if name == "a list" && place.is_multiple_of(2) { 2202.0 } else { 1101.0 };
        assert!(values.iter().enumerate().all(|(place, &value)| value == pushes(place)), "{name}: the sums");
    }
}
