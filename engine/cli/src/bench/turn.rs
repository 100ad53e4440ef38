//! What the two sides of a link do in one repetition: messages there and back, or one way only.
//!
//! A message is one frame, or several when it is larger than the link carries. The receiver reads every byte. Both
//! sides spin; a side that waits too long for the other gives up with an error.

use std::hint::black_box;
use std::io::IoSlice;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use hdrhistogram::Histogram;
use keyrange_transport::link::{Frame, Link, SendError, WORD_BYTES};

use super::limits::{sum, thread_cpu};

/// Neither side waits longer than this for a frame or for room.
const PATIENCE: Duration = Duration::from_secs(20);

/// Polls between two looks at the clock.
const POLLS_PER_LOOK: u32 = 1 << 16;

/// The longest round trip a histogram takes, in nanoseconds.
const LATENCY_NS_MAX: u64 = 60_000_000_000;

/// One repetition. Sent to the peer before it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What to do with each message.
    pub reply: bool,
    /// Fill the messages where the peer reads them.
    pub in_place: bool,
    /// Neither fill nor read them.
    pub untouched: bool,
    /// Payload of one message.
    pub message_bytes: usize,
    /// How many.
    pub messages: u64,
}

impl Turn {
    /// Bytes of a turn on the control socket.
    pub const WIRE_BYTES: usize = 24;

    /// For the control socket.
    pub fn to_bytes(self) -> [u8; Self::WIRE_BYTES] {
        let flags = u64::from(self.reply) | u64::from(self.in_place) << 1 | u64::from(self.untouched) << 2;
        let words = [flags, self.message_bytes as u64, self.messages];
        let mut wire = [0; Self::WIRE_BYTES];
        for (place, word) in wire.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        wire
    }

    /// From the control socket.
    pub fn from_bytes(wire: &[u8; Self::WIRE_BYTES]) -> Turn {
        let word = |at: usize| u64::from_le_bytes(wire.as_chunks::<8>().0[at]);
        let [reply, in_place, untouched] = [1, 2, 4].map(|flag| word(0) & flag != 0);
        Turn { reply, in_place, untouched, message_bytes: word(1) as usize, messages: word(2) }
    }
}

/// One side of a link, with the memory it sends from.
struct Side<'a, L: Link + ?Sized> {
    link: &'a mut L,
    turn: Turn,
    message: Vec<u8>,
    frame_payload_max: usize,
    polls: u32,
    looked: Option<Instant>,
}

impl<'a, L: Link + ?Sized> Side<'a, L> {
    fn new(link: &'a mut L, turn: Turn) -> Self {
        let frame_payload_max = link.frame_bytes_max() - WORD_BYTES;
        Side { link, turn, message: vec![1; turn.message_bytes], frame_payload_max, polls: 0, looked: None }
    }

    /// Counts a poll that found nothing.
    #[inline]
    fn idle(&mut self) -> anyhow::Result<()> {
        self.link.progress()?;
        self.polls += 1;
        if self.polls.is_multiple_of(POLLS_PER_LOOK) { self.look() } else { Ok(()) }
    }

    #[cold]
    fn look(&mut self) -> anyhow::Result<()> {
        let since = *self.looked.get_or_insert_with(Instant::now);
        ensure!(since.elapsed() < PATIENCE, "the other side moved nothing for {PATIENCE:?}; is it stopped?");
        Ok(())
    }

    #[inline]
    fn active(&mut self) {
        if self.polls != 0 {
            (self.polls, self.looked) = (0, None);
        }
    }

    #[inline(always)]
    fn send_message(&mut self) -> anyhow::Result<()> {
        let mut at = 0;
        loop {
            let end = self.turn.message_bytes.min(at + self.frame_payload_max);
            if self.turn.in_place || self.turn.untouched {
                self.fill_frame(end - at)?
            } else {
                self.send_frame(at, end)?
            }
            at = end;
            if at == self.turn.message_bytes {
                return Ok(());
            }
        }
    }

    #[inline(always)]
    fn send_frame(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        match self.link.try_send(0, &[IoSlice::new(&self.message[from..to])]) {
            Ok(()) => Ok(()),
            Err(SendError::Full) => self.await_room(from, to),
            Err(error) => Err(error.into()),
        }
    }

    #[inline(never)]
    fn await_room(&mut self, from: usize, to: usize) -> anyhow::Result<()> {
        loop {
            self.idle()?;
            match self.link.try_send(0, &[IoSlice::new(&self.message[from..to])]) {
                Ok(()) => break,
                Err(SendError::Full) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.active();
        Ok(())
    }

    #[inline]
    fn fill_frame(&mut self, bytes: usize) -> anyhow::Result<()> {
        loop {
            match self.link.try_claim(WORD_BYTES + bytes) {
                Ok(_) if self.turn.untouched => break,
                Ok(place) => break place.fill(1),
                Err(SendError::Full) => {}
                Err(error) => return Err(error.into()),
            }
            self.idle()?;
        }
        self.link.commit(0);
        self.active();
        Ok(())
    }

    #[inline(always)]
    fn receive_frame(&mut self) -> anyhow::Result<Frame> {
        match self.link.try_recv()? {
            Some(frame) => Ok(frame),
            None => self.await_frame(),
        }
    }

    /// Out of the way of a stream, where frames are there before they are asked for.
    #[inline(never)]
    fn await_frame(&mut self) -> anyhow::Result<Frame> {
        loop {
            self.idle()?;
            if let Some(frame) = self.link.try_recv()? {
                self.active();
                return Ok(frame);
            }
        }
    }

    /// Receives one message and reads it; `keep` copies it out.
    #[inline(always)]
    fn receive_message(&mut self, keep: bool) -> anyhow::Result<()> {
        let mut at = 0;
        while at < self.turn.message_bytes {
            let frame = self.receive_frame()?;
            let payload = &self.link.bytes(&frame)[WORD_BYTES..];
            let end = at + payload.len();
            if payload.is_empty() || end > self.turn.message_bytes {
                bail!("expected {} bytes of message, got {end}", self.turn.message_bytes);
            }
            if keep {
                self.message[at..end].copy_from_slice(payload);
            } else if !self.turn.untouched {
                black_box(sum(payload));
            }
            self.link.release(frame);
            at = end;
        }
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        while self.link.unsent_bytes() > 0 {
            self.idle()?;
        }
        Ok(())
    }
}

/// The measuring side of a turn: how long it took, and the CPU time of this thread meanwhile. With `latencies` each
/// round trip is timed, which adds one reading of the clock to each.
pub fn measure<L: Link + ?Sized>(
    link: &mut L,
    turn: Turn,
    latencies: Option<&mut Histogram<u64>>,
) -> anyhow::Result<(Duration, Duration)> {
    let mut side = Side::new(link, turn);
    let (cpu, began) = (thread_cpu(), Instant::now());
    match latencies {
        Some(latencies) if turn.reply => timed_trips(&mut side, latencies)?,
        _ if turn.reply => {
            for _ in 0..turn.messages {
                side.send_message()?;
                side.receive_message(false)?;
            }
        }
        _ => {
            for _ in 0..turn.messages {
                side.send_message()?;
            }
            // One frame back says that all have been read.
            let done = side.receive_frame()?;
            side.link.release(done);
        }
    }
    Ok((began.elapsed(), thread_cpu() - cpu))
}

fn timed_trips<L: Link + ?Sized>(
    side: &mut Side<'_, L>,
    latencies: &mut Histogram<u64>,
) -> anyhow::Result<()> {
    let mut before = Instant::now();
    for _ in 0..side.turn.messages {
        side.send_message()?;
        side.receive_message(false)?;
        let now = Instant::now();
        latencies.saturating_record((now - before).as_nanos() as u64);
        before = now;
    }
    Ok(())
}

/// The other side of a turn; the CPU time of this thread.
pub fn answer<L: Link + ?Sized>(link: &mut L, turn: Turn) -> anyhow::Result<Duration> {
    let mut side = Side::new(link, turn);
    let cpu = thread_cpu();
    for _ in 0..turn.messages {
        side.receive_message(turn.reply && !turn.untouched)?;
        if turn.reply {
            side.send_message()?;
        }
    }
    if !turn.reply {
        side.turn.message_bytes = 1;
        side.send_message()?;
    }
    side.flush()?;
    Ok(thread_cpu() - cpu)
}

/// A histogram of round trips in nanoseconds, good to three digits.
pub fn latency_histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3)?)
}
