//! Answers through filters that come more than once, and rows that an answer leaves out.

use super::filters::{Halve, filters, options, pull, push};
use crate::wires::*;
use keyrange::filter::{PartView, RowView, UserFilter};
use keyrange::sim::FrameBytes;

/// Drops rows of 8 and halves the others.
struct Eights;

impl UserFilter for Eights {
    fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String> {
        for row in 0..rows.rows() {
            let Some(PartView::F32(values)) = rows.parts().first_mut() else { return Ok(()) };
            if values[row] == 8.0 {
                rows.drop_row(row);
            } else {
                values[row] /= 2.0;
            }
        }
        Ok(())
    }
}

/// With `user:halve` and `user:eights` at the shards.
fn cluster_with_filters() -> Cluster {
    Cluster::with_registry(1, 1, |registry| {
        registry.filters.register("halve", |_| Ok(Box::new(Halve)));
        registry.filters.register("eights", |_| Ok(Box::new(Eights)));
    })
}

/// The frames on their way to the shards, which are taken away.
fn take_up(cluster: &mut Cluster) -> Vec<FrameBytes> {
    cluster.up[0].frames.drain(..).map(|(_, frame)| frame).collect()
}

fn begin_pull(cluster: &mut Cluster, table: TableHandle, keys: &Keys, options: Options) -> TaskId {
    let out = &mut cluster.up[0];
    cluster.workers[0].pull::<f32>(table, keys.clone(), vec![], options, out).unwrap()
}

#[test]
fn a19_each_answer_to_a_repeated_pull_goes_through_its_chain() {
    let mut cluster = cluster_with_filters();
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::Range(KeyRange::new(0, 7).unwrap());
    push(&mut cluster, table, &keys, vec![8.0; 8], Options::default());
    // There is no room for answers: those of the second pull wait behind that of the first, and it arrives twice.
    let first = begin_pull(&mut cluster, table, &keys, Options::default());
    let asked = take_up(&mut cluster);
    let task = begin_pull(&mut cluster, table, &keys, options(&filters("none", "user:halve"), 1));
    let twice = take_up(&mut cluster);
    for frame in asked.iter().chain(&twice).chain(&twice) {
        cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut FullRing).unwrap();
    }
    cluster.shards[0].flush(&mut cluster.down[0]);
    assert_eq!(cluster.down[0].frames.len(), 3);
    cluster.down[0].frames.remove(1); // the first answer to the second is lost
    cluster.wait(0, first).unwrap();
    let got: Vec<f32> = cluster.wait(0, task).unwrap().values.into_vec();
    assert_eq!(got, [0.0, 4.0, 4.0, 4.0, 0.0, 4.0, 4.0, 4.0]);
}

#[test]
fn a13_a_pull_that_is_answered_twice_does_not_move_its_stream() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(50, 0));
    let filters = filters("none", "significant:1");
    let first = begin_pull(&mut cluster, table, &keys, options(&filters, 1));
    let asked = take_up(&mut cluster);
    asked.iter().for_each(|frame| {
        cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut cluster.down[0]).unwrap();
    });
    cluster.wait(0, first).unwrap();
    push(&mut cluster, table, &keys, vec![5.0; 50], Options::default());
    // The next pull has left before the first one arrives once more.
    let second = begin_pull(&mut cluster, table, &keys, options(&filters, 1));
    for frame in asked.into_iter().chain(take_up(&mut cluster)) {
        cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut cluster.down[0]).unwrap();
    }
    let got: Vec<f32> = cluster.wait(0, second).unwrap().values.into_vec();
    assert_eq!(got, vec![5.0; 50]);
}

#[test]
fn a13_rows_that_become_zero_or_are_dropped_are_read_as_zero_through_a_stream() {
    let mut cluster = cluster_with_filters();
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::Range(KeyRange::new(0, 7).unwrap());
    let zeros = filters("none", "significant:0.25,zeros");
    let eights =
        [filters("none", "significant:0.25,user:eights"), filters("none", "user:eights,significant:0.25")];
    for (by, sum) in [(4.0, 4.0), (4.0, 8.0), (8.0, 16.0), (-8.0, 8.0), (-8.0, 0.0), (0.0, 0.0)] {
        push(&mut cluster, table, &keys, vec![by; 8], Options::default());
        assert_eq!(pull(&mut cluster, table, &keys, options(&zeros, 1)), [sum; 8]);
        let expected = if sum == 8.0 { 0.0 } else { sum / 2.0 };
        for filters in &eights {
            assert_eq!(
                pull(&mut cluster, table, &keys, options(filters, 1)),
                [expected; 8],
                "{filters:?}, {sum}"
            );
        }
    }
}
