//! Pushes from lent memory give what copying gives, over real links and in the cores, and what was not lent is not read.

use keyrange::client::{Mending, Worker};
use keyrange::message::{Frame, LentArray};
use keyrange::node::carrier::CarrierWish;
use keyrange_transport::region::{LentRange, LentSlab, Slab};
use keyrange_transport::verbs::{Device, Selection};

use crate::common::{LIMIT, run_job};
use crate::wires::*;

const KEYS: u64 = 300_000;

fn with_worker(carrier: CarrierWish, body: impl Fn(&mut Worker) + Sync) {
    run_job(carrier, 1, KEYS, Mending::default(), body);
}

/// What the table holds after pushes of ranges and lists, each from lent memory and by copying, in one table each.
fn push_both_ways(worker: &mut Worker, aggregation: Aggregation) {
    let range = Keys::Range(KeyRange::new(0, KEYS - 1).unwrap());
    let list = Keys::List(KeyList::new((0..KEYS).step_by(3).collect()).unwrap());
    let mut results = Vec::new();
    for way in 0..2u16 {
        let store = StoreKind::Dense { first: 0, last: KEYS - 1 };
        let id = 2 * way + u16::from(aggregation == Aggregation::AllWorkers);
        let table = worker.create_table(&TableSpec { id, aggregation, ..spec(store) }, LIMIT).unwrap();
        for (time, keys, count) in [(1, &range, KEYS), (2, &list, KEYS / 3), (3, &list, KEYS / 3)] {
            let values = (0..count).map(|at| at as f32 * 0.37);
            let options = Options::at(time);
            if way == 0 {
                let parts = vec![values.collect::<Vec<f32>>()];
                let task = worker.push(table, keys.clone(), parts, options).unwrap();
                worker.wait(task, LIMIT).unwrap();
            } else {
                let mut array = worker.lend::<f32>(count as usize).unwrap();
                array.iter_mut().zip(values).for_each(|(to, from)| *to = from);
                let task = worker.push(table, keys.clone(), vec![array], options).unwrap();
                let mut outcome = worker.wait(task, LIMIT).unwrap();
                let array: LentArray<f32> = outcome.lent.pop().unwrap().into_array().unwrap();
                assert_eq!((array.len() as u64, array[1]), (count, 0.37));
            }
        }
        let ones = worker.lend::<f32>(KEYS as usize).unwrap();
        let task = worker.push_pull(table, range.clone(), vec![ones], Vec::new(), Options::at(4)).unwrap();
        results.push(worker.wait(task, LIMIT).unwrap().values);
    }
    assert_eq!(results[0], results[1]);
}

#[test]
fn shm_reads_lent_memory_where_it_lies() {
    with_worker(CarrierWish::Shm, |worker| {
        push_both_ways(worker, Aggregation::Immediate);
        push_both_ways(worker, Aggregation::AllWorkers);
        let before = worker.link_stats().sent_bytes;
        let table = worker
            .create_table(&TableSpec { id: 9, ..spec(StoreKind::Dense { first: 0, last: KEYS - 1 }) }, LIMIT)
            .unwrap();
        let array = worker.lend::<f32>(KEYS as usize).unwrap();
        let range = Keys::Range(KeyRange::new(0, KEYS - 1).unwrap());
        let task = worker.push(table, range, vec![array], Options::default()).unwrap();
        worker.wait(task, LIMIT).unwrap();
        let sent = worker.link_stats().sent_bytes - before;
        assert!(sent < KEYS * 4 / 100, "{sent} bytes crossed the rings");
    });
}

#[test]
fn verbs_sends_lent_memory_from_where_it_lies() {
    if let Err(error) = Device::open(&Selection::default()) {
        assert!(std::env::var_os("KEYRANGE_TEST_VERBS").is_none(), "{error}");
        return;
    }
    with_worker(CarrierWish::Verbs, |worker| {
        push_both_ways(worker, Aggregation::Immediate);
        push_both_ways(worker, Aggregation::AllWorkers);
        let stats = worker.link_stats();
        // Of each table's four arrays all but a few short pieces, in two runs.
        let lent = 2 * 4 * (2 * KEYS + 2 * KEYS / 3);
        assert!(stats.lent_bytes > lent * 9 / 10, "{} of {lent} bytes", stats.lent_bytes);
    });
}

#[test]
fn tcp_copies_lent_memory() {
    with_worker(CarrierWish::Tcp, |worker| {
        push_both_ways(worker, Aggregation::Immediate);
        push_both_ways(worker, Aggregation::AllWorkers);
    });
}

/// A mailbox over which one slab is lent.
struct Lending {
    mail: Mailbox,
    slab: LentSlab,
}

impl Outbox for Lending {
    fn send(
        &mut self,
        to: PeerId,
        bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        self.mail.send(to, bytes, fill)
    }
    fn lends(&self, _: PeerId, slab: u32) -> bool {
        slab == 3
    }
    fn resolve(&self, _: PeerId, range: &LentRange) -> Option<&[u8]> {
        self.slab.get(range).filter(|_| range.slab == 3)
    }
}

fn lending(slab: &Slab) -> Lending {
    let fd = slab.fd().try_clone_to_owned().unwrap();
    Lending { mail: Mailbox::default(), slab: LentSlab::from_fd(fd, slab.bytes() as u64).unwrap() }
}

#[test]
fn a_cancelled_push_keeps_its_memory_until_no_shard_can_read_it() {
    let mut cluster = Cluster::plain(1, 1);
    let table = cluster.create(&spec(StoreKind::Sparse));
    let slab = Slab::new(3, 4096).unwrap();
    let mut out = lending(&slab);
    let mut array = LentArray::<f32>::new_in(&slab, 1024).unwrap();
    array.fill(1.0);
    let keys = Keys::Range(KeyRange::new(0, 1023).unwrap());
    let worker = &mut cluster.workers[0];
    let task = worker.push(table, keys.clone(), vec![array], Options::default(), &mut out).unwrap();
    worker.cancel(task, &mut out);
    assert_eq!(worker.take(task), Some(Err(TaskError::Cancelled)));
    assert!(slab.alloc(1).is_none());
    let (_, frame) = out.mail.frames.pop_front().unwrap();
    cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut out).unwrap();
    cluster.shards[0].flush(&mut out);
    let (_, ack) = out.mail.frames.pop_front().unwrap();
    cluster.workers[0].handle(PeerId(0), ack.bytes(), &mut out).unwrap();
    assert!(slab.alloc(4096).is_some());
    assert_eq!(cluster.pull(0, table, &keys), vec![1.0; 1024]);
}

#[test]
fn ranges_that_were_not_lent_or_do_not_fit_are_refused() {
    let hostile = |change: &dyn Fn(&mut [u8])| {
        let mut cluster = Cluster::plain(1, 1);
        let table = cluster.create(&spec(StoreKind::Sparse));
        let slab = Slab::new(3, 4096).unwrap();
        let mut out = lending(&slab);
        let array = LentArray::<f32>::new_in(&slab, 6).unwrap();
        let keys = Keys::Range(KeyRange::new(0, 5).unwrap());
        let options = Options::default();
        let task = cluster.workers[0].push(table, keys, vec![array], options, &mut out).unwrap();
        let (_, mut frame) = out.mail.frames.pop_front().unwrap();
        assert_eq!(frame.bytes().len(), 64 + LentRange::WIRE_BYTES);
        // Six values take as many bytes as a descriptor: it must not pass for them.
        assert!(Frame::decode(frame.bytes()).unwrap().values::<f32>(1).is_err());
        change(&mut frame.bytes_mut()[64..]);
        cluster.shards[0].handle(PeerId(0), frame.bytes(), &mut out).unwrap();
        cluster.shards[0].flush(&mut out);
        let (_, answer) = out.mail.frames.pop_front().unwrap();
        cluster.workers[0].handle(PeerId(0), answer.bytes(), &mut out).unwrap();
        cluster.workers[0].take(task).unwrap().map(drop)
    };
    assert_eq!(hostile(&|_| {}), Ok(()));
    let put =
        |at: usize, value: u64| move |wire: &mut [u8]| wire[at..at + 8].copy_from_slice(&value.to_le_bytes());
    for (at, value) in
        [(0, 4), (8, 4096), (8, u64::MAX), (8, 4080), (8, 1), (16, 20), (16, u64::MAX), (16, 0)]
    {
        let end = hostile(&put(at, value));
        assert!(matches!(end, Err(TaskError::Refused { .. })), "{at} {value}: {end:?}");
    }
}
