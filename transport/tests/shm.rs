//! The conformance suite on shared memory, and what only shared memory does: lending, and refusing hostile peers.
#![cfg(not(loom))]

mod conformance;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use keyrange_transport::link::{LendError, Link, LinkEnd};
use keyrange_transport::region::{LentRange, Slab};
use keyrange_transport::shm::{self, ConnectError, PeerCredentials, RingConfig, SLABS_MAX, ShmLink};

fn connected(ring_bytes: usize) -> (ShmLink, ShmLink) {
    let config = RingConfig { ring_bytes, ..RingConfig::default() };
    let (a, b) = UnixStream::pair().unwrap();
    let far = thread::spawn(move || shm::connect(b, config).unwrap());
    (shm::connect(a, config).unwrap(), far.join().unwrap())
}

fn pair(ring_bytes: usize) -> conformance::Pair {
    let (a, b) = connected(ring_bytes);
    (Box::new(a), Box::new(b))
}

suite!(pair);

#[test]
fn lent_memory_is_read_where_it_lies() {
    let (mut trainer, mut server) = connected(1 << 16);
    let slab = Slab::new(7, 1 << 20).unwrap();
    let mut weights = slab.alloc(100_000).unwrap();
    weights.fill(3);
    trainer.lend(&slab).unwrap();
    trainer.lend(&slab).unwrap();
    assert!(conformance::offer(&mut trainer, 0, &weights.lent().to_bytes()));
    let frame = conformance::receive(&mut server);
    let wire: [u8; LentRange::WIRE_BYTES] = server.bytes(&frame)[8..].try_into().unwrap();
    let range = LentRange::from_bytes(&wire);
    assert!(server.resolve(&range).unwrap().iter().all(|&b| b == 3));
    weights[99_999] = 4;
    assert_eq!(server.resolve(&range).unwrap()[99_999], 4);
    assert!(server.resolve(&LentRange { slab: 8, ..range }).is_none());
    assert!(server.resolve(&LentRange { offset: 1 << 20, ..range }).is_none());
    assert!(trainer.resolve(&range).is_none(), "lending has a direction");
}

#[test]
fn slabs_are_limited_and_survive_their_owner() {
    let (mut trainer, mut server) = connected(1 << 16);
    for id in 0..SLABS_MAX as u32 {
        let slab = Slab::new(id, 4096).unwrap();
        slab.alloc(1).unwrap()[0] = id as u8;
        trainer.lend(&slab).unwrap();
        server.progress().unwrap();
    }
    let one_more = Slab::new(1000, 4096).unwrap();
    assert_eq!(trainer.lend(&one_more).unwrap_err(), LendError::TooMany { max: SLABS_MAX });
    for id in 0..SLABS_MAX as u32 {
        assert_eq!(server.resolve(&LentRange { slab: id, offset: 0, bytes: 1 }).unwrap(), [id as u8]);
    }
}

#[test]
fn the_peer_is_known_by_the_kernel() {
    let (a, _b) = UnixStream::pair().unwrap();
    let peer = PeerCredentials::of(&a).unwrap();
    assert_eq!(peer.pid, std::process::id() as i32);
    assert!(peer.is_same_user());
}

#[test]
fn a_peer_that_sends_no_ring_is_named_within_the_deadline() {
    let connect_timeout = Duration::from_millis(30);
    let config = RingConfig { connect_timeout, ..RingConfig::default() };
    let (a, silent) = UnixStream::pair().unwrap();
    assert_eq!(shm::connect(a, config).unwrap_err(), ConnectError::TimedOut(connect_timeout));
    drop(silent);
    let (a, gone) = UnixStream::pair().unwrap();
    drop(gone);
    assert_eq!(shm::connect(a, config).unwrap_err(), ConnectError::PeerGone);
    let (a, mut rude) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut rude, b"GET / HTTP/1.1\r\nHost: keyrange\r\n").unwrap();
    assert!(
        matches!(shm::connect(a, config).unwrap_err(), ConnectError::Protocol(text) if text.contains("magic"))
    );
}

#[test]
fn an_impossible_ring_is_refused_before_anything_is_sent() {
    let (a, _b) = UnixStream::pair().unwrap();
    let config = RingConfig { ring_bytes: 1000, ..RingConfig::default() };
    assert!(matches!(shm::connect(a, config).unwrap_err(), ConnectError::Region(_)));
}

#[test]
fn heartbeats_tell_who_still_polls() {
    let (mut a, b) = connected(1 << 16);
    let before = b.peer_beats();
    for _ in 0..1000 {
        a.progress().unwrap();
    }
    assert!(b.peer_beats() > before);
    a.close();
    assert_eq!(a.progress().unwrap_err(), LinkEnd::ClosedHere);
}
