//! The two sides against each other and against attackers, without I/O.

use proptest::prelude::*;

use super::wire::{self, Kind, PREFACE_BYTES};
use super::*;

const REQUEST: Request = Request { carrier: CarrierKind::Tcp, purpose: 7 };

fn credentials(job: u8, secret: &[u8]) -> Credentials {
    Credentials { job: [job; 16], secret: secret.to_vec() }
}

fn identity(node: u32, name: &str) -> Identity {
    Identity { node, role: 2, name: name.into(), epoch: 3, ring_bytes: 1 << 20 }
}

fn initiator(credentials: Credentials, nonce: u8) -> Initiator {
    Initiator::new(credentials, identity(1, "worker-1"), REQUEST, [nonce; 32]).unwrap()
}

fn responder(credentials: Credentials, nonce: u8) -> Responder {
    Responder::new(credentials, identity(9, "server-9"), &[CarrierKind::Tcp], [nonce; 32]).unwrap()
}

/// Feeds `bytes` as the side asks for them; what is left over is returned.
fn feed<'a>(side: &mut impl Side, mut bytes: &'a [u8]) -> Result<&'a [u8], HandshakeError> {
    while !bytes.is_empty() && side.wanted_bytes() > 0 {
        let (now, rest) = bytes.split_at(bytes.len().min(side.wanted_bytes()));
        bytes = rest;
        side.feed(now)?;
    }
    Ok(bytes)
}

type Outcome = (Result<Peer, HandshakeError>, Result<Peer, HandshakeError>);

/// Runs both sides to their ends; `alter` sees each message with its number and may change it.
fn meet(mut a: Initiator, mut b: Responder, mut alter: impl FnMut(usize, &mut Vec<u8>)) -> Outcome {
    let silent = |side: &dyn Side| HandshakeError::TimedOut { waiting_for: side.waiting_for() };
    let (mut end_a, mut end_b) = (Ok(()), Ok(()));
    for number in 0..6 {
        let mut bytes = if number % 2 == 0 { a.take_output() } else { b.take_output() };
        if bytes.is_empty() {
            continue;
        }
        alter(number, &mut bytes);
        if number % 2 == 0 {
            end_b = end_b.and_then(|()| feed(&mut b, &bytes).map(drop));
        } else {
            end_a = end_a.and_then(|()| feed(&mut a, &bytes).map(drop));
        }
    }
    (
        end_a.and_then(|()| a.peer().cloned().ok_or_else(|| silent(&a))),
        end_b.and_then(|()| b.peer().cloned().ok_or_else(|| silent(&b))),
    )
}

fn honest(number: usize, bytes: &mut Vec<u8>) {
    let _ = (number, bytes);
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let key = credentials(1, b"secret");
    let (a, b) = meet(initiator(key.clone(), 1), responder(key, 2), honest);
    assert_eq!(a.unwrap(), Peer { identity: identity(9, "server-9"), request: REQUEST });
    assert_eq!(b.unwrap(), Peer { identity: identity(1, "worker-1"), request: REQUEST });
}

#[test]
fn another_secret_is_named_on_both_sides() {
    for (ours, theirs) in [(&b"secret"[..], &b"Secret"[..]), (b"", b"x"), (b"x", b""), (b"s", b"s\0")] {
        let (a, b) = meet(initiator(credentials(1, ours), 1), responder(credentials(1, theirs), 2), honest);
        assert_eq!(a, Err(HandshakeError::WrongSecret));
        assert_eq!(b, Err(HandshakeError::WrongSecret));
    }
}

#[test]
fn another_job_is_named_on_both_sides_once_the_secret_is_proved() {
    let (a, b) = meet(initiator(credentials(1, b"s"), 1), responder(credentials(2, b"s"), 2), honest);
    assert_eq!(a, Err(HandshakeError::WrongJob { ours: [1; 16] }));
    assert_eq!(b, Err(HandshakeError::WrongJob { ours: [2; 16] }));
}

#[test]
fn without_the_secret_a_right_job_and_a_wrong_one_look_the_same() {
    let replies = [1, 2].map(|job| {
        let mut b = responder(credentials(1, b"s"), 2);
        let mut a = initiator(credentials(job, b"guess"), 1);
        feed(&mut b, &a.take_output()).unwrap();
        let mut seen = b.take_output();
        feed(&mut a, &seen).unwrap();
        feed(&mut b, &a.take_output()).unwrap_err();
        seen.extend(b.take_output());
        // The job echoed is the one the initiator itself sent.
        seen.drain(PREFACE_BYTES..PREFACE_BYTES + 16);
        seen
    });
    assert_eq!(replies[0], replies[1]);
}

#[test]
fn a_carrier_not_served_is_refused_by_name() {
    let key = credentials(1, b"s");
    let b = Responder::new(key.clone(), identity(9, "s"), &[CarrierKind::Shm], [2; 32]).unwrap();
    let (a, b) = meet(initiator(key, 1), b, honest);
    assert_eq!(a, Err(HandshakeError::WrongCarrier { wanted: CarrierKind::Tcp }));
    assert_eq!(b, Err(HandshakeError::WrongCarrier { wanted: CarrierKind::Tcp }));
}

#[test]
fn another_version_is_named_with_both_numbers() {
    let key = credentials(1, b"s");
    let (_, b) = meet(initiator(key.clone(), 1), responder(key.clone(), 2), |number, bytes| {
        if number == 0 {
            bytes[8] = 9;
        }
    });
    assert_eq!(b, Err(HandshakeError::WrongVersion { expected: VERSION, got: 9 }));
    let mut a = initiator(key, 1);
    let mut refusal = wire::encode_refusal(Refusal::Version);
    refusal[8] = 9;
    assert_eq!(feed(&mut a, &refusal), Err(HandshakeError::WrongVersion { expected: VERSION, got: 9 }));
}

#[test]
fn a_stranger_is_called_a_stranger_and_told_nothing() {
    let mut b = responder(credentials(1, b"s"), 2);
    let error = feed(&mut b, b"GET / HTTP/1.1\r\n").unwrap_err();
    assert_eq!(error, HandshakeError::NotKeyrange { got: *b"GET / HT" });
    assert!(b.take_output().is_empty());
    assert_eq!(b.wanted_bytes(), 0);
}

#[test]
fn no_byte_of_any_message_can_be_altered() {
    let key = credentials(1, b"secret");
    let mut lengths = vec![0; 6];
    let (_, ended) = meet(initiator(key.clone(), 1), responder(key.clone(), 2), |number, bytes| {
        lengths[number] = bytes.len()
    });
    ended.unwrap();
    assert_eq!(lengths.iter().filter(|bytes| **bytes > 0).count(), 4);
    for (target, bytes) in lengths.into_iter().enumerate() {
        for at in 0..bytes {
            for flip in [1, 0x80] {
                let (a, b) = meet(initiator(key.clone(), 1), responder(key.clone(), 2), |number, bytes| {
                    if number == target {
                        bytes[at] ^= flip;
                    }
                });
                assert!(a.is_err(), "message {target}, byte {at}: the initiator was deceived");
                // The last message alone cannot change the mind of a responder that has sent it.
                assert!(b.is_err() || target == 3, "message {target}, byte {at}: the responder was deceived");
            }
        }
    }
}

#[test]
fn a_recorded_proof_is_worth_nothing_against_a_fresh_nonce() {
    let key = credentials(1, b"secret");
    let mut recorded = Vec::new();
    let (_, first) = meet(initiator(key.clone(), 1), responder(key.clone(), 2), |number, bytes| {
        if number % 2 == 0 {
            recorded.push(bytes.clone());
        }
    });
    first.unwrap();
    let mut b = responder(key.clone(), 3);
    feed(&mut b, &recorded[0]).unwrap();
    assert_eq!(feed(&mut b, &recorded[1]), Err(HandshakeError::WrongSecret));
    // With the same nonce it would have passed: the nonce is what stops it.
    let mut b = responder(key, 2);
    feed(&mut b, &recorded[0]).unwrap();
    feed(&mut b, &recorded[1]).unwrap();
    assert!(b.peer().is_some());
}

#[test]
fn a_node_cannot_be_answered_with_its_own_words() {
    let key = credentials(1, b"secret");
    // Its own hello as the answer.
    let mut a = initiator(key.clone(), 1);
    let hello = a.take_output();
    assert!(matches!(feed(&mut a, &hello), Err(HandshakeError::Malformed { field: "message kind", .. })));
    // Its own hello disguised as an answer, then its own proof disguised as a welcome.
    let mut a = initiator(key, 1);
    let mut hello = a.take_output();
    hello[10] = Kind::Answer as u8;
    feed(&mut a, &hello).unwrap();
    let mut proof = a.take_output();
    proof[10] = Kind::Welcome as u8;
    assert_eq!(feed(&mut a, &proof), Err(HandshakeError::WrongSecret));
}

#[test]
fn a_name_that_cannot_be_sent_is_refused_before_anything_is_sent() {
    for name in ["x".repeat(65), "a\nb".into()] {
        let made = Initiator::new(credentials(1, b"s"), identity(1, &name), REQUEST, [1; 32]);
        assert!(matches!(made, Err(HandshakeError::BadLocal { field: "name", .. })));
    }
    let longest = "é".repeat(NAME_BYTES_MAX / 2);
    let key = credentials(1, b"s");
    let a = Initiator::new(key.clone(), identity(1, &longest), REQUEST, [1; 32]).unwrap();
    let (a, b) = meet(a, responder(key, 2), honest);
    a.unwrap();
    assert_eq!(b.unwrap().identity.name, longest);
}

#[test]
fn a_secret_is_not_printed() {
    assert!(!format!("{:?}", credentials(1, b"hush")).contains(&format!("{:?}", b"hush")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_cutting_of_the_stream_does_not_matter(cuts in prop::collection::vec(1_usize..40, 1..200)) {
        let key = credentials(1, b"secret");
        let (mut a, mut b) = (initiator(key.clone(), 1), responder(key, 2));
        let mut cuts = cuts.iter().cycle();
        for _ in 0..2 {
            for bytes in a.take_output().chunks(*cuts.next().unwrap()) { feed(&mut b, bytes).unwrap(); }
            for bytes in b.take_output().chunks(*cuts.next().unwrap()) { feed(&mut a, bytes).unwrap(); }
        }
        prop_assert!(a.peer().is_some() && b.peer().is_some());
    }

    #[test]
    fn arbitrary_bytes_never_pass_and_never_ask_for_much(
        kind in 1_u8..7, declared in 0_u32..200, body in prop::collection::vec(any::<u8>(), 0..200), raw in any::<bool>(),
    ) {
        let mut bytes = wire::message(Kind::Hello, &body);
        bytes[10] = kind;
        bytes[12..16].copy_from_slice(&declared.to_le_bytes());
        if raw { bytes.drain(..PREFACE_BYTES); }
        let key = credentials(1, b"secret");
        let (mut a, mut b) = (initiator(key.clone(), 1), responder(key, 2));
        a.take_output();
        let _ = feed(&mut a, &bytes);
        let _ = feed(&mut b, &bytes);
        prop_assert!(a.peer().is_none() && b.peer().is_none());
        prop_assert!(a.wanted_bytes() <= MESSAGE_BYTES_MAX && b.wanted_bytes() <= MESSAGE_BYTES_MAX);
    }
}
