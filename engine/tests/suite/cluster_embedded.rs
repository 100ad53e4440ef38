//! A whole job as threads of one process: what workers push is what they pull, and every end is named.

use std::sync::Arc;
use std::time::Duration;

use keyrange::client::{Worker, WorkerError};
use keyrange::cluster::Embedded;
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::manager::{JobEnd, JobPlan};
use keyrange::message::Values;
use keyrange::table::{Aggregation, StoreKind};
use keyrange::update::Registry;
use keyrange::worker::{Graph, Keys, Options, Target, TaskError};

use crate::common::{LIMIT, spec};

fn start(servers: u32, workers: u32) -> Embedded {
    let plan = JobPlan { keys: (0, 999), ..JobPlan::new(servers, workers) };
    Embedded::start(&plan, &Arc::new(Registry::with_builtins())).unwrap()
}

/// Runs `body` with each worker on a thread of its own and finishes the job.
fn run(servers: u32, workers: u32, body: impl Fn(&mut Worker) + Send + Sync + Copy) -> JobEnd {
    let mut cluster = start(servers, workers);
    std::thread::scope(|scope| {
        for mut worker in cluster.take_workers() {
            scope.spawn(move || {
                body(&mut worker);
                worker.finish(LIMIT).unwrap();
            });
        }
    });
    cluster.join()
}

#[test]
fn what_is_pushed_is_what_is_pulled_by_everybody() {
    let end = run(3, 2, |worker| {
        let table =
            worker.create_table(&spec(0, StoreKind::Sparse, Aggregation::Immediate, 2), LIMIT).unwrap();
        let rank = u64::from(worker.rank());
        // Interleaved keys, so that every shard has some of both workers.
        let list = KeyList::new((0..500).map(|i| 2 * i + rank).collect()).unwrap();
        let values: Vec<f32> = list.as_slice().iter().flat_map(|&key| [key as f32, -(key as f32)]).collect();
        let task = worker.push(table, Keys::List(list), vec![values], Options::default()).unwrap();
        worker.wait(task, LIMIT).unwrap();
        worker.barrier("pushed", LIMIT).unwrap();
        let all = KeyRange::new(0, 999).unwrap();
        let task = worker.pull::<f32>(table, Keys::Range(all), Vec::new(), Options::default()).unwrap();
        let Values::F32(pulled) = worker.wait(task, LIMIT).unwrap().values else { panic!("f32 expected") };
        let expected: Vec<f32> = (0..1000).flat_map(|key| [key as f32, -(key as f32)]).collect();
        assert_eq!(pulled, expected);
    });
    assert_eq!(end, JobEnd::Finished);
}

#[test]
fn an_aggregated_push_pull_gives_every_worker_the_sum() {
    let end = run(2, 3, |worker| {
        let dense = StoreKind::Dense { first: 0, last: 999 };
        let table = worker.create_table(&spec(7, dense, Aggregation::AllWorkers, 1), LIMIT).unwrap();
        let range = KeyRange::new(0, 999).unwrap();
        for time in 1..=5u64 {
            let mine = vec![(worker.rank() + 1) as f32; 1000];
            let task = worker
                .push_pull(table, Keys::Range(range), vec![mine], Vec::new(), Options::at(time))
                .unwrap();
            let Values::F32(sum) = worker.wait(task, LIMIT).unwrap().values else { panic!("f32 expected") };
            assert_eq!(sum, vec![6.0 * time as f32; 1000]);
        }
    });
    assert_eq!(end, JobEnd::Finished);
}

#[test]
fn a_thousand_one_key_pushes_each_count_once() {
    let end = run(2, 2, |worker| {
        let table =
            worker.create_table(&spec(0, StoreKind::Sparse, Aggregation::Immediate, 1), LIMIT).unwrap();
        for key in 0..1000 {
            worker.push_one(table, key, &[1.0f32], LIMIT).unwrap();
        }
        worker.wait_idle(LIMIT).unwrap();
        worker.barrier("pushed", LIMIT).unwrap();
        let all = KeyRange::new(0, 999).unwrap();
        let task = worker.pull::<f32>(table, Keys::Range(all), Vec::new(), Options::default()).unwrap();
        assert_eq!(worker.wait(task, LIMIT).unwrap().values, Values::F32(vec![2.0; 1000]));
    });
    assert_eq!(end, JobEnd::Finished);
}

#[test]
fn a_refusal_is_an_error_of_its_task_only() {
    let end = run(1, 1, |worker| {
        let table =
            worker.create_table(&spec(0, StoreKind::Sparse, Aggregation::Immediate, 1), LIMIT).unwrap();
        let task = worker.call(table, Target::All, "no such verb", vec![], Options::default()).unwrap();
        let error = worker.wait(task, LIMIT).unwrap_err();
        assert!(matches!(error, WorkerError::Task(TaskError::Refused { .. })), "{error}");
        worker.push_one(table, 1, &[1.0f32], LIMIT).unwrap();
        worker.wait_idle(LIMIT).unwrap();
    });
    assert_eq!(end, JobEnd::Finished);
}

#[test]
fn a_wait_that_cannot_end_says_so_at_its_deadline_and_the_barrier_names_the_missing() {
    let mut cluster = start(1, 2);
    let mut workers = cluster.take_workers();
    let error = workers[0].barrier("lonely", Duration::from_millis(1200)).unwrap_err();
    assert!(error.to_string().contains("waiting for worker 1"), "{error}");
    let dense = StoreKind::Dense { first: 0, last: 9 };
    let table = workers[0].create_table(&spec(0, dense, Aggregation::AllWorkers, 1), LIMIT).unwrap();
    let range = Keys::Range(KeyRange::new(0, 9).unwrap());
    let task = workers[0].push(table, range, vec![vec![1.0f32; 10]], Options::at(1)).unwrap();
    let error = workers[0].wait(task, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, WorkerError::TimedOut { .. }), "{error}");
}

#[test]
fn a_worker_that_vanishes_ends_every_wait_by_name() {
    let mut cluster = start(1, 2);
    let mut workers = cluster.take_workers();
    let vanishing = workers.pop().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| workers[0].barrier("b", LIMIT).unwrap_err().to_string());
        drop(vanishing);
        let error = waiting.join().unwrap();
        assert!(error.contains("worker 1"), "{error}");
    });
    let JobEnd::Aborted { reason, .. } = cluster.join() else { panic!("an aborted job") };
    assert!(reason.contains("worker 1"), "{reason}");
}

#[test]
fn an_abort_reaches_every_worker() {
    let mut cluster = start(2, 1);
    let mut workers = cluster.take_workers();
    cluster.abort("enough of this");
    let error = workers[0].barrier("b", LIMIT).unwrap_err();
    assert!(error.to_string().contains("enough of this"), "{error}");
    assert!(matches!(cluster.join(), JobEnd::Aborted { .. }));
}

#[test]
fn groups_and_shipped_graphs_end_when_all_workers_have_pushed() {
    let end = run(2, 3, |worker| {
        let table =
            worker.create_table(&spec(7, StoreKind::Sparse, Aggregation::AllWorkers, 1), LIMIT).unwrap();
        let range = KeyRange::new(0, 999).unwrap();
        for time in 1..=20u64 {
            let group = worker.group(Options::default()).unwrap();
            let within = || Options { group: Some(group), ..Options::default() };
            let told = worker.wait_update(table, range, time, within()).unwrap();
            let mut graph = Graph::new();
            let update = graph.wait(table, range, time);
            let pull = graph.pull(table, Keys::Range(range));
            let push = graph.push(table, time, Keys::Range(range), vec![vec![1f32; 1000]]);
            graph.after(pull, &[update, push]);
            let graph = worker.graph(graph, within()).unwrap();
            worker.seal(group).unwrap();
            worker.wait(group, LIMIT).unwrap();
            worker.take(told).expect("ended before its group").unwrap();
            let mut nodes = worker.take(graph).expect("ended before its group").unwrap().nodes;
            let Values::F32(sum) = nodes.swap_remove(pull.index()).unwrap().values else {
                panic!("f32 expected")
            };
            assert!(sum.iter().all(|&value| value == 3.0 * time as f32), "{:?}", &sum[..3]);
        }
    });
    assert_eq!(end, JobEnd::Finished);
}
