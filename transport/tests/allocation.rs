//! Links in their steady state allocate nothing, whatever the size of the frames and the way of sending.
#![cfg(not(loom))]

mod counting;

use std::io::IoSlice;
use std::time::{Duration, Instant};

use keyrange_transport::in_process;
use keyrange_transport::link::{Link, SendError};
use keyrange_transport::shm::RingConfig;
use keyrange_transport::tcp::{Listener, TcpConfig, TcpLink, connect};

/// Rounds before counting: buffers that grow to what they need do so here.
const WARM: u32 = 200;
const ROUNDS: u32 = 2_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// A small and a large frame there, in both ways of sending; each is read and released.
fn round(near: &mut impl Link, far: &mut impl Link, large: &[u8]) {
    let until = Instant::now() + PATIENCE;
    while near.try_send(1, &[IoSlice::new(&[7; 48])]) == Err(SendError::Full) {
        assert!(Instant::now() < until);
        pump(near, far);
    }
    loop {
        match near.try_claim(8 + large.len()) {
            Ok(memory) => break memory[..large.len()].copy_from_slice(large),
            Err(SendError::Full) => assert!(Instant::now() < until),
            Err(error) => panic!("{error}"),
        }
        pump(near, far);
    }
    near.commit(2);
    let mut received = 0;
    while received < 2 {
        assert!(Instant::now() < until);
        pump(near, far);
        if let Some(frame) = far.try_recv().unwrap() {
            received += 1;
            assert_eq!(frame.tag(), received);
            let expected: &[u8] = if received == 1 { &[7; 48] } else { large };
            assert_eq!(&far.bytes(&frame)[8..][..expected.len()], expected);
            far.release(frame);
        }
    }
}

fn pump(near: &mut impl Link, far: &mut impl Link) {
    near.progress().unwrap();
    far.progress().unwrap();
}

fn check(mut near: impl Link, mut far: impl Link, name: &str) {
    for bytes in [100, 5_000, 60_000] {
        let large = vec![9; bytes];
        (0..WARM).for_each(|_| round(&mut near, &mut far, &large));
        let before = counting::calls();
        assert!(before > 0, "the count counts nothing");
        (0..ROUNDS).for_each(|_| round(&mut near, &mut far, &large));
        assert_eq!(counting::calls() - before, 0, "{name}, frames of {bytes} bytes");
    }
}

#[test]
fn a_ring_allocates_nothing() {
    let (near, far) = in_process::pair(RingConfig::default()).unwrap();
    check(near, far, "ring");
}

#[test]
fn a_tcp_link_allocates_nothing() {
    let until = Instant::now() + PATIENCE;
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let near = connect(listener.address(), until).unwrap();
    let far = listener.accept(until).unwrap().0;
    let config = TcpConfig::default();
    check(TcpLink::new(near, &config).unwrap(), TcpLink::new(far, &config).unwrap(), "tcp");
}
