//! What a push and a pull cost end to end: one server thread and one worker, in two processes on two cores.
//!
//! `cargo run --release -p keyrange --example push_pull_figures -- [auto|shm|tcp|embedded] [ring bytes] [case]`
//! with case one of `one-key`, `lists`, `new-keys`, `dense` and `idle`; all without it.
//!
//! Prints a table with the raw cache-line ping-pong of the two cores before and after, because everything that waits
//! for the other core is to be judged against it.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use keyrange::client::{Mending, Worker, WorkerConfig};
use keyrange::cluster::Embedded;
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::manager::{Address, Door, JobPlan, Manager, ManagerConfig};
use keyrange::message::Values;
use keyrange::node::{Membership, ServerConfig, connect_worker, run_server};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, TableHandle, TaskId};
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

type Failure = Box<dyn std::error::Error>;

const JOB: [u8; 16] = *b"push-pull-figure";
const LIMIT: Duration = Duration::from_secs(60);
const SERVER_CORE: usize = 0;
const WORKER_CORE: usize = 1;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, manager, carrier] = arguments.as_slice()
        && role == "server"
    {
        return serve(manager, carrier);
    }
    let carrier = arguments.first().map_or("auto", String::as_str);
    let ring_bytes = arguments.get(1).map_or(Ok(1 << 20), |text| text.parse())?;
    let case = arguments.get(2).map_or("", String::as_str);
    let plan = JobPlan { ring_bytes, keys: (0, u64::MAX), ..JobPlan::new(1, 1) };
    println!("carrier {carrier}, rings of {ring_bytes} bytes, 1 server thread, 1 worker");
    println!("raw ping-pong, two cache lines: {:.0} ns", ping_pong_ns());
    if carrier == "embedded" {
        let mut cluster = Embedded::start(&plan, &Arc::new(Registry::with_builtins()))?;
        let worker = cluster.take_workers().remove(0);
        measure(worker, case, None)?;
        println!("job {}", cluster.join());
    } else {
        let listen = vec![Address::unique_unix("figures")?];
        let manager = Manager::start(ManagerConfig { listen, door: Door::new(JOB, ""), plan })?;
        let mut server = start_server(&manager.addresses()[0], carrier)?;
        let membership = membership(&manager.addresses()[0]);
        let (carrier, mending) = (carrier.parse()?, Mending::default());
        let config = WorkerConfig { membership, carrier, core: Some(WORKER_CORE), mending };
        let result = connect_worker(&config)
            .map_err(Failure::from)
            .and_then(|worker| measure(worker, case, Some(server.id())));
        if result.is_err() {
            server.kill()?;
        }
        server.wait()?;
        result?;
        println!("job {}", manager.join());
    }
    println!("raw ping-pong, two cache lines: {:.0} ns", ping_pong_ns());
    Ok(())
}

fn membership(manager: &Address) -> Membership {
    let (manager, door) = (manager.clone(), Door::new(JOB, ""));
    Membership { manager, door, rank: None, join_deadline: Duration::from_secs(10) }
}

fn start_server(manager: &Address, carrier: &str) -> Result<Child, Failure> {
    let program = std::env::current_exe()?;
    Ok(Command::new(program).args(["server", &manager.to_string(), carrier]).spawn()?)
}

fn serve(manager: &str, carrier: &str) -> Result<(), Failure> {
    let config = ServerConfig {
        membership: membership(&manager.parse()?),
        shards: 1,
        listen: vec!["127.0.0.1:0".parse()?],
        carrier: carrier.parse()?,
        cores: vec![SERVER_CORE],
        functions: Arc::new(Registry::with_builtins()),
    };
    let summary = run_server(config)?;
    for shard in &summary.shards {
        println!("server: {:?}, {} MB in tables and key lists", shard.core, shard.bytes >> 20);
    }
    Ok(())
}

fn table(worker: &mut Worker, id: u16, store: StoreKind) -> Result<TableHandle, Failure> {
    Ok(worker.create_table(&spec(id, store), LIMIT)?)
}

fn spec(id: u16, store: StoreKind) -> TableSpec {
    TableSpec {
        id,
        name: format!("figures {id}"),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Immediate,
    }
}

fn measure(mut worker: Worker, case: &str, server: Option<u32>) -> Result<(), Failure> {
    let wanted = |name: &str| case.is_empty() || case == name;
    let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
    if wanted("one-key") {
        one_key(&mut worker)?;
    }
    if wanted("lists") {
        for (id, keys) in [(1, 10_000), (2, 100_000), (3, 1_000_000)] {
            let list = [random_list(&mut random, keys)?];
            let what = format!("the same list of {keys} keys");
            lists(&mut worker, id, &what, &list, 30_000_000 / keys, 1)?;
            lists(&mut worker, id, &format!("{what}, rows scattered"), &list, 30_000_000 / keys, 16)?;
        }
        let forty = (0..40).map(|_| random_list(&mut random, 100_000)).collect::<Result<Vec<_>, _>>()?;
        lists(&mut worker, 4, "40 lists of 100000 keys", &forty, 240, 1)?;
    }
    if wanted("new-keys") {
        never_seen(&mut worker, &mut random)?;
    }
    if wanted("dense") {
        dense(&mut worker, 1 << 20)?;
        dense(&mut worker, 4 << 20)?;
    }
    if wanted("idle") {
        idle(&mut worker, server)?;
    }
    Ok(worker.finish(LIMIT)?)
}

/// Waits for an update to which nobody contributes, and counts the CPU time of both processes meanwhile.
fn idle(worker: &mut Worker, server: Option<u32>) -> Result<(), Failure> {
    let spec =
        TableSpec { aggregation: Aggregation::AllWorkers, ..spec(7, StoreKind::Dense { first: 0, last: 9 }) };
    let table = worker.create_table(&spec, LIMIT)?;
    let ask = Options { after_time: true, ..Options::at(1) };
    let task = worker.pull::<f32>(table, Keys::Range(KeyRange::new(0, 9)?), Vec::new(), ask)?;
    let processes: Vec<u32> = std::iter::once(std::process::id()).chain(server).collect();
    let cpu = || processes.iter().map(|&process| cpu_ns(process)).sum::<Result<u64, _>>();
    let (began, before) = (Instant::now(), cpu()?);
    let unfinished = worker.wait(task, Duration::from_secs(4));
    let used = (cpu()? - before) as f64 / began.elapsed().as_nanos() as f64;
    println!("idle, waiting for a reply: {:.3} % of a core in all processes", 100.0 * used);
    assert!(unfinished.is_err(), "nobody contributed");
    let all = Keys::Range(KeyRange::new(0, 9)?);
    worker.push(table, all, vec![vec![1.0f32; 10]], Options::at(1))?;
    worker.wait(task, LIMIT)?;
    Ok(())
}

/// CPU time of all threads of a process, as the scheduler counted it.
fn cpu_ns(process: u32) -> Result<u64, std::io::Error> {
    let mut sum = 0;
    for task in std::fs::read_dir(format!("/proc/{process}/task"))? {
        let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

fn random_list(random: &mut Xoshiro256PlusPlus, count: usize) -> Result<KeyList, Failure> {
    let mut keys: Vec<u64> = (0..count).map(|_| random.random()).collect();
    keys.sort_unstable();
    keys.dedup();
    Ok(KeyList::new(keys)?)
}

fn one_key(worker: &mut Worker) -> Result<(), Failure> {
    let table = table(worker, 0, StoreKind::Sparse)?;
    let mut taken: Vec<f64> = Vec::new();
    for round in 0..60_000u64 {
        let began = Instant::now();
        let task = worker.push_one(table, round % 1000, &[1.0f32], LIMIT)?;
        worker.wait(task, LIMIT)?;
        taken.push(began.elapsed().as_nanos() as f64);
    }
    percentiles("one key, push and wait", &mut taken[10_000..]);
    let mut taken = Vec::new();
    for round in 0..60_000u64 {
        let began = Instant::now();
        let one = Keys::Range(KeyRange::one(round % 1000));
        let task = worker.pull::<f32>(table, one, Vec::with_capacity(1), Options::default())?;
        worker.wait(task, LIMIT)?;
        taken.push(began.elapsed().as_nanos() as f64);
    }
    percentiles("one key, pull and wait", &mut taken[10_000..]);
    let pushes = 4_000_000u64;
    let began = Instant::now();
    for push in 0..pushes {
        if push % 64 == 0 {
            worker.wait_open_below(1000 - 64, LIMIT)?;
        }
        worker.push_one(table, push % 1000, &[1.0f32], LIMIT)?;
    }
    worker.wait_idle(LIMIT)?;
    println!(
        "one key, 1000 in flight: {:.2} M pushes/s",
        pushes as f64 / began.elapsed().as_secs_f64() / 1e6
    );
    Ok(())
}

fn percentiles(what: &str, taken_ns: &mut [f64]) {
    taken_ns.sort_by(f64::total_cmp);
    let at = |share: f64| taken_ns[(taken_ns.len() as f64 * share) as usize] / 1000.0;
    println!("{what}: p50 {:.2} us, p99 {:.2} us, p99.9 {:.2} us", at(0.5), at(0.99), at(0.999));
}

/// Runs `rounds` tasks, four at a time, reusing the arrays that come back. Returns seconds.
fn pipeline(
    worker: &mut Worker,
    rounds: usize,
    values: usize,
    mut submit: impl FnMut(&mut Worker, usize, Vec<f32>) -> Result<TaskId, keyrange::client::WorkerError>,
) -> Result<f64, Failure> {
    let mut spare = vec![vec![1.0f32; values]; 4];
    let mut open = std::collections::VecDeque::new();
    let began = Instant::now();
    for round in 0..rounds {
        if spare.is_empty()
            && let Some(task) = open.pop_front()
        {
            spare.push(returned(worker.wait(task, LIMIT)?));
        }
        let array = spare.pop().unwrap_or_default();
        open.push_back(submit(worker, round, array)?);
    }
    for task in open {
        worker.wait(task, LIMIT)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

fn returned(mut outcome: keyrange::worker::Outcome) -> Vec<f32> {
    match outcome.parts.pop().unwrap_or(outcome.values) {
        Values::F32(values) => values,
        Values::F64(_) => Vec::new(),
    }
}

/// Pushes and pulls the lists in turn. A list that a table has never seen gets consecutive rows, which flatters what
/// follows; with a `stride` above 1 its keys are inserted before in that many interleaved parts.
fn lists(
    worker: &mut Worker,
    id: u16,
    what: &str,
    lists: &[KeyList],
    rounds: usize,
    stride: usize,
) -> Result<(), Failure> {
    let table = table(worker, id, StoreKind::Sparse)?;
    for part in (0..stride).filter(|_| stride > 1) {
        for list in lists {
            let keys: Vec<u64> = list.as_slice().iter().skip(part).step_by(stride).copied().collect();
            let zeros = vec![0.0f32; keys.len()];
            let keys = Keys::List(KeyList::new(keys)?);
            let task = worker.push(table, keys, vec![zeros], Options::default())?;
            worker.wait(task, LIMIT)?;
        }
    }
    let values = lists[0].len();
    let keys = |round: usize| Keys::List(lists[round % lists.len()].clone());
    let push = |worker: &mut Worker, round, array: Vec<f32>| {
        worker.push(table, keys(round), vec![array], Options::default())
    };
    let pull = |worker: &mut Worker, round, array| worker.pull(table, keys(round), array, Options::default());
    let first = pipeline(worker, lists.len(), values, push)?;
    let pushed = pipeline(worker, rounds, values, push)?;
    let pulled = pipeline(worker, rounds, values, pull)?;
    let rate = |rounds: usize, seconds: f64| (rounds * values) as f64 / seconds / 1e6;
    println!(
        "{what}: first {:.1}, push {:.0}, pull {:.0} M keys/s",
        rate(lists.len(), first),
        rate(rounds, pushed),
        rate(rounds, pulled)
    );
    worker.drop_table(table, LIMIT)?;
    Ok(())
}

fn never_seen(worker: &mut Worker, random: &mut Xoshiro256PlusPlus) -> Result<(), Failure> {
    let table = table(worker, 5, StoreKind::Sparse)?;
    let lists = (0..80).map(|_| random_list(random, 100_000)).collect::<Result<Vec<_>, _>>()?;
    let seconds = pipeline(worker, lists.len(), 100_000, |worker, round, array| {
        worker.push(table, Keys::List(lists[round].clone()), vec![array], Options::default())
    })?;
    println!("keys never sent before: {:.1} M keys/s", 8.0 / seconds);
    worker.drop_table(table, LIMIT)?;
    Ok(())
}

fn dense(worker: &mut Worker, bytes: usize) -> Result<(), Failure> {
    let values = bytes / 4;
    let range = KeyRange::new(0, values as u64 - 1)?;
    let table = table(worker, 6, StoreKind::Dense { first: 0, last: values as u64 - 1 })?;
    let rounds = (8usize << 30) / bytes;
    let pushed = pipeline(worker, rounds, values, |worker, _, array| {
        worker.push(table, Keys::Range(range), vec![array], Options::default())
    })?;
    let pulled = pipeline(worker, rounds, values, |worker, _, array| {
        worker.pull(table, Keys::Range(range), array, Options::default())
    })?;
    let lent = push_lent(worker, table, range, rounds)?;
    let rate = |seconds: f64| (rounds * bytes) as f64 / seconds / 1e9;
    println!(
        "dense {} MiB: push {:.1}, push from lent memory {:.1}, pull {:.1} GB/s",
        bytes >> 20,
        rate(pushed),
        rate(lent),
        rate(pulled)
    );
    worker.drop_table(table, LIMIT)?;
    Ok(())
}

/// As `pipeline` with pushes of the whole range, from four lent arrays.
fn push_lent(
    worker: &mut Worker,
    table: TableHandle,
    range: KeyRange,
    rounds: usize,
) -> Result<f64, Failure> {
    let values = range.count() as usize;
    let mut spare = Vec::new();
    for _ in 0..4 {
        let mut array = worker.lend::<f32>(values)?;
        array.fill(1.0);
        spare.push(array);
    }
    let mut open = std::collections::VecDeque::new();
    let began = Instant::now();
    for _ in 0..rounds {
        if spare.is_empty()
            && let Some(task) = open.pop_front()
        {
            let mut outcome = worker.wait(task, LIMIT)?;
            spare.extend(outcome.lent.drain(..).filter_map(|lent| lent.into_array()));
        }
        let parts = spare.pop().into_iter().collect();
        open.push_back(worker.push(table, Keys::Range(range), parts, Options::default())?);
    }
    for task in open {
        worker.wait(task, LIMIT)?;
    }
    Ok(began.elapsed().as_secs_f64())
}

#[repr(align(128))]
struct Line(AtomicU64);

/// Round trip between the two cores, each line written by one side only. The median of nine runs.
fn ping_pong_ns() -> f64 {
    let lines = [Line(AtomicU64::new(0)), Line(AtomicU64::new(0))];
    let mut runs: Vec<f64> = (0..9).map(|_| ping_pong_once(&lines, 20_000)).collect();
    runs.sort_by(f64::total_cmp);
    runs[4]
}

fn ping_pong_once(lines: &[Line; 2], rounds: u64) -> f64 {
    lines.iter().for_each(|line| line.0.store(0, Ordering::Release));
    let wait_for = |line: &Line, value| {
        while line.0.load(Ordering::Acquire) != value {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: SERVER_CORE });
            for round in 1..=rounds {
                wait_for(&lines[0], round);
                lines[1].0.store(round, Ordering::Release);
            }
        });
        let here = scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: WORKER_CORE });
            let began = Instant::now();
            for round in 1..=rounds {
                lines[0].0.store(round, Ordering::Release);
                wait_for(&lines[1], round);
            }
            began.elapsed().as_nanos() as f64 / rounds as f64
        });
        here.join().unwrap_or(f64::NAN)
    })
}
