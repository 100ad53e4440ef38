//! The conformance suite on links inside one process.
#![cfg(not(loom))]

mod conformance;

use keyrange_transport::in_process;
use keyrange_transport::shm::RingConfig;

fn pair(ring_bytes: usize) -> conformance::Pair {
    let (a, b) = in_process::pair(RingConfig { ring_bytes, ..RingConfig::default() }).unwrap();
    (Box::new(a), Box::new(b))
}

suite!(pair);
