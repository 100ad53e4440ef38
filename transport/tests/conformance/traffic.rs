//! Frames move: order, contents, limits, back-pressure, holding and releasing.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::panic::{AssertUnwindSafe, catch_unwind};

use keyrange_transport::link::{FRAME_ALIGN, Link, SendError, WORD_BYTES};

use super::*;

/// Sends `count` frames of the given lengths one way, receiving as it goes.
fn run_one_way(from: &mut dyn Link, to: &mut dyn Link, count: u64, len: impl Fn(u64) -> usize) {
    let (mut sent, mut received) = (0, 0);
    eventually("all frames", || {
        from.progress().unwrap();
        while sent < count && offer(from, sent as u32, &body(sent, len(sent))) {
            sent += 1;
        }
        to.progress().unwrap();
        while let Some(frame) = to.try_recv().unwrap() {
            check(to, frame, received as u32, &body(received, len(received)));
            received += 1;
        }
        (received == count).then_some(())
    });
    assert_eq!(to.try_recv().unwrap(), None);
}

pub fn frames_arrive_in_order_without_loss(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    let max = body_max(a.as_ref());
    run_one_way(a.as_mut(), b.as_mut(), 5_000, |n| length(n, max));
    run_one_way(b.as_mut(), a.as_mut(), 500, |n| length(n + 7, max));
}

pub fn frames_wrap_at_every_offset(factory: Factory) {
    let (mut a, mut b) = factory(4096);
    // Lengths of 1 to 15 lines, in an order that starts records at every line of the ring.
    run_one_way(a.as_mut(), b.as_mut(), 64 * 15 * 2, |n| (n * 7 % 15 * 64 + n % 57) as usize);
}

pub fn the_largest_frame_passes_and_a_larger_one_is_refused(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    let max = a.frame_bytes_max();
    let largest = body(1, max - WORD_BYTES);
    for tag in 0..10 {
        assert!(offer(a.as_mut(), tag, &largest));
        let frame = receive_from(a.as_mut(), b.as_mut());
        check(b.as_mut(), frame, tag, &largest);
    }
    let too_large = SendError::TooLarge { got: max + 1, max };
    assert_eq!(a.try_claim(max + 1).unwrap_err(), too_large);
    assert_eq!(a.try_send(0, &[IoSlice::new(&body(1, max + 1 - WORD_BYTES))]).unwrap_err(), too_large);
    run_one_way(a.as_mut(), b.as_mut(), 10, |_| 5);
}

pub fn full_is_an_answer_and_passes(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    for len in [0, 40, 1000, body_max(a.as_ref())] {
        let bytes = body(9, len);
        let sent = fill(a.as_mut(), &bytes);
        assert!(sent >= 3, "{len}: full after {sent}");
        assert_eq!(a.try_claim(len + WORD_BYTES).unwrap_err(), SendError::Full);
        for tag in 0..sent {
            let frame = receive_from(a.as_mut(), b.as_mut());
            check(b.as_mut(), frame, tag, &bytes);
        }
        assert_eq!(b.try_recv().unwrap(), None);
        assert!(a.stats().full > 0);
    }
    run_one_way(a.as_mut(), b.as_mut(), 100, |n| n as usize);
}

pub fn parts_are_gathered_and_frames_are_aligned(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    for n in 0..200u64 {
        let whole = body(n, length(n, 3000));
        let cut = whole.len() / 3;
        let parts = [&whole[..cut], &[], &whole[cut..2 * cut], &whole[2 * cut..]].map(IoSlice::new);
        a.try_send(n as u32, &parts).unwrap();
        a.try_claim(whole.len() + WORD_BYTES).unwrap().copy_from_slice(&whole);
        a.commit(n as u32 + 1);
        for tag in [n as u32, n as u32 + 1] {
            let frame = receive_from(a.as_mut(), b.as_mut());
            assert_eq!(b.bytes(&frame).as_ptr() as usize % FRAME_ALIGN, 0);
            check(b.as_mut(), frame, tag, &whole);
        }
    }
}

pub fn an_aborted_or_replaced_claim_is_never_seen(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    for n in 0..100u32 {
        a.try_claim(1000).unwrap().fill(0xff);
        a.abort();
        flush(a.as_mut());
        assert_eq!(b.try_recv().unwrap(), None);
        a.try_claim(2000).unwrap().fill(0xee);
        a.try_claim(WORD_BYTES + 3).unwrap().copy_from_slice(b"abc");
        a.commit(n);
        let frame = receive_from(a.as_mut(), b.as_mut());
        check(b.as_mut(), frame, n, b"abc");
    }
    assert!(catch_unwind(AssertUnwindSafe(|| a.commit(0))).is_err(), "a commit without a claim is a bug");
}

pub fn held_frames_stay_as_they_are(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    let max = body_max(a.as_ref()) / 2;
    let (mut sent, mut received) = (0u64, 0u64);
    let mut held = VecDeque::new();
    eventually("all frames", || {
        a.progress().unwrap();
        while sent < 2_000 && offer(a.as_mut(), sent as u32, &body(sent, length(sent, max))) {
            sent += 1;
        }
        b.progress().unwrap();
        while held.len() < 5
            && let Some(frame) = b.try_recv().unwrap()
        {
            held.push_back((received, frame));
            received += 1;
        }
        for (n, frame) in &held {
            assert!(b.bytes(frame)[WORD_BYTES..] == body(*n, length(*n, max)), "held frame {n} changed");
        }
        if let Some((_, frame)) = held.pop_front() {
            b.release(frame);
        }
        (received == 2_000 && held.is_empty()).then_some(())
    });
}

pub fn releasing_a_frame_releases_those_before_it(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    let bytes = body(2, 1000);
    for _ in 0..200 {
        for tag in 0..3 {
            eventually("room", || {
                a.progress().unwrap();
                offer(a.as_mut(), tag, &bytes).then_some(())
            });
        }
        let frames = [(); 3].map(|()| receive_from(a.as_mut(), b.as_mut()));
        b.release(frames[2]);
    }
}

pub fn a_released_frame_is_out_of_reach(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    assert!(offer(a.as_mut(), 1, b"gone") && offer(a.as_mut(), 2, b"here"));
    let first = receive_from(a.as_mut(), b.as_mut());
    let second = receive_from(a.as_mut(), b.as_mut());
    b.release(first);
    assert!(catch_unwind(AssertUnwindSafe(|| b.bytes(&first).len())).is_err());
    assert_eq!(&b.bytes(&second)[WORD_BYTES..], b"here");
}

/// Sends and receives on both ends until each has received `count` frames.
fn run_both_ways(mut ends: [Box<dyn Link>; 2], count: u64, len: impl Fn(u64) -> usize) {
    let (mut sent, mut received) = ([0u64; 2], [0u64; 2]);
    eventually("all frames", || {
        for (i, end) in ends.iter_mut().enumerate() {
            end.progress().unwrap();
            while sent[i] < count && offer(end.as_mut(), sent[i] as u32, &body(sent[i], len(sent[i]))) {
                sent[i] += 1;
            }
            // Fewer received than sent per round, so that both rings run full.
            for _ in 0..3 {
                let Some(frame) = end.try_recv().unwrap() else { break };
                check(end.as_mut(), frame, received[i] as u32, &body(received[i], len(received[i])));
                received[i] += 1;
            }
        }
        (received == [count; 2]).then_some(())
    });
}

pub fn both_directions_run_saturated(factory: Factory) {
    let (a, b) = factory(RING_BYTES);
    let max = body_max(a.as_ref());
    run_both_ways([a, b], 3_000, |n| length(n, max));
}

pub fn small_frames_run_beside_large_ones(factory: Factory) {
    let (a, b) = factory(RING_BYTES);
    let max = body_max(a.as_ref());
    run_both_ways([a, b], 20_000, |n| if n % 1000 == 999 { max } else { (n % 3) as usize * 16 });
}

pub fn counters_count(factory: Factory) {
    let (mut a, mut b) = factory(RING_BYTES);
    run_one_way(a.as_mut(), b.as_mut(), 10, |_| 100);
    let (sent, received) = (a.stats(), b.stats());
    assert_eq!((sent.sent_frames, sent.sent_bytes, sent.received_frames), (10, 1280, 0));
    assert_eq!((received.received_frames, received.received_bytes, received.sent_frames), (10, 1280, 0));
}
