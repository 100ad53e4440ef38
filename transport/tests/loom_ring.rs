//! The ring's commit, credit and park protocols under loom: every interleaving loom can find, of the very code the
//! links run, on plain words instead of mapped memory.
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p keyrange-transport --release --test loom_ring
//! ```
//!
//! Contents are loom cells, so that a record read before it was published, or overwritten before it was released,
//! is a reported race. A doorbell is loom's `Notify`, so that a lost wake is a reported deadlock.
#![cfg(loom)]

use keyrange_transport::link::{Frame, SendError};
use keyrange_transport::ring::sync::AtomicU64;
use keyrange_transport::ring::{Consumer, Descriptor, LINE_BYTES, Producer, RingMemory, Taken};
use loom::cell::UnsafeCell;
use loom::sync::{Arc, Notify};
use loom::thread;

/// A ring of so many lines, one word and one cell of contents a line.
struct Words {
    descriptor: Descriptor,
    words: Vec<AtomicU64>,
    contents: Vec<UnsafeCell<u64>>,
}

#[derive(Clone)]
struct Memory(Arc<Words>);

impl Memory {
    fn new(lines: usize) -> Self {
        Self(Arc::new(Words {
            descriptor: Descriptor::default(),
            words: (0..lines).map(|_| AtomicU64::new(0)).collect(),
            contents: (0..lines).map(|_| UnsafeCell::new(0)).collect(),
        }))
    }

    fn line(&self, position: u64) -> usize {
        (position / LINE_BYTES) as usize % self.0.words.len()
    }

    fn write(&self, position: u64, value: u64) {
        // SAFETY: the line is claimed; loom reports it if that is not exclusive.
        self.0.contents[self.line(position)].with_mut(|cell| unsafe { *cell = value });
    }

    fn read(&self, position: u64) -> u64 {
        // SAFETY: the line belongs to a held frame; loom reports it if somebody writes.
        self.0.contents[self.line(position)].with(|cell| unsafe { *cell })
    }
}

// SAFETY: the cells are what loom checks; everything else is atomics.
unsafe impl Send for Memory {}

impl RingMemory for Memory {
    fn ring_bytes(&self) -> u64 {
        self.0.words.len() as u64 * LINE_BYTES
    }

    fn descriptor(&self) -> &Descriptor {
        &self.0.descriptor
    }

    fn word(&self, position: u64) -> &AtomicU64 {
        &self.0.words[self.line(position)]
    }
}

/// Both ends and their doorbells: the consumer's and the producer's.
struct Ends {
    producer: Producer<Memory>,
    consumer: Consumer<Memory>,
    bells: [Arc<Notify>; 2],
}

fn ends(lines: usize) -> Ends {
    let memory = Memory::new(lines);
    // SAFETY: the memory is new and zeroed; these are its only consumer and producer.
    let consumer = unsafe { Consumer::new(memory.clone()) };
    // SAFETY: as above.
    let producer = unsafe { Producer::new(memory) };
    Ends { producer, consumer, bells: [Arc::new(Notify::new()), Arc::new(Notify::new())] }
}

fn explore(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Claims, parking for room as a link does, writes and commits.
fn send(ends: &mut (Producer<Memory>, [Arc<Notify>; 2]), value: u64) {
    let (producer, [frame_bell, room_bell]) = ends;
    let position = loop {
        if producer.claim_known_room(64) {
            break producer.position();
        }
        match producer.claim(64) {
            Ok(position) => break position,
            Err(SendError::Full) => {
                producer.announce_park();
                Producer::<Memory>::park_fence();
                if producer.may_park().unwrap() {
                    room_bell.wait();
                }
                producer.finish_park();
            }
            Err(error) => panic!("{error}"),
        }
    };
    producer.memory().write(position, value);
    if producer.commit(value as u32) {
        frame_bell.notify();
    }
}

/// The next frame, as a link takes it.
fn next(consumer: &mut Consumer<Memory>) -> Option<Frame> {
    match consumer.take() {
        Taken::Frame(frame) => Some(frame),
        Taken::Nothing => None,
        Taken::Unclear => consumer.poll().unwrap(),
    }
}

/// Polls, parking for a frame as a link does.
fn receive(ends: &mut (Consumer<Memory>, [Arc<Notify>; 2])) -> u64 {
    let (consumer, [frame_bell, room_bell]) = ends;
    loop {
        if let Some(frame) = next(consumer) {
            let value = consumer.memory().read(frame.position());
            assert_eq!(u64::from(frame.tag()), value);
            if consumer.release(&frame) {
                room_bell.notify();
            }
            return value;
        }
        if consumer.publish() {
            room_bell.notify();
        }
        consumer.announce_park();
        Consumer::<Memory>::park_fence();
        if consumer.may_park() {
            frame_bell.wait();
        }
        consumer.finish_park();
    }
}

#[test]
fn a_committed_frame_is_whole_and_its_successor_is_not_seen_early() {
    explore(|| {
        let Ends { mut producer, mut consumer, .. } = ends(4);
        let sender = thread::spawn(move || {
            for value in 1..=2 {
                let position = producer.claim(64).unwrap();
                producer.memory().write(position, value);
                producer.commit(value as u32);
            }
        });
        let mut expected = 1;
        for _ in 0..3 {
            match next(&mut consumer) {
                Some(frame) => {
                    assert_eq!(consumer.memory().read(frame.position()), expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        sender.join().unwrap();
        while let Some(frame) = next(&mut consumer) {
            assert_eq!(consumer.memory().read(frame.position()), expected);
            expected += 1;
        }
        assert_eq!(expected, 3);
    });
}

#[test]
fn no_wake_for_a_frame_is_lost() {
    explore(|| {
        let Ends { producer, consumer, bells } = ends(4);
        let mut near = (producer, bells.clone());
        let sender = thread::spawn(move || (1..=2).for_each(|value| send(&mut near, value)));
        let mut far = (consumer, bells);
        assert_eq!([receive(&mut far), receive(&mut far)], [1, 2]);
        sender.join().unwrap();
    });
}

#[test]
fn no_wake_for_room_is_lost_and_nothing_is_overwritten() {
    explore(|| {
        // Room for three records of a line: the fourth and fifth wrap and wait.
        let Ends { producer, consumer, bells } = ends(4);
        let mut near = (producer, bells.clone());
        for value in 1..=3 {
            send(&mut near, value);
        }
        let sender = thread::spawn(move || (4..=5).for_each(|value| send(&mut near, value)));
        let mut far = (consumer, bells);
        for value in 1..=5 {
            assert_eq!(receive(&mut far), value);
        }
        sender.join().unwrap();
    });
}

#[test]
fn credits_returned_lazily_still_reach_a_producer_that_sleeps() {
    explore(|| {
        // An eighth of this ring is two lines: a single release is not published at once.
        let Ends { producer, consumer, bells } = ends(16);
        let mut near = (producer, bells.clone());
        for value in 1..=15 {
            send(&mut near, value);
        }
        let sender = thread::spawn(move || send(&mut near, 16));
        let mut far = (consumer, bells);
        for value in 1..=16 {
            assert_eq!(receive(&mut far), value);
        }
        sender.join().unwrap();
    });
}

#[test]
fn a_close_reaches_a_sleeping_consumer_after_the_last_frame() {
    explore(|| {
        let Ends { mut producer, mut consumer, bells: [frame_bell, _] } = ends(4);
        let bell = frame_bell.clone();
        let sender = thread::spawn(move || {
            let position = producer.claim(64).unwrap();
            producer.memory().write(position, 1);
            let woken = producer.commit(1);
            if producer.close() || woken {
                bell.notify();
            }
        });
        let mut frames = 0;
        loop {
            let closed = consumer.producer_closed();
            if next(&mut consumer).is_some() {
                frames += 1;
            } else if closed {
                break;
            } else {
                consumer.announce_park();
                Consumer::<Memory>::park_fence();
                if consumer.may_park() {
                    frame_bell.wait();
                }
                consumer.finish_park();
            }
        }
        assert_eq!(frames, 1);
        sender.join().unwrap();
    });
}
