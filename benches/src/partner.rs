//! A thread at the other end of a link, on the second core: it answers every frame, or only reads them.

use std::hint::black_box;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use keyrange_transport::link::{Frame, Link, SendError, WORD_BYTES};

use crate::limits::{pin, sum};

/// The tag of a frame that wants an answer.
const ANSWER: u32 = 1;

/// The measuring side of a link and the thread at the other side. Ends with it.
pub struct Partner<L: Link> {
    /// This side.
    pub link: L,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<L: Link + 'static> Partner<L> {
    /// Starts the thread that owns `far`, pinned to `core`.
    pub fn new(near: L, mut far: L, core: usize) -> Partner<L> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            pin(core).expect("a usable core");
            while !stopped.load(Ordering::Relaxed) {
                far.progress().expect("a living link");
                while let Some(frame) = far.try_recv().expect("a living link") {
                    answer(&mut far, frame);
                }
            }
        });
        Partner { link: near, stop, thread: Some(thread) }
    }

    /// One frame there and one of the same size back, every byte read on both sides.
    pub fn round_trip(&mut self, payload: &[u8]) {
        send(&mut self.link, ANSWER, payload);
        let frame = receive(&mut self.link);
        black_box(sum(self.link.bytes(&frame)));
        self.link.release(frame);
    }

    /// `count` frames there, then waits until the partner has read them all.
    pub fn stream(&mut self, payload: &[u8], count: u64) {
        for _ in 1..count {
            send(&mut self.link, 0, payload);
        }
        self.round_trip(payload);
    }
}

impl<L: Link> Drop for Partner<L> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed; the bench ends with the one it caused here.
            let _ = thread.join();
        }
    }
}

fn answer<L: Link>(link: &mut L, frame: Frame) {
    let payload = &link.bytes(&frame)[WORD_BYTES..];
    if frame.tag() != ANSWER {
        black_box(sum(payload));
        return link.release(frame);
    }
    let copy = payload.to_vec();
    link.release(frame);
    send(link, 0, &copy);
}

fn send<L: Link>(link: &mut L, tag: u32, payload: &[u8]) {
    loop {
        match link.try_send(tag, &[IoSlice::new(payload)]) {
            Ok(()) => return,
            Err(SendError::Full) => link.progress().expect("a living link"),
            Err(error) => panic!("{error}"),
        }
    }
}

fn receive<L: Link>(link: &mut L) -> Frame {
    loop {
        if let Some(frame) = link.try_recv().expect("a living link") {
            return frame;
        }
        link.progress().expect("a living link");
    }
}
