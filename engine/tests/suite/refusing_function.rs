//! Server functions that will not apply a push, and those that combine the pushes of workers themselves.

use crate::wires::*;
use keyrange::update::{Combine, UpdateError};
use proptest::prelude::*;

/// Adds what is pushed, unless some of it is no number; combines as it is told.
struct Careful(Combine);

fn check(values: &[f32]) -> Result<(), UpdateError> {
    match values.iter().position(|value| value.is_nan()) {
        Some(at) => Err(UpdateError(format!("value {at} is not a number"))),
        None => Ok(()),
    }
}

impl ServerFn<f32> for Careful {
    fn name(&self) -> &str {
        "careful"
    }
    fn combine(&self) -> Combine {
        self.0
    }
    fn neutral(&self, _part: usize) -> f32 {
        f32::NEG_INFINITY
    }
    /// The greatest value of all workers.
    fn fold(&mut self, sums: &mut [&mut [f32]], parts: &[&[f32]]) -> Result<(), UpdateError> {
        check(parts[0])?;
        sums[0].iter_mut().zip(parts[0]).for_each(|(sum, value)| *sum = sum.max(*value));
        Ok(())
    }
    fn update(&mut self, rows: &mut Rows<'_, f32>, parts: &[&[f32]]) -> Result<(), UpdateError> {
        rows.try_apply(|[weights]| {
            for (weight, value) in weights.iter_mut().zip(parts[0]) {
                *weight += value; // Too early: what of it stays is said at try_apply.
            }
            check(parts[0])
        })
    }
}

fn careful(workers: usize, combine: Combine, aggregation: Aggregation) -> (Cluster, TableHandle) {
    let mut cluster = Cluster::with_registry(workers, 1, |registry| {
        registry.register_f32("careful", move |_| Ok(Box::new(Careful(combine))));
    });
    let function = FunctionSpec::named("careful");
    let table = cluster.create(&TableSpec { function, aggregation, ..spec(StoreKind::Sparse) });
    (cluster, table)
}

fn begin(cluster: &mut Cluster, rank: usize, table: TableHandle, keys: &Keys, values: &[f32]) -> TaskId {
    let out = &mut cluster.up[rank];
    let parts = vec![values.to_vec()];
    cluster.workers[rank].push(table, keys.clone(), parts, Options::at(1), out).unwrap()
}

fn is_refused(end: Result<Outcome, TaskError>) -> bool {
    let text = "server function \"careful\" refused: value 1 is not a number";
    matches!(end, Err(TaskError::Refused { code: RefusalCode::Function, text: got, .. }) if got == text)
}

#[test]
fn a_refused_push_changes_nothing_and_the_next_is_applied() {
    let (mut cluster, table) = careful(1, Combine::Sum, Aggregation::Immediate);
    let keys = Keys::List(spread(3, 0));
    cluster.push(0, table, &keys, vec![1.0; 3]);
    // Rows that are not consecutive are gathered, so that even a function that looks too late does no harm.
    let every_other = Keys::List(KeyList::new(vec![keys_of(&keys)[0], keys_of(&keys)[2]]).unwrap());
    let task = begin(&mut cluster, 0, table, &every_other, &[5.0, f32::NAN]);
    assert!(is_refused(cluster.wait(0, task)));
    assert_eq!(cluster.pull(0, table, &keys), [1.0; 3]);
    cluster.push(0, table, &keys, vec![1.0; 3]);
    assert_eq!(cluster.pull(0, table, &keys), [2.0; 3]);
    assert_eq!(cluster.shards[0].stats().refused, 1);
}

fn keys_of(keys: &Keys) -> Vec<Key> {
    let Keys::List(list) = keys else { panic!("expected a list") };
    list.as_slice().to_vec()
}

#[test]
fn a_refused_update_is_refused_for_all_its_workers_and_waits_for_nobody() {
    for combine in [Combine::Sum, Combine::Fold] {
        let (mut cluster, table) = careful(2, combine, Aggregation::AllWorkers);
        let keys = Keys::List(spread(2, 0));
        let good = begin(&mut cluster, 0, table, &keys, &[1.0, 1.0]);
        let bad = begin(&mut cluster, 1, table, &keys, &[1.0, f32::NAN]);
        assert!(is_refused(cluster.wait(0, good)), "{combine:?}");
        assert!(is_refused(cluster.wait(1, bad)), "{combine:?}");
        let options = Options { after_time: true, ..Options::at(1) };
        let pull = cluster.workers[0].pull::<f32>(table, keys, Vec::new(), options, &mut cluster.up[0]);
        cluster.wait(0, pull.unwrap()).unwrap();
    }
}

#[test]
fn of_pushes_applied_one_by_one_only_the_refused_one_is_refused() {
    let (mut cluster, table) = careful(3, Combine::Each, Aggregation::AllWorkers);
    let keys = Keys::List(spread(2, 0));
    let pushes = [[1.0, 1.0], [2.0, f32::NAN], [4.0, 4.0]];
    // The rows get their places in another order than that of the keys.
    let tasks: Vec<TaskId> =
        (0..3).map(|rank| begin(&mut cluster, rank, table, &keys, &pushes[rank])).collect();
    cluster.run();
    let ends: Vec<_> = tasks.into_iter().enumerate().map(|(rank, task)| cluster.wait(rank, task)).collect();
    assert_eq!(ends.into_iter().map(is_refused).collect::<Vec<_>>(), [false, true, false]);
}

#[test]
fn a_refusal_that_was_lost_is_told_again() {
    let (mut cluster, table) = careful(1, Combine::Sum, Aggregation::AllWorkers);
    let keys = Keys::List(spread(2, 0));
    let task = begin(&mut cluster, 0, table, &keys, &[1.0, f32::NAN]);
    let (_, frame) = cluster.up[0].frames.pop_front().unwrap();
    let mut lost = Mailbox::default();
    cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut lost).unwrap();
    assert_eq!(lost.frames.len(), 1);
    cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut cluster.down[0]).unwrap();
    let end = cluster.wait(0, task);
    assert!(matches!(end, Err(TaskError::Refused { code: RefusalCode::Repeated, .. })), "{end:?}");
}

#[test]
fn a_replaced_worker_hears_of_the_refusal_too() {
    let (mut cluster, table) = careful(1, Combine::Sum, Aggregation::AllWorkers);
    let keys = Keys::List(spread(2, 0));
    let task = begin(&mut cluster, 0, table, &keys, &[1.0, f32::NAN]);
    assert!(is_refused(cluster.wait(0, task)));
    cluster.shards[0].connect(0, 1).unwrap();
    let config = WorkerConfig { epoch: 1, ..WorkerConfig::new(0) };
    let map = Arc::new(RangeMap::even(1, KeyRange::ALL, 1).unwrap());
    cluster.workers[0] = WorkerCore::new(config, map);
    let task = begin(&mut cluster, 0, table, &keys, &[1.0, f32::NAN]);
    let end = cluster.wait(0, task);
    assert!(matches!(end, Err(TaskError::Refused { code: RefusalCode::Function, .. })), "{end:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Of every key the greatest value that any worker pushed, in whatever shapes the workers' lists overlap.
    #[test]
    fn what_a_function_folds_is_what_it_gets(pushes in prop::collection::vec(prop::collection::btree_map(0..40u64, -50..50i32, 1..20), 1..4)) {
        let (mut cluster, table) = careful(pushes.len(), Combine::Fold, Aggregation::AllWorkers);
        let mut tasks = Vec::new();
        for (rank, push) in pushes.iter().enumerate() {
            let keys = Keys::List(KeyList::new(push.keys().copied().collect::<Vec<_>>()).unwrap());
            let values: Vec<f32> = push.values().map(|&value| value as f32).collect();
            tasks.push(begin(&mut cluster, rank, table, &keys, &values));
        }
        cluster.run();
        for (rank, task) in tasks.into_iter().enumerate() {
            cluster.wait(rank, task).unwrap();
        }
        let all = Keys::Range(KeyRange::new(0, 39).unwrap());
        let greatest = |key| pushes.iter().filter_map(|push| push.get(&key)).max();
        let expected: Vec<f32> = (0..40).map(|key| greatest(key).map_or(0.0, |&value| value as f32)).collect();
        prop_assert_eq!(cluster.pull(0, table, &all), expected);
    }
}
