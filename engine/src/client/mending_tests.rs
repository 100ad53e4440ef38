//! A TCP link that breaks while requests are under way: everything still counts exactly once.

use std::sync::Arc;
use std::time::Duration;

use super::{Mending, Worker, WorkerConfig};
use crate::key_range::KeyRange;
use crate::manager::{Address, Door, JobEnd, JobPlan, Manager, ManagerConfig};
use crate::message::Values;
use crate::node::carrier::CarrierWish;
use crate::node::{Membership, ServerConfig, connect_worker, run_server};
use crate::session::PeerId;
use crate::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use crate::update::Registry;
use crate::worker::{Keys, Options};

const LIMIT: Duration = Duration::from_secs(30);
const KEYS: u64 = 50;
const ROUNDS: usize = 40;

fn membership(manager: &Address) -> Membership {
    let (manager, door) = (manager.clone(), Door::new([7; 16], "secret"));
    Membership { manager, door, rank: None, join_deadline: Duration::from_secs(10) }
}

/// Pushes one-key rows and whole ranges, cutting one link after another in the middle.
fn push_over_cuts(worker: &mut Worker) {
    let spec = TableSpec {
        id: 0,
        name: "t".into(),
        value_type: ValueType::F32,
        width: 1,
        store: StoreKind::Sparse,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    };
    let table = worker.create_table(&spec, LIMIT).unwrap();
    let range = KeyRange::new(0, KEYS - 1).unwrap();
    for round in 0..ROUNDS {
        for key in 0..KEYS {
            worker.push_one(table, key, &[1.0f32], LIMIT).unwrap();
        }
        let ones = vec![vec![1.0f32; KEYS as usize]];
        worker.push(table, Keys::Range(range), ones, Options::default()).unwrap();
        if round % 4 == 1 {
            worker.pump.links.cut(PeerId(round as u32 / 4 % 2));
        }
        worker.poll().unwrap();
    }
    worker.wait_idle(LIMIT).unwrap();
    let task = worker.pull::<f32>(table, Keys::Range(range), Vec::new(), Options::default()).unwrap();
    let expected = Values::F32(vec![2.0 * ROUNDS as f32; KEYS as usize]);
    assert_eq!(worker.wait(task, LIMIT).unwrap().values, expected);
}

#[test]
fn a_broken_tcp_link_is_replaced_and_every_push_counts_once() {
    let plan = JobPlan { keys: (0, KEYS - 1), ..JobPlan::new(1, 1) };
    let listen = vec!["127.0.0.1:0".parse().unwrap()];
    let door = Door::new([7; 16], "secret");
    let manager = Manager::start(ManagerConfig { listen, door, plan }).unwrap();
    let address = manager.addresses()[0].clone();
    let server = ServerConfig {
        membership: membership(&address),
        shards: 2,
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        carrier: CarrierWish::Tcp,
        verbs: Default::default(),
        cores: Vec::new(),
        functions: Arc::new(Registry::with_builtins()),
    };
    let serving = std::thread::spawn(move || run_server(server));
    let (carrier, mending) = (CarrierWish::Tcp, Mending::default());
    let verbs = Default::default();
    let config = WorkerConfig { membership: membership(&address), carrier, verbs, core: None, mending };
    let mut worker = connect_worker(&config).unwrap();
    push_over_cuts(&mut worker);
    worker.finish(LIMIT).unwrap();
    let summary = serving.join().unwrap().unwrap();
    assert!(
        summary.shards.iter().any(|shard| shard.core.repeated > 0),
        "a cut made no repetition: {summary:?}"
    );
    assert_eq!(manager.join(), JobEnd::Finished);
}
