//! One side's queue pair with its memory: posts requests, never more than the send queue holds, and counts them back.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice;
use std::sync::Arc;

use rustix::event::epoll;

use super::VerbsError;
use super::completion::{BATCH, Completions};
use super::device::{Access, Device, Domain, Registration};
use super::error::errno;
use super::events::Watcher;
use super::exchange::{Address, Remote};
use super::ffi::{self, number as n};
use super::memory::{Mailbox, register_ring};
use super::pieces::{PIECES_MIN, Pieces};
use super::queue_pair::{QueuePair, RECEIVE_BATCH, RECEIVE_DEPTH, RECEIVED, SEND_DEPTH};
use super::status;
use super::wire::Signal;
use crate::link::{LinkEnd, WORD_BYTES};
use crate::ring::MappedRing;

/// Places of the send queue that records leave to signals and credits.
const RESERVED: u64 = 16;
/// A completion is asked for at least every so many requests...
const SIGNAL_EVERY: u64 = SEND_DEPTH as u64 / 8;

/// What the last completions brought.
#[derive(Debug)]
pub(super) struct Arrivals {
    pub(super) immediates: [u32; BATCH],
    pub(super) count: usize,
    /// Whether anything had completed.
    pub(super) any: bool,
    /// Why the queue pair has failed; what is above came before.
    pub(super) failure: Option<LinkEnd>,
}

/// Fields are dropped in order: the queue pair before its completions, then the registrations.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) queue_pair: QueuePair,
    pub(super) completions: Completions,
    watcher: Arc<Watcher>,
    /// Readable when completions, or news of the device, want to be looked at.
    doorbell: OwnedFd,
    ring: Registration,
    staged: Option<Registration>,
    mailbox: Registration,
    domain: Arc<Domain>,
    /// The peer's ring and mailbox.
    peer_ring: Remote,
    peer_mailbox: Remote,
    /// Requests posted, known to be complete, and posted up to the last one that asked for a completion.
    posted: u64,
    completed: u64,
    signaled: u64,
    /// The stream position that each request in flight brings the peer to, by its number modulo the queue.
    positions: Box<[u64; SEND_DEPTH as usize]>,
    /// Stream position that the peer's memory is known to have.
    arrived: u64,
    /// Receives used and not yet posted anew.
    received: usize,
}

impl Endpoint {
    /// A queue pair in state Init; ring and mailbox registered for the peer. Not yet connected.
    pub(super) fn new(
        device: &Arc<Device>,
        ring: &MappedRing,
        mailbox: &Mailbox,
    ) -> Result<Self, VerbsError> {
        let domain = Domain::new(device)?;
        let completions = Completions::new(device, SEND_DEPTH + RECEIVE_DEPTH)?;
        let queue_pair = QueuePair::new(&domain, &completions)?;
        let objects = [queue_pair.as_ptr().cast(), completions.as_ptr().cast_const().cast()];
        let watcher = device.watchers().watch(objects, device.port())?;
        let doorbell = join_fds([completions.fd(), device.events_fd(), watcher.fd()])?;
        let nowhere = Remote { address: 0, key: 0 };
        Ok(Self {
            queue_pair,
            completions,
            watcher,
            doorbell,
            ring: register_ring(&domain, ring, Access::RemoteWrite)?,
            mailbox: mailbox.register(&domain)?,
            staged: None,
            domain,
            peer_ring: nowhere,
            peer_mailbox: nowhere,
            posted: 0,
            completed: 0,
            signaled: 0,
            positions: Box::new([0; SEND_DEPTH as usize]),
            arrived: 0,
            received: 0,
        })
    }

    /// Where the peer may write: ring and mailbox.
    pub(super) fn own_memory(&self) -> [Remote; 2] {
        [&self.ring, &self.mailbox].map(|r| Remote { address: r.address, key: r.remote_key })
    }

    /// What to sleep on.
    pub(super) fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    /// Takes the device's news (a system call). An end if it concerns this link.
    pub(super) fn take_news(&self) -> Option<LinkEnd> {
        let device = &self.domain.device;
        device.take_events();
        let cause = self.watcher.end()?;
        let text = format!("RDMA device {} port {}: {}", device.name(), device.port(), cause.text);
        Some(if cause.is_peers { LinkEnd::Protocol(text) } else { LinkEnd::Os(text) })
    }

    /// Learns where the peer's memory is, and registers what is sent from.
    pub(super) fn attach(&mut self, peer: &Address, staged: &MappedRing) -> Result<(), VerbsError> {
        self.staged = Some(register_ring(&self.domain, staged, Access::Local)?);
        (self.peer_ring, self.peer_mailbox) = (peer.ring, peer.mailbox);
        Ok(())
    }

    /// Room for `requests` more, some places kept for signals unless `reserve` may be used.
    #[inline]
    pub(super) fn has_room(&self, requests: u64, reserve: bool) -> bool {
        let kept = if reserve { 0 } else { RESERVED };
        self.in_flight() + requests + kept <= u64::from(SEND_DEPTH)
    }

    /// Requests not known to be complete.
    #[inline]
    pub(super) fn in_flight(&self) -> u64 {
        self.posted - self.completed
    }

    /// True if requests are under way and none of them will say when it is done.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        self.in_flight() > 0 && self.signaled <= self.completed
    }

    /// Stream position up to which the peer's memory has everything.
    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// True if a record of so many bytes travels within its request.
    #[inline]
    pub(super) fn is_small(&self, bytes: u64) -> bool {
        bytes as usize + WORD_BYTES <= self.queue_pair.inline_bytes
    }

    /// WRITEs one small record in one request, with a signal that tells that it has landed. Its word in the staged ring must be in the
    /// form for that. `at`, `bytes`, `end` as for [`Endpoint::write_record`].
    #[inline]
    pub(super) fn write_landing(&mut self, at: u64, bytes: u64, end: u64) -> Result<(), LinkEnd> {
        let staged = self.staged.as_ref().map_or((0, 0), |staged| (staged.address, staged.local_key));
        // Word, contents, and the zero that the next word will land on.
        let length = bytes + WORD_BYTES as u64;
        let mut record = ffi::Sge { addr: staged.0 + at, length: length as u32, lkey: staged.1 };
        let signal = self.signaled <= self.completed || self.posted + 1 - self.signaled >= SIGNAL_EVERY;
        let mut requests = [self.request(slice::from_mut(&mut record), self.peer_ring, at, n::SEND_INLINE)];
        requests[0].opcode = n::WR_RDMA_WRITE_WITH_IMM;
        requests[0].imm_data = Signal::Landed(end).encode().to_be();
        self.count(&mut requests, signal, end);
        // SAFETY: inline; the record lies in the staged ring as in `write_record`.
        ended(unsafe { self.queue_pair.send(&mut requests) })
    }

    /// For the body of a record at `at` of both rings.
    #[inline]
    pub(super) fn pieces(&self, at: u64) -> Pieces {
        let staged = self.staged.as_ref().map_or((0, 0), |staged| (staged.address, staged.local_key));
        Pieces::new(staged.0 + at + WORD_BYTES as u64, staged.1, self.queue_pair.pieces)
    }

    /// True if the device gathers a request from as many places as lent memory takes.
    pub(super) fn can_gather(&self) -> bool {
        self.queue_pair.pieces >= PIECES_MIN
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// WRITEs one record: first its body, all but its word, and the zero that the next word will land on; then the word.
    /// `at` is its place in both rings, `end` the stream position behind it.
    ///
    /// # Safety
    /// The body was begun by [`Endpoint::pieces`], and is as long as the record in the staged ring.
    #[inline]
    pub(super) unsafe fn write_record(
        &mut self,
        at: u64,
        mut body: Pieces,
        word: u64,
        end: u64,
    ) -> Result<(), LinkEnd> {
        let pieces = body.as_mut_slice();
        let inline = matches!(pieces, [piece] if piece.length as usize <= self.queue_pair.inline_bytes);
        let mut word_at = ffi::Sge { addr: &raw const word as u64, length: WORD_BYTES as u32, lkey: 0 };
        let signal = self.signaled <= self.completed || self.posted + 2 - self.signaled >= SIGNAL_EVERY;
        let body_flags = if inline { n::SEND_INLINE } else { 0 };
        let mut requests = [
            self.request(pieces, self.peer_ring, at + WORD_BYTES as u64, body_flags),
            self.request(slice::from_mut(&mut word_at), self.peer_ring, at, n::SEND_INLINE),
        ];
        self.count(&mut requests, signal, end);
        // SAFETY: both views of the staged ring are registered and mapped while the link lives: `at` is below the ring's bytes and
        // a record at most a quarter of it. The producer writes there again only after the peer's credit says that it has
        // received it. For lent pieces `Pieces::push_lent` was promised the same. The word is inline, alive during the call.
        ended(unsafe { self.queue_pair.send(&mut requests) })
    }

    /// WRITEs a credit into the peer's mailbox.
    pub(super) fn write_credit(&mut self, credit: u64) -> Result<(), LinkEnd> {
        let mut piece = ffi::Sge { addr: &raw const credit as u64, length: size_of::<u64>() as u32, lkey: 0 };
        let signal = self.posted + 1 - self.signaled >= SIGNAL_EVERY;
        let mut requests = [self.request(slice::from_mut(&mut piece), self.peer_mailbox, 0, n::SEND_INLINE)];
        self.count(&mut requests, signal, self.last_position());
        // SAFETY: the one piece is inline and alive during the call.
        ended(unsafe { self.queue_pair.send(&mut requests) })
    }

    /// Sends a signal: an empty WRITE with an immediate, which wakes a peer that sleeps.
    /// Returns the number to await with [`Endpoint::is_complete`].
    pub(super) fn signal(&mut self, signal: Signal) -> Result<u64, LinkEnd> {
        let mut request = ffi::SendWr::empty();
        request.opcode = n::WR_RDMA_WRITE_WITH_IMM;
        request.imm_data = signal.encode().to_be();
        request.send_flags = n::SEND_SOLICITED;
        self.post_empty(request)
    }

    /// Asks when everything posted so far has arrived, by an empty WRITE that says so.
    pub(super) fn ask_for_completion(&mut self) -> Result<u64, LinkEnd> {
        self.post_empty(ffi::SendWr::empty())
    }

    /// True once the peer's device has acknowledged the request of this number.
    pub(super) fn is_complete(&self, request: u64) -> bool {
        self.completed >= request
    }

    fn post_empty(&mut self, mut request: ffi::SendWr) -> Result<u64, LinkEnd> {
        (request.remote_addr, request.rkey) = (self.peer_mailbox.address, self.peer_mailbox.key);
        let mut requests = [request];
        self.count(&mut requests, true, self.last_position());
        // SAFETY: the request names no memory.
        ended(unsafe { self.queue_pair.send(&mut requests) })?;
        Ok(self.posted)
    }

    #[inline]
    fn request(&self, pieces: &mut [ffi::Sge], to: Remote, offset: u64, flags: u32) -> ffi::SendWr {
        let mut request = ffi::SendWr::empty();
        (request.sg_list, request.num_sge) = (pieces.as_mut_ptr(), pieces.len() as i32);
        (request.remote_addr, request.rkey) = (to.address + offset, to.key);
        request.send_flags = flags;
        request
    }

    /// Numbers requests about to be posted; the last one asks for a completion if `signal`.
    #[inline]
    fn count<const N: usize>(&mut self, requests: &mut [ffi::SendWr; N], signal: bool, end: u64) {
        for request in requests.iter_mut() {
            self.positions[(self.posted % u64::from(SEND_DEPTH)) as usize] = end;
            self.posted += 1;
            request.wr_id = self.posted;
        }
        if signal {
            requests[N - 1].send_flags |= n::SEND_SIGNALED;
            self.signaled = self.posted;
        }
    }

    fn last_position(&self) -> u64 {
        match self.posted {
            0 => 0,
            posted => self.positions[((posted - 1) % u64::from(SEND_DEPTH)) as usize],
        }
    }

    /// Takes completions: counts requests back, collects the peer's signals, posts their receives anew.
    #[inline]
    pub(super) fn poll(&mut self) -> Arrivals {
        let mut space = [const { MaybeUninit::uninit() }; BATCH];
        let mut arrivals = Arrivals { immediates: [0; BATCH], count: 0, any: false, failure: None };
        match self.completions.poll(&mut space) {
            Ok([]) => {}
            Ok(batch) => {
                arrivals.any = true;
                arrivals.failure = self.take(batch, &mut arrivals).err();
            }
            Err(error) => arrivals.failure = Some(LinkEnd::Os(error.to_string())),
        }
        arrivals
    }

    #[inline]
    fn take(&mut self, batch: &[ffi::Wc], arrivals: &mut Arrivals) -> Result<(), LinkEnd> {
        for done in batch {
            if done.status != n::WC_SUCCESS {
                return Err(self.end_of(done));
            }
            if done.wr_id == RECEIVED {
                self.received += 1;
                arrivals.immediates[arrivals.count] = u32::from_be(done.imm_data);
                arrivals.count += 1;
            } else {
                self.completed = done.wr_id;
                self.arrived = self.positions[((done.wr_id - 1) % u64::from(SEND_DEPTH)) as usize];
            }
        }
        while self.received >= RECEIVE_BATCH {
            self.received -= RECEIVE_BATCH;
            ended(self.queue_pair.receive())?;
        }
        Ok(())
    }

    /// What a failed completion means for the link.
    #[cold]
    fn end_of(&self, done: &ffi::Wc) -> LinkEnd {
        let text = self.domain.device.library.status_text(done.status);
        let detail = format!("{text} (status {}, vendor's code {:#x})", done.status, done.vendor_err);
        status::end_of(done.status, self.domain.device.name(), &detail)
    }
}

/// One descriptor that is readable while any of `fds` is.
fn join_fds(fds: [BorrowedFd<'_>; 3]) -> Result<OwnedFd, VerbsError> {
    let joined = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(errno("epoll_create"))?;
    for fd in fds {
        let data = epoll::EventData::new_u64(0);
        epoll::add(&joined, fd, data, epoll::EventFlags::IN).map_err(errno("epoll_ctl"))?;
    }
    Ok(joined)
}

/// A refused post is the link's end.
fn ended(posted: Result<(), VerbsError>) -> Result<(), LinkEnd> {
    posted.map_err(|error| LinkEnd::Os(error.to_string()))
}
