//! Jobs over links that drop, double, delay, reorder and kill: everything still counts exactly once.

mod common;
#[path = "../../transport/tests/rdma/mod.rs"]
mod rdma;

use keyrange::client::{Mending, Worker};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::message::Values;
use keyrange::node::carrier::CarrierWish;
use keyrange::table::{Aggregation, StoreKind};
use keyrange::worker::{Keys, Options};

use common::{LIMIT, run_job, spec};

const KEYS: u64 = 200;
const ROUNDS: usize = 30;

/// Pushes single keys, a list and a range in every round, then checks the sums of all workers.
fn push_rounds(worker: &mut Worker) {
    let at_once = spec(0, StoreKind::Sparse, Aggregation::Immediate, 1);
    let together = spec(1, StoreKind::Sparse, Aggregation::AllWorkers, 1);
    let at_once = worker.create_table(&at_once, LIMIT).unwrap();
    let together = worker.create_table(&together, LIMIT).unwrap();
    let range = Keys::Range(KeyRange::new(0, KEYS - 1).unwrap());
    let list = Keys::List(KeyList::new((0..KEYS).collect()).unwrap());
    let ones = || vec![vec![1f32; KEYS as usize]];
    for round in 0..ROUNDS as u64 {
        for key in 0..KEYS {
            worker.push_one(at_once, key, &[1f32], LIMIT).unwrap();
        }
        worker.push(at_once, list.clone(), ones(), Options::default()).unwrap();
        worker.push(at_once, range.clone(), ones(), Options::default()).unwrap();
        let task = worker.push_pull(together, list.clone(), ones(), Vec::new(), Options::at(round + 1));
        let sums = worker.wait(task.unwrap(), LIMIT).unwrap().values;
        let expected = (worker.workers() * (round as u32 + 1)) as f32;
        assert_eq!(sums, Values::F32(vec![expected; KEYS as usize]));
    }
    worker.wait_idle(LIMIT).unwrap();
    worker.barrier("pushed", LIMIT).unwrap();
    let task = worker.pull::<f32>(at_once, range, Vec::new(), Options::default()).unwrap();
    let expected = (3 * ROUNDS as u32 * worker.workers()) as f32;
    assert_eq!(worker.wait(task, LIMIT).unwrap().values, Values::F32(vec![expected; KEYS as usize]));
}

fn run(carrier: CarrierWish, faults: &str) {
    let mending = Mending { fault: Some(faults.parse().unwrap()), ..Mending::default() };
    let summary = run_job(carrier, 2, KEYS, mending, push_rounds);
    assert!(summary.shards.iter().any(|shard| shard.core.repeated > 0), "no fault was met: {summary:?}");
}

const LOSSY: &str = "seed=7,drop=0.02,dup=0.02,delay=0.02,reorder=0.05";

#[test]
fn a_job_over_lossy_shared_memory_sums_exactly() {
    run(CarrierWish::Shm, LOSSY);
}

#[test]
fn a_job_over_lossy_tcp_links_that_are_killed_sums_exactly() {
    run(CarrierWish::Tcp, &format!("{LOSSY},kill=2000"));
}

/// In the guest of ci/rdma.sh, where there is a device.
#[test]
fn a_job_over_lossy_verbs_links_that_are_killed_sums_exactly() {
    if rdma::usable() {
        run(CarrierWish::Verbs, &format!("{LOSSY},kill=2000"));
    }
}
