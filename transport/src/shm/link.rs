//! `ShmLink`: the carrier contract on two rings.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::control::{self, Message};
use crate::link::{CarrierKind, Frame, LendError, LentAs, Link, LinkEnd, LinkStats, SendError, WORD_BYTES};
use crate::region::{LentRange, LentSlab, Slab};
use crate::ring::{Consumer, MappedRing, Producer, Taken};

/// How many slabs one side may lend over one link.
pub const SLABS_MAX: usize = 64;

/// Rounds of [`Link::progress`] without a sign of life from the peer before the socket is asked (a system call).
const QUIET_ROUNDS: u32 = 1 << 14;

/// A heartbeat every so many rounds: a store to a line that the peer rarely reads.
const BEAT_ROUNDS: u64 = 1 << 8;

/// One end of a link on shared memory. Made by [`super::connect`] or [`crate::in_process::pair`].
///
/// Dropping it without [`Link::close`] looks to the peer like a death.
#[derive(Debug)]
pub struct ShmLink {
    kind: CarrierKind,
    outward: Producer<MappedRing>,
    inward: Consumer<MappedRing>,
    doorbell: OwnedFd,
    peer_doorbell: OwnedFd,
    socket: OwnedFd,
    /// Slabs the peer lent us.
    borrowed: Vec<(u32, LentSlab)>,
    /// Ids of the slabs we lent.
    lent: Vec<u32>,
    /// Why no more can be sent; frames the peer had committed are still received.
    end: Option<LinkEnd>,
    /// The link ended by our own close or by a broken protocol: nothing more is received either.
    deaf: bool,
    rounds: u64,
    quiet_rounds: u32,
    /// Without the bytes, which are the rings' positions.
    stats: LinkStats,
}

impl ShmLink {
    /// `fds`: own doorbell, the peer's doorbell, the socket.
    pub(super) fn new(
        kind: CarrierKind,
        outward: Producer<MappedRing>,
        inward: Consumer<MappedRing>,
        fds: [OwnedFd; 3],
    ) -> Self {
        let [doorbell, peer_doorbell, socket] = fds;
        Self {
            kind,
            outward,
            inward,
            doorbell,
            peer_doorbell,
            socket,
            borrowed: Vec::new(),
            lent: Vec::new(),
            end: None,
            deaf: false,
            rounds: 0,
            quiet_rounds: 0,
            stats: LinkStats::default(),
        }
    }

    /// The peer's heartbeat: it grows while the peer calls [`Link::progress`] and stands still while it works,
    /// sleeps, or is stopped.
    pub fn peer_beats(&self) -> u64 {
        self.inward.producer_beats()
    }

    /// Rings the peer's doorbell if `sleeps`.
    #[inline(always)]
    fn wake(&mut self, sleeps: bool) {
        if sleeps {
            self.ring_doorbell();
        }
    }

    #[cold]
    fn ring_doorbell(&mut self) {
        self.stats.wakes += 1;
        // "Would block" means the counter is full, so the peer has been woken already.
        let _ = rustix::io::write(&self.peer_doorbell, &1u64.to_ne_bytes());
    }

    /// Ends the link by a protocol fault or an error of the system: nothing more moves.
    #[cold]
    fn fail(&mut self, end: LinkEnd) -> LinkEnd {
        if self.end.is_none() || !self.deaf {
            self.end = Some(end);
            self.deaf = true;
            // The peer learns at once, parked or not.
            let (frames, room) = (self.outward.close(), self.inward.close());
            self.wake(frames || room);
        }
        self.end.clone().unwrap_or(LinkEnd::ClosedHere)
    }

    /// Looks whether the peer closed or died; sets `end`, and leaves its committed frames to be received.
    fn notice_peer(&mut self, ask_socket: bool) {
        if self.end.is_some() {
            return;
        }
        let hung_up = ask_socket && control::hung_up(&self.socket);
        // The flags after the socket: a peer that closed in good order set them before it hung up.
        if self.inward.producer_closed() || self.outward.consumer_closed() {
            self.end = Some(LinkEnd::ClosedByPeer);
        } else if hung_up {
            self.end = Some(LinkEnd::PeerGone("its end of the socket is closed".into()));
        }
    }

    /// Takes the slabs announced by notices off the socket.
    #[cold]
    fn accept_slabs(&mut self) -> Result<(), LinkEnd> {
        while self.inward.new_notices() > 0 {
            let text = match control::receive(&self.socket) {
                Ok(Some((Message::Slab { id, bytes }, fds))) => match self.accept_slab(id, bytes, fds) {
                    Ok(()) => continue,
                    Err(text) => text,
                },
                Ok(got) => format!("expected a lent slab on the socket, got {got:?}"),
                Err(error) => format!("expected a lent slab on the socket: {error}"),
            };
            return Err(self.fail(LinkEnd::Protocol(text)));
        }
        Ok(())
    }

    fn accept_slab(&mut self, id: u32, bytes: u64, fds: Vec<OwnedFd>) -> Result<(), String> {
        let [fd] = <[OwnedFd; 1]>::try_from(fds)
            .map_err(|fds| format!("slab {id}: expected 1 descriptor, got {}", fds.len()))?;
        if self.borrowed.len() == SLABS_MAX {
            return Err(format!("lent slabs: expected at most {SLABS_MAX}"));
        }
        if self.borrowed.iter().any(|&(known, _)| known == id) {
            return Err(format!("slab {id} was lent twice"));
        }
        let slab = LentSlab::from_fd(fd, bytes).map_err(|error| format!("slab {id}: {error}"))?;
        self.borrowed.push((id, slab));
        self.inward.accept_notices(1);
        Ok(())
    }

    #[inline(always)]
    fn count_sent(&mut self) {
        // Room was there, so credits still come: a dead peer's ring fills up soon enough.
        self.quiet_rounds = 0;
        self.stats.sent_frames += 1;
    }

    /// All of receiving but the busy case, out of its way.
    #[inline(never)]
    fn receive_carefully(&mut self) -> Result<Option<Frame>, LinkEnd> {
        if self.deaf {
            return Err(self.end.clone().unwrap_or(LinkEnd::ClosedHere));
        }
        match self.inward.poll() {
            Ok(Some(frame)) => {
                self.count_received();
                self.accept_slabs()?;
                Ok(Some(frame))
            }
            // The end was noticed before this look at the ring, so nothing that was committed before it is missed.
            Ok(None) if self.end.is_some() => Err(self.end.clone().unwrap_or(LinkEnd::ClosedHere)),
            Ok(None) => {
                self.return_credits_when_idle();
                Ok(None)
            }
            Err(end) => Err(self.fail(end)),
        }
    }

    #[inline(always)]
    fn return_credits_when_idle(&mut self) {
        if self.inward.is_idle() {
            let sleeps = self.inward.publish();
            self.wake(sleeps);
        }
    }

    #[inline(always)]
    fn count_received(&mut self) {
        self.quiet_rounds = 0;
        self.stats.received_frames += 1;
    }

    /// Why there is no room for a frame of `frame_bytes`, unless there is: it may have come just now.
    #[inline(never)]
    fn claim_carefully(&mut self, frame_bytes: usize) -> Result<(), SendError> {
        if let Some(end) = &self.end {
            return Err(SendError::Ended(end.clone()));
        }
        match self.outward.claim(frame_bytes) {
            Ok(_) => Ok(()),
            Err(SendError::Full) => {
                self.stats.full += 1;
                self.notice_peer(false);
                Err(self.end.clone().map_or(SendError::Full, SendError::Ended))
            }
            Err(SendError::Ended(end)) => Err(SendError::Ended(self.fail(end))),
            Err(too_large) => Err(too_large),
        }
    }

    #[inline(always)]
    fn claim(&mut self, frame_bytes: usize) -> Result<(), SendError> {
        if self.end.is_none() && self.outward.claim_known_room(frame_bytes) {
            return Ok(());
        }
        self.claim_carefully(frame_bytes)
    }
}

impl Link for ShmLink {
    fn kind(&self) -> CarrierKind {
        self.kind
    }

    fn frame_bytes_max(&self) -> usize {
        self.outward.frame_bytes_max()
    }

    #[inline]
    fn try_claim(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError> {
        self.claim(frame_bytes)?;
        Ok(self.outward.claimed_bytes())
    }

    #[inline]
    fn commit(&mut self, tag: u32) {
        let sleeps = self.outward.commit(tag);
        self.count_sent();
        self.wake(sleeps);
    }

    fn abort(&mut self) {
        self.outward.abort();
    }

    #[inline]
    fn try_send(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        self.claim(parts.iter().map(|part| part.len()).sum::<usize>() + WORD_BYTES)?;
        self.outward.gather(parts);
        self.commit(tag);
        Ok(())
    }

    #[inline]
    fn progress(&mut self) -> Result<(), LinkEnd> {
        self.rounds += 1;
        if self.rounds.is_multiple_of(BEAT_ROUNDS) {
            self.outward.beat(self.rounds);
        }
        self.quiet_rounds += 1;
        let ask_socket = self.quiet_rounds >= QUIET_ROUNDS;
        if ask_socket {
            self.quiet_rounds = 0;
        }
        self.notice_peer(ask_socket);
        if !self.deaf {
            if self.inward.new_notices() > 0 {
                self.accept_slabs()?;
            }
            self.return_credits_when_idle();
        }
        match &self.end {
            // Frames that the peer committed before its end come first.
            Some(end) if self.deaf || self.inward.is_empty() => Err(end.clone()),
            _ => Ok(()),
        }
    }

    fn unsent_bytes(&self) -> usize {
        0
    }

    #[inline]
    fn try_recv(&mut self) -> Result<Option<Frame>, LinkEnd> {
        if !self.deaf {
            match self.inward.take() {
                Taken::Frame(frame) => {
                    self.count_received();
                    return Ok(Some(frame));
                }
                Taken::Nothing if self.end.is_none() && !self.inward.is_idle() => return Ok(None),
                Taken::Nothing | Taken::Unclear => {}
            }
        }
        self.receive_carefully()
    }

    #[inline]
    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.inward.bytes(frame)
    }

    #[inline]
    fn release(&mut self, frame: Frame) {
        let sleeps = self.inward.release(&frame);
        self.wake(sleeps);
    }

    fn prepare_park(&mut self) -> bool {
        self.notice_peer(false);
        if self.end.is_some() {
            return false;
        }
        let sleeps = self.inward.publish();
        self.wake(sleeps);
        self.inward.announce_park();
        if self.outward.wants_room() {
            self.outward.announce_park();
        }
        Consumer::<MappedRing>::park_fence();
        let no_room = !self.outward.wants_room() || matches!(self.outward.may_park(), Ok(true));
        let sleep = no_room && self.inward.may_park() && !self.outward.consumer_closed();
        if !sleep {
            self.inward.finish_park();
            self.outward.finish_park();
        }
        sleep
    }

    fn finish_park(&mut self) {
        self.inward.finish_park();
        self.outward.finish_park();
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.doorbell, &mut count);
        // The wake may have been the hang-up: ask at the next round.
        self.quiet_rounds = QUIET_ROUNDS;
    }

    fn park_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.doorbell.as_fd(), self.socket.as_fd()]
    }

    fn lend(&mut self, slab: &Slab) -> Result<LentAs, LendError> {
        if let Some(end) = &self.end {
            return Err(LendError::Ended(end.clone()));
        }
        if self.lent.contains(&slab.id()) {
            return Ok(LentAs::Ranges);
        }
        if self.lent.len() == SLABS_MAX {
            return Err(LendError::TooMany { max: SLABS_MAX });
        }
        let message = Message::Slab { id: slab.id(), bytes: slab.bytes() as u64 };
        control::send(&self.socket, &message, &[slab.fd()])
            .map_err(|error| LendError::Ended(LinkEnd::Os(format!("lending a slab: {error}"))))?;
        self.lent.push(slab.id());
        let sleeps = self.outward.notify();
        self.wake(sleeps);
        Ok(LentAs::Ranges)
    }

    fn resolve(&self, range: &LentRange) -> Option<&[u8]> {
        self.borrowed.iter().find(|(id, _)| *id == range.slab)?.1.get(range)
    }

    fn close(&mut self) {
        if !self.deaf {
            self.deaf = true;
            self.end = Some(LinkEnd::ClosedHere);
            let (frames, room) = (self.outward.close(), self.inward.close());
            self.wake(frames || room);
        }
    }

    fn stats(&self) -> LinkStats {
        let (sent_bytes, received_bytes) = (self.outward.position(), self.inward.position());
        LinkStats { sent_bytes, received_bytes, ..self.stats }
    }
}
