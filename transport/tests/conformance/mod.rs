//! What every carrier must do, written once. A carrier gives a factory of connected pairs and gets all the tests:
//!
//! ```ignore
//! mod conformance;
//! fn pair(ring_bytes: usize) -> (Box<dyn Link>, Box<dyn Link>) { ... }
//! conformance::suite!(pair);
//! ```
//!
//! The tests pump both ends from one thread where they can, so that they are deterministic; nothing sleeps, and
//! every wait ends at [`PATIENCE`] with a panic. Read `traffic` (moving frames), `ends` (how links end), `park` (sleeping).

#![allow(dead_code, reason = "each carrier's test crate uses what it needs")]

pub mod ends;
pub mod park;
pub mod traffic;

use std::io::IoSlice;
use std::time::{Duration, Instant};

use keyrange_transport::link::{Frame, Link, LinkEnd, SendError, WORD_BYTES};

/// Two connected ends.
pub type Pair = (Box<dyn Link>, Box<dyn Link>);
/// Makes a pair whose receive rings have (about) so many bytes.
pub type Factory = fn(usize) -> Pair;

/// A test that waits longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The ring most tests use: small, so that it wraps often.
pub const RING_BYTES: usize = 1 << 16;

/// Instantiates every test for a factory; with a condition, which then says aloud why it does not hold, only where it holds.
#[macro_export]
macro_rules! suite {
    ($factory:path, $usable:expr; $($group:ident: $($test:ident)*;)*) => {
        $($(#[test] fn $test() { if $usable { $crate::conformance::$group::$test($factory); } })*)*
    };
    ($factory:path) => { $crate::suite! { $factory, true } };
    ($factory:path, $usable:expr) => {
        $crate::suite! { $factory, $usable;
            traffic: frames_arrive_in_order_without_loss
                     frames_wrap_at_every_offset
                     the_largest_frame_passes_and_a_larger_one_is_refused
                     full_is_an_answer_and_passes
                     parts_are_gathered_and_frames_are_aligned
                     an_aborted_or_replaced_claim_is_never_seen
                     held_frames_stay_as_they_are
                     releasing_a_frame_releases_those_before_it
                     a_released_frame_is_out_of_reach
                     both_directions_run_saturated
                     small_frames_run_beside_large_ones
                     counters_count;
            ends: a_close_delivers_what_was_committed
                  a_closed_end_says_so
                  a_dropped_peer_is_gone_after_its_frames
                  a_peer_that_closes_frees_a_sender_that_waits_for_room;
            park: a_frame_wakes_a_sleeper
                  room_wakes_a_sleeper
                  a_close_wakes_a_sleeper
                  a_death_wakes_a_sleeper
                  nobody_sleeps_while_a_frame_waits
                  no_wake_is_lost_in_a_race
                  a_waiter_carries_many_links
                  a_wait_ends_at_its_deadline;
        }
    };
}

/// Calls `step` until it gives a value.
pub fn eventually<T>(what: &str, mut step: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = step() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        std::thread::yield_now();
    }
}

/// The body of frame `seed`: `len` bytes that no other frame has.
pub fn body(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..len)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// A length for frame `seed`'s body, at most `max`, often small.
pub fn length(seed: u64, max: usize) -> usize {
    let x = seed.wrapping_mul(0xd134_2543_de82_ef95).rotate_left(29) as usize;
    if x.is_multiple_of(3) { x / 3 % (max + 1) } else { x / 3 % 200.min(max + 1) }
}

/// The largest body a link carries.
pub fn body_max(link: &dyn Link) -> usize {
    link.frame_bytes_max() - WORD_BYTES
}

/// Sends a body; false if the link is full.
pub fn offer(link: &mut dyn Link, tag: u32, bytes: &[u8]) -> bool {
    match link.try_send(tag, &[IoSlice::new(bytes)]) {
        Ok(()) => true,
        Err(SendError::Full) => false,
        Err(error) => panic!("send: {error}"),
    }
}

/// Sends until the link says full (letting it move what it can); returns how many frames it took.
pub fn fill(from: &mut dyn Link, bytes: &[u8]) -> u32 {
    let (mut sent, mut refused) = (0, 0);
    // A socket accepts a little more after a while, so full means full several times in a row.
    while refused < 100 {
        from.progress().unwrap();
        if offer(from, sent, bytes) {
            (sent, refused) = (sent + 1, 0);
        } else {
            refused += 1;
        }
    }
    sent
}

/// Moves everything accepted out of this side. The peer may have taken it all and have left already.
pub fn flush(link: &mut dyn Link) {
    eventually("bytes to leave", || {
        let alive = link.progress();
        if link.unsent_bytes() > 0 {
            alive.unwrap();
            return None;
        }
        Some(())
    });
}

/// Receives one frame.
pub fn receive(link: &mut dyn Link) -> Frame {
    eventually("a frame", || {
        link.progress().unwrap();
        link.try_recv().unwrap()
    })
}

/// Receives one frame from a link that may be ending, progress on `from` included.
pub fn receive_from(from: &mut dyn Link, to: &mut dyn Link) -> Frame {
    eventually("a frame", || {
        from.progress().unwrap();
        to.progress().unwrap();
        to.try_recv().unwrap()
    })
}

/// Checks a frame against the body it should have, and releases it.
pub fn check(link: &mut dyn Link, frame: Frame, tag: u32, expected: &[u8]) {
    assert_eq!(frame.tag(), tag);
    assert_eq!(frame.len() as usize, expected.len() + WORD_BYTES);
    assert!(&link.bytes(&frame)[WORD_BYTES..] == expected, "frame {tag} has other contents");
    link.release(frame);
}

/// Receives until the link ends; no frame may come.
pub fn end_of(link: &mut dyn Link) -> LinkEnd {
    eventually("the end of the link", || {
        let progress = link.progress().err();
        match link.try_recv() {
            Ok(None) => progress,
            Ok(Some(frame)) => panic!("a frame after the last: {frame:?}"),
            Err(end) => Some(end),
        }
    })
}
