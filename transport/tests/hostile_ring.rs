//! A peer that writes anything into a ring's memory ends its own link with a reason, and nothing else happens.
#![cfg(not(loom))]

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};

use keyrange_transport::link::{Frame, LinkEnd, SendError};
use keyrange_transport::ring::{Consumer, MappedRing, Producer, Taken};
use proptest::prelude::*;

const RING_BYTES: usize = 4096;

/// The same ring twice: ours, and the peer's view of it.
fn ring() -> (MappedRing, MappedRing) {
    let ours = MappedRing::create(RING_BYTES).unwrap();
    let fd: OwnedFd = ours.fd().try_clone_to_owned().unwrap();
    let theirs = MappedRing::adopt(fd, RING_BYTES).unwrap();
    (ours, theirs)
}

/// What a hostile peer stores at a byte offset of the ring (data first, descriptor behind the two views).
fn store(ring: &MappedRing, offset: usize, value: u64) {
    // SAFETY: callers give 8-aligned offsets inside the mapping; both sides access these words as atomics.
    unsafe { (*ring.as_ptr().add(offset).cast::<AtomicU64>()).store(value, Ordering::Release) };
}

/// The next frame, as a link takes it.
fn next(consumer: &mut Consumer<MappedRing>) -> Result<Option<Frame>, LinkEnd> {
    match consumer.take() {
        Taken::Frame(frame) => Ok(Some(frame)),
        Taken::Nothing => Ok(None),
        Taken::Unclear => consumer.poll(),
    }
}

#[test]
fn impossible_lengths_are_a_protocol_fault() {
    for (word, what) in [
        (7u64, "shorter than the word"),
        (1025, "longer than a quarter of the ring"),
        (u64::from(u32::MAX), "the largest length there is"),
        (1 << 32, "a tag without a length"),
    ] {
        let (ours, theirs) = ring();
        // SAFETY: the first and only consumer of new memory.
        let mut consumer = unsafe { Consumer::new(ours) };
        store(&theirs, 0, word);
        let end = consumer.poll().unwrap_err();
        assert!(matches!(&end, LinkEnd::Protocol(text) if text.contains("8..=1024")), "{what}: {end}");
    }
}

#[test]
fn a_record_that_would_overwrite_held_frames_is_a_protocol_fault() {
    let (ours, theirs) = ring();
    // SAFETY: the first and only consumer of new memory.
    let mut consumer = unsafe { Consumer::new(ours) };
    for record in 0..3 {
        store(&theirs, record * 1024, 1024);
        assert!(consumer.poll().unwrap().is_some());
    }
    // 1024 bytes are left, of which a line must stay free.
    store(&theirs, 3 * 1024, 1024);
    assert!(matches!(consumer.poll(), Err(LinkEnd::Protocol(text)) if text.contains("8..=960, got 1024")));
}

#[test]
fn impossible_heads_are_a_protocol_fault() {
    for head in [64 * 1000, 1, u64::MAX, 32] {
        let (ours, theirs) = ring();
        // SAFETY: the first and only producer on this mapping of new memory.
        let mut producer = unsafe { Producer::new(ours) };
        while producer.claim(1024).is_ok() {
            producer.commit(0);
        }
        store(&theirs, 2 * RING_BYTES, head);
        let refused = producer.claim(1024).unwrap_err();
        assert!(matches!(refused, SendError::Ended(LinkEnd::Protocol(_))), "{head}: {refused}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn anything_in_the_ring_is_a_frame_in_bounds_or_an_end(
        words in prop::collection::vec((0usize..RING_BYTES / 64, prop_oneof![0u64..2000, any::<u64>()]), 1..40),
        keep in 1usize..5,
    ) {
        let (ours, theirs) = ring();
        // SAFETY: the first and only consumer of new memory.
        let mut consumer = unsafe { Consumer::new(ours) };
        let mut held = std::collections::VecDeque::new();
        for (line, word) in words {
            store(&theirs, line * 64, word);
            while let Ok(Some(frame)) = next(&mut consumer) {
                prop_assert_eq!(consumer.bytes(&frame).len(), frame.len() as usize);
                prop_assert!(frame.len() >= 8 && frame.len() as usize <= RING_BYTES / 4);
                held.push_back(frame);
                if held.len() > keep {
                    consumer.release(&held.pop_front().unwrap());
                }
                // An honest ring would be empty after this many lines; a hostile one may go round for ever.
                if frame.position() > 1 << 20 { break }
            }
        }
    }
}
