//! The conformance suite on TCP, and what only TCP meets: hostile bytes, killed processes, addresses.
#![cfg(not(loom))]

mod conformance;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use keyrange_transport::link::{Link, LinkEnd};
use keyrange_transport::tcp::{CLOSE_WORD, Listener, TcpConfig, TcpError, TcpLink, connect};
use proptest::prelude::*;

const ADDRESS: &str = "127.0.0.1:0";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn sockets() -> (TcpStream, TcpStream) {
    let listener = Listener::bind(ADDRESS.parse().unwrap()).unwrap();
    let a = connect(listener.address(), soon()).unwrap();
    (a, listener.accept(soon()).unwrap().0)
}

fn config(ring_bytes: usize) -> TcpConfig {
    TcpConfig { ring_bytes, peer_ring_bytes: ring_bytes, ..TcpConfig::default() }
}

fn connected(ring_bytes: usize) -> (TcpLink, TcpLink) {
    let (a, b) = sockets();
    (TcpLink::new(a, &config(ring_bytes)).unwrap(), TcpLink::new(b, &config(ring_bytes)).unwrap())
}

fn pair(ring_bytes: usize) -> conformance::Pair {
    let (a, b) = connected(ring_bytes);
    (Box::new(a), Box::new(b))
}

suite!(pair);

/// A link whose peer is a bare socket.
fn link_and_socket() -> (TcpLink, TcpStream) {
    let (a, b) = sockets();
    (TcpLink::new(a, &config(1 << 16)).unwrap(), b)
}

fn record(len: u32, tag: u32, fill: u8, bytes: usize) -> Vec<u8> {
    let mut record = vec![fill; bytes];
    record[..4].copy_from_slice(&len.to_le_bytes());
    record[4..8].copy_from_slice(&tag.to_le_bytes());
    record
}

#[test]
fn the_wire_carries_the_records_and_nothing_else() {
    let (mut link, mut socket) = link_and_socket();
    assert!(conformance::offer(&mut link, 5, &[7; 60]));
    link.close();
    drop(link);
    let mut wire = Vec::new();
    socket.read_to_end(&mut wire).unwrap();
    let mut expected = record(68, 5, 7, 128);
    expected[68..].fill(0);
    expected.extend(record(CLOSE_WORD, 0, 0, 64));
    assert_eq!(wire, expected);
}

#[test]
fn commits_before_a_progress_leave_in_one_write() {
    let (mut a, mut b) = connected(1 << 16);
    for tag in 0..100 {
        assert!(conformance::offer(&mut a, tag, &[1; 8]));
    }
    assert_eq!((a.stats().wakes, a.unsent_bytes()), (0, 6400));
    conformance::flush(&mut a);
    assert_eq!(a.stats().wakes, 1);
    for tag in 0..100 {
        let frame = conformance::receive(&mut b);
        conformance::check(&mut b, frame, tag, &[1; 8]);
    }
}

#[test]
fn a_large_frame_leaves_at_once() {
    let (mut a, mut b) = connected(1 << 18);
    assert!(conformance::offer(&mut a, 1, &[1; 8]));
    assert!(conformance::offer(&mut a, 2, &[2; 40_000]));
    assert_eq!(a.stats().wakes, 1);
    let frame = conformance::receive(&mut b);
    conformance::check(&mut b, frame, 1, &[1; 8]);
    let frame = conformance::receive_from(&mut a, &mut b);
    conformance::check(&mut b, frame, 2, &[2; 40_000]);
}

#[test]
fn a_length_out_of_bounds_ends_the_link_as_soon_as_it_is_there() {
    for len in [0, 7, (1 << 14) + 1, u32::MAX - 1] {
        let (mut link, mut socket) = link_and_socket();
        socket.write_all(&record(len, 0, 0, 8)).unwrap();
        let end = conformance::end_of(&mut link);
        assert!(matches!(&end, LinkEnd::Protocol(text) if text.contains(&len.to_string())), "{end:?}");
        // The peer is cut off, too.
        assert!(matches!(socket.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
}

#[test]
fn a_connection_that_ends_inside_a_record_is_a_lost_peer() {
    for part in [0, 3, 8, 63, 100] {
        let (mut link, mut socket) = link_and_socket();
        socket.write_all(&record(64, 9, 1, 64)).unwrap();
        socket.write_all(&record(200, 9, 1, 256)[..part]).unwrap();
        drop(socket);
        let frame = conformance::receive(&mut link);
        link.release(frame);
        let end = conformance::end_of(&mut link);
        assert!(
            matches!(&end, LinkEnd::PeerGone(text) if (part > 0) == text.contains("into a record")),
            "{end:?}"
        );
    }
}

#[test]
fn a_reset_is_a_lost_peer_and_what_came_before_is_delivered() {
    let (mut link, mut socket) = link_and_socket();
    socket.write_all(&record(64, 9, 1, 64)).unwrap();
    // A socket closed with unread bytes resets the connection.
    assert!(conformance::offer(&mut link, 0, &[0; 8]));
    conformance::flush(&mut link);
    socket.peek(&mut [0; 8]).unwrap();
    drop(socket);
    let frame = conformance::receive(&mut link);
    assert_eq!(frame.tag(), 9);
    let end = conformance::end_of(&mut link);
    assert!(matches!(end, LinkEnd::PeerGone(_)), "{end:?}");
    assert_eq!(link.bytes(&frame).len(), 64, "a held frame stays readable after the end");
}

#[test]
fn a_peer_lost_between_claim_and_commit_is_no_panic() {
    let (mut link, mut socket) = link_and_socket();
    assert!(conformance::offer(&mut link, 0, &[0; 8]));
    conformance::flush(&mut link);
    socket.write_all(&record(64, 9, 1, 32)).unwrap();
    socket.peek(&mut [0; 8]).unwrap();
    link.try_claim(64).unwrap();
    drop(socket);
    conformance::end_of(&mut link);
    link.commit(1);
    assert!(link.try_claim(64).is_err());
}

#[test]
fn a_closed_link_delivers_even_if_it_is_dropped_while_both_sides_still_send() {
    let (mut a, mut b) = connected(1 << 16);
    let sent = conformance::fill(&mut a, &[3; 3000]);
    conformance::fill(&mut b, &[4; 3000]);
    a.close();
    let reader = std::thread::spawn(move || {
        for tag in 0..sent {
            let frame = conformance::receive(&mut b);
            conformance::check(&mut b, frame, tag, &[3; 3000]);
        }
        conformance::end_of(&mut b)
    });
    drop(a);
    assert_eq!(reader.join().unwrap(), LinkEnd::ClosedByPeer);
}

/// Not a test of its own: the process that `a_killed_process_is_a_lost_peer` starts and kills.
#[test]
#[ignore = "the other side of another test"]
fn child_that_stops_in_mid_record() {
    let address = std::env::var("KEYRANGE_TEST_ADDRESS").unwrap().parse().unwrap();
    let mut socket = connect(address, soon()).unwrap();
    socket.write_all(&record(64, 1, 1, 64)).unwrap();
    socket.write_all(&record(10_000, 2, 2, 5000)).unwrap();
    println!("sent");
    // Until killed, or until the parent is gone.
    let _ = std::io::stdin().read(&mut [0; 1]);
}

#[test]
fn a_killed_process_is_a_lost_peer() {
    let listener = Listener::bind(ADDRESS.parse().unwrap()).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "child_that_stops_in_mid_record", "--nocapture"])
        .env("KEYRANGE_TEST_ADDRESS", listener.address().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut link = TcpLink::new(listener.accept(soon()).unwrap().0, &config(1 << 16)).unwrap();
    let frame = conformance::receive(&mut link);
    conformance::check(&mut link, frame, 1, &[1; 56]);
    assert_eq!(link.try_recv(), Ok(None));
    child.kill().unwrap();
    child.wait().unwrap();
    let end = conformance::end_of(&mut link);
    assert!(matches!(&end, LinkEnd::PeerGone(text) if text.contains("into a record")), "{end:?}");
}

#[test]
fn a_peer_that_does_not_read_is_not_gone_however_long() {
    let (a, mut socket) = sockets();
    let peer_timeout = Duration::from_secs(1);
    let mut link = TcpLink::new(a, &TcpConfig { peer_timeout, ..config(1 << 16) }).unwrap();
    let sent = conformance::fill(&mut link, &[5; 3000]);
    let until = Instant::now() + 3 * peer_timeout;
    while Instant::now() < until {
        assert_eq!(link.progress(), Ok(()));
        std::thread::yield_now();
    }
    let reader = std::thread::spawn(move || {
        let mut wire = Vec::new();
        socket.read_to_end(&mut wire).unwrap();
        wire.len()
    });
    conformance::flush(&mut link);
    link.close();
    drop(link);
    assert_eq!(reader.join().unwrap(), sent as usize * 3008_usize.next_multiple_of(64) + 64);
}

#[test]
fn a_port_in_use_is_named() {
    let first = Listener::bind(ADDRESS.parse().unwrap()).unwrap();
    let error = Listener::bind(first.address()).unwrap_err();
    assert!(matches!(error, TcpError::AddressInUse { .. }));
    assert!(error.to_string().contains(&format!("port {} is in use", first.address().port())));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let address = Listener::bind(ADDRESS.parse().unwrap()).unwrap().address();
    let error = connect(address, soon()).unwrap_err();
    assert!(matches!(&error, TcpError::Refused { .. }) && error.to_string().contains(&address.to_string()));
    let listener = Listener::bind(ADDRESS.parse().unwrap()).unwrap();
    let error = listener.accept(Instant::now() + Duration::from_millis(5)).unwrap_err();
    assert!(matches!(error, TcpError::AcceptTimedOut { .. }));
}

#[test]
fn an_impossible_configuration_is_refused() {
    for bad in [
        TcpConfig { ring_bytes: 5000, ..TcpConfig::default() },
        TcpConfig { peer_ring_bytes: 64, ..TcpConfig::default() },
        TcpConfig { peer_timeout: Duration::ZERO, ..TcpConfig::default() },
    ] {
        assert!(matches!(TcpLink::new(sockets().0, &bad), Err(TcpError::Config { .. })), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn hostile_bytes_end_the_link_and_nothing_else(
        lens in prop::collection::vec(prop_oneof![0_u32..300, Just(u32::MAX), any::<u32>()], 0..8),
        noise in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let (mut link, mut socket) = link_and_socket();
        for len in lens {
            let _ = socket.write_all(&record(len, 1, 3, (len as usize).clamp(8, 512).next_multiple_of(64)));
        }
        let _ = socket.write_all(&noise);
        drop(socket);
        let end = conformance::eventually("the end", || {
            let _ = link.progress();
            match link.try_recv() {
                Ok(Some(frame)) => { assert!(link.bytes(&frame).len() >= 8); link.release(frame); None }
                Ok(None) => None,
                Err(end) => Some(end),
            }
        });
        prop_assert!(matches!(end, LinkEnd::Protocol(_) | LinkEnd::PeerGone(_) | LinkEnd::ClosedByPeer));
    }
}
