//! Jobs over links that drop, double, delay, reorder and kill: everything still counts exactly once.

use std::sync::Arc;
use std::time::Duration;

use keyrange::client::{Mending, Worker, WorkerConfig};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::manager::{Address, Door, JobEnd, JobPlan, Manager, ManagerConfig};
use keyrange::message::Values;
use keyrange::node::carrier::CarrierWish;
use keyrange::node::{Membership, ServerConfig, connect_worker, run_server};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options};

const LIMIT: Duration = Duration::from_secs(30);
const KEYS: u64 = 200;
const ROUNDS: usize = 30;

fn membership(manager: &Address) -> Membership {
    let (manager, door) = (manager.clone(), Door::new([7; 16], "secret"));
    Membership { manager, door, rank: None, join_deadline: Duration::from_secs(10) }
}

/// Pushes single keys, a list and a range in every round, then checks the sums of all workers.
fn push_rounds(worker: &mut Worker) {
    let spec = |id, aggregation| TableSpec {
        id,
        name: "t".into(),
        value_type: ValueType::F32,
        width: 1,
        store: StoreKind::Sparse,
        function: FunctionSpec::named("add"),
        aggregation,
    };
    let at_once = worker.create_table(&spec(0, Aggregation::Immediate), LIMIT).unwrap();
    let together = worker.create_table(&spec(1, Aggregation::AllWorkers), LIMIT).unwrap();
    let range = Keys::Range(KeyRange::new(0, KEYS - 1).unwrap());
    let list = Keys::List(KeyList::new((0..KEYS).collect()).unwrap());
    let ones = || vec![vec![1f32; KEYS as usize]];
    for round in 0..ROUNDS as u64 {
        for key in 0..KEYS {
            worker.push_one(at_once, key, &[1f32], LIMIT).unwrap();
        }
        worker.push(at_once, list.clone(), ones(), Options::default()).unwrap();
        worker.push(at_once, range.clone(), ones(), Options::default()).unwrap();
        let task = worker.push_pull(together, list.clone(), ones(), Vec::new(), Options::at(round + 1));
        let sums = worker.wait(task.unwrap(), LIMIT).unwrap().values;
        let expected = (worker.workers() * (round as u32 + 1)) as f32;
        assert_eq!(sums, Values::F32(vec![expected; KEYS as usize]));
    }
    worker.wait_idle(LIMIT).unwrap();
    worker.barrier("pushed", LIMIT).unwrap();
    let task = worker.pull::<f32>(at_once, range, Vec::new(), Options::default()).unwrap();
    let expected = (3 * ROUNDS as u32 * worker.workers()) as f32;
    assert_eq!(worker.wait(task, LIMIT).unwrap().values, Values::F32(vec![expected; KEYS as usize]));
}

fn run(carrier: CarrierWish, listen: Address, faults: &str) {
    let fault = Some(faults.parse().unwrap());
    let plan = JobPlan { keys: (0, KEYS - 1), ..JobPlan::new(1, 2) };
    let (door, listen_manager) = (Door::new([7; 16], "secret"), Address::unique_unix("faults-m").unwrap());
    let manager = Manager::start(ManagerConfig { listen: vec![listen_manager], door, plan }).unwrap();
    let address = manager.addresses()[0].clone();
    let server = ServerConfig {
        membership: membership(&address),
        shards: 2,
        listen: vec![listen],
        carrier,
        cores: Vec::new(),
        functions: Arc::new(Registry::with_builtins()),
    };
    let serving = std::thread::spawn(move || run_server(server));
    let work = || {
        let mending = Mending { fault, ..Mending::default() };
        let config = WorkerConfig { membership: membership(&address), carrier, core: None, mending };
        let mut worker = connect_worker(&config).unwrap();
        push_rounds(&mut worker);
        worker.finish(LIMIT).unwrap();
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(work)));
    });
    let summary = serving.join().unwrap().unwrap();
    assert!(summary.shards.iter().any(|shard| shard.core.repeated > 0), "no fault was met: {summary:?}");
    assert_eq!(manager.join(), JobEnd::Finished);
}

const LOSSY: &str = "seed=7,drop=0.02,dup=0.02,delay=0.02,reorder=0.05";

#[test]
fn a_job_over_lossy_shared_memory_sums_exactly() {
    run(CarrierWish::Shm, Address::unique_unix("faults").unwrap(), LOSSY);
}

#[test]
fn a_job_over_lossy_tcp_links_that_are_killed_sums_exactly() {
    run(CarrierWish::Tcp, "127.0.0.1:0".parse().unwrap(), &format!("{LOSSY},kill=2000"));
}
