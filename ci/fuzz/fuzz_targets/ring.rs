//! A hostile peer: it may store any words into a ring's data and descriptor, between any of our calls. Whatever it
//! does, our side gets frames that lie in bounds, or an end with a reason; it never panics and never hangs.
#![no_main]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::Arbitrary;
use keyrange_transport::link::{Frame, LinkEnd};
use keyrange_transport::ring::{Consumer, MappedRing, Producer, Taken};
use libfuzzer_sys::fuzz_target;

const RING_BYTES: usize = 4096;
/// Data twice, then the descriptor's page.
const REACH_BYTES: usize = 2 * RING_BYTES + 4096;
/// Frames taken per step: a hostile ring may go round for ever.
const FRAMES_MAX: usize = 200;

#[derive(Debug, Arbitrary)]
enum Step {
    /// The peer stores a word anywhere.
    Store {
        at: u16,
        value: u64,
    },
    /// The peer stores a length at the beginning of a line.
    Length {
        line: u8,
        len: u16,
        tag: u32,
    },
    /// We receive, holding so many frames.
    Receive {
        hold: u8,
    },
    ReleaseAll,
    Publish,
    Park,
    /// We send on the ring whose consumer is hostile.
    Send {
        bytes: u16,
        abort: bool,
    },
    ParkForRoom,
}

fn hostile_view(ring: &MappedRing) -> MappedRing {
    MappedRing::adopt(ring.fd().try_clone_to_owned().expect("dup"), RING_BYTES).expect("the ring just made")
}

fn store(ring: &MappedRing, at: usize, value: u64) {
    let at = at % REACH_BYTES & !7;
    // SAFETY: inside the mapping (data twice, one page of descriptor), aligned, atomic as on our side.
    unsafe { (*ring.as_ptr().add(at).cast::<AtomicU64>()).store(value, Ordering::Release) };
}

/// The next frame, as a link takes it.
fn next(consumer: &mut Consumer<MappedRing>) -> Result<Option<Frame>, LinkEnd> {
    match consumer.take() {
        Taken::Frame(frame) => Ok(Some(frame)),
        Taken::Nothing => Ok(None),
        Taken::Unclear => consumer.poll(),
    }
}

fn receive(consumer: &mut Consumer<MappedRing>, held: &mut VecDeque<Frame>, hold: usize) {
    for _ in 0..FRAMES_MAX {
        let Ok(Some(frame)) = next(consumer) else { return };
        assert!(frame.len() >= 8 && frame.len() as usize <= RING_BYTES / 4);
        assert_eq!(consumer.bytes(&frame).len(), frame.len() as usize);
        assert_eq!(consumer.bytes(&frame).as_ptr() as usize % 64, 0);
        std::hint::black_box(consumer.bytes(&frame).iter().fold(0u8, |a, &b| a ^ b));
        held.push_back(frame);
        while held.len() > hold {
            let Some(oldest) = held.pop_front() else { break };
            consumer.release(&oldest);
        }
    }
}

fuzz_target!(|steps: Vec<Step>| {
    let inward = MappedRing::create(RING_BYTES).expect("memory");
    let outward = MappedRing::create(RING_BYTES).expect("memory");
    let peers = [hostile_view(&inward), hostile_view(&outward)];
    // SAFETY: the only consumer of this new memory.
    let mut consumer = unsafe { Consumer::new(inward) };
    // SAFETY: the only producer on this new memory; its other mapping belongs to the hostile peer.
    let mut producer = unsafe { Producer::new(outward) };
    let mut held = VecDeque::new();
    for step in steps {
        match step {
            Step::Store { at, value } => peers.iter().for_each(|ring| store(ring, at.into(), value)),
            Step::Length { line, len, tag } => {
                let value = u64::from(len) | u64::from(tag) << 32;
                store(&peers[0], usize::from(line) % (RING_BYTES / 64) * 64, value);
            }
            Step::Receive { hold } => receive(&mut consumer, &mut held, hold.into()),
            Step::ReleaseAll => {
                if let Some(newest) = held.pop_back() {
                    held.clear();
                    consumer.release(&newest);
                }
            }
            Step::Publish => {
                consumer.publish();
            }
            Step::Park => {
                consumer.announce_park();
                consumer.may_park();
                consumer.finish_park();
            }
            Step::Send { bytes, abort } => {
                let bytes = usize::from(bytes).max(8);
                if let Ok(body) = producer.claim_bytes(bytes) {
                    body.fill(bytes as u8);
                    if abort {
                        producer.abort();
                    } else {
                        let _ = producer.commit(1);
                    }
                }
            }
            Step::ParkForRoom => {
                producer.announce_park();
                let _ = producer.may_park();
                producer.finish_park();
            }
        }
    }
});
