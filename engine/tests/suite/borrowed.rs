//! Arrays of foreign callers: read and written in place while their task lives, and never afterwards.

use crate::wires::*;
use keyrange::worker::{Borrowed, BorrowedMut};

fn three_keys() -> Keys {
    Keys::List(KeyList::new(vec![2, 1 << 40, u64::MAX]).unwrap())
}

#[test]
fn borrowed_arrays_are_pushed_and_pulled_in_place() {
    let mut cluster = Cluster::plain(1, 3);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let (source, mut into) = ([1f32, 2.0, 4.0], [0f32; 3]);
    // SAFETY: both arrays outlive the tasks, which end before the next line that names them.
    let borrow = || unsafe { Borrowed::new(source.as_ptr(), 3) };
    let out = &mut cluster.up[0];
    let push = cluster.workers[0].push(table, three_keys(), vec![borrow()], Options::default(), out).unwrap();
    let outcome = cluster.wait(0, push).unwrap();
    assert!(outcome.parts.is_empty() && outcome.lent.is_empty());
    // SAFETY: as above.
    let room = unsafe { BorrowedMut::new(into.as_mut_ptr(), 3) };
    let (out, parts) = (&mut cluster.up[0], vec![borrow()]);
    let both =
        cluster.workers[0].push_pull_into(table, three_keys(), parts, room, Options::default(), out).unwrap();
    cluster.wait(0, both).unwrap();
    assert_eq!(into, [2.0, 4.0, 8.0]);
    // SAFETY: as above.
    let room = unsafe { BorrowedMut::new(into.as_mut_ptr(), 3) };
    let range = Keys::Range(KeyRange::new(1, 3).unwrap());
    let out = &mut cluster.up[0];
    let pull = cluster.workers[0].pull_into(table, range, room, Options::default(), out).unwrap();
    cluster.wait(0, pull).unwrap();
    assert_eq!(into, [0.0, 2.0, 0.0]);
}

#[test]
fn room_of_another_length_or_type_is_refused() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let mut into = [0f32; 4];
    let mut pull = |keys: Keys, len: usize| {
        // SAFETY: at most 4 values, and no task comes of it.
        let room = unsafe { BorrowedMut::new(into.as_mut_ptr(), len) };
        cluster.workers[0].pull_into(table, keys, room, Options::default(), &mut cluster.up[0])
    };
    for len in [0, 2, 4] {
        let expected = SubmitError::IntoLength { expected: 3, got: len };
        assert_eq!(pull(three_keys(), len), Err(expected));
    }
    assert!(matches!(pull(Keys::Existing(KeyRange::ALL), 3), Err(SubmitError::Keys(_))));
    let mut doubles = [0f64; 3];
    // SAFETY: three values, and no task comes of it.
    let room = unsafe { BorrowedMut::new(doubles.as_mut_ptr(), 3) };
    let out = &mut cluster.up[0];
    let wrong = cluster.workers[0].pull_into(table, three_keys(), room, Options::default(), out);
    assert!(matches!(wrong, Err(SubmitError::Arrays { .. })), "{wrong:?}");
}

/// Shard 0 has lost its table and refuses, which ends the task; what shard 1 answers right behind it comes too late.
#[test]
fn an_answer_that_comes_after_the_task_ended_writes_nothing() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    cluster.push(0, table, &three_keys(), vec![1.0; 3]);
    let config = cluster.shards[0].config().clone();
    cluster.shards[0] = ShardCore::new(config, Arc::new(Registry::with_builtins()));
    cluster.shards[0].connect(0, 0).unwrap();
    let mut into = [9f32; 3];
    // SAFETY: the array outlives the test.
    let room = unsafe { BorrowedMut::new(into.as_mut_ptr(), 3) };
    let out = &mut cluster.up[0];
    let pull = cluster.workers[0].pull_into(table, three_keys(), room, Options::default(), out).unwrap();
    for (to, request) in std::mem::take(&mut cluster.up[0].frames) {
        let shard = to.0 as usize;
        cluster.shards[shard].handle(PeerId(0), request.bytes(), &mut cluster.down[shard]).unwrap();
        cluster.shards[shard].flush(&mut cluster.down[shard]);
    }
    for shard in 0..2 {
        let (_, answer) = cluster.down[shard].frames.pop_front().unwrap();
        cluster.workers[0].handle(PeerId(shard as u32), answer.bytes(), &mut cluster.up[0]).unwrap();
    }
    let end = cluster.workers[0].take(pull).unwrap();
    assert!(matches!(end, Err(TaskError::Refused { shard: 0, .. })), "{end:?}");
    assert_eq!(into, [9.0; 3]);
}
