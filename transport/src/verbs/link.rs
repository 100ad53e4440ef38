//! `VerbsLink`: the carrier contract on a staged ring here, a ring in the peer's memory, and their mirror images.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::endpoint::Endpoint;
use super::lend::Lent;
use super::memory::Mailbox;
use super::queue_pair::LANDINGS;
use super::wire::{decode_landed_word, decode_word};
use crate::link::{CarrierKind, Frame, LendError, LentAs, Link, LinkEnd, LinkStats, SendError, WORD_BYTES};
use crate::region::Slab;
use crate::ring::{Consumer, MappedRing, Producer, RingMemory, padded};

/// Rounds of [`Link::progress`] without a frame before the socket is asked (a system call).
const QUIET_ROUNDS: u32 = 1 << 14;
/// Every so many of these rounds, what was released is told to the peer. A credit is a request to the device, so a pause
/// between two messages must not be one.
const IDLE_ROUNDS: u32 = 1 << 10;
/// Rounds of [`Link::progress`] between looks at the completions. A poll of an idle link is then one load; what a frame that
/// lands waits for is looked up at once ([`Link::try_recv`]).
const LOOK_ROUNDS: u32 = 8;
/// Rounds after which requests that did not ask for a completion are followed by one that does.
const SILENT_ROUNDS: u32 = 16;
/// Requests a record takes, its answer to a sleeper included.
pub(super) const RECORD_REQUESTS: u64 = 3;
/// Requests that falling asleep may take: credit, answer, two questions.
const SETTLING_REQUESTS: u64 = 4;

/// What the last refused send lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lack {
    Nothing,
    /// Room in the peer's ring.
    Room,
    /// Places in the send queue.
    Queue,
}

/// What one side has asked and not yet been told.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Questions {
    /// Awaiting frames beyond this position; of ours only whether it was asked matters.
    pub(super) frames: Option<u64>,
    /// Awaiting a head beyond this one.
    pub(super) room: Option<u64>,
}

/// One end of a link over RDMA verbs. Made by [`super::connect`].
///
/// Dropping it without [`Link::close`] looks to the peer like a death.
#[derive(Debug)]
pub struct VerbsLink {
    /// First, so that the device is done with the memory below before that goes.
    pub(super) endpoint: Endpoint,
    pub(super) outward: Producer<MappedRing>,
    pub(super) inward: Consumer<MappedRing>,
    pub(super) mailbox: Mailbox,
    pub(super) socket: OwnedFd,
    pub(super) linger: Duration,
    /// Why no more can be sent; frames that arrived before are still received.
    pub(super) end: Option<LinkEnd>,
    /// The link ended by our own close or by a broken protocol: nothing more is received either.
    pub(super) deaf: bool,
    /// The queue pair has failed: nothing can be posted, nothing more completes.
    pub(super) broken: bool,
    /// The head last sent as a credit, and how many there were.
    pub(super) head_sent: u64,
    pub(super) credits: u64,
    /// The peer's stream is here up to this position, says its last signal of a frame.
    pub(super) landed: u64,
    /// Such signals heard since the last credit.
    pub(super) landings_heard: u32,
    /// Where the last frames that were signalled end, by their number modulo the window.
    pub(super) landings: [u64; LANDINGS],
    pub(super) landings_sent: usize,
    pub(super) asked: Questions,
    pub(super) peer_asked: Questions,
    pub(super) owes_wake: bool,
    pub(super) owes_close: bool,
    pub(super) lack: Lack,
    pub(super) rounds: u32,
    pub(super) quiet_rounds: u32,
    pub(super) silent_rounds: u32,
    pub(super) stats: LinkStats,
    /// Slabs that frames are sent from.
    pub(super) lent: Vec<Lent>,
}

impl VerbsLink {
    pub(super) fn new(
        endpoint: Endpoint,
        outward: Producer<MappedRing>,
        inward: Consumer<MappedRing>,
        mailbox: Mailbox,
        socket: OwnedFd,
        linger: Duration,
    ) -> Self {
        Self {
            endpoint,
            outward,
            inward,
            mailbox,
            socket,
            linger,
            end: None,
            deaf: false,
            broken: false,
            head_sent: 0,
            credits: 0,
            landed: 0,
            landings_heard: 0,
            landings: [0; LANDINGS],
            landings_sent: 0,
            asked: Questions::default(),
            peer_asked: Questions::default(),
            owes_wake: false,
            owes_close: false,
            lack: Lack::Nothing,
            rounds: 0,
            quiet_rounds: 0,
            silent_rounds: 0,
            stats: LinkStats::default(),
            lent: Vec::new(),
        }
    }

    pub(super) fn ring_bytes(&self) -> u64 {
        self.inward.memory().ring_bytes()
    }

    /// True once a record's word has begun to land.
    pub(super) fn frame_waits(&self) -> bool {
        let word = self.inward.memory().word(self.inward.position());
        word.load(Ordering::Acquire) != 0
    }

    /// The ring's form of the next record's word, if the record is known to have landed entirely.
    #[inline]
    fn landed_word(&self) -> Option<u64> {
        let position = self.inward.position();
        // SYNC POINT: commit. The device placed the record's contents before the word, for they are an earlier WRITE, or
        // before the completion that made it `landed`.
        let wire = self.inward.memory().word(position).load(Ordering::Acquire);
        if position < self.landed { Some(decode_landed_word(wire)) } else { decode_word(wire) }
    }

    /// Turns a landed word into the ring's form, which the consumer polls. False if none has landed.
    #[inline]
    fn ripen(&mut self) -> Result<bool, LinkEnd> {
        let mut ripe = self.landed_word();
        if ripe.is_none() && self.frame_waits() && self.look() {
            // It began to land, and its signal may be here by now.
            ripe = self.landed_word();
        }
        let Some(ripe) = ripe else { return Ok(false) };
        if (ripe as u32) < WORD_BYTES as u32 {
            let text = format!("frame length: expected at least {WORD_BYTES}, got {}", ripe as u32);
            return Err(self.fail(LinkEnd::Protocol(text)));
        }
        // Nobody else writes here before the record is released.
        self.inward.memory().word(self.inward.position()).store(ripe, Ordering::Relaxed);
        Ok(true)
    }
}

impl Link for VerbsLink {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Verbs
    }

    fn frame_bytes_max(&self) -> usize {
        self.outward.frame_bytes_max()
    }

    fn try_claim(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError> {
        self.claim(frame_bytes)?;
        self.outward.claim_bytes(frame_bytes)
    }

    fn commit(&mut self, tag: u32) {
        if self.end.is_some() && self.outward.has_claim() {
            // The link ended between claim and commit: the next call says so.
            return self.outward.abort();
        }
        let from = self.outward.position();
        self.outward.commit(tag);
        self.launch(from);
    }

    fn abort(&mut self) {
        self.outward.abort();
    }

    fn try_send(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        let frame_bytes = parts.iter().fold(WORD_BYTES, |sum, part| sum.saturating_add(part.len()));
        self.claim(frame_bytes)?;
        let from = self.outward.position();
        self.outward.claim(frame_bytes)?;
        self.outward.gather(parts);
        self.outward.commit(tag);
        self.launch(from);
        Ok(())
    }

    fn progress(&mut self) -> Result<(), LinkEnd> {
        self.rounds = self.rounds.wrapping_add(1);
        if self.rounds.is_multiple_of(LOOK_ROUNDS) {
            self.look();
        }
        self.quiet_rounds += 1;
        if self.quiet_rounds.is_multiple_of(IDLE_ROUNDS) {
            // A producer that spins for room is not left waiting for the rest of an eighth of the ring.
            self.inward.publish();
        }
        if self.quiet_rounds >= QUIET_ROUNDS {
            self.quiet_rounds = 0;
            self.notice_hang_up();
        }
        self.settle();
        if self.endpoint.is_silent() && !self.broken {
            self.silent_rounds += 1;
            if self.silent_rounds >= SILENT_ROUNDS && self.endpoint.has_room(1, true) {
                self.silent_rounds = 0;
                let asked = self.endpoint.ask_for_completion();
                self.note(asked);
            }
        }
        match &self.end {
            // Frames that arrived before the end come first.
            Some(end) if self.deaf || !self.frame_waits() => Err(end.clone()),
            _ => Ok(()),
        }
    }

    fn unsent_bytes(&self) -> usize {
        (self.outward.position() - self.endpoint.arrived()) as usize
    }

    fn try_recv(&mut self) -> Result<Option<Frame>, LinkEnd> {
        if self.deaf {
            return Err(self.end.clone().unwrap_or(LinkEnd::ClosedHere));
        }
        // The end is looked up before the ring: a frame that arrived before it is visible after it.
        let end_known = self.end.is_some();
        if !self.ripen()? {
            return if end_known { Err(self.end.clone().unwrap_or(LinkEnd::ClosedHere)) } else { Ok(None) };
        }
        match self.inward.poll() {
            Ok(frame) => {
                self.quiet_rounds = 0;
                self.stats.received_frames += 1;
                self.stats.received_bytes += frame.map_or(0, |frame| padded(frame.len()));
                Ok(frame)
            }
            Err(end) => Err(self.fail(end)),
        }
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inward.bytes(frame)
    }

    fn release(&mut self, frame: Frame) {
        self.inward.release(&frame);
        // The peer's window of signalled frames moves with the head.
        if self.peer_asked.room.is_some() || self.landings_heard >= LANDINGS as u32 / 3 {
            self.landings_heard = 0;
            self.inward.publish();
        }
        self.settle();
    }

    fn prepare_park(&mut self) -> bool {
        self.look();
        if self.end.is_some() || self.frame_waits() || !self.endpoint.has_room(SETTLING_REQUESTS, true) {
            return false;
        }
        self.inward.publish();
        self.settle();
        if !self.ask() || self.broken {
            return false;
        }
        // Armed before the last look: what completes after it raises an event.
        let solicited = self.lack != Lack::Queue && !self.owes_wake;
        let armed = self.endpoint.completions.arm(solicited).map_err(|error| LinkEnd::Os(error.to_string()));
        self.note(armed);
        self.look();
        self.settle();
        !self.is_busy()
    }

    fn finish_park(&mut self) {
        self.endpoint.completions.drain_events();
        // The wake may have been the hang-up: ask at the next round.
        self.quiet_rounds = QUIET_ROUNDS;
    }

    fn park_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.endpoint.doorbell(), self.socket.as_fd()]
    }

    fn lend(&mut self, slab: &Slab) -> Result<LentAs, LendError> {
        self.register(slab)
    }

    fn try_send_lent(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        self.send_lent(tag, parts)
    }

    fn close(&mut self) {
        if !self.deaf {
            self.deaf = true;
            self.outward.abort();
            if self.end.replace(LinkEnd::ClosedHere).is_none() {
                self.owes_close = true;
                self.settle();
            }
        }
    }

    fn stats(&self) -> LinkStats {
        self.stats
    }
}

impl Drop for VerbsLink {
    fn drop(&mut self) {
        if self.deaf {
            self.drain();
        }
    }
}
