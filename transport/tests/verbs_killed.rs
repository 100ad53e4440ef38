//! Two real processes over RDMA verbs: one is killed, the other goes on. Where there is no device: ci/rdma.sh.
#![cfg(not(loom))]

mod killing;
mod rdma;

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use keyrange_transport::link::{Link, LinkEnd, SendError};
use keyrange_transport::verbs::{self, VerbsConfig, VerbsLink};

use killing::*;

/// Not a test: what the other process runs. Without a role it does nothing.
#[test]
fn peer_process() {
    let Some(role) = role() else { return };
    play(&role, &mut connect(std::io::stdin().as_fd().try_clone_to_owned().unwrap()));
}

fn connect(socket: impl Into<OwnedFd>) -> VerbsLink {
    let config = VerbsConfig { connect_timeout: PATIENCE, ..VerbsConfig::default() };
    verbs::connect(socket, rdma::device(), &config).unwrap()
}

#[test]
fn a_peer_killed_in_the_middle_of_a_record_is_named_after_its_frames() {
    if role().is_some() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("in the middle of a record", connect);
    kill(child);
    let (received, end) = drain(&mut link);
    assert_eq!(received, FRAMES);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    assert_eq!(link.try_claim(100).unwrap_err(), SendError::Ended(end));
}

#[test]
fn frames_of_a_peer_killed_while_streaming_are_whole_and_in_order() {
    if role().is_some() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("streaming", connect);
    let end = kill_while_streaming(child, &mut link);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
}

#[test]
fn the_death_of_a_peer_wakes_a_sleeper_and_ends_a_sender() {
    if role().is_some() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("asleep", connect);
    let killer = std::thread::spawn(move || kill(child));
    let (received, end) = drain(&mut link);
    killer.join().unwrap();
    assert_eq!(received, 0);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");

    // One that does not look at its socket learns it from its own requests.
    let (child, mut link) = start("asleep", connect);
    kill(child);
    let deadline = Instant::now() + PATIENCE;
    let end = loop {
        assert!(Instant::now() < deadline);
        match link.try_send(0, &[IoSlice::new(&[1; 300])]) {
            Ok(()) | Err(SendError::Full) => {}
            Err(SendError::Ended(end)) => break end,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
}
