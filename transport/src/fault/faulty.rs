//! The wrapper.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use super::FaultPlan;
use super::plan::Fate;
use crate::link::{CarrierKind, Frame, LendError, LentAs, Link, LinkEnd, LinkStats, SendError, WORD_BYTES};
use crate::region::{LentRange, Slab};

/// Bytes kept back at most; beyond, the answer is "full" until the oldest were sent.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// Polls in a row without a new frame after which the oldest kept frame goes out: the last frames of a
/// conversation must arrive too, though no later ones push them.
const IDLE_POLLS: u32 = 4096;

/// What was done to the frames so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultCounts {
    /// Frames accepted from the caller.
    pub accepted: u64,
    /// Of these, dropped.
    pub dropped: u64,
    /// Sent twice.
    pub duplicated: u64,
    /// Kept back, by delay or reorder.
    pub kept_back: u64,
}

/// A frame on its way later.
#[derive(Debug)]
struct Kept {
    /// Goes out once so many frames were accepted.
    due: u64,
    tag: u32,
    body: Vec<u8>,
}

/// A claim in progress: the inner link's, or ours for frames that do not simply pass.
#[derive(Debug, PartialEq, Eq)]
enum Claim {
    None,
    Inner,
    Own,
}

/// A link whose sent frames meet the faults of a plan. Receiving is untouched.
///
/// After the kill every call reports [`LinkEnd::PeerGone`]; the peer notices when this value is dropped (frames
/// still held stay readable until then).
#[derive(Debug)]
pub struct Faulty<L: Link> {
    inner: L,
    plan: FaultPlan,
    stream: u64,
    kept: VecDeque<Kept>,
    kept_bytes: usize,
    claim: Claim,
    scratch: Vec<u8>,
    idle_polls: u32,
    counts: FaultCounts,
}

impl<L: Link> Faulty<L> {
    /// Wraps `inner`. Give each link of a run its own `stream` number, so that they meet different faults.
    pub fn new(inner: L, plan: FaultPlan, stream: u64) -> Self {
        Faulty {
            inner,
            plan,
            stream,
            kept: VecDeque::new(),
            kept_bytes: 0,
            claim: Claim::None,
            scratch: Vec::new(),
            idle_polls: 0,
            counts: FaultCounts::default(),
        }
    }

    /// What was done so far.
    pub fn counts(&self) -> FaultCounts {
        self.counts
    }

    fn check_alive(&self) -> Result<(), LinkEnd> {
        match self.plan.kill_after {
            Some(frames) if self.counts.accepted >= frames => {
                Err(LinkEnd::PeerGone(format!("killed by the fault plan after {frames} frames")))
            }
            _ => Ok(()),
        }
    }

    fn fate(&self) -> Fate {
        self.plan.fate(self.stream, self.counts.accepted)
    }

    /// Sends kept frames whose time has come, in that order.
    fn send_due(&mut self, accepted: u64) -> Result<(), SendError> {
        while let Some(at) = self.kept.iter().position(|kept| kept.due <= accepted) {
            let kept = &self.kept[at];
            self.inner.try_send(kept.tag, &[IoSlice::new(&kept.body)])?;
            self.kept_bytes -= kept.body.len();
            self.kept.remove(at);
        }
        Ok(())
    }

    fn check_room(&self, frame_bytes: usize) -> Result<(), SendError> {
        let max = self.inner.frame_bytes_max();
        if frame_bytes > max {
            return Err(SendError::TooLarge { got: frame_bytes, max });
        }
        if self.kept_bytes + 2 * frame_bytes > KEPT_BYTES_MAX.max(2 * max) {
            return Err(SendError::Full);
        }
        Ok(())
    }

    /// Takes over a frame that does not simply pass.
    fn accept(&mut self, fate: Fate, tag: u32, body: Vec<u8>) {
        self.counts.accepted += 1;
        let now = self.counts.accepted;
        let mut keep = |due: u64, body: Vec<u8>| {
            self.kept_bytes += body.len();
            self.kept.push_back(Kept { due, tag, body });
        };
        match fate {
            Fate::Pass => keep(now, body),
            Fate::Drop => self.counts.dropped += 1,
            Fate::Duplicate => {
                self.counts.duplicated += 1;
                keep(now, body.clone());
                keep(now, body);
            }
            Fate::After(frames) => {
                self.counts.kept_back += 1;
                keep(now + u64::from(frames), body);
            }
        }
        self.accepted();
    }

    /// After each accepted frame: whoever waited for it goes out, if there is room; else at the next progress.
    fn accepted(&mut self) {
        self.idle_polls = 0;
        let _ = self.send_due(self.counts.accepted);
    }
}

impl<L: Link> Link for Faulty<L> {
    fn kind(&self) -> CarrierKind {
        self.inner.kind()
    }

    fn frame_bytes_max(&self) -> usize {
        self.inner.frame_bytes_max()
    }

    fn try_claim(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError> {
        assert!(
            frame_bytes >= WORD_BYTES,
            "a frame has at least the carrier's word, got {frame_bytes} bytes"
        );
        self.abort();
        self.check_alive()?;
        self.check_room(frame_bytes)?;
        self.send_due(self.counts.accepted)?;
        if self.fate() == Fate::Pass {
            let room = self.inner.try_claim(frame_bytes)?;
            self.claim = Claim::Inner;
            return Ok(room);
        }
        self.claim = Claim::Own;
        self.scratch.clear();
        self.scratch.resize(frame_bytes - WORD_BYTES, 0);
        Ok(&mut self.scratch)
    }

    fn commit(&mut self, tag: u32) {
        match std::mem::replace(&mut self.claim, Claim::None) {
            Claim::None => panic!("commit without a claim"),
            Claim::Inner => {
                self.inner.commit(tag);
                self.counts.accepted += 1;
                self.accepted();
            }
            Claim::Own => {
                let body = std::mem::take(&mut self.scratch);
                self.accept(self.fate(), tag, body);
            }
        }
    }

    fn abort(&mut self) {
        if std::mem::replace(&mut self.claim, Claim::None) == Claim::Inner {
            self.inner.abort();
        }
    }

    fn try_send(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        self.abort();
        self.check_alive()?;
        let frame_bytes = parts.iter().fold(WORD_BYTES, |sum, part| sum.saturating_add(part.len()));
        self.check_room(frame_bytes)?;
        self.send_due(self.counts.accepted)?;
        match self.fate() {
            Fate::Pass => {
                self.inner.try_send(tag, parts)?;
                self.counts.accepted += 1;
                self.accepted();
            }
            fate => self.accept(fate, tag, parts.iter().flat_map(|part| part.iter().copied()).collect()),
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), LinkEnd> {
        self.check_alive()?;
        if self.claim == Claim::None && !self.kept.is_empty() {
            self.idle_polls += 1;
            let mut until = self.counts.accepted;
            if self.idle_polls > IDLE_POLLS {
                self.idle_polls = 0;
                until = self.kept.iter().map(|kept| kept.due).min().unwrap_or(until);
            }
            // Full comes back later; an end is reported by the inner progress.
            let _ = self.send_due(until);
        }
        self.inner.progress()
    }

    fn unsent_bytes(&self) -> usize {
        self.inner.unsent_bytes() + self.kept_bytes
    }

    fn try_recv(&mut self) -> Result<Option<Frame>, LinkEnd> {
        self.check_alive()?;
        self.inner.try_recv()
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inner.bytes(frame)
    }

    fn release(&mut self, frame: Frame) {
        self.inner.release(frame);
    }

    /// Who sleeps sends no later frames that could push the kept ones, so they go out now.
    fn prepare_park(&mut self) -> bool {
        if self.check_alive().is_err() {
            return false;
        }
        if self.claim == Claim::None {
            // If there is no room, the inner link remembers that it refused and wakes the sleeper when room comes.
            let _ = self.send_due(u64::MAX);
        }
        self.inner.prepare_park()
    }

    fn finish_park(&mut self) {
        self.inner.finish_park();
    }

    fn park_fds(&self) -> [BorrowedFd<'_>; 2] {
        self.inner.park_fds()
    }

    fn wants_writable(&self) -> bool {
        self.inner.wants_writable()
    }

    fn look_every(&self) -> Option<Duration> {
        self.inner.look_every()
    }

    fn lend(&mut self, slab: &Slab) -> Result<LentAs, LendError> {
        self.inner.lend(slab)
    }

    fn resolve(&self, range: &LentRange) -> Option<&[u8]> {
        self.inner.resolve(range)
    }

    fn close(&mut self) {
        if self.check_alive().is_ok() {
            self.abort();
            // What finds no room now is lost with the link, as a faulty network would have it.
            let _ = self.send_due(u64::MAX);
            self.kept.clear();
            self.kept_bytes = 0;
            self.inner.close();
        }
    }

    fn stats(&self) -> LinkStats {
        self.inner.stats()
    }
}
