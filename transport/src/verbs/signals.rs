//! What the two ends of a link say to each other beside frames: credits, questions, answers, the close.
//!
//! Everything here may be called at any time and does what can be done now. What cannot, for want of places in the send queue,
//! stays owed and is settled later.

use std::time::{Duration, Instant};

use super::exchange::hung_up;
use super::link::{Lack, Questions, RECORD_REQUESTS, VerbsLink};
use super::wire::{Signal, decode_credit, encode_credit};
use crate::link::LinkEnd;

/// How long a question may take to be acknowledged before this side gives up sleeping for now.
const QUESTION_TIMEOUT: Duration = Duration::from_millis(20);

impl VerbsLink {
    /// Ends the link by a protocol fault: nothing more moves, and the peer is told.
    #[cold]
    pub(super) fn fail(&mut self, end: LinkEnd) -> LinkEnd {
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
    pub(super) fn note<T>(&mut self, posted: Result<T, LinkEnd>) -> Option<T> {
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

    /// Takes what completed, and hears the peer's signals: some of them at once. False if there was nothing.
    #[inline]
    pub(super) fn look(&mut self) -> bool {
        if self.broken {
            return false;
        }
        let arrivals = self.endpoint.poll();
        for &immediate in &arrivals.immediates[..arrivals.count] {
            self.hear(immediate);
        }
        if let Some(end) = arrivals.failure {
            self.note::<()>(Err(end));
        }
        arrivals.any
    }

    pub(super) fn hear(&mut self, immediate: u32) {
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
            Some(Signal::Landed(end))
                if (self.landed + 1..=self.head_sent + self.ring_bytes()).contains(&end) =>
            {
                self.landed = end;
                self.landings_heard += 1;
            }
            Some(Signal::Closed) => {
                self.end.get_or_insert(LinkEnd::ClosedByPeer);
            }
            other => {
                let (head, landed) = (self.head_sent, self.landed);
                let text = format!(
                    "signal {immediate:#x} ({other:?}): expected positions up to {sent} and {head}, or beyond {landed}"
                );
                self.fail(LinkEnd::Protocol(text));
            }
        }
    }

    /// Sends what this side owes: credits, answers to the peer's questions, the close. Does nothing when it owes nothing.
    #[inline]
    pub(super) fn settle(&mut self) {
        let head = self.inward.published_head();
        let answers = self.peer_asked.frames.is_some() || self.peer_asked.room.is_some();
        if head != self.head_sent || answers || self.owes_wake || self.owes_close {
            self.settle_debts(head);
        }
    }

    pub(super) fn settle_debts(&mut self, head: u64) {
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

    /// Looks whether the peer's process or host is gone, or this side's device.
    pub(super) fn notice_hang_up(&mut self) {
        if self.end.is_none()
            && let Some(end) = self.endpoint.take_news()
        {
            // A close among what came before says more.
            while self.look() {}
            self.end.get_or_insert(end);
        }
        if self.end.is_none() && hung_up(&self.socket) {
            // What it sent before has arrived before: a close among it says that the peer is not lost but done.
            while self.look() {}
            self.end.get_or_insert(LinkEnd::PeerGone("its end of the socket is closed".into()));
        }
    }

    pub(super) fn import_credit(&mut self) {
        if let Some(head) = decode_credit(self.mailbox.credit()) {
            self.outward.import_head(head);
        }
    }

    /// Asks the peer for a wake, unless it was asked already, and waits until its device has the question.
    /// False if that took too long.
    pub(super) fn ask(&mut self) -> bool {
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
    pub(super) fn is_busy(&mut self) -> bool {
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
    pub(super) fn drain(&mut self) {
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
