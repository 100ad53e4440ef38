//! Where the acceptor leaves new links for a shard's thread.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use keyrange_transport::link::Link;

use crate::manager::bell::Bell;
use crate::session::PeerId;

/// New links of one shard. Looking for them costs one load while there are none.
pub(crate) struct Inbox {
    any: AtomicBool,
    bell: Bell,
    arrived: Mutex<Vec<(PeerId, Box<dyn Link>)>>,
}

impl Inbox {
    /// An empty one.
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Inbox { any: AtomicBool::new(false), bell: Bell::new()?, arrived: Mutex::default() })
    }

    /// Leaves a link and wakes the shard's thread.
    pub(crate) fn give(&self, from: PeerId, link: Box<dyn Link>) {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner).push((from, link));
        // The bell before the flag: whoever sees the flag silences the bell, so no ring stays behind unseen and keeps
        // the thread awake for ever.
        self.bell.ring();
        self.any.store(true, Ordering::Release);
    }

    /// Takes what was left.
    pub(crate) fn take(&self) -> Vec<(PeerId, Box<dyn Link>)> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.any.store(false, Ordering::Relaxed);
        self.bell.drain();
        std::mem::take(&mut *self.arrived.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AsFd for Inbox {
    /// Readable when there is something to take.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
