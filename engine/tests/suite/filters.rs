//! What filters promise, between worker cores and shard cores on plain wires.

use crate::wires::*;
use keyrange::filter::{Chain, ChainSpec, Direction, FilterRegistry, Filters, PartView, RowView, UserFilter};
use keyrange::message::Frame;

pub(super) fn chain(text: &str) -> ChainSpec {
    text.parse().unwrap()
}

pub(super) fn filters(push: &str, pull: &str) -> Filters {
    Filters::new(&chain(push), &chain(pull), 42).unwrap()
}

pub(super) fn options(filters: &Filters, time: u64) -> Options {
    Options { filters: filters.clone(), ..Options::at(time) }
}

pub(super) fn push(
    cluster: &mut Cluster,
    table: TableHandle,
    keys: &Keys,
    values: Vec<f32>,
    options: Options,
) {
    let task =
        cluster.workers[0].push(table, keys.clone(), vec![values], options, &mut cluster.up[0]).unwrap();
    cluster.wait(0, task).unwrap();
}

pub(super) fn pull(cluster: &mut Cluster, table: TableHandle, keys: &Keys, options: Options) -> Vec<f32> {
    let out = &mut cluster.up[0];
    let task = cluster.workers[0].pull::<f32>(table, keys.clone(), Vec::new(), options, out).unwrap();
    cluster.wait(0, task).unwrap().values.into_vec()
}

/// Bytes that wait to be carried.
fn bytes(mail: &[Mailbox]) -> usize {
    mail.iter().flat_map(|mail| &mail.frames).map(|(_, frame)| frame.bytes().len()).sum()
}

/// Hands what lies in the worker's mailbox to the shards; the answers stay in theirs. Returns their bytes.
fn deliver_up(cluster: &mut Cluster) -> usize {
    for (to, frame) in std::mem::take(&mut cluster.up[0].frames) {
        let shard = to.0 as usize;
        cluster.shards[shard].handle(PeerId(0), frame.bytes(), &mut cluster.down[shard]).unwrap();
    }
    for (shard, mail) in cluster.shards.iter_mut().zip(&mut cluster.down) {
        shard.flush(mail);
    }
    bytes(&cluster.down)
}

/// Bytes of the answers to one pull, which is then finished.
fn pulled_bytes(cluster: &mut Cluster, table: TableHandle, keys: &Keys, options: Options) -> usize {
    let out = &mut cluster.up[0];
    let task = cluster.workers[0].pull::<f32>(table, keys.clone(), Vec::new(), options, out).unwrap();
    let bytes = deliver_up(cluster);
    cluster.wait(0, task).unwrap();
    bytes
}

/// Numbers that look random and repeat.
fn noise(step: u64, count: usize) -> Vec<f32> {
    let number = |at: u64| {
        let x = (at ^ step << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((x ^ x >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count as u64).map(number).collect()
}

#[test]
fn a13_a_push_holds_back_no_more_than_its_bound_and_loses_nothing() {
    let mut cluster = Cluster::plain(1, 3);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(500, 0));
    let Keys::List(list) = &keys else { unreachable!() };
    let filters = filters("significant:3", "none");
    let mut exact = vec![0.0; 500];
    for time in 1..=60 {
        let values = noise(time, 500);
        exact.iter_mut().zip(&values).for_each(|(sum, x)| *sum += f64::from(*x));
        push(&mut cluster, table, &keys, values, options(&filters, time));
        let bound = 3.0 / time as f64 + 1e-5;
        for (got, exact) in cluster.pull(0, table, &keys).iter().zip(&exact) {
            assert!((f64::from(*got) - exact).abs() <= bound, "time {time}: {got} for {exact}");
        }
    }
    let report = filters.push().unwrap().report();
    assert!(report[0].entries_dropped > 1000 && report[0].bytes_out < report[0].bytes_in, "{report:?}");
    let (held, rows) = filters.push().unwrap().take_held_back::<f32>(table.id);
    assert!(held.iter().all(|key| list.as_slice().contains(key)));
    push(&mut cluster, table, &Keys::List(KeyList::new(held).unwrap()), rows[0].clone(), Options::at(61));
    for (got, exact) in cluster.pull(0, table, &keys).iter().zip(&exact) {
        assert!((f64::from(*got) - exact).abs() < 1e-4);
    }
}

#[test]
fn a13_a_pull_is_never_further_from_the_table_than_its_bound() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    for keys in [Keys::List(spread(300, 0)), Keys::Range(KeyRange::new(1, 300).unwrap())] {
        let filters = filters("none", "significant:2,lz4");
        for time in 1..=40 {
            push(&mut cluster, table, &keys, noise(time, 300), Options::at(time));
            let exact = cluster.pull(0, table, &keys);
            let got = pull(&mut cluster, table, &keys, options(&filters, time));
            let bound = 2.0 / time as f32;
            assert!(got.iter().zip(&exact).all(|(got, exact)| (got - exact).abs() <= bound), "time {time}");
        }
        // Only rows that moved were sent.
        assert!(filters.pull().unwrap().report()[0].entries_dropped > 300);
        let still = pulled_bytes(&mut cluster, table, &keys, options(&filters, 40));
        assert!(still < 2 * (64 + 16 + 300 / 8 + 16), "{still}");
    }
}

#[test]
fn a13_answers_that_are_lost_or_forgotten_cost_bytes_not_truth() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(200, 0));
    let filters = filters("none", "significant:0.0001");
    for time in 1..=30 {
        push(&mut cluster, table, &keys, noise(time, 200), Options::at(time));
        let exact = cluster.pull(0, table, &keys);
        let out = &mut cluster.up[0];
        let mut tasks = Vec::new();
        for _ in 0..2 {
            let task =
                cluster.workers[0].pull::<f32>(table, keys.clone(), vec![], options(&filters, time), out);
            tasks.push(task.unwrap());
        }
        if time % 3 == 0 {
            deliver_up(&mut cluster);
            if time % 2 == 0 {
                cluster.down[0].frames.remove(0);
            } else {
                cluster.down[0].frames.clear();
            }
            cluster.workers[0].resend(PeerId(0), &mut cluster.up[0]);
        }
        if time % 7 == 0 {
            // Another shard in its place knows nothing of the stream, nor of the key list.
            deliver_up(&mut cluster);
            cluster.down[0].frames.clear();
            cluster.shards[0].connect(0, 0).unwrap();
            cluster.workers[0].resend(PeerId(0), &mut cluster.up[0]);
        }
        cluster.run();
        for task in tasks {
            let got: Vec<f32> = cluster.workers[0].take(task).expect("finished").unwrap().values.into_vec();
            assert!(got.iter().zip(&exact).all(|(got, exact)| (got - exact).abs() <= 0.0001), "time {time}");
        }
    }
}

#[test]
fn a14_skipped_rows_leave_the_mean_as_it_is() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(1000, 0));
    let filters = filters("skip:0.3", "none");
    for time in 1..=300 {
        push(&mut cluster, table, &keys, vec![1.0; 1000], options(&filters, time));
    }
    let sums = cluster.pull(0, table, &keys);
    let mean = sums.iter().map(|&x| f64::from(x)).sum::<f64>() / 300_000.0;
    assert!((mean - 1.0).abs() < 4.0 * (0.7 / 0.3f64 / 300_000.0).sqrt(), "{mean}");
    let dropped = filters.push().unwrap().report()[0].entries_dropped as f64 / 300_000.0;
    assert!((dropped - 0.7).abs() < 0.01, "{dropped}");
}

#[test]
fn a16_lists_that_differ_in_one_key_anywhere_are_different_lists() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let filters = filters("key-cache", "none");
    let first: Vec<Key> = (0..1000).map(|key| key * 10).collect();
    // Equal in length and in the first 256 keys and more; differing by one bit; by the last key; by one in the middle.
    let mut lists = vec![first.clone()];
    for (at, by) in [(999, 1), (999, 1 << 40), (300, 1), (500, 9), (0, 1), (257, 4)] {
        let mut list = first.clone();
        list[at] += by;
        lists.push(list);
    }
    let lists: Vec<Keys> = lists.into_iter().map(|list| Keys::List(KeyList::new(list).unwrap())).collect();
    for _ in 0..3 {
        for keys in &lists {
            push(&mut cluster, table, keys, vec![1.0; 1000], options(&filters, 1));
        }
    }
    let at = |cluster: &mut Cluster, key| cluster.pull(0, table, &Keys::Range(KeyRange::one(key)))[0];
    for (key, pushes) in
        [(9990, 5), (9991, 1), (9990 + (1 << 40), 1), (3001, 1), (5009, 1), (1, 1), (2574, 1), (20, 7)]
    {
        assert_eq!(at(&mut cluster, key), 3.0 * pushes as f32, "key {key}");
    }
    // A list said to be known that never came is asked for, not guessed: the shard was replaced by an empty one.
    let mut fresh = Cluster::plain(1, 1);
    fresh.create(&spec(StoreKind::Sparse));
    std::mem::swap(&mut cluster.shards, &mut fresh.shards);
    let signed = {
        let out = &mut cluster.up[0];
        let task = cluster.workers[0].push(
            table,
            lists[0].clone(),
            vec![vec![2f32; 1000]],
            options(&filters, 2),
            out,
        );
        (task.unwrap(), bytes(&cluster.up))
    };
    assert!(signed.1 < 64 + 64 + 4000 + 64);
    // The new shard numbers requests from 1: this one is far ahead of nothing, within its window.
    cluster.wait(0, signed.0).unwrap();
    assert_eq!(cluster.shards[0].stats().key_misses, 1);
    assert_eq!(cluster.pull(0, table, &lists[0]), vec![2.0; 1000]);
}

#[test]
fn a16_naming_lists_halves_what_u64_keys_and_f64_values_take() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&TableSpec { value_type: ValueType::F64, ..spec(StoreKind::Sparse) });
    let keys = Keys::List(spread(4000, 0));
    let mut sent = |filters: &Filters| {
        let mut total = 0;
        for time in 1..=50 {
            let (out, values) = (&mut cluster.up[0], vec![vec![1f64; 4000]]);
            let task =
                cluster.workers[0].push(table, keys.clone(), values, options(filters, time), out).unwrap();
            total += bytes(&cluster.up);
            cluster.wait(0, task).unwrap();
        }
        total
    };
    let whole = filters("none", "none");
    let named = filters("key-cache", "none");
    let ratio = sent(&whole) as f64 / sent(&named) as f64;
    assert!(ratio >= 1.9, "{ratio}");
    let report = &named.push().unwrap().report()[0];
    assert_eq!((report.bytes_in, report.bytes_out), (50 * 32_000, 50 * 2 * 16));
}

#[test]
fn a17_pulls_that_are_nearly_all_zeros_shrink_twentyfold() {
    let mut cluster = Cluster::plain(1, 2);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(20_000, 0));
    let weights: Vec<f32> =
        (0..20_000).map(|at| if at % 20 == 7 { (at % 300) as f32 } else { 0.0 }).collect();
    push(&mut cluster, table, &keys, weights.clone(), Options::default());
    let plain = pulled_bytes(&mut cluster, table, &keys, Options::default());
    for text in ["zeros,f16,lz4", "zeros,fixed:1", "zeros,fixed:1,lz4"] {
        let filters = filters("none", text);
        let filtered = pulled_bytes(&mut cluster, table, &keys, options(&filters, 1));
        assert!(plain > 20 * filtered, "{text}: {plain} became {filtered}");
    }
    for text in ["zeros", "lz4", "zeros,lz4", "key-cache,zeros,lz4"] {
        let filters = filters("none", text);
        let filtered = pulled_bytes(&mut cluster, table, &keys, options(&filters, 1));
        assert!(plain > 8 * filtered, "{text}: {plain} became {filtered}");
        assert_eq!(pull(&mut cluster, table, &keys, options(&filters, 1)), weights, "{text}");
    }
}

#[test]
fn a19_both_ways_of_a_push_pull_and_existing_keys_are_filtered() {
    let mut cluster = Cluster::new(2, 2, |worker, shard| {
        worker.frame_bytes_max = 4096;
        shard.frame_bytes_max = 4096;
    });
    let aggregated = TableSpec { aggregation: Aggregation::AllWorkers, ..spec(StoreKind::Sparse) };
    let table = cluster.create(&aggregated);
    let keys = Keys::List(spread(3000, 0));
    let values: Vec<f32> = (0..3000).map(|at| if at % 3 == 0 { at as f32 } else { 0.0 }).collect();
    let filters = [filters("zeros,lz4", "zeros,lz4"), filters("key-cache,lz4", "q2.13")];
    for time in 1..=3 {
        let mut tasks = Vec::new();
        for (rank, filters) in filters.iter().enumerate() {
            let (out, arrays) = (&mut cluster.up[rank], vec![values.clone()]);
            let worker = &mut cluster.workers[rank];
            let task = worker.push_pull(table, keys.clone(), arrays, vec![], options(filters, time), out);
            tasks.push(task.unwrap());
        }
        cluster.run();
        let got: Vec<Vec<f32>> = (0..2)
            .map(|rank| cluster.workers[rank].take(tasks[rank]).unwrap().unwrap().values.into_vec())
            .collect();
        let sums: Vec<f32> = values.iter().map(|x| 2.0 * time as f32 * x).collect();
        assert_eq!(got[0], sums);
        assert!(got[1].iter().zip(&sums).all(|(got, sum)| (got - sum.min(4.0)).abs() < 0.001));
    }
    let all = cluster.pull(0, table, &keys);
    for text in ["zeros,lz4", "lz4", "f16", "zeros"] {
        let filters = self::filters("none", text);
        let out = &mut cluster.up[0];
        let existing = Keys::Existing(KeyRange::ALL);
        let task =
            cluster.workers[0].pull::<f32>(table, existing, vec![], options(&filters, 1), out).unwrap();
        let outcome = cluster.wait(0, task).unwrap();
        let Keys::List(list) = &keys else { unreachable!() };
        assert_eq!(outcome.keys, list.as_slice(), "{text}");
        let got: Vec<f32> = outcome.values.into_vec();
        let close = |(got, all): (&f32, &f32)| (got - all).abs() <= all.abs() / 1024.0;
        assert!(got.iter().zip(&all).all(close), "{text}");
    }
}

#[test]
fn a19_what_was_coded_once_is_sent_again_as_it_was() {
    let mut cluster = Cluster::new(1, 1, |_, shard| shard.key_cache_bytes = 300);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::List(spread(100, 0));
    let filters = filters("significant:1000,zeros,skip:0.5,fixed:1", "none");
    let submit = |cluster: &mut Cluster, values: f32, full: bool| {
        let worker = &mut cluster.workers[0];
        let (values, options) = (vec![vec![values; 100]], options(&filters, 1));
        let task = if full {
            worker.push(table, keys.clone(), values, options, &mut FullRing)
        } else {
            worker.push(table, keys.clone(), values, options, &mut cluster.up[0])
        };
        task.unwrap()
    };
    // Held back, found no room, asked for keys and repeated: the row counts once.
    let first = submit(&mut cluster, 600.0, true);
    cluster.workers[0].poll(Duration::ZERO, &mut FullRing);
    cluster.wait(0, first).unwrap();
    let second = submit(&mut cluster, 600.0, true);
    cluster.workers[0].poll(Duration::ZERO, &mut cluster.up[0]);
    let sent: Vec<Vec<u8>> =
        cluster.up[0].frames.iter().map(|(_, frame)| frame.bytes()[64..].to_vec()).collect();
    cluster.workers[0].resend(PeerId(0), &mut cluster.up[0]);
    let frames = &cluster.up[0].frames;
    assert!(
        frames.len() == 2
            && frames.iter().all(|(_, frame)| Frame::decode(frame.bytes()).unwrap().is_filtered())
    );
    assert!(frames[1].1.bytes()[64..].ends_with(&sent[0][sent[0].len() - 30..]));
    cluster.wait(0, second).unwrap();
    let total: f32 = cluster.pull(0, table, &keys).iter().sum();
    let sent = filters.push().unwrap().report()[2].clone();
    assert_eq!(total, (100 - sent.entries_dropped) as f32 * 2400.0);
    let (held, _) = filters.push().unwrap().take_held_back::<f32>(table.id);
    assert!(held.is_empty());
}

/// Halves all values and drops every fourth row.
pub(super) struct Halve;

impl UserFilter for Halve {
    fn rows(&mut self, rows: &mut RowView<'_>) -> Result<(), String> {
        for part in rows.parts() {
            if let PartView::F32(values) = part {
                values.iter_mut().for_each(|x| *x /= 2.0);
            }
        }
        (0..rows.rows()).filter(|row| row % 4 == 0).for_each(|row| rows.drop_row(row));
        Ok(())
    }
}

#[test]
fn a19_a_programs_own_filter_works_both_ways_and_an_unknown_one_is_refused() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let keys = Keys::Range(KeyRange::new(0, 7).unwrap());
    let mut registry = FilterRegistry::default();
    registry.register("halve", |_| Ok(Box::new(Halve)));
    let push_chain = Chain::with_users(&chain("user:halve"), Direction::Push, 1, &registry).unwrap();
    let own = Filters::of(Some(push_chain), None);
    push(&mut cluster, table, &keys, vec![8.0; 8], options(&own, 1));
    assert_eq!(cluster.pull(0, table, &keys), [0.0, 4.0, 4.0, 4.0, 0.0, 4.0, 4.0, 4.0]);
    assert!(
        Chain::new(&chain("user:halve"), Direction::Push, 1).unwrap_err().to_string().contains("registered")
    );
    // This shard's registry has no filters of its own.
    let filters = filters("none", "user:halve");
    let out = &mut cluster.up[0];
    let task = cluster.workers[0].pull::<f32>(table, keys, vec![], options(&filters, 1), out).unwrap();
    let refused = cluster.wait(0, task).unwrap_err();
    assert!(matches!(&refused, TaskError::Refused { code: RefusalCode::Filter, .. }), "{refused}");
    assert!(
        refused.to_string().contains("user:halve") && refused.to_string().contains("worker 0"),
        "{refused}"
    );
}

#[test]
fn a19_chains_that_do_not_fit_the_request_are_refused_before_anything_is_sent() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let backwards = Filters::of(None, filters("zeros", "none").push().cloned());
    let existing = filters("none", "significant:1");
    for (filters, keys) in
        [(backwards, Keys::Range(KeyRange::one(1))), (existing, Keys::Existing(KeyRange::ALL))]
    {
        let out = &mut cluster.up[0];
        let error = cluster.workers[0].pull::<f32>(table, keys, vec![], options(&filters, 1), out);
        assert!(matches!(error, Err(SubmitError::Filter(_))), "{error:?}");
        assert!(cluster.up[0].frames.is_empty());
    }
    let clocked = TableSpec { id: 9, aggregation: Aggregation::Clocked, width: 2, ..spec(StoreKind::Sparse) };
    let (table, keys) = (cluster.create(&clocked), Keys::Range(KeyRange::one(1)));
    for (text, is_refused) in [("significant:1", true), ("f16", true), ("zeros", false)] {
        let (out, options) = (&mut cluster.up[0], options(&self::filters(text, "none"), 1));
        let task = cluster.workers[0].push(table, keys.clone(), vec![vec![1f32, 1.0]], options, out);
        let refused = matches!(&task, Err(SubmitError::Filter(text)) if text.contains("clocked"));
        assert_eq!(refused, is_refused, "{task:?}");
    }
}

#[test]
fn a19_a_running_job_of_threads_filters_both_ways() {
    use keyrange::cluster::Embedded;
    use keyrange::manager::{JobEnd, JobPlan};
    const LIMIT: Duration = Duration::from_secs(20);
    let spec = TableSpec { aggregation: Aggregation::AllWorkers, ..spec(StoreKind::Sparse) };
    let mut cluster = Embedded::start(&JobPlan::new(2, 2), &Arc::new(Registry::with_builtins())).unwrap();
    let work = |mut worker: keyrange::client::Worker| {
        let table = worker.create_table(&spec, LIMIT).unwrap();
        let filters = filters("key-cache,zeros,lz4", "key-cache,significant:0.5,lz4");
        let keys = Keys::List(spread(20_000, 0));
        let gradient: Vec<f32> = (0..20_000).map(|at| if at % 50 == 0 { 1.0 } else { 0.0 }).collect();
        for time in 1..=20 {
            let arrays = vec![gradient.clone()];
            let task =
                worker.push_pull(table, keys.clone(), arrays, Vec::new(), options(&filters, time)).unwrap();
            let sums: Vec<f32> = worker.wait(task, LIMIT).unwrap().values.into_vec();
            assert!(sums.iter().zip(&gradient).all(|(sum, g)| *sum == 2.0 * time as f32 * g), "time {time}");
        }
        worker.finish(LIMIT).unwrap();
        let saved = |chain: Option<&Arc<Chain>>| {
            let report = chain.unwrap().report();
            report[1].bytes_out as f64 / report[1].bytes_in as f64
        };
        (saved(filters.push()), saved(filters.pull()))
    };
    let workers = cluster.take_workers();
    let ends: Vec<(f64, f64)> = std::thread::scope(|scope| {
        let threads: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| work(worker))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(cluster.join(), JobEnd::Finished);
    assert!(ends.iter().all(|&(push, pull)| push < 0.1 && pull < 0.2), "{ends:?}");
}
