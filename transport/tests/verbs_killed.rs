//! Two real processes over RDMA verbs: one is killed, the other goes on. Where there is no device: ci/rdma.sh.
#![cfg(not(loom))]

mod rdma;

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use keyrange_transport::link::{Link, LinkEnd, SendError, WORD_BYTES};
use keyrange_transport::verbs::{self, VerbsConfig, VerbsLink};
use keyrange_transport::wait::{WaitConfig, Waiter, Woken};

const ROLE: &str = "KEYRANGE_TEST_PEER";
const FRAMES: u32 = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// Not a test: what the other process runs. Without a role it does nothing.
#[test]
fn peer_process() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut link = connect(socket);
    match role.as_str() {
        "in the middle of a record" => {
            for n in 0..FRAMES {
                link.try_send(n, &[IoSlice::new(&[n as u8; 300])]).unwrap();
            }
            while link.unsent_bytes() > 0 {
                link.progress().unwrap();
            }
            link.try_claim(5000).unwrap()[..2500].fill(0xff);
            tell();
        }
        "streaming" => {
            tell();
            let deadline = Instant::now() + PATIENCE;
            for n in 0.. {
                link.progress().unwrap();
                while link.try_send(n, &[IoSlice::new(&[n as u8; 300])]) == Err(SendError::Full) {
                    assert!(Instant::now() < deadline);
                }
            }
        }
        _ => tell(),
    }
    std::thread::sleep(PATIENCE);
}

fn connect(socket: impl Into<OwnedFd>) -> VerbsLink {
    let config = VerbsConfig { connect_timeout: PATIENCE, ..VerbsConfig::default() };
    verbs::connect(socket, rdma::device(), &config).unwrap()
}

/// Tells the test that this process has come to its point.
fn tell() {
    std::io::stderr().write_all(b"!").unwrap();
}

/// Starts the other process and waits until it has come to its point.
fn start(role: &str) -> (Child, VerbsLink) {
    let (near, far) = UnixStream::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peer_process", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let link = connect(near);
    child.stderr.take().unwrap().read_exact(&mut [0]).unwrap();
    (child, link)
}

/// SIGKILL, and the process is gone.
fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Receives until the end, checking that frames are whole and in order; returns their number and the end.
fn drain(link: &mut VerbsLink) -> (u32, LinkEnd) {
    let mut waiter = Waiter::new(WaitConfig { threads: 2 }).unwrap();
    waiter.add_link(0, link).unwrap();
    let (mut received, deadline) = (0, Instant::now() + PATIENCE);
    loop {
        let _ = link.progress();
        match link.try_recv() {
            Ok(Some(frame)) => {
                assert_eq!(frame.tag(), received);
                assert!(link.bytes(&frame)[WORD_BYTES..].iter().all(|&b| b == received as u8));
                link.release(frame);
                received += 1;
            }
            Ok(None) => assert_ne!(waiter.wait(link, deadline).unwrap(), Woken::TimedOut),
            Err(end) => return (received, end),
        }
    }
}

#[test]
fn a_peer_killed_in_the_middle_of_a_record_is_named_after_its_frames() {
    if std::env::var(ROLE).is_ok() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("in the middle of a record");
    kill(child);
    let (received, end) = drain(&mut link);
    assert_eq!(received, FRAMES);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    assert_eq!(link.try_claim(100).unwrap_err(), SendError::Ended(end));
}

#[test]
fn frames_of_a_peer_killed_while_streaming_are_whole_and_in_order() {
    if std::env::var(ROLE).is_ok() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("streaming");
    let first = loop {
        link.progress().unwrap();
        if let Some(frame) = link.try_recv().unwrap() {
            break frame;
        }
    };
    assert_eq!(first.tag(), 0);
    kill(child);
    let mut expected = 1;
    let end = loop {
        let _ = link.progress();
        match link.try_recv() {
            Ok(Some(frame)) => {
                assert_eq!(frame.tag(), expected);
                assert!(link.bytes(&frame)[WORD_BYTES..].iter().all(|&b| b == expected as u8));
                expected += 1;
            }
            Ok(None) => {}
            Err(end) => break end,
        }
    };
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
}

#[test]
fn the_death_of_a_peer_wakes_a_sleeper_and_ends_a_sender() {
    if std::env::var(ROLE).is_ok() || !rdma::usable() {
        return;
    }
    let (child, mut link) = start("asleep");
    let killer = std::thread::spawn(move || kill(child));
    let (received, end) = drain(&mut link);
    killer.join().unwrap();
    assert_eq!(received, 0);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");

    // One that does not look at its socket learns it from its own requests.
    let (child, mut link) = start("asleep");
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
