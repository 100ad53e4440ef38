//! The links of one thread, numbered by peer: where a core's frames go and where they come from.

use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::time::Instant;

use keyrange_transport::link::{CarrierKind, Frame, LentAs, Link, LinkEnd, LinkStats, SendError};
use keyrange_transport::region::{LentRange, Slab};
use keyrange_transport::wait::{LinkSet, WaitConfig, Waiter, Woken};

use crate::session::{Outbox, OutboxError, PeerId};

/// At most this many frames of one peer before the next peer's turn.
const FRAMES_PER_TURN: usize = 64;

/// What to do with a received frame: from whom, its bytes, where answers go. The error is a broken protocol.
pub(crate) type Handler<'a> = dyn FnMut(PeerId, &[u8], &mut dyn Outbox) -> Result<(), String> + 'a;

/// One link. With an end it is only waiting to be buried: nothing is sent or received any more.
#[derive(Default)]
struct Slot {
    link: Option<Box<dyn Link>>,
    end: Option<LinkEnd>,
    /// Slabs lent over this link.
    lent: Vec<(u32, LentAs)>,
}

impl Slot {
    #[inline]
    fn up(&mut self) -> Option<&mut Box<dyn Link>> {
        if self.end.is_none() { self.link.as_mut() } else { None }
    }

    fn lend(&mut self, slab: &Slab) {
        if let Some(Ok(lent_as)) = self.up().map(|link| link.lend(slab)) {
            self.lent.push((slab.id(), lent_as));
        }
    }

    /// What a frame that was not taken means. A link that ended stays where it is (a frame of it may be held just now) until
    /// `take_end`.
    fn refused(&mut self, error: SendError) -> OutboxError {
        let end = match error {
            SendError::Full => return OutboxError::Full,
            SendError::Ended(end) => end,
            // Cores cut their frames to the link's limit, so only a bug of ours gets here.
            SendError::TooLarge { got, max } => {
                LinkEnd::Protocol(format!("a frame of {got} bytes is needed, the link carries at most {max}"))
            }
        };
        self.end = Some(end);
        OutboxError::Gone
    }
}

/// The token of every watched descriptor that is not a link's.
const WATCHED: u64 = u64::MAX;

/// The links of one thread. Peers are numbered 0..len.
pub(crate) struct Links {
    slots: Vec<Slot>,
    waiter: Waiter,
    /// Everything lent so far.
    slabs: Vec<Slab>,
}

impl Links {
    /// No link yet to any of `peers` peers; `busy_threads` share this host's cores. While parked, `watched`
    /// descriptors wake the thread too.
    pub(crate) fn new(peers: usize, busy_threads: u32, watched: &[BorrowedFd<'_>]) -> io::Result<Self> {
        let mut waiter = Waiter::new(WaitConfig { threads: busy_threads as usize })?;
        for &fd in watched {
            waiter.add_fd(WATCHED, fd)?;
        }
        Ok(Links { slots: (0..peers).map(|_| Slot::default()).collect(), waiter, slabs: Vec::new() })
    }

    /// Call when a round over all links found nothing: spins, yields or parks.
    pub(crate) fn wait(&mut self, until: Instant) -> io::Result<Woken> {
        self.waiter.wait(&mut Parking(&mut self.slots), until)
    }

    /// Says that a round found something, so that patience starts anew.
    #[inline]
    pub(crate) fn worked(&mut self) {
        self.waiter.worked();
    }

    /// How many peers there are, connected or not.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Puts `link` in place, dropping whatever was there. Panics if there is no such peer.
    pub(crate) fn install(&mut self, peer: PeerId, link: Box<dyn Link>) -> io::Result<()> {
        self.bury(peer.0 as usize)?;
        self.waiter.add_link(u64::from(peer.0), link.as_ref())?;
        let slot = &mut self.slots[peer.0 as usize];
        *slot = Slot { link: Some(link), ..Slot::default() };
        self.slabs.iter().for_each(|slab| slot.lend(slab));
        Ok(())
    }

    /// Cuts the link to `peer` as a broken cable would.
    #[cfg(test)]
    pub(crate) fn cut(&mut self, peer: PeerId) {
        if let Some(slot) = self.slots.get_mut(peer.0 as usize) {
            slot.end = Some(LinkEnd::PeerGone("cut by a test".into()));
        }
    }

    fn bury(&mut self, place: usize) -> io::Result<Slot> {
        let slot = std::mem::take(&mut self.slots[place]);
        if let Some(link) = &slot.link {
            self.waiter.remove_link(link.as_ref())?;
        }
        Ok(slot)
    }

    /// The link to `peer`, if it is up.
    #[inline]
    pub(crate) fn get_mut(&mut self, peer: PeerId) -> Option<&mut Box<dyn Link>> {
        self.slots.get_mut(peer.0 as usize)?.up()
    }

    /// All links that are up.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Box<dyn Link>)> {
        let numbered = self.slots.iter_mut().enumerate();
        numbered.filter_map(|(peer, slot)| Some((PeerId(peer as u32), slot.up()?)))
    }

    /// Buries a link that has ended, and says why it did.
    pub(crate) fn take_end(&mut self) -> io::Result<Option<(PeerId, LinkEnd)>> {
        let Some(place) = self.slots.iter().position(|slot| slot.end.is_some()) else { return Ok(None) };
        let end = self.bury(place)?.end;
        Ok(end.map(|end| (PeerId(place as u32), end)))
    }

    /// The traffic of all links that are up.
    pub(crate) fn stats(&mut self) -> LinkStats {
        self.iter_mut().map(|(_, link)| link.stats()).fold(LinkStats::default(), |sum, one| LinkStats {
            sent_frames: sum.sent_frames + one.sent_frames,
            sent_bytes: sum.sent_bytes + one.sent_bytes,
            lent_bytes: sum.lent_bytes + one.lent_bytes,
            received_frames: sum.received_frames + one.received_frames,
            received_bytes: sum.received_bytes + one.received_bytes,
            full: sum.full + one.full,
            wakes: sum.wakes + one.wakes,
        })
    }

    /// Whether one of the links leads through a network, which may break while both nodes live.
    pub(crate) fn any_can_break(&mut self) -> bool {
        self.iter_mut().any(|(_, link)| matches!(link.kind(), CarrierKind::Tcp | CarrierKind::Verbs))
    }

    /// Lends `slab` over every link that can, later ones too; over the others its bytes are copied.
    pub(crate) fn lend(&mut self, slab: &Slab) {
        self.slots.iter_mut().for_each(|slot| slot.lend(slab));
        self.slabs.push(slab.clone());
    }

    /// Bytes that have not left this side yet.
    pub(crate) fn unsent_bytes(&mut self) -> usize {
        self.iter_mut().map(|(_, link)| link.unsent_bytes()).sum()
    }

    /// Closes every link in good order.
    pub(crate) fn close_all(&mut self) {
        self.iter_mut().for_each(|(_, link)| link.close());
    }

    /// Moves bytes and hands received frames, in order, to `handle` with an outbox for the answers. Returns how
    /// many frames came. A link that ended is put aside, see [`Links::take_end`]; an error of `handle` ends the
    /// peer's link as a broken protocol.
    pub(crate) fn turn(&mut self, peer: PeerId, handle: &mut Handler<'_>) -> usize {
        let mut count = 0;
        match self.try_turn(peer, &mut count, handle) {
            Ok(()) => {}
            Err(end) => self.slots[peer.0 as usize].end = Some(end),
        }
        count
    }

    fn try_turn(&mut self, peer: PeerId, count: &mut usize, handle: &mut Handler<'_>) -> Result<(), LinkEnd> {
        let Some(link) = self.get_mut(peer) else { return Ok(()) };
        // Frames the peer had committed before it went away are still delivered, so its end waits for them.
        let progress = link.progress();
        while *count < FRAMES_PER_TURN {
            let Some(link) = self.get_mut(peer) else { return Ok(()) };
            let Some(frame) = link.try_recv()? else { return progress };
            *count += 1;
            let handled = self.with_frame(peer, &frame, handle);
            if let Some(link) = self.get_mut(peer) {
                link.release(frame);
                if let Err(fault) = handled {
                    link.close();
                    return Err(LinkEnd::Protocol(fault));
                }
            }
        }
        Ok(())
    }

    /// Runs `handle` on the frame's bytes where they lie, with all links (this one too) as the outbox.
    fn with_frame(&mut self, peer: PeerId, frame: &Frame, handle: &mut Handler<'_>) -> Result<(), String> {
        let Some(link) = self.get_mut(peer) else { return Ok(()) };
        let bytes: *const [u8] = link.bytes(frame);
        // SAFETY: the bytes lie in the receive ring of a link in `self.slots`, a mapping of its own that neither
        // moves nor is unmapped while the link lives, and whose contents the link leaves alone until `release`, which
        // `try_turn` calls after this function. Meanwhile `Sender` reaches the links only through claim, commit and try_send, which
        // touch the sending direction's memory, and resolve, which reads memory of the peer's; it can neither release nor drop nor replace a link.
        let bytes = unsafe { &*bytes };
        handle(peer, bytes, &mut Sender(&mut self.slots))
    }
}

/// The links to prepare for a park. Those that have ended keep the thread awake until they are buried.
struct Parking<'a>(&'a mut [Slot]);

impl LinkSet for Parking<'_> {
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link)) {
        self.0.iter_mut().filter_map(Slot::up).for_each(|link| visit(link.as_mut()));
    }
}

/// The sending half of all links and nothing else.
struct Sender<'a>(&'a mut [Slot]);

impl Outbox for Sender<'_> {
    #[inline]
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        send(self.0, to, frame_bytes, fill)
    }

    fn gathers(&self, to: PeerId) -> bool {
        gathers(self.0, to)
    }

    fn send_parts(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        send_parts(self.0, to, tag, parts)
    }

    #[inline]
    fn lends(&self, to: PeerId, slab: u32) -> bool {
        lends(self.0, to, slab, LentAs::Ranges)
    }

    fn sends_from(&self, to: PeerId, slab: u32) -> bool {
        lends(self.0, to, slab, LentAs::Source)
    }

    fn send_lent(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        send_lent(self.0, to, tag, parts)
    }

    fn resolve(&self, from: PeerId, range: &LentRange) -> Option<&[u8]> {
        self.0.get(from.0 as usize)?.link.as_ref()?.resolve(range)
    }
}

impl Outbox for Links {
    #[inline]
    fn send(
        &mut self,
        to: PeerId,
        frame_bytes: usize,
        fill: &mut dyn FnMut(&mut [u8]) -> u32,
    ) -> Result<(), OutboxError> {
        send(&mut self.slots, to, frame_bytes, fill)
    }

    fn gathers(&self, to: PeerId) -> bool {
        gathers(&self.slots, to)
    }

    fn send_parts(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        send_parts(&mut self.slots, to, tag, parts)
    }

    #[inline]
    fn lends(&self, to: PeerId, slab: u32) -> bool {
        lends(&self.slots, to, slab, LentAs::Ranges)
    }

    fn sends_from(&self, to: PeerId, slab: u32) -> bool {
        lends(&self.slots, to, slab, LentAs::Source)
    }

    fn send_lent(&mut self, to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
        send_lent(&mut self.slots, to, tag, parts)
    }

    fn resolve(&self, from: PeerId, range: &LentRange) -> Option<&[u8]> {
        self.slots.get(from.0 as usize)?.link.as_ref()?.resolve(range)
    }
}

/// A socket copies what it is given, so a copy into a frame before that would be one too many.
fn gathers(slots: &[Slot], to: PeerId) -> bool {
    let link = slots.get(to.0 as usize).and_then(|slot| slot.link.as_ref());
    link.is_some_and(|link| link.kind() == CarrierKind::Tcp)
}

fn send_parts(slots: &mut [Slot], to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
    let Some(slot) = slots.get_mut(to.0 as usize) else { return Err(OutboxError::Gone) };
    let Some(link) = slot.up() else { return Err(OutboxError::Gone) };
    link.try_send(tag, parts).map_err(|error| slot.refused(error))
}

#[inline]
fn lends(slots: &[Slot], to: PeerId, slab: u32, lent_as: LentAs) -> bool {
    slots.get(to.0 as usize).is_some_and(|slot| slot.lent.contains(&(slab, lent_as)))
}

fn send_lent(slots: &mut [Slot], to: PeerId, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), OutboxError> {
    let Some(slot) = slots.get_mut(to.0 as usize) else { return Err(OutboxError::Gone) };
    let Some(link) = slot.up() else { return Err(OutboxError::Gone) };
    link.try_send_lent(tag, parts).map_err(|error| slot.refused(error))
}

#[inline]
fn send(
    slots: &mut [Slot],
    to: PeerId,
    frame_bytes: usize,
    fill: &mut dyn FnMut(&mut [u8]) -> u32,
) -> Result<(), OutboxError> {
    let Some(slot) = slots.get_mut(to.0 as usize) else { return Err(OutboxError::Gone) };
    let Some(link) = slot.up() else { return Err(OutboxError::Gone) };
    match link.try_claim(frame_bytes) {
        Ok(memory) => {
            let tag = fill(memory);
            link.commit(tag);
            Ok(())
        }
        Err(error) => Err(slot.refused(error)),
    }
}
