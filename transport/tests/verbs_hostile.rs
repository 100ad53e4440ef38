//! A peer that WRITEs what it likes into the memory it was given, or tries to reach more: it ends its own link, with a reason, and
//! every other link of the process goes on. (`hostile_ring` is the same on shared memory.) Runs in the guest of ci/rdma.sh.
#![cfg(not(loom))]

mod conformance;
mod raw_verbs;
mod rdma;

use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

use keyrange_transport::link::{Link, LinkEnd, SendError};
use keyrange_transport::verbs::{self, VerbsConfig, VerbsLink};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use conformance::{PATIENCE, RING_BYTES};
use raw_verbs::{RawPeer, Victim, WC_REM_ACCESS_ERR, WC_SUCCESS};

fn config() -> VerbsConfig {
    VerbsConfig { ring_bytes: RING_BYTES, connect_timeout: PATIENCE, ..VerbsConfig::default() }
}

/// A link of ours and the hostile peer at its other end.
fn attacked() -> (VerbsLink, RawPeer) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let far = thread::spawn(move || verbs::connect(ours, rdma::device(), &config()).unwrap());
    let peer = RawPeer::meet(theirs);
    (far.join().unwrap(), peer)
}

/// Two honest ends, both of this process.
struct Bystanders(VerbsLink, VerbsLink, u32);

impl Bystanders {
    fn new() -> Self {
        let (a, b) = UnixStream::pair().unwrap();
        let far = thread::spawn(move || verbs::connect(b, rdma::device(), &config()).unwrap());
        Self(verbs::connect(a, rdma::device(), &config()).unwrap(), far.join().unwrap(), 0)
    }

    /// Frames pass between them, whole and in order.
    fn go_on(&mut self) {
        for _ in 0..3 {
            self.2 += 1;
            let body = [self.2 as u8; 200];
            assert!(conformance::offer(&mut self.0, self.2, &body));
            let frame = conformance::receive_from(&mut self.0, &mut self.1);
            conformance::check(&mut self.1, frame, self.2, &body);
        }
    }
}

/// Takes and releases frames until the link ends, at most until the deadline.
fn end_of(link: &mut VerbsLink) -> LinkEnd {
    conformance::eventually("the end of the link", || {
        let progress = link.progress();
        match link.try_recv() {
            Ok(Some(frame)) => {
                assert_eq!(link.bytes(&frame).len(), frame.len() as usize);
                link.release(frame);
                None
            }
            Ok(None) => progress.err(),
            Err(end) => Some(end),
        }
    })
}

/// Sends until the link ends, at most until the deadline.
fn end_of_sending(link: &mut VerbsLink) -> LinkEnd {
    conformance::eventually("the end of the link", || match link.try_send(7, &[]) {
        Ok(()) | Err(SendError::Full) => link.progress().err(),
        Err(SendError::Ended(end)) => Some(end),
        Err(error) => panic!("{error}"),
    })
}

/// A frame's word as it crosses the fabric: 24 bits of length, 32 of tag, seven in each byte, whose top bit says that it landed.
fn word(length: u64) -> [u8; 8] {
    std::array::from_fn(|i| 0x80 | (length >> (7 * i)) as u8 & 0x7f)
}

#[test]
fn impossible_lengths_are_a_protocol_fault_of_this_link_alone() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    for length in [0, 7, RING_BYTES as u64 / 4 + 1, (1 << 24) - 1] {
        let (mut link, mut peer) = attacked();
        let ring = peer.victim.ring;
        assert_eq!(peer.write(ring.address, ring.key, &word(length), None), WC_SUCCESS);
        let end = end_of(&mut link);
        assert!(matches!(&end, LinkEnd::Protocol(text) if text.contains("expected")), "{length}: {end}");
        assert_eq!(link.try_claim(64).unwrap_err(), SendError::Ended(end));
        bystanders.go_on();
    }
}

#[test]
fn impossible_credits_are_a_protocol_fault_of_this_link_alone() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    // A head beyond everything that a ring holds, in lines, as the first credit.
    for head in [2000, (1 << 56) - 1] {
        let (mut link, mut peer) = attacked();
        let mailbox = peer.victim.mailbox;
        assert_eq!(peer.write(mailbox.address, mailbox.key, &word(head), None), WC_SUCCESS);
        let end = conformance::eventually("a claim that reads the credit", || match link.try_claim(4000) {
            Err(SendError::Ended(end)) => Some(end),
            Err(SendError::Full) => None,
            Ok(_) => {
                link.commit(0);
                None
            }
            Err(error) => panic!("{error}"),
        });
        assert!(matches!(end, LinkEnd::Protocol(_)), "{head}: {end}");
        bystanders.go_on();
    }
}

#[test]
fn impossible_signals_are_a_protocol_fault_of_this_link_alone() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    // No such kind; asleep beyond what was sent; landed before anything came; landed beyond the ring.
    for immediate in [0, u32::MAX, 2 << 28 | 5, 3 << 28 | 5, 5 << 28, 5 << 28 | 0x0100_0000] {
        let (mut link, mut peer) = attacked();
        assert_eq!(peer.signal(immediate), WC_SUCCESS);
        let end = end_of(&mut link);
        assert!(matches!(&end, LinkEnd::Protocol(text) if text.contains("signal")), "{immediate:#x}: {end}");
        bystanders.go_on();
    }
}

/// Words, credits, signals and plain rubbish, anywhere in what the peer was given.
#[test]
fn whatever_a_peer_writes_is_a_frame_in_bounds_or_an_end() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    let lines = RING_BYTES as u64 / 64;
    let rubbish = prop_oneof![
        (0..200u64).prop_map(|length| word(length).to_vec()),
        any::<[u8; 8]>().prop_map(Vec::from),
        prop::collection::vec(any::<u8>(), 1..256),
    ];
    let signal =
        prop_oneof![Just(None), any::<u32>().prop_map(Some), (5u32 << 28..(5 << 28) + 99).prop_map(Some)];
    let one = (0..lines, rubbish, signal, any::<bool>());
    let mut runner =
        TestRunner::new(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(32) });
    let outcome = runner.run(&prop::collection::vec(one, 1..30), |writes| {
        let (mut link, mut peer) = attacked();
        let Victim { ring, mailbox, .. } = peer.victim;
        for (line, bytes, immediate, to_ring) in writes {
            let (to, offset) = if to_ring { (ring, line * 64) } else { (mailbox, line % 4 * 64) };
            let status = peer.write(to.address + offset, to.key, &bytes, immediate);
            // Once the link has ended its queue pair may be gone, which ends this peer's as well.
            prop_assert!(status == WC_SUCCESS || link.progress().is_err() || link.try_recv().is_err());
            let _ = link.try_send(0, &[]);
            let _ = link.progress();
            let frames =
                std::iter::from_fn(|| link.try_recv().ok().flatten().inspect(|&frame| link.release(frame)));
            // A hostile ring may go round for ever.
            for frame in frames.take(100) {
                prop_assert!((8..=RING_BYTES as u32 / 4).contains(&frame.len()));
            }
        }
        Ok(())
    });
    outcome.unwrap();
    bystanders.go_on();
}

#[test]
fn memory_that_was_not_offered_cannot_be_reached() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    // Another link's memory, as another peer knows it.
    let (mut other, mut its_peer) = attacked();
    let elsewhere = its_peer.victim.ring;
    type Target = fn(&RawPeer) -> (u64, u32);
    let own: [(&str, Target); 4] = [
        ("behind the ring", |peer| (peer.victim.ring.address + peer.victim.ring.bytes, peer.victim.ring.key)),
        ("before the ring", |peer| (peer.victim.ring.address - 8, peer.victim.ring.key)),
        ("behind the mailbox", |peer| (peer.victim.mailbox.address + 4096, peer.victim.mailbox.key)),
        ("the ring under the mailbox's key", |peer| (peer.victim.ring.address, peer.victim.mailbox.key)),
    ];
    let mut refuse = |what: &str, target: &dyn Fn(&RawPeer) -> (u64, u32)| {
        let (mut link, mut peer) = attacked();
        let (address, key) = target(&peer);
        assert_eq!(peer.write(address, key, &word(64), None), WC_REM_ACCESS_ERR, "{what}");
        // The hostile queue pair has failed, and answers no more.
        let end = end_of_sending(&mut link);
        assert!(!matches!(end, LinkEnd::ClosedHere | LinkEnd::ClosedByPeer), "{what}: {end}");
        bystanders.go_on();
    };
    for (what, target) in own {
        refuse(what, &target);
    }
    refuse("another link's ring under its key", &|_| (elsewhere.address, elsewhere.key));
    assert_eq!(other.try_recv(), Ok(None), "nothing was written there");
    assert_eq!(its_peer.write(elsewhere.address, elsewhere.key, &word(64), None), WC_SUCCESS);
    let frame = conformance::eventually("its own peer's frame", || other.try_recv().unwrap());
    assert_eq!(frame.len(), 64);
}

#[test]
fn a_flood_of_signals_fills_the_receives_and_harms_nobody() {
    if !rdma::in_guest() {
        return;
    }
    let mut bystanders = Bystanders::new();
    let (mut link, mut peer) = attacked();
    // "Wake" is always allowed; nobody has asked for it.
    for _ in 0..500 {
        assert_eq!(peer.signal(1 << 28), WC_SUCCESS);
        link.progress().unwrap();
    }
    bystanders.go_on();
    assert_eq!(link.try_recv(), Ok(None));
}

#[test]
fn a_queue_pair_that_fails_is_named_within_its_deadline() {
    if !rdma::in_guest() {
        return;
    }
    // The peer's: its device answers no more, though its process lives and holds the socket.
    let (mut link, mut peer) = attacked();
    peer.fail();
    let began = Instant::now();
    let end = end_of_sending(&mut link);
    assert!(matches!(&end, LinkEnd::PeerGone(text) if text.contains("does not answer")), "{end}");
    println!("named after {:?}: {end}", began.elapsed());
}
