//! Aggregated updates: block training with two value arrays, whoever comes first.

use crate::wires::*;

/// Plays `times` block updates over three workers with delay bound `tau`, frames delivered worker by worker in the given
/// order, and returns every worker's weights.
fn train(store: StoreKind, tau: u64, order: [usize; 3]) -> Vec<Vec<f64>> {
    let mut cluster = Cluster::new(3, 2, |worker, shard| {
        worker.frame_bytes_max = 2048;
        shard.frame_bytes_max = 2048;
    });
    let table = cluster.create(&blocks(store));
    let lists = [spread(300, 0), spread(300, 150), spread(40, 0)];
    if store == StoreKind::Frozen {
        for (rank, list) in lists.iter().enumerate() {
            let keys = Keys::List(list.clone());
            let out = &mut cluster.up[rank];
            let task = cluster.workers[rank]
                .push(table, keys, Vec::<Vec<f64>>::new(), Options::default(), out)
                .unwrap();
            cluster.wait(rank, task).unwrap();
        }
        let freeze = Control::Freeze { table: table.id };
        let task = cluster.workers[0].control(&freeze, Options::default(), &mut cluster.up[0]).unwrap();
        cluster.wait(0, task).unwrap();
    }
    let mut weights = vec![Vec::new(); 3];
    let mut delays = vec![BoundedDelay::new(tau); 3];
    for time in 0..6 {
        for rank in order {
            let list = lists[rank].clone();
            let part = |scale: f64| (0..list.len()).map(|at| scale + 1.0 / (at + rank + 1) as f64).collect();
            let parts: Vec<Vec<f64>> = vec![part(0.1 * time as f64), part(1.0)];
            let after = delays[rank].blockers(time).collect();
            let options = Options { after, ..Options::at(time) };
            let keys = Keys::ListIn(list, KeyRange::ALL);
            let out = &mut cluster.up[rank];
            let task = cluster.workers[rank].push_pull(table, keys, parts, Vec::new(), options, out).unwrap();
            delays[rank].started(time, task);
        }
        if tau == 0 {
            cluster.run();
        }
    }
    cluster.run();
    for rank in 0..3 {
        let open: Vec<TaskId> = delays[rank].open().map(|(_, task)| task).collect();
        for task in open {
            let outcome = cluster.workers[rank].take(task).expect("finished").unwrap();
            assert_eq!(outcome.parts.len(), 2, "pushed arrays come back");
            weights[rank] = outcome.values.into_vec();
        }
    }
    weights
}

#[test]
fn block_updates_have_the_same_bits_whoever_comes_first() {
    for store in [StoreKind::Sparse, StoreKind::Frozen] {
        let expected = train(store, 0, [0, 1, 2]);
        assert!(expected[0].iter().all(|weight| weight.is_finite() && *weight != 0.0));
        assert_eq!(train(store, 0, [2, 0, 1]), expected);
        assert_eq!(train(store, 0, [1, 2, 0]), expected);
        // Values do not depend on the weights here, so a delay changes nothing but the number under way.
        assert_eq!(train(store, 3, [2, 1, 0]), expected);
    }
    assert_eq!(train(StoreKind::Sparse, 0, [0, 1, 2]), train(StoreKind::Frozen, 0, [0, 1, 2]));
}

#[test]
fn an_update_waits_for_every_worker_and_pulls_can_wait_for_it() {
    let mut cluster = Cluster::plain(2, 1);
    let mut spec = blocks(StoreKind::Sparse);
    spec.function = FunctionSpec::named("add");
    let table = cluster.create(&spec);
    let keys = Keys::Range(KeyRange::new(5, 7).unwrap());
    let push = |cluster: &mut Cluster, rank: usize| {
        let parts = vec![vec![1.5f64; 3]];
        cluster.workers[rank].push(table, keys.clone(), parts, Options::at(8), &mut cluster.up[rank]).unwrap()
    };
    let first = push(&mut cluster, 0);
    let options = Options { after_time: true, ..Options::at(8) };
    let pull =
        cluster.workers[0].pull::<f64>(table, keys.clone(), Vec::new(), options, &mut cluster.up[0]).unwrap();
    cluster.run();
    assert_eq!(cluster.workers[0].state(first), TaskState::Running);
    assert_eq!(cluster.workers[0].state(pull), TaskState::Running);
    let second = push(&mut cluster, 1);
    cluster.wait(1, second).unwrap();
    cluster.wait(0, first).unwrap();
    assert_eq!(cluster.wait(0, pull).unwrap().values.into_vec::<f64>(), [3.0; 3]);
    let again = push(&mut cluster, 1);
    let refused = cluster.wait(1, again).unwrap_err();
    assert!(matches!(refused, TaskError::Refused { code: RefusalCode::Time, .. }), "{refused}");
}
