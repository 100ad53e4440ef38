//! Push and pull of one worker with one shard in one process, beside the kernel alone in plain memory.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use keyrange::client::Worker;
use keyrange::cluster::Embedded;
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::manager::JobPlan;
use keyrange::message::Values;
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, TableHandle};
use keyrange_benches::limits::{pin, ping_pong_ns};
use keyrange_benches::two_cores;
use keyrange_kernels::dense;

const LIMIT: Duration = Duration::from_secs(20);
const LIST_KEYS: u64 = 100_000;

fn table(worker: &mut Worker, id: u16, store: StoreKind) -> TableHandle {
    let spec = TableSpec {
        id,
        name: format!("bench {id}"),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    };
    worker.create_table(&spec, LIMIT).expect("a table")
}

fn push(worker: &mut Worker, table: TableHandle, keys: Keys, array: Vec<f32>) -> Vec<f32> {
    let task = worker.push(table, keys, vec![array], Options::default()).expect("a push");
    match worker.wait(task, LIMIT).expect("a push").parts.pop() {
        Some(Values::F32(array)) => array,
        other => panic!("expected the array pushed, got {other:?}"),
    }
}

fn pull(worker: &mut Worker, table: TableHandle, keys: Keys, array: Vec<f32>) -> Vec<f32> {
    let task = worker.pull::<f32>(table, keys, array, Options::default()).expect("a pull");
    match worker.wait(task, LIMIT).expect("a pull").values {
        Values::F32(array) => array,
        other => panic!("expected f32 values, got {other:?}"),
    }
}

fn single(c: &mut Criterion, worker: &mut Worker, core: usize) {
    let table = table(worker, 1, StoreKind::Sparse);
    let mut group = c.benchmark_group("push pull/one key");
    group.bench_function("push and wait", |b| {
        b.iter(|| {
            let task = worker.push_one(table, 7, &[1.0f32], LIMIT).expect("a push");
            worker.wait(task, LIMIT).expect("a push")
        });
    });
    group.bench_function("limit: raw ping-pong", |b| {
        b.iter_custom(|trips| {
            let ns = ping_pong_ns(core, trips).expect("two cores");
            Duration::from_nanos((ns * trips as f64) as u64)
        });
    });
    group.finish();
}

fn arrays(
    c: &mut Criterion,
    worker: &mut Worker,
    name: &str,
    table: TableHandle,
    keys: &Keys,
    values: usize,
) {
    let mut group = c.benchmark_group(format!("push pull/{name}"));
    group.throughput(Throughput::Elements(values as u64));
    let mut array = vec![1.0f32; values];
    group.bench_function("push and wait", |b| {
        b.iter(|| array = push(worker, table, keys.clone(), std::mem::take(&mut array)));
    });
    group.bench_function("pull and wait", |b| {
        b.iter(|| array = pull(worker, table, keys.clone(), std::mem::take(&mut array)));
    });
    let mut rows = vec![0.0f32; values];
    group.bench_function("limit: adding in memory", |b| b.iter(|| dense::add(black_box(&mut rows), &array)));
    group.finish();
}

fn main() {
    let mut c = keyrange_benches::criterion();
    let cores = two_cores();
    // Threads inherit the core of the thread that starts them.
    pin(cores[1]).expect("a usable core");
    let mut cluster =
        Embedded::start(&JobPlan::new(1, 1), &Arc::new(Registry::with_builtins())).expect("a cluster");
    pin(cores[0]).expect("a usable core");
    let mut worker = cluster.take_workers().remove(0);
    single(&mut c, &mut worker, cores[1]);
    let list = KeyList::new((0..LIST_KEYS).map(|key| key * 0x9e37_79b9_7f4a).collect()).expect("sorted keys");
    let sparse = table(&mut worker, 2, StoreKind::Sparse);
    arrays(&mut c, &mut worker, "100 k keys", sparse, &Keys::List(list), LIST_KEYS as usize);
    let last = (1 << 18) - 1;
    let dense = table(&mut worker, 3, StoreKind::Dense { first: 0, last });
    let range = Keys::Range(KeyRange::new(0, last).expect("a range"));
    arrays(&mut c, &mut worker, "dense 1 MiB", dense, &range, last as usize + 1);
    worker.finish(LIMIT).expect("the end of the job");
    println!("job {}", cluster.join());
    c.final_summary();
}
