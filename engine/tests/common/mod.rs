//! What the cluster tests share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;
use std::time::Duration;

use keyrange::client::{Mending, Worker, WorkerConfig};
use keyrange::manager::{Address, Door, JobEnd, JobPlan, Manager, ManagerConfig};
use keyrange::node::carrier::CarrierWish;
use keyrange::node::{Membership, ServerConfig, ServerSummary, connect_worker, run_server};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;

/// Long enough for a slow machine; a test that meets it has failed.
pub const LIMIT: Duration = Duration::from_secs(30);

/// An f32 table that adds what is pushed.
pub fn spec(id: u16, store: StoreKind, aggregation: Aggregation, width: u32) -> TableSpec {
    TableSpec {
        id,
        name: format!("table {id}"),
        value_type: ValueType::F32,
        width,
        store,
        function: FunctionSpec { name: "add".into(), params: serde_json::Value::Null },
        aggregation,
    }
}

/// Runs a job to its good end over real links of that carrier: one server with two shards that own keys 0 to
/// `keys - 1`, and workers on threads that each run `body`. What the workers send meets the faults of `mending`.
pub fn run_job(
    carrier: CarrierWish,
    workers: u32,
    keys: u64,
    mending: Mending,
    body: impl Fn(&mut Worker) + Sync,
) -> ServerSummary {
    let plan = JobPlan { keys: (0, keys - 1), ..JobPlan::new(1, workers) };
    let door = Door::new([7; 16], "secret");
    let listen = vec![Address::unique_unix("test-manager").unwrap()];
    let manager = Manager::start(ManagerConfig { listen, door: door.clone(), plan }).unwrap();
    let join_deadline = Duration::from_secs(10);
    let membership = Membership { manager: manager.addresses()[0].clone(), door, rank: None, join_deadline };
    let listen = match carrier {
        CarrierWish::Tcp => "127.0.0.1:0".parse().unwrap(),
        _ => Address::unique_unix("test-server").unwrap(),
    };
    let server = ServerConfig {
        membership: membership.clone(),
        shards: 2,
        listen: vec![listen],
        carrier,
        verbs: Default::default(),
        cores: Vec::new(),
        functions: Arc::new(Registry::with_builtins()),
    };
    let serving = std::thread::spawn(move || run_server(server));
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let (membership, verbs) = (membership.clone(), Default::default());
                let config = WorkerConfig { membership, carrier, verbs, core: None, mending };
                let mut worker = connect_worker(&config).unwrap();
                body(&mut worker);
                worker.finish(LIMIT).unwrap();
            });
        }
    });
    let summary = serving.join().unwrap().unwrap();
    assert_eq!(manager.join(), JobEnd::Finished);
    summary
}
