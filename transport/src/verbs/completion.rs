//! Completions of one link: a queue to poll and a descriptor to sleep on.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::device::{Device, set_nonblocking};
use super::error::{check, os};
use super::{VerbsError, ffi};

/// Completions taken at once.
pub(super) const BATCH: usize = 16;

/// Both a queue pair's completion queues, with its channel.
#[derive(Debug)]
pub(super) struct Completions {
    device: Arc<Device>,
    channel: NonNull<ffi::CompChannel>,
    queue: NonNull<ffi::Cq>,
    poll: unsafe extern "C" fn(*mut ffi::Cq, c_int, *mut ffi::Wc) -> c_int,
    arm: unsafe extern "C" fn(*mut ffi::Cq, c_int) -> c_int,
}

// SAFETY: as for `Device`; this value is used by one thread at a time.
unsafe impl Send for Completions {}

impl Completions {
    /// A queue that holds `entries` completions.
    pub(super) fn new(device: &Arc<Device>, entries: u32) -> Result<Self, VerbsError> {
        let (library, context) = (&device.library, device.context());
        // SAFETY: the context is open as long as `device`, which the new value holds.
        let channel = NonNull::new(unsafe { (library.create_comp_channel)(context) });
        let channel = channel.ok_or_else(|| os("ibv_create_comp_channel"))?;
        // SAFETY: context and channel are alive; the channel is destroyed below if there will be no queue.
        let queue = NonNull::new(unsafe {
            (library.create_cq)(context, entries as c_int, ptr::null_mut(), channel.as_ptr(), 0)
        });
        let Some(queue) = queue else {
            let error = os("ibv_create_cq");
            // SAFETY: made above, and nothing uses it.
            unsafe { (library.destroy_comp_channel)(channel.as_ptr()) };
            return Err(error);
        };
        // SAFETY: the provider filled the table of its context before it handed out a queue.
        let ops = unsafe { &(*queue.as_ref().context).ops };
        let operations = ops.poll_cq.zip(ops.req_notify_cq);
        let (poll, arm) = operations.expect("every provider can poll and arm its queues");
        let this = Self { device: device.clone(), channel, queue, poll, arm };
        set_nonblocking(this.fd())?;
        Ok(this)
    }

    pub(super) fn as_ptr(&self) -> *mut ffi::Cq {
        self.queue.as_ptr()
    }

    /// The descriptor that becomes readable when an armed queue gets a completion.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel owns the descriptor and lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw(self.channel.as_ref().fd) }
    }

    /// Takes completions off the queue.
    #[inline]
    pub(super) fn poll<'a>(
        &mut self,
        into: &'a mut [MaybeUninit<ffi::Wc>; BATCH],
    ) -> Result<&'a [ffi::Wc], VerbsError> {
        // SAFETY: the queue is alive, `into` has room for BATCH completions.
        let count = unsafe { (self.poll)(self.queue.as_ptr(), BATCH as c_int, into.as_mut_ptr().cast()) };
        let count = usize::try_from(count).map_err(|_| os("ibv_poll_cq"))?;
        // SAFETY: the call has filled the first `count` completions, at most BATCH (ibv_poll_cq(3)).
        Ok(unsafe { std::slice::from_raw_parts(into.as_ptr().cast(), count.min(BATCH)) })
    }

    /// Makes the next completion raise an event; with `solicited` only one that the peer asked to, or a failed one.
    pub(super) fn arm(&mut self, solicited: bool) -> Result<(), VerbsError> {
        // SAFETY: the queue is alive.
        check("ibv_req_notify_cq", unsafe { (self.arm)(self.queue.as_ptr(), c_int::from(solicited)) })
    }

    /// Takes the events off the descriptor.
    pub(super) fn drain_events(&mut self) {
        let (mut queue, mut context) = (ptr::null_mut::<ffi::Cq>(), ptr::null_mut::<c_void>());
        let library = &self.device.library;
        // SAFETY: the channel is alive and its descriptor does not block; both pointers are for the call to fill.
        while unsafe { (library.get_cq_event)(self.channel.as_ptr(), &mut queue, &mut context) } == 0 {
            // SAFETY: an event of this queue, the only one on the channel, just taken; acknowledged once.
            unsafe { (library.ack_cq_events)(self.queue.as_ptr(), 1) };
        }
    }
}

impl Drop for Completions {
    fn drop(&mut self) {
        // SAFETY: made by `new`, destroyed once, the queue before its channel; the queue pair on it is gone (`Endpoint` drops it
        // first) and every event taken was acknowledged.
        unsafe {
            (self.device.library.destroy_cq)(self.queue.as_ptr());
            (self.device.library.destroy_comp_channel)(self.channel.as_ptr());
        }
    }
}
