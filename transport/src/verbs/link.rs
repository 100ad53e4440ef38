//! `VerbsLink`: the carrier contract on a staged ring here, a ring in the peer's memory, and their mirror images.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::exchange::hung_up;
use super::memory::Mailbox;
use super::wire::{Signal, decode_credit, decode_word, encode_credit, encode_word};
use crate::link::{CarrierKind, Frame, Link, LinkEnd, LinkStats, SendError, WORD_BYTES};
use crate::ring::{Consumer, MappedRing, Producer, RingMemory, padded};

/// Rounds of [`Link::progress`] without a frame before the socket is asked (a system call).
const QUIET_ROUNDS: u32 = 1 << 14;
/// Every so many of these rounds, what was released is told to the peer. A credit is a request to the device, so a pause
/// between two messages must not be one.
const IDLE_ROUNDS: u32 = 1 << 10;
/// Rounds after which requests that did not ask for a completion are followed by one that does.
const SILENT_ROUNDS: u32 = 16;
/// Requests a record takes, its answer to a sleeper included.
const RECORD_REQUESTS: u64 = 3;
/// Requests that falling asleep may take: credit, answer, two questions.
const SETTLING_REQUESTS: u64 = 4;
/// How long a question may take to be acknowledged before this side gives up sleeping for now.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(20);

/// What the last refused send lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Nothing,
    /// Room in the peer's ring.
    Room,
    /// Places in the send queue.
    Queue,
}

/// What one side has asked and not yet been told.
#[derive(Debug, Clone, Copy, Default)]
struct Questions {
    /// Awaiting frames beyond this position; of ours only whether it was asked matters.
    frames: Option<u64>,
    /// Awaiting a head beyond this one.
    room: Option<u64>,
}

/// One end of a link over RDMA verbs. Made by [`super::connect`].
///
/// Dropping it without [`Link::close`] looks to the peer like a death.
#[derive(Debug)]
pub struct VerbsLink {
    /// First, so that the device is done with the memory below before that goes.
    endpoint: Endpoint,
    outward: Producer<MappedRing>,
    inward: Consumer<MappedRing>,
    mailbox: Mailbox,
    socket: OwnedFd,
    linger: Duration,
    /// Why no more can be sent; frames that arrived before are still received.
    end: Option<LinkEnd>,
    /// The link ended by our own close or by a broken protocol: nothing more is received either.
    deaf: bool,
    /// The queue pair has failed: nothing can be posted, nothing more completes.
    broken: bool,
    /// The head last sent as a credit, and how many there were.
    head_sent: u64,
    credits: u64,
    asked: Questions,
    peer_asked: Questions,
    owes_wake: bool,
    owes_close: bool,
    lack: Lack,
    quiet_rounds: u32,
    silent_rounds: u32,
    stats: LinkStats,
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
            asked: Questions::default(),
            peer_asked: Questions::default(),
            owes_wake: false,
            owes_close: false,
            lack: Lack::Nothing,
            quiet_rounds: 0,
            silent_rounds: 0,
            stats: LinkStats::default(),
        }
    }

    /// Ends the link by a protocol fault: nothing more moves, and the peer is told.
    #[cold]
    fn fail(&mut self, end: LinkEnd) -> LinkEnd {
        if !self.deaf {
            self.end = Some(end);
            self.deaf = true;
            self.owes_close = true;
            self.settle();
        }
        self.end.clone().unwrap_or(LinkEnd::ClosedHere)
    }

    /// Notes what a post returned: an error means that the queue pair is of no more use.
    #[inline]
    fn note<T>(&mut self, posted: Result<T, LinkEnd>) -> Option<T> {
        match posted {
            Ok(value) => Some(value),
            Err(end) => {
                self.broken = true;
                // A peer that closed or hung up takes its queue pair with it: that is the better reason.
                self.notice_hang_up();
                self.end.get_or_insert(end);
                None
            }
        }
    }

    /// Takes what completed, and hears the peer's signals.
    #[inline]
    fn look(&mut self) {
        if self.broken {
            return;
        }
        let arrivals = self.endpoint.poll();
        for &immediate in &arrivals.immediates[..arrivals.count] {
            self.hear(immediate);
        }
        if let Some(end) = arrivals.failure {
            self.note::<()>(Err(end));
        }
    }

    #[cold]
    fn hear(&mut self, immediate: u32) {
        let sent = self.outward.position();
        match Signal::decode(immediate, sent, self.inward.position()) {
            Some(Signal::Wake) => self.asked = Questions::default(),
            Some(Signal::AwaitFrames(position)) if position <= sent => {
                self.peer_asked.frames = Some(position)
            }
            Some(Signal::AwaitRoom(head)) if head <= self.head_sent => {
                self.peer_asked.room = Some(head);
                self.inward.publish();
            }
            Some(Signal::Closed) => {
                self.end.get_or_insert(LinkEnd::ClosedByPeer);
            }
            other => {
                let text = format!(
                    "signal {immediate:#x} ({other:?}): expected positions up to {sent} and {}",
                    self.head_sent
                );
                self.fail(LinkEnd::Protocol(text));
            }
        }
    }

    /// Sends what this side owes: credits, answers to the peer's questions, the close. Does nothing when it owes nothing.
    #[inline]
    fn settle(&mut self) {
        let head = self.inward.published_head();
        let answers = self.peer_asked.frames.is_some() || self.peer_asked.room.is_some();
        if head != self.head_sent || answers || self.owes_wake || self.owes_close {
            self.settle_debts(head);
        }
    }

    fn settle_debts(&mut self, head: u64) {
        let open = !self.broken && self.end.is_none();
        if open && head != self.head_sent && self.endpoint.has_room(1, true) {
            self.credits += 1;
            let posted = self.endpoint.write_credit(encode_credit(head, self.credits));
            self.note(posted);
            self.head_sent = head;
        }
        // An answer follows the frame or the credit that it speaks of, on the same queue pair.
        if self.peer_asked.frames.is_some_and(|position| self.outward.position() > position) {
            (self.peer_asked.frames, self.owes_wake) = (None, true);
        }
        if self.peer_asked.room.is_some_and(|head| self.head_sent > head) {
            (self.peer_asked.room, self.owes_wake) = (None, true);
        }
        if self.owes_wake && open && self.endpoint.has_room(1, true) {
            self.owes_wake = false;
            self.stats.wakes += 1;
            let posted = self.endpoint.signal(Signal::Wake);
            self.note(posted);
        }
        if self.owes_close && !self.broken && self.endpoint.has_room(1, true) {
            self.owes_close = false;
            let posted = self.endpoint.signal(Signal::Closed);
            self.note(posted);
        }
    }

    /// Looks whether the peer's process or host is gone.
    fn notice_hang_up(&mut self) {
        if self.end.is_none() && hung_up(&self.socket) {
            // What it sent before has arrived before: a close among it says that the peer is not lost but done.
            if !self.broken {
                self.look();
            }
            self.end.get_or_insert(LinkEnd::PeerGone("its end of the socket is closed".into()));
        }
    }

    /// Claims room in the staged ring, the peer's ring and the send queue.
    #[inline]
    fn claim(&mut self, frame_bytes: usize) -> Result<(), SendError> {
        if let Some(end) = &self.end {
            return Err(SendError::Ended(end.clone()));
        }
        if !self.endpoint.has_room(RECORD_REQUESTS, false) {
            self.look();
            if !self.endpoint.has_room(RECORD_REQUESTS, false) {
                return Err(self.refused(Lack::Queue));
            }
        }
        if self.outward.claim(frame_bytes).is_err() {
            // The ring's head comes by mail: look there before believing it.
            self.import_credit();
            match self.outward.claim(frame_bytes) {
                Ok(_) => {}
                Err(SendError::Full) => return Err(self.refused(Lack::Room)),
                Err(SendError::Ended(end)) => return Err(SendError::Ended(self.fail(end))),
                Err(too_large) => return Err(too_large),
            }
        }
        self.lack = Lack::Nothing;
        Ok(())
    }

    fn import_credit(&mut self) {
        if let Some(head) = decode_credit(self.mailbox.credit()) {
            self.outward.import_head(head);
        }
    }

    #[cold]
    fn refused(&mut self, lack: Lack) -> SendError {
        self.lack = lack;
        self.stats.full += 1;
        self.look();
        self.end.clone().map_or(SendError::Full, SendError::Ended)
    }

    /// Sends the record that begins at `from`, just committed to the staged ring.
    #[inline]
    fn launch(&mut self, from: u64) {
        let memory = self.outward.memory();
        let word = memory.word(from).load(std::sync::atomic::Ordering::Relaxed);
        let (len, tag) = (word as u32, (word >> 32) as u32);
        let at = from & (memory.ring_bytes() - 1);
        let end = self.outward.position();
        let posted = self.endpoint.write_record(at, end - from, encode_word(len, tag), end);
        self.note(posted);
        self.quiet_rounds = 0;
        self.silent_rounds = 0;
        self.stats.sent_frames += 1;
        self.stats.sent_bytes += end - from;
        // The peer may have asked to be woken since the last look.
        self.look();
        self.settle();
    }

    /// True once a record's word has begun to land.
    fn frame_waits(&self) -> bool {
        let word = self.inward.memory().word(self.inward.position());
        word.load(std::sync::atomic::Ordering::Acquire) != 0
    }

    /// Turns a landed word into the ring's form, which the consumer polls. False if none has landed.
    #[inline]
    fn ripen(&mut self) -> Result<bool, LinkEnd> {
        let word = self.inward.memory().word(self.inward.position());
        // SYNC POINT: commit. The device placed the record's contents before the word, for they are an earlier WRITE.
        let wire = word.load(std::sync::atomic::Ordering::Acquire);
        let Some(ripe) = decode_word(wire) else { return Ok(false) };
        if (ripe as u32) < WORD_BYTES as u32 {
            let text = format!("frame length: expected at least {WORD_BYTES}, got {}", ripe as u32);
            return Err(self.fail(LinkEnd::Protocol(text)));
        }
        // Nobody else writes here before the record is released.
        word.store(ripe, std::sync::atomic::Ordering::Relaxed);
        Ok(true)
    }

    /// Asks the peer for a wake, unless it was asked already, and waits until its device has the question.
    /// False if that took too long.
    fn ask(&mut self) -> bool {
        let mut question = None;
        if self.asked.frames.is_none() {
            let position = self.inward.position();
            let posted = self.endpoint.signal(Signal::AwaitFrames(position));
            question = self.note(posted).or(question);
            self.asked.frames = Some(position);
        }
        if self.lack == Lack::Room && self.asked.room.is_none() && !self.broken {
            self.import_credit();
            let head = decode_credit(self.mailbox.credit()).unwrap_or(0);
            let posted = self.endpoint.signal(Signal::AwaitRoom(head));
            question = self.note(posted).or(question);
            self.asked.room = Some(head);
        }
        let Some(question) = question else { return true };
        let deadline = Instant::now() + QUESTION_TIMEOUT;
        while !self.endpoint.is_complete(question) && self.end.is_none() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::yield_now();
            self.look();
        }
        true
    }

    /// True if there is something to do rather than to sleep.
    fn is_busy(&mut self) -> bool {
        let room_came = match self.lack {
            Lack::Nothing => false,
            Lack::Room => {
                self.import_credit();
                !matches!(self.outward.may_park(), Ok(true))
            }
            Lack::Queue => self.endpoint.has_room(RECORD_REQUESTS, false),
        };
        let woken = self.asked.frames.is_none() || self.lack == Lack::Room && self.asked.room.is_none();
        self.end.is_some() || room_came || woken || self.frame_waits()
    }

    /// After a close: waits, at most `linger`, until the peer's device has everything.
    fn drain(&mut self) {
        let deadline = Instant::now() + self.linger;
        while !self.broken && (self.owes_close || self.endpoint.in_flight() > 0) && Instant::now() < deadline
        {
            self.look();
            self.settle();
            if self.endpoint.is_silent() {
                let asked = self.endpoint.ask_for_completion();
                self.note(asked);
            }
            if hung_up(&self.socket) {
                return;
            }
            std::thread::yield_now();
        }
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
        self.outward.send(tag, parts)?;
        self.launch(from);
        Ok(())
    }

    fn progress(&mut self) -> Result<(), LinkEnd> {
        self.look();
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
                self.stats.received_bytes += frame.map_or(0, |frame| padded(frame.len));
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
        if self.peer_asked.room.is_some() {
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
        [self.endpoint.completions.fd(), self.socket.as_fd()]
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
