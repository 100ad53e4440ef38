//! The conformance suite over RDMA verbs, and what only verbs does. Where there is no device: ci/rdma.sh.
#![cfg(not(loom))]

mod conformance;
mod rdma;

use std::io::IoSlice;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use keyrange_transport::link::{LendError, LentAs, Link, LinkEnd, SendError};
use keyrange_transport::region::Slab;
use keyrange_transport::verbs::{self, Device, Selection, VerbsConfig, VerbsError, VerbsLink};

use conformance::{PATIENCE, RING_BYTES};

fn connected(ring_bytes: usize) -> (VerbsLink, VerbsLink) {
    let config = VerbsConfig { ring_bytes, connect_timeout: PATIENCE, ..VerbsConfig::default() };
    let (a, b) = UnixStream::pair().unwrap();
    let far = thread::spawn(move || verbs::connect(b, rdma::device(), &config).unwrap());
    (verbs::connect(a, rdma::device(), &config).unwrap(), far.join().unwrap())
}

fn pair(ring_bytes: usize) -> conformance::Pair {
    let (a, b) = connected(ring_bytes);
    (Box::new(a), Box::new(b))
}

suite!(pair, rdma::usable());

#[test]
fn a_device_is_named_or_its_absence_is() {
    let other = Selection { device: Some("no-such-device".into()), ..Selection::default() };
    match Device::open(&other).unwrap_err() {
        VerbsError::NoSuchPort { wanted, .. } => assert_eq!(wanted, "no-such-device"),
        error => assert!(matches!(error, VerbsError::NoLibrary { .. } | VerbsError::NoDevice), "{error}"),
    }
}

#[test]
fn rings_of_different_sizes_meet() {
    if !rdma::usable() {
        return;
    }
    let config = |ring_bytes| VerbsConfig { ring_bytes, connect_timeout: PATIENCE, ..VerbsConfig::default() };
    let (a, b) = UnixStream::pair().unwrap();
    let far = thread::spawn(move || verbs::connect(b, rdma::device(), &config(1 << 14)).unwrap());
    let a = verbs::connect(a, rdma::device(), &config(1 << 20)).unwrap();
    let b = far.join().unwrap();
    assert_eq!((a.frame_bytes_max(), b.frame_bytes_max()), (1 << 12, 1 << 18));
}

#[test]
fn a_peer_that_says_nothing_or_rubbish_is_named_within_the_deadline() {
    if !rdma::usable() {
        return;
    }
    let short = VerbsConfig { connect_timeout: Duration::from_millis(30), ..VerbsConfig::default() };
    let (a, silent) = UnixStream::pair().unwrap();
    assert!(matches!(verbs::connect(a, rdma::device(), &short), Err(VerbsError::TimedOut(_))));
    drop(silent);
    let config = VerbsConfig { connect_timeout: PATIENCE, ..VerbsConfig::default() };
    let (a, gone) = UnixStream::pair().unwrap();
    drop(gone);
    assert_eq!(verbs::connect(a, rdma::device(), &config).unwrap_err(), VerbsError::PeerGone);
    let (a, mut rude) = UnixStream::pair().unwrap();
    std::io::Write::write_all(&mut rude, &[b'G'; 128]).unwrap();
    let error = verbs::connect(a, rdma::device(), &config).unwrap_err();
    assert!(matches!(&error, VerbsError::Protocol(text) if text.contains("magic")), "{error}");
}

#[test]
fn more_frames_than_the_send_queue_holds_are_refused_and_pass() {
    if !rdma::usable() {
        return;
    }
    // A ring with room for far more small frames than there are requests.
    let (mut a, mut b) = connected(1 << 20);
    let mut sent = 0;
    loop {
        match a.try_send(sent, &[]) {
            Ok(()) => sent += 1,
            Err(SendError::Full) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(sent < 1 << 14, "the ring itself holds no more");
    }
    for tag in 0..sent {
        let frame = conformance::receive_from(&mut a, &mut b);
        conformance::check(&mut b, frame, tag, &[]);
    }
    assert!(conformance::offer(&mut a, 7, b"again"));
}

#[test]
fn two_idle_ends_that_slept_fall_silent() {
    if !rdma::usable() {
        return;
    }
    let (mut a, mut b) = connected(RING_BYTES);
    assert!(a.prepare_park());
    a.finish_park();
    assert!(b.prepare_park());
    b.finish_park();
    for _ in 0..1000 {
        a.progress().unwrap();
        b.progress().unwrap();
    }
    // Both questions are open and nobody has anything to answer.
    assert!(a.prepare_park() && b.prepare_park());
    assert_eq!((a.stats().wakes, b.stats().wakes), (0, 0));
    b.finish_park();
    assert!(conformance::offer(&mut a, 1, b"now"));
    assert_eq!(a.stats().wakes, 1);
    conformance::flush(&mut a);
    b.close();
    let end = conformance::eventually("the end", || a.progress().err());
    assert_eq!(end, LinkEnd::ClosedByPeer);
}

#[test]
fn lent_memory_is_sent_from_where_it_lies() {
    if !rdma::usable() {
        return;
    }
    let (mut a, mut b) = connected(1 << 19);
    let slab = Slab::new(7, 1 << 20).unwrap();
    let [mut long, mut short, mut tiny] = [50_000, 5_000, 100].map(|bytes| slab.alloc(bytes).unwrap());
    assert_eq!(a.lend(&slab), Ok(LentAs::Source));
    assert_eq!(a.lend(&slab), Ok(LentAs::Source));
    let rounds = 40;
    for round in 0..rounds {
        // The answer to the last frame has come, so what was lent may change.
        let bytes = long.iter_mut().chain(short.iter_mut()).chain(tiny.iter_mut());
        bytes.enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8 ^ round);
        let own = [round; 56];
        let parts: [&[u8]; 6] = [&own, &long, &own[..7], &short[..4_000 + usize::from(round)], &tiny, &[]];
        let slices = parts.map(IoSlice::new);
        conformance::eventually("room", || a.try_send_lent(u32::from(round), &slices).ok());
        let frame = conformance::receive_from(&mut a, &mut b);
        conformance::check(&mut b, frame, u32::from(round), &parts.concat());
    }
    let lent: u64 = (0..rounds).map(|round| 54_000 + u64::from(round)).sum();
    assert_eq!(a.stats().lent_bytes, lent, "all but what is too small was sent without a copy");
}

#[test]
fn memory_that_was_not_lent_is_copied_and_slabs_are_limited() {
    if !rdma::usable() {
        return;
    }
    let (mut a, mut b) = connected(1 << 16);
    let own = [3; 9_000];
    assert!(a.try_send_lent(1, &[IoSlice::new(&own)]).is_ok());
    let frame = conformance::receive_from(&mut a, &mut b);
    conformance::check(&mut b, frame, 1, &own);
    assert_eq!(a.stats().lent_bytes, 0);
    let refused = (0..1000).find_map(|id| a.lend(&Slab::new(id, 4096).unwrap()).err());
    assert!(matches!(refused, Some(LendError::TooMany { .. })), "{refused:?}");
}
