//! Slabs lent over a link: registered memory that frames are sent from, so that no processor of this side touches the bytes.
//!
//! The peer sees ordinary frames. The bytes must stay as they are until it has answered: the word that makes a frame visible is
//! WRITTEN after the bytes on the same queue pair, so an answer says that the bytes lie there, and what the device might still
//! send again for want of an acknowledgement is a duplicate, which the peer's device drops unread. Who changes them earlier
//! sends changed values, nothing worse: the slab stays mapped and registered as long as the link.

use std::io::IoSlice;

use super::device::{Access, Registration};
use super::link::VerbsLink;
use crate::link::{LendError, LentAs, SendError, WORD_BYTES};
use crate::region::Slab;

/// The most slabs one link takes.
pub(super) const SLABS_MAX: usize = 64;
/// Shorter parts are copied: a piece of a request costs the device about as much as a copy of this costs the processor.
const PIECE_BYTES_MIN: usize = 1024;

/// A slab lent over one link. The registration goes first.
#[derive(Debug)]
pub(super) struct Lent {
    registration: Registration,
    slab: Slab,
}

impl Lent {
    fn holds(&self, part: &[u8]) -> bool {
        let (begin, part_begin) = (self.slab.as_ptr() as usize, part.as_ptr() as usize);
        part_begin >= begin && part_begin + part.len() <= begin + self.slab.bytes()
    }
}

impl VerbsLink {
    pub(super) fn register(&mut self, slab: &Slab) -> Result<LentAs, LendError> {
        if let Some(end) = &self.end {
            return Err(LendError::Ended(end.clone()));
        }
        if self.lent.iter().any(|lent| lent.slab.id() == slab.id()) {
            return Ok(LentAs::Source);
        }
        if !self.endpoint.can_gather() {
            return Err(LendError::Unsupported(crate::link::CarrierKind::Verbs));
        }
        if self.lent.len() == SLABS_MAX {
            return Err(LendError::TooMany { max: SLABS_MAX });
        }
        // SAFETY: the whole map of the slab, which the clone below keeps mapped; the device only reads it.
        let registered = unsafe {
            Registration::of_range(self.endpoint.domain(), slab.as_ptr(), slab.bytes(), Access::Local)
        };
        let registration = registered.map_err(|error| LendError::Refused(error.to_string()))?;
        self.lent.push(Lent { registration, slab: slab.clone() });
        Ok(LentAs::Source)
    }

    /// Sends a frame of which the parts in lent slabs are read by the device where they lie.
    pub(super) fn send_lent(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        let frame_bytes = parts.iter().fold(WORD_BYTES, |sum, part| sum.saturating_add(part.len()));
        self.claim(frame_bytes)?;
        let from = self.outward.position();
        let mut pieces = self.endpoint.pieces(self.place(from));
        let mut body = self.outward.claim_bytes(frame_bytes)?;
        for part in parts {
            let (here, rest) = body.split_at_mut(part.len());
            let lent = self.lent.iter().find(|lent| part.len() >= PIECE_BYTES_MIN && lent.holds(part));
            match lent.filter(|_| pieces.has_room()) {
                Some(lent) => {
                    let key = lent.registration.local_key;
                    // SAFETY: inside the slab (`holds`), which `self.lent` keeps mapped and registered as long as the link, and the
                    // queue pair ends before it: fields are dropped in order.
                    unsafe { pieces.push_lent(part.as_ptr() as u64, part.len(), key) };
                    self.stats.lent_bytes += part.len() as u64;
                }
                None => {
                    here.copy_from_slice(part);
                    pieces.push_staged(part.len());
                }
            }
            body = rest;
        }
        self.outward.commit(tag);
        // Padding, and the zero that the next word will land on.
        pieces.push_staged((self.outward.position() - from) as usize + WORD_BYTES - frame_bytes);
        self.launch_pieces(from, pieces);
        Ok(())
    }
}
