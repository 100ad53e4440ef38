//! Clocked tables on a cluster of threads.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use keyrange::client::{Worker, WorkerError};
use keyrange::clock::{ClockError, ClockedConfig, ClockedCore, ClockedTable, Staleness};
use keyrange::cluster::Embedded;
use keyrange::key_list::KeyList;
use keyrange::key_range::{KeyRange, RangeMap};
use keyrange::manager::JobPlan;
use keyrange::message::{Frame, RefusalCode};
use keyrange::sim::Mailbox;
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::Registry;
use keyrange::worker::{Keys, Options, SubmitError, TableHandle, TaskError, WorkerConfig, WorkerCore};

const LIMIT: Duration = Duration::from_secs(20);
const CLOCKS: u64 = 30;

fn spec(aggregation: Aggregation) -> TableSpec {
    TableSpec {
        id: 1,
        name: "rows".into(),
        value_type: ValueType::F64,
        width: 2,
        store: StoreKind::Sparse,
        function: FunctionSpec::named("add"),
        aggregation,
    }
}

fn config(staleness: &str, eager: bool) -> ClockedConfig {
    ClockedConfig { eager, ..ClockedConfig::new(staleness.parse().unwrap()) }
}

/// Runs `work` on each of `workers` workers of a cluster of two servers.
fn on_each(workers: u32, work: impl Fn(&mut Worker) + Send + Sync + 'static) {
    let mut cluster =
        Embedded::start(&JobPlan::new(2, workers), &Arc::new(Registry::with_builtins())).unwrap();
    let work = Arc::new(work);
    let threads: Vec<_> = cluster
        .take_workers()
        .into_iter()
        .map(|mut worker| {
            let work = Arc::clone(&work);
            thread::spawn(move || {
                work(&mut worker);
                worker.finish(LIMIT).unwrap();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Rows spread over all keys; the worker's part of each clock's sum is 1.
fn keys() -> Vec<u64> {
    (0..500u64).map(|row| row.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect()
}

/// Every read lies between what must be seen and what can be.
fn count(config: ClockedConfig) {
    let bound = config.staleness.bound();
    on_each(3, move |worker| {
        let handle = worker.create_table(&spec(Aggregation::Clocked), LIMIT).unwrap();
        let mut table = ClockedTable::<f64>::new(worker, handle, config).unwrap();
        let keys = keys();
        for clock in 0..CLOCKS {
            table.fetch(worker, &keys, LIMIT).unwrap();
            for &key in &keys {
                let must = bound.map_or(0, |bound| clock.saturating_sub(bound));
                // My own of all clocks so far, the others' up to the bound.
                let least = (2 * must + clock) as f64;
                let row = table.get(worker, key).unwrap();
                assert_eq!(row[1], -row[0]);
                let most = bound.map_or(3 * CLOCKS, |bound| clock + 2 * (clock + bound + 1)) as f64;
                assert!((least..=most).contains(&row[0]), "clock {clock}: {least} <= {} <= {most}", row[0]);
                table.inc(key, &[1.0, -1.0]).unwrap();
                assert!(table.get(worker, key).unwrap()[0] > least, "its own increments are read at once");
            }
            table.close(worker, LIMIT).unwrap();
        }
        table.flush(worker, LIMIT).unwrap();
        worker.barrier("all done", LIMIT).unwrap();
        let list = Keys::List(KeyList::new(sorted(keys)).unwrap());
        let pull = worker.pull(handle, list, Vec::<f64>::new(), Options::default());
        let sums: Vec<f64> = worker.wait(pull.unwrap(), LIMIT).unwrap().values.into_vec();
        assert!(sums.chunks(2).all(|row| row == [3.0 * CLOCKS as f64, -3.0 * CLOCKS as f64]));
    });
}

fn sorted(mut keys: Vec<u64>) -> Vec<u64> {
    keys.sort_unstable();
    keys
}

#[test]
fn without_staleness_each_clock_sees_all_of_the_clocks_before() {
    count(config("0", false));
    count(config("0", true));
}

#[test]
fn with_staleness_reads_stay_within_the_bound() {
    count(config("2", false));
    count(config("2", true));
}

#[test]
fn unbounded_reads_wait_for_nobody_and_lose_nothing() {
    count(config("unbounded", false));
    count(config("unbounded", true));
}

#[test]
fn a_value_bound_holds_workers_back_and_lets_them_finish() {
    count(ClockedConfig { value_bound: Some(1.5), ..config("1", true) });
}

#[test]
fn a_wait_that_is_too_long_names_the_worker_that_is_behind() {
    on_each(2, |worker| {
        let handle = worker.create_table(&spec(Aggregation::Clocked), LIMIT).unwrap();
        let mut table = ClockedTable::<f64>::new(worker, handle, config("0", worker.rank() == 0)).unwrap();
        if worker.rank() == 0 {
            table.inc(5, &[1.0, 1.0]).unwrap();
            table.close(worker, LIMIT).unwrap();
            let error = table.fetch(worker, &[5], Duration::from_millis(200)).unwrap_err();
            assert!(matches!(error, ClockError::Late { .. }), "{error}");
            assert!(error.to_string().contains("worker 1 (at 0)"), "{error}");
            assert!(matches!(table.get(worker, 5), Err(ClockError::NotFetched { key: 5, clock: 1 })));
        }
        worker.barrier("told", LIMIT).unwrap();
        if worker.rank() == 1 {
            table.close(worker, LIMIT).unwrap();
        } else {
            assert!(matches!(table.close(worker, LIMIT), Err(ClockError::Fetching { clock: 1 })));
            table.fetch(worker, &[5], LIMIT).unwrap();
            assert_eq!(table.get(worker, 5).unwrap(), [1.0, 1.0]);
        }
        table.flush(worker, LIMIT).unwrap();
    });
}

#[test]
fn clocks_that_go_back_or_skip_are_refused_with_the_workers_name() {
    on_each(1, |worker| {
        let handle = worker.create_table(&spec(Aggregation::Clocked), LIMIT).unwrap();
        let mut push = |time| {
            let keys = Keys::List(KeyList::new(vec![1, u64::MAX]).unwrap());
            let task = worker.push(handle, keys, vec![vec![1.0_f64; 4]], Options::at(time)).unwrap();
            worker.wait(task, LIMIT)
        };
        push(1).unwrap();
        push(2).unwrap();
        for (time, words) in
            [(2, "worker 0 goes backwards: it was at 2"), (0, "backwards"), (4, "skips: expected 3")]
        {
            match push(time) {
                Err(WorkerError::Task(TaskError::Refused { code, text, .. })) => {
                    assert_eq!(code, RefusalCode::Time);
                    assert!(text.contains(words), "{text}");
                }
                other => panic!("clock {time}: {other:?}"),
            }
        }
        push(3).unwrap();
    });
}

#[test]
fn tables_without_clocks_and_wrong_rows_are_told() {
    on_each(1, |worker| {
        let handle = worker.create_table(&spec(Aggregation::Immediate), LIMIT).unwrap();
        let refused = ClockedTable::<f64>::new(worker, handle, ClockedConfig::new(Staleness::NONE));
        assert!(matches!(refused.err(), Some(ClockError::NotClocked { table: 1 })));
        let frozen = TableSpec { id: 2, store: StoreKind::Frozen, ..spec(Aggregation::Clocked) };
        assert!(worker.create_table(&frozen, LIMIT).unwrap_err().to_string().contains("dense or sparse"));
        let handle = worker.create_table(&TableSpec { id: 3, ..spec(Aggregation::Clocked) }, LIMIT).unwrap();
        let mut table = ClockedTable::<f64>::new(worker, handle, config("0", false)).unwrap();
        assert!(matches!(table.inc(1, &[1.0]), Err(ClockError::Width { expected: 2, got: 1 })));
        assert!(matches!(table.batch_inc(&[1, 2], &[1.0, 2.0, 3.0]), Err(ClockError::Width { .. })));
        table.batch_inc(&[1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap();
        table.fetch(worker, &[2, 1], LIMIT).unwrap();
        assert_eq!(table.get(worker, 2).unwrap(), [3.0, 4.0]);
    });
}

#[test]
fn rows_that_only_their_reader_changes_come_back_now_and_then() {
    const CLOCKS: u64 = 200;
    on_each(2, |worker| {
        let handle = worker.create_table(&spec(Aggregation::Clocked), LIMIT).unwrap();
        let mut table = ClockedTable::<f64>::new(worker, handle, config("0", true)).unwrap();
        // 100 rows of this worker's own, and one of both.
        let mut mine: Vec<u64> = keys().into_iter().skip(100 * worker.rank() as usize).take(100).collect();
        mine.push(1);
        for clock in 0..CLOCKS {
            table.fetch(worker, &mine, LIMIT).unwrap();
            assert_eq!(table.get(worker, mine[0]).unwrap(), [clock as f64, -(clock as f64)]);
            // The other may be a clock ahead.
            let both = table.get(worker, 1).unwrap()[0] - 2.0 * clock as f64;
            assert!((0.0..=1.0).contains(&both), "clock {clock}: {both}");
            mine.iter().for_each(|&key| table.inc(key, &[1.0, -1.0]).unwrap());
            table.close(worker, LIMIT).unwrap();
        }
        let pushed = table.stats().rows_pushed;
        let most = CLOCKS + 100 * (CLOCKS / 64 + 1);
        assert!((CLOCKS / 2 + 200..=most).contains(&pushed), "{pushed} rows came unasked, at most {most}");
        worker.barrier("all done", LIMIT).unwrap();
    });
}

#[test]
fn a_clock_for_which_there_is_no_room_stays_open() {
    let table = TableHandle::from(&spec(Aggregation::Clocked));
    let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).unwrap());
    let mut worker = WorkerCore::new(WorkerConfig { tasks_max: 1, ..WorkerConfig::new(0) }, map);
    let mut up = Mailbox::default();
    let mut clocked = ClockedCore::<f64>::new(table, config("2", false), 1, &mut worker).unwrap();
    clocked.inc(7, &[1.0, 2.0]).unwrap();
    let other =
        worker.push::<Vec<f64>>(table, Keys::Range(KeyRange::one(9)), vec![], Options::default(), &mut up);
    let other = other.unwrap();
    let full = clocked.close(&mut worker, &mut up).unwrap_err();
    assert!(matches!(full, ClockError::Submit(SubmitError::TooManyTasks { max: 1 })), "{full}");
    assert_eq!(clocked.clock(), 0);
    worker.cancel(other, &mut up);
    assert!(worker.take(other).unwrap().is_err());
    clocked.inc(7, &[1.0, 2.0]).unwrap();
    up.frames.clear();
    clocked.close(&mut worker, &mut up).unwrap();
    let (_, bytes) = up.frames.pop_front().expect("the clock left");
    assert_eq!(Frame::decode(bytes.bytes()).unwrap().values::<f64>(2).unwrap()[0], [2.0, 4.0]);
}
