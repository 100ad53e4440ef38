//! Worker cores and shard cores joined by plain wires, for the tests beside this folder.
#![allow(dead_code, unused_imports, reason = "each test file uses a part")]

pub use std::sync::Arc;
pub use std::time::Duration;

use rand::RngExt;
pub use rand_xoshiro::Xoshiro256PlusPlus;

pub use keyrange::key_list::KeyList;
pub use keyrange::key_range::{Key, KeyRange, RangeMap};
pub use keyrange::message::{Control, RefusalCode};
pub use keyrange::session::{Outbox, OutboxError, PeerId};
pub use keyrange::shard::{PeerFault, ShardConfig, ShardCore};
pub use keyrange::sim::Mailbox;
pub use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
pub use keyrange::update::{Registry, Rows, ServerFn, UpdateError};
pub use keyrange::worker::{
    BoundedDelay, Keys, Options, Outcome, SubmitError, TableHandle, Target, TaskError, TaskId, TaskState,
    WorkerConfig, WorkerCore,
};

/// w -= g / u on the summed g and u: order of summation shows in the last bit.
struct Newton;

impl ServerFn<f64> for Newton {
    fn name(&self) -> &str {
        "newton"
    }
    fn push_parts(&self) -> usize {
        2
    }
    fn update(&mut self, rows: &mut Rows<'_, f64>, parts: &[&[f64]]) -> Result<(), UpdateError> {
        rows.apply(|[weights]: [&mut [f64]; 1]| {
            for ((weight, g), u) in weights.iter_mut().zip(parts[0]).zip(parts[1]) {
                *weight -= g / u;
            }
        });
        Ok(())
    }
}

pub struct Cluster {
    pub workers: Vec<WorkerCore>,
    pub shards: Vec<ShardCore>,
    pub up: Vec<Mailbox>,
    pub down: Vec<Mailbox>,
}

impl Cluster {
    pub fn new(
        workers: usize,
        shards: usize,
        adjust: impl Fn(&mut WorkerConfig, &mut ShardConfig),
    ) -> Cluster {
        Cluster::made(workers, shards, adjust, |_| {})
    }

    /// With server functions of the test's own.
    pub fn with_registry(workers: usize, shards: usize, register: impl Fn(&mut Registry)) -> Cluster {
        Cluster::made(workers, shards, |_, _| {}, register)
    }

    fn made(
        workers: usize,
        shards: usize,
        adjust: impl Fn(&mut WorkerConfig, &mut ShardConfig),
        register: impl Fn(&mut Registry),
    ) -> Cluster {
        let map = Arc::new(RangeMap::even(1, KeyRange::ALL, shards).unwrap());
        let mut registry = Registry::with_builtins();
        registry.register_f64("newton", |_| Ok(Box::new(Newton)));
        register(&mut registry);
        let registry = Arc::new(registry);
        let mut cluster = Cluster { workers: vec![], shards: vec![], up: vec![], down: vec![] };
        for shard in 0..shards {
            let mut config = ShardConfig::new(shard as u32, map.range_of(shard), workers as u32);
            adjust(&mut WorkerConfig::new(0), &mut config);
            let mut core = ShardCore::new(config, Arc::clone(&registry));
            (0..workers).for_each(|rank| core.connect(rank as u32, 0).unwrap());
            cluster.shards.push(core);
            cluster.down.push(Mailbox::default());
        }
        for rank in 0..workers {
            let mut config = WorkerConfig::new(rank as u32);
            adjust(&mut config, &mut ShardConfig::new(0, KeyRange::ALL, 1));
            cluster.workers.push(WorkerCore::new(config, Arc::clone(&map)));
            cluster.up.push(Mailbox::default());
        }
        cluster
    }

    pub fn plain(workers: usize, shards: usize) -> Cluster {
        Cluster::new(workers, shards, |_, _| {})
    }

    pub fn create(&mut self, spec: &TableSpec) -> TableHandle {
        let task =
            self.workers[0].control(&Control::Create(spec.clone()), Options::default(), &mut self.up[0]);
        let task = task.unwrap();
        self.wait(0, task).unwrap();
        TableHandle::from(spec)
    }

    /// Carries frames until nothing moves.
    pub fn run(&mut self) {
        loop {
            for (rank, mail) in self.up.iter_mut().enumerate() {
                for (to, frame) in std::mem::take(&mut mail.frames) {
                    let shard = to.0 as usize;
                    let out = &mut self.down[shard];
                    self.shards[shard].handle(PeerId(rank as u32), frame.bytes(), out).unwrap();
                }
            }
            for (shard, mail) in self.down.iter_mut().enumerate() {
                self.shards[shard].flush(mail);
                for (to, frame) in std::mem::take(&mut mail.frames) {
                    let rank = to.0 as usize;
                    let out = &mut self.up[rank];
                    self.workers[rank].handle(PeerId(shard as u32), frame.bytes(), out).unwrap();
                }
            }
            for (worker, out) in self.workers.iter_mut().zip(&mut self.up) {
                worker.poll(Duration::ZERO, out);
            }
            if self.up.iter().all(|mail| mail.frames.is_empty()) {
                return;
            }
        }
    }

    /// Carries one frame, any of those under way, wherever it lies on its wire. False if there is none.
    pub fn deliver_one(&mut self, random: &mut Xoshiro256PlusPlus) -> bool {
        let wires = self.up.iter().chain(&self.down).map(|mail| mail.frames.len());
        let wires: Vec<usize> = wires.collect();
        let total: usize = wires.iter().sum();
        if total == 0 {
            return false;
        }
        let (mut wire, mut at) = (0, random.random_range(0..total));
        while at >= wires[wire] {
            at -= wires[wire];
            wire += 1;
        }
        if wire < self.up.len() {
            let (to, frame) = self.up[wire].frames.remove(at).unwrap();
            let (shard, out) = (&mut self.shards[to.0 as usize], &mut self.down[to.0 as usize]);
            shard.handle(PeerId(wire as u32), frame.bytes(), out).unwrap();
            shard.flush(out);
        } else {
            let shard = wire - self.up.len();
            let (to, frame) = self.down[shard].frames.remove(at).unwrap();
            let (worker, out) = (&mut self.workers[to.0 as usize], &mut self.up[to.0 as usize]);
            worker.handle(PeerId(shard as u32), frame.bytes(), out).unwrap();
            worker.poll(Duration::ZERO, out);
        }
        true
    }

    pub fn wait(&mut self, rank: usize, task: TaskId) -> Result<Outcome, TaskError> {
        self.run();
        self.workers[rank].take(task).expect("the task is finished")
    }

    pub fn push(&mut self, rank: usize, table: TableHandle, keys: &Keys, values: Vec<f32>) {
        let out = &mut self.up[rank];
        let task =
            self.workers[rank].push(table, keys.clone(), vec![values], Options::default(), out).unwrap();
        self.wait(rank, task).unwrap();
    }

    pub fn pull(&mut self, rank: usize, table: TableHandle, keys: &Keys) -> Vec<f32> {
        let out = &mut self.up[rank];
        let task =
            self.workers[rank].pull::<f32>(table, keys.clone(), Vec::new(), Options::default(), out).unwrap();
        self.wait(rank, task).unwrap().values.into_vec()
    }
}

pub fn spec(store: StoreKind) -> TableSpec {
    TableSpec {
        id: 4,
        name: "weights".to_owned(),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    }
}

pub fn blocks(store: StoreKind) -> TableSpec {
    let function = FunctionSpec::named("newton");
    let aggregation = Aggregation::AllWorkers;
    TableSpec { value_type: ValueType::F64, function, aggregation, id: 9, ..spec(store) }
}

pub fn spread(count: u64, salt: u64) -> KeyList {
    let mut keys: Vec<Key> =
        (1..=count).map(|key| (key + salt).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
    keys.sort_unstable();
    KeyList::new(keys).unwrap()
}

/// A carrier that never has room.
pub struct FullRing;

impl Outbox for FullRing {
    fn send(&mut self, _: PeerId, _: usize, _: &mut dyn FnMut(&mut [u8]) -> u32) -> Result<(), OutboxError> {
        Err(OutboxError::Full)
    }
}
