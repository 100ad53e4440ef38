//! The handshake over real sockets: deadlines, trust, and what is left in the socket afterwards.
#![cfg(not(loom))]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use keyrange_transport::handshake::{
    Credentials, HandshakeError, Identity, Peer, Request, initiate, respond,
};
use keyrange_transport::link::CarrierKind;

const REQUEST: Request = Request { carrier: CarrierKind::Tcp, purpose: 1 };

fn credentials(secret: &str) -> Credentials {
    Credentials { job: [4; 16], secret: secret.into() }
}

fn identity(name: &str) -> Identity {
    Identity { node: 1, role: 0, name: name.into(), epoch: 0, ring_bytes: 1 << 20 }
}

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

fn tcp_pair(address: &str) -> Option<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(address).ok()?;
    let a = TcpStream::connect(listener.local_addr().ok()?).ok()?;
    Some((a, listener.accept().ok()?.0))
}

type End = Result<Peer, HandshakeError>;

fn meet(a: impl AsFd, b: impl AsFd + Send + 'static, ours: &str, theirs: &str) -> (End, End) {
    let theirs = credentials(theirs);
    let far = thread::spawn(move || respond(&b, &theirs, &identity("b"), &[CarrierKind::Tcp], within(5000)));
    let end = initiate(a, &credentials(ours), &identity("a"), REQUEST, within(5000));
    (end, far.join().unwrap())
}

#[test]
fn nodes_meet_over_unix_and_tcp_sockets_with_and_without_secret() {
    for secret in ["", "secret"] {
        let (a, b) = UnixStream::pair().unwrap();
        let (a, b) = meet(a, b, secret, secret);
        assert_eq!((a.unwrap().identity.name, b.unwrap().identity.name), ("b".into(), "a".into()));
        let (a, b) = tcp_pair("127.0.0.1:0").unwrap();
        a.set_nonblocking(true).unwrap();
        let (a, b) = meet(a, b, secret, secret);
        assert_eq!((a.unwrap().identity.name, b.unwrap().identity.name), ("b".into(), "a".into()));
    }
}

#[test]
fn a_wrong_secret_is_named_on_both_sides() {
    let (a, b) = tcp_pair("127.0.0.1:0").unwrap();
    let (a, b) = meet(a, b, "right", "wrong");
    assert_eq!((a, b), (Err(HandshakeError::WrongSecret), Err(HandshakeError::WrongSecret)));
}

#[test]
fn beyond_loopback_a_secret_is_required() {
    // An address of this host that is not loopback, if it has one: where a datagram would leave from.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr());
    let Some((a, b)) = own.ok().and_then(|own| tcp_pair(&format!("{}:0", own.ip()))) else {
        return eprintln!("no address beyond loopback here");
    };
    let refused = initiate(&a, &credentials(""), &identity("a"), REQUEST, within(1000));
    assert!(matches!(refused, Err(HandshakeError::SecretRequired { .. })), "{refused:?}");
    let refused = respond(&b, &credentials(""), &identity("b"), &[CarrierKind::Tcp], within(1000));
    assert!(matches!(refused, Err(HandshakeError::SecretRequired { .. })), "{refused:?}");
    let (a, b) = meet(a, b, "secret", "secret");
    a.unwrap();
    b.unwrap();
}

#[test]
fn no_byte_beyond_the_handshake_is_read() {
    let (a, b) = UnixStream::pair().unwrap();
    let far = thread::spawn(move || {
        respond(&b, &credentials("s"), &identity("b"), &[CarrierKind::Tcp], within(5000)).unwrap();
        (&b).write_all(b"first record").unwrap();
        b
    });
    initiate(&a, &credentials("s"), &identity("a"), REQUEST, within(5000)).unwrap();
    let _b = far.join().unwrap();
    let mut bytes = [0; 12];
    (&a).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"first record");
}

#[test]
fn silence_slowness_and_hanging_up_are_told_apart() {
    let (a, _silent) = UnixStream::pair().unwrap();
    let end = initiate(&a, &credentials("s"), &identity("a"), REQUEST, within(20));
    assert_eq!(end, Err(HandshakeError::TimedOut { waiting_for: "answer" }));

    let (slow, b) = UnixStream::pair().unwrap();
    (&slow).write_all(b"KEYRANG").unwrap();
    let end = respond(&b, &credentials("s"), &identity("b"), &[CarrierKind::Tcp], within(20));
    assert_eq!(end, Err(HandshakeError::TooSlow { waiting_for: "hello", got: 7, wanted: 16 }));

    let (a, gone) = UnixStream::pair().unwrap();
    drop(gone);
    let end = initiate(&a, &credentials("s"), &identity("a"), REQUEST, within(5000));
    assert_eq!(end, Err(HandshakeError::Closed { waiting_for: "answer" }));
}

#[test]
fn a_peer_that_sends_a_byte_now_and_then_is_not_waited_for_beyond_the_deadline() {
    let (drip, b) = UnixStream::pair().unwrap();
    let dripping = thread::spawn(move || {
        let hello = [&b"KEYRANGE\x01\0\x01\0\x7f\0\0\0"[..], &[0; 200]].concat();
        // Ends when the responder hangs up.
        for byte in hello {
            thread::sleep(Duration::from_millis(10));
            if (&drip).write_all(&[byte]).is_err() {
                return;
            }
        }
        panic!("the responder waited for all of it");
    });
    let end = respond(&b, &credentials("s"), &identity("b"), &[CarrierKind::Tcp], within(300));
    assert!(matches!(end, Err(HandshakeError::TooSlow { waiting_for: "hello", .. })), "{end:?}");
    drop(b);
    dripping.join().unwrap();
}
