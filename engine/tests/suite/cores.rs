//! One or more worker cores and shard cores joined by plain wires: what each request does.

use crate::wires::*;

#[test]
fn thousands_of_one_key_pushes_in_flight_all_count() {
    let mut cluster = Cluster::plain(1, 3);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let list = spread(100, 0);
    for round in 0..5000 {
        let key = list.as_slice()[round % 100];
        cluster.workers[0].push_one(table, key, &[1f32], u64::MAX, &mut cluster.up[0]).unwrap();
    }
    assert!(cluster.workers[0].open_requests() == 5000);
    cluster.run();
    assert_eq!((cluster.workers[0].open_requests(), cluster.workers[0].open_tasks()), (0, 0));
    assert_eq!(cluster.pull(0, table, &Keys::List(list)), vec![50.0; 100]);
}

#[test]
fn a_full_window_says_busy_and_keeps_nothing() {
    let mut cluster = Cluster::new(1, 1, |worker, shard| {
        worker.window_requests = 64;
        shard.window_requests = 64;
    });
    let table = cluster.create(&spec(StoreKind::Sparse));
    for _ in 0..64 {
        cluster.workers[0].push_one(table, 1, &[1f32], u64::MAX, &mut cluster.up[0]).unwrap();
    }
    let busy = cluster.workers[0].push_one(table, 1, &[1f32], u64::MAX, &mut cluster.up[0]);
    assert_eq!(busy, Err(SubmitError::Busy { shard: 0 }));
    assert_eq!(cluster.pull(0, table, &Keys::Range(KeyRange::one(1))), [64.0]);
}

#[test]
fn a_repeated_list_sends_its_signature_and_a_forgotten_one_is_asked_for() {
    let mut cluster = Cluster::new(1, 2, |_, shard| shard.key_cache_bytes = 500);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let (one, other) = (Keys::List(spread(600, 0)), Keys::List(spread(600, 7777)));
    let misses = |cluster: &Cluster| cluster.shards.iter().map(|shard| shard.stats().key_misses).sum::<u64>();
    for round in 1..=3 {
        cluster.push(0, table, &one, vec![1.0; 600]);
        assert_eq!(cluster.pull(0, table, &one), vec![round as f32; 600]);
    }
    assert_eq!(misses(&cluster), 0);
    let sent = {
        let options = Options::default();
        let task =
            cluster.workers[0].pull::<f32>(table, one.clone(), Vec::new(), options, &mut cluster.up[0]);
        let bytes: usize = cluster.up[0].frames.iter().map(|(_, frame)| frame.bytes().len()).sum();
        cluster.wait(0, task.unwrap()).unwrap();
        bytes
    };
    assert_eq!(sent, 2 * (64 + 16));
    cluster.push(0, table, &other, vec![1.0; 600]);
    assert_eq!(cluster.pull(0, table, &one), vec![3.0; 600]);
    assert_eq!(misses(&cluster), 2);
}

#[test]
fn ranges_wider_than_a_frame_are_cut_and_put_together() {
    let mut cluster = Cluster::new(1, 3, |worker, shard| {
        worker.frame_bytes_max = 1024;
        shard.frame_bytes_max = 1024;
    });
    let middle = KeyRange::ALL.last() / 3;
    let range = KeyRange::new(middle - 1000, middle + 999).unwrap();
    for store in [StoreKind::Sparse, StoreKind::Dense { first: middle - 2000, last: middle + 2000 }] {
        let mut spec = spec(store);
        spec.id += matches!(store, StoreKind::Sparse) as u16;
        let table = cluster.create(&spec);
        let values: Vec<f32> = (0..2000).map(|at| at as f32).collect();
        cluster.push(0, table, &Keys::Range(range), values.clone());
        assert_eq!(cluster.pull(0, table, &Keys::Range(range)), values);
    }
}

#[test]
fn existing_keys_come_in_order_whatever_number_of_frames_they_take() {
    let mut cluster = Cluster::new(1, 4, |worker, shard| {
        worker.frame_bytes_max = 512;
        shard.frame_bytes_max = 512;
    });
    let table = cluster.create(&spec(StoreKind::Sparse));
    let list = spread(500, 3);
    cluster.push(0, table, &Keys::List(list.clone()), (0..500).map(|at| at as f32).collect());
    let keys = Keys::Existing(KeyRange::ALL);
    let task =
        cluster.workers[0].pull::<f32>(table, keys, Vec::new(), Options::default(), &mut cluster.up[0]);
    let outcome = cluster.wait(0, task.unwrap()).unwrap();
    assert_eq!(outcome.keys, list.as_slice());
    assert_eq!(outcome.values.into_vec::<f32>(), (0..500).map(|at| at as f32).collect::<Vec<f32>>());
}

#[test]
fn missing_keys_read_as_zero_until_they_are_pushed() {
    let mut cluster = Cluster::plain(2, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let list = Keys::List(spread(100, 0));
    assert_eq!(cluster.pull(0, table, &list), vec![0.0; 100]);
    cluster.push(1, table, &list, vec![2.0; 100]);
    assert_eq!(cluster.pull(0, table, &list), vec![2.0; 100]);
}

#[test]
fn tasks_start_after_those_they_follow_and_fail_with_them() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::Range(KeyRange::one(3));
    let worker = &mut cluster.workers[0];
    let out = &mut cluster.up[0];
    let push = worker.push(table, keys.clone(), vec![vec![1f32]], Options::default(), out).unwrap();
    let options = Options { after: vec![push], ..Options::default() };
    let pull = worker.pull::<f32>(table, keys.clone(), Vec::new(), options, out).unwrap();
    assert_eq!(worker.state(pull), TaskState::Waiting);
    assert_eq!(out.frames.len(), 1);
    let no_table = TableHandle { id: 1000, ..table };
    let bad = worker.push(no_table, keys.clone(), vec![vec![1f32]], Options::default(), out).unwrap();
    let options = Options { after: vec![bad, push], ..Options::default() };
    let doomed = worker.pull::<f32>(table, keys, Vec::new(), options, out).unwrap();
    assert_eq!(cluster.wait(0, pull).unwrap().values.into_vec::<f32>(), [1.0]);
    assert!(matches!(cluster.wait(0, doomed), Err(TaskError::Dependency(_))));
    let refused = cluster.wait(0, bad).unwrap_err();
    assert!(matches!(refused, TaskError::Refused { code: RefusalCode::NoTable, .. }), "{refused}");
}

#[test]
fn deadlines_callbacks_and_lost_shards_end_tasks() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(50, 0));
    let (told, hear) = std::sync::mpsc::channel();
    let callback = Box::new(move |_, end| told.send(end).unwrap());
    let options =
        Options { deadline: Some(Duration::from_secs(1)), callback: Some(callback), ..Options::default() };
    let worker = &mut cluster.workers[0];
    let out = &mut cluster.up[0];
    worker.push(table, keys.clone(), vec![vec![1f32; 50]], options, out).unwrap();
    worker.poll(Duration::from_millis(999), out);
    assert!(hear.try_recv().is_err());
    worker.poll(Duration::from_millis(1000), out);
    let missing = "shard 0, shard 1".to_owned();
    assert_eq!(hear.try_recv().unwrap(), Err(TaskError::TimedOut { missing }));
    let task = worker.pull::<f32>(table, keys.clone(), Vec::new(), Options::default(), out).unwrap();
    worker.fail(PeerId(1), "killed", out);
    let gone = TaskError::PeerGone { shard: 1, reason: "killed".to_owned() };
    assert_eq!(worker.take(task).unwrap(), Err(gone));
    let refused = worker.pull::<f32>(table, keys, Vec::new(), Options::default(), out);
    assert!(matches!(refused, Err(SubmitError::PeerGone { shard: 1, .. })));
}

#[test]
fn misuse_is_refused_before_anything_is_sent() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let three = Keys::Range(KeyRange::new(1, 3).unwrap());
    let short = worker.push(table, three.clone(), vec![vec![1f32; 2]], Options::default(), out);
    assert_eq!(short, Err(SubmitError::ArrayLength { part: 0, expected: 3, got: 2 }));
    assert!(matches!(
        worker.push(table, three.clone(), vec![vec![1f64; 3]], Options::default(), out),
        Err(SubmitError::Arrays { .. })
    ));
    assert!(matches!(
        worker.pull::<f32>(table, Keys::Range(KeyRange::ALL), Vec::new(), Options::default(), out),
        Err(SubmitError::Keys(_))
    ));
    let target = Target::Shard(7);
    let call = worker.call(table, target, "verb", Vec::new(), Options::default(), out);
    assert_eq!(call, Err(SubmitError::NoShard { got: 7, shards: 1 }));
    assert!(out.frames.is_empty());
}

#[test]
fn what_does_not_fit_the_table_is_refused_and_changes_nothing() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Dense { first: 10, last: 20 }));
    let outside = Keys::Range(KeyRange::new(20, 21).unwrap());
    let wide = TableHandle { width: 2, ..table };
    let inside = Keys::Range(KeyRange::new(10, 11).unwrap());
    for (table, keys, values) in [(table, outside, 2), (wide, inside.clone(), 4)] {
        let push = vec![vec![1f32; values]];
        let task =
            cluster.workers[0].push(table, keys, push, Options::default(), &mut cluster.up[0]).unwrap();
        assert!(matches!(cluster.wait(0, task), Err(TaskError::Refused { .. })));
    }
    let task = cluster.workers[0].call(
        table,
        Target::All,
        "dance",
        Vec::new(),
        Options::default(),
        &mut cluster.up[0],
    );
    let refused = cluster.wait(0, task.unwrap()).unwrap_err();
    assert!(matches!(refused, TaskError::Refused { code: RefusalCode::Function, .. }), "{refused}");
    let doubles = TableHandle { value_type: 2, ..table };
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let task = worker.pull::<f64>(doubles, inside.clone(), Vec::new(), Options::default(), out).unwrap();
    let refused = cluster.wait(0, task).unwrap_err();
    assert!(matches!(refused, TaskError::Refused { code: RefusalCode::Mismatch, .. }), "{refused}");
    assert_eq!(cluster.pull(0, table, &inside), [0.0, 0.0]);
}

#[test]
fn a_replaced_link_loses_nothing_and_repeats_nothing() {
    let mut cluster = Cluster::new(1, 1, |worker, _| worker.retain = true);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let list = spread(40, 0);
    let keys = Keys::List(list.clone());
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let one = worker.push_one(table, list.as_slice()[0], &[1f32], u64::MAX, out).unwrap();
    let many = worker.push(table, keys.clone(), vec![vec![1f32; 40]], Options::default(), out).unwrap();
    // The shard gets the first frame, its answer and the second frame are lost with the link.
    let (_, frame) = cluster.up[0].frames.pop_front().unwrap();
    cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut cluster.down[0]).unwrap();
    cluster.shards[0].flush(&mut cluster.down[0]);
    cluster.up[0].frames.clear();
    cluster.down[0].frames.clear();
    cluster.shards[0].connect(0, 0).unwrap();
    cluster.workers[0].resend(PeerId(0), &mut cluster.up[0]);
    cluster.wait(0, one).unwrap();
    cluster.wait(0, many).unwrap();
    let mut expected = vec![1.0; 40];
    expected[0] = 2.0;
    assert_eq!(cluster.pull(0, table, &keys), expected);
}

#[test]
fn a_peer_that_breaks_the_protocol_is_named_and_harms_nothing() {
    let mut cluster = Cluster::plain(2, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    cluster.workers[0].push_one(table, 1, &[1f32], u64::MAX, &mut cluster.up[0]).unwrap();
    let (_, frame) = cluster.up[0].frames.pop_front().unwrap();
    let (shard, out) = (&mut cluster.shards[0], &mut cluster.down[0]);
    assert_eq!(shard.handle(PeerId(1), frame.bytes(), out), Err(PeerFault::Sender { expected: 1, got: 0 }));
    assert_eq!(shard.handle(PeerId(9), frame.bytes(), out), Err(PeerFault::NoSession { peer: 9 }));
    let mut damaged = frame.clone();
    damaged.bytes_mut()[20] ^= 1;
    assert!(matches!(shard.handle(PeerId(0), damaged.bytes(), out), Err(PeerFault::Decode(_))));
    shard.handle(PeerId(0), frame.bytes(), out).unwrap();
    assert_eq!(cluster.pull(0, table, &Keys::Range(KeyRange::one(1))), [1.0]);
}

#[test]
fn a_list_that_found_no_room_brings_its_keys_when_there_is_room() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(100, 0));
    let ones = vec![vec![1f32; 100]];
    let task = cluster.workers[0].push(table, keys.clone(), ones, Options::default(), &mut FullRing).unwrap();
    cluster.wait(0, task).unwrap();
    assert_eq!(cluster.pull(0, table, &keys), vec![1.0; 100]);
    assert_eq!(cluster.shards[0].stats().key_misses, 0);
}

#[test]
fn requests_of_failed_tasks_are_not_waited_for_and_their_late_answers_change_nothing() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let list = spread(100, 0);
    let keys = Keys::List(list.clone());
    let (worker, out) = (&mut cluster.workers[0], &mut cluster.up[0]);
    let push = || vec![vec![1f32; 100]];
    let cancelled = worker.push(table, keys.clone(), push(), Options::default(), out).unwrap();
    let options = Options { deadline: Some(Duration::from_secs(1)), ..Options::default() };
    let late = worker.push(table, keys.clone(), push(), options, out).unwrap();
    worker.push_one(table, list.as_slice()[0], &[1f32], 1, out).unwrap();
    worker.cancel(cancelled, out);
    worker.poll(Duration::from_secs(1), out);
    assert_eq!(worker.open_requests(), 0);
    assert_eq!(worker.take(cancelled), Some(Err(TaskError::Cancelled)));
    assert!(matches!(worker.take(late), Some(Err(TaskError::TimedOut { .. }))));
    let mut expected = vec![2.0; 100];
    expected[0] = 3.0;
    assert_eq!(cluster.pull(0, table, &keys), expected);
}

#[test]
fn a_call_whose_answer_was_lost_is_answered_however_many_calls_follow_it() {
    let mut cluster = Cluster::new(1, 1, |worker, _| worker.retry_after = Some(Duration::from_secs(1)));
    let table = cluster.create(&spec(StoreKind::Sparse));
    let call = |cluster: &mut Cluster| {
        let out = &mut cluster.up[0];
        // No such verb: the refusal is an answer like any other.
        cluster.workers[0].call(table, Target::All, "none", Vec::new(), Options::default(), out).unwrap()
    };
    let first = call(&mut cluster);
    let (_, frame) = cluster.up[0].frames.pop_front().unwrap();
    cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut cluster.down[0]).unwrap();
    assert!(cluster.down[0].frames.pop_front().is_some());
    let others: Vec<TaskId> = (0..300).map(|_| call(&mut cluster)).collect();
    cluster.run();
    assert_eq!(cluster.workers[0].state(first), TaskState::Running);
    cluster.workers[0].poll(Duration::from_secs(10), &mut cluster.up[0]);
    cluster.run();
    for task in [first].into_iter().chain(others) {
        let end = cluster.workers[0].take(task).expect("the call has ended");
        assert!(matches!(end, Err(TaskError::Refused { code: RefusalCode::Function, .. })), "{end:?}");
    }
}

#[test]
fn values_of_a_clocked_table_come_with_the_clock_of_the_shard_they_are_from() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&TableSpec { aggregation: Aggregation::Clocked, ..spec(StoreKind::Sparse) });
    let middle = KeyRange::ALL.last() / 2;
    let push = |cluster: &mut Cluster, keys: Vec<Key>, range: KeyRange, time: u64| {
        let (values, list) = (vec![1.0_f32; keys.len()], KeyList::new(keys).unwrap());
        let (keys, out) = (Keys::ListIn(list, range), &mut cluster.up[0]);
        let task = cluster.workers[0].push(table, keys, vec![values], Options::at(time), out).unwrap();
        cluster.wait(0, task).unwrap();
    };
    push(&mut cluster, vec![1, 2, u64::MAX], KeyRange::ALL, 1);
    // Only the upper shard hears of clock 2.
    push(&mut cluster, vec![u64::MAX], KeyRange::new(middle + 1, u64::MAX).unwrap(), 2);
    let list = Keys::List(KeyList::new(vec![1, 2, u64::MAX]).unwrap());
    let range = Keys::Range(KeyRange::new(middle - 1, middle + 1).unwrap());
    let existing = Keys::Existing(KeyRange::ALL);
    for keys in [list, range, existing] {
        let out = &mut cluster.up[0];
        let task = cluster.workers[0].pull::<f32>(table, keys.clone(), Vec::new(), Options::default(), out);
        let outcome = cluster.wait(0, task.unwrap()).unwrap();
        assert_eq!(outcome.clocks, [(0..2, 1), (2..3, 2)], "{keys:?}");
    }
}
