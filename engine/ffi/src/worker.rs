//! Workers: how one joins a job, what it is there, and how it leaves.

use std::ffi::c_char;
use std::time::Duration;

use engine::client::{Mending, Worker, WorkerConfig};
use engine::node::connect_worker;

use crate::foreign_filter::outside_filters;
use crate::handle::{Entered, Handle, Kind, place, sized, text};
use crate::job::kr_member;
use crate::memory::Blocks;
use crate::status::{Fault, guard, kr_status};
use crate::table::Tables;

/// One worker of a job. One thread at a time may be in a call with it (another gets KR_MISUSE); which thread may change.
/// Nothing happens between calls: when requests should go on while you compute, call kr_poll() now and then.
pub struct kr_worker {
    _opaque: (),
}

/// What is behind a [`kr_worker`].
pub struct Inner {
    /// The engine's worker.
    pub worker: Worker,
    /// The tables it knows, by number.
    pub tables: Tables,
    /// What kr_alloc() gave out.
    pub blocks: Blocks,
}

impl Kind for Inner {
    const NAME: &'static str = "kr_worker";
    const MAGIC: u64 = 0x6b72_776f_726b_0001;
}

/// Puts a worker behind a handle.
pub fn wrap(worker: Worker) -> *mut kr_worker {
    let (tables, blocks) = (Tables::default(), Blocks::default());
    Handle::into_raw(Inner { worker, tables, blocks }).cast()
}

/// Goes into a worker.
///
/// # Safety
/// `worker` is NULL or was made by [`wrap`].
pub unsafe fn enter<'a>(worker: *mut kr_worker) -> Result<Entered<'a, Inner>, Fault> {
    outside_filters()?;
    // SAFETY: the caller's promise.
    unsafe { Handle::enter(worker.cast::<Handle<Inner>>()) }
}

/// A time limit of the interface.
pub fn millis(limit_ms: u32) -> Duration {
    Duration::from_millis(limit_ms.into())
}

/// Joins a job and connects to all its servers; the calling thread waits, at most member->join_ms.
/// KR_NODE: no manager answers, a wrong secret, a server cannot be reached. KR_ENDED: the job is over.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_worker_connect(
    member: *const kr_member,
    worker: *mut *mut kr_worker,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (member, worker) = unsafe { (sized("kr_member", member)?, place("worker", worker)?) };
        // SAFETY: the same.
        let (membership, carrier) = unsafe { (member.membership()?, member.carrier()?) };
        let (verbs, mending) = (Default::default(), Mending::default());
        let config = WorkerConfig { membership, carrier, verbs, core: None, mending };
        *worker = wrap(connect_worker(&config)?);
        Ok(kr_status::KR_OK)
    })
}

/// Who a worker is in its job.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct kr_worker_info {
    /// sizeof(kr_worker_info).
    pub size: usize,
    /// Its rank, from 0.
    pub rank: u32,
    /// Workers of the job.
    pub workers: u32,
    /// Server threads of the job, each owning a range of keys.
    pub shards: u32,
    /// Requests under way.
    pub open_requests: u32,
    /// Bytes sent over its links so far.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// Tells who the worker is and what it has moved.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_worker_describe(worker: *mut kr_worker, info: *mut kr_worker_info) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, size) = unsafe { (enter(worker)?, sized("kr_worker_info", info.cast_const())?.size) };
        let stats = inner.worker.link_stats();
        let told = kr_worker_info {
            size,
            rank: inner.worker.rank(),
            workers: inner.worker.workers(),
            shards: inner.worker.shards(),
            open_requests: u32::try_from(inner.worker.open_requests()).unwrap_or(u32::MAX),
            sent_bytes: stats.sent_bytes,
            received_bytes: stats.received_bytes,
        };
        // SAFETY: the caller's struct has `size` bytes, at most as many as ours.
        unsafe { (&raw const told).cast::<u8>().copy_to_nonoverlapping(info.cast(), size) };
        Ok(kr_status::KR_OK)
    })
}

/// Waits until every worker of the job has come to the barrier of this name, at most `timeout_ms`. Requests go on meanwhile.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_barrier(
    worker: *mut kr_worker,
    name: *const c_char,
    timeout_ms: u32,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, name) = unsafe { (enter(worker)?, text("name", name)?) };
        inner.worker.barrier(name, millis(timeout_ms))?;
        Ok(kr_status::KR_OK)
    })
}

/// Ends the worker's part in good order: waits for its requests (at most `timeout_ms`), says good-bye, frees the handle. When all
/// workers have, the servers end. The handle is freed also when this fails.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_worker_finish(worker: *mut kr_worker, timeout_ms: u32) -> kr_status {
    guard(|| {
        outside_filters()?;
        // SAFETY: the caller's promise.
        let inner = unsafe { Handle::take(worker.cast::<Handle<Inner>>())? };
        inner.worker.finish(millis(timeout_ms))?;
        Ok(kr_status::KR_OK)
    })
}

/// Ends the worker's part because it cannot go on, and frees the handle: the job ends, and every other node hears `reason`.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_worker_fail(worker: *mut kr_worker, reason: *const c_char) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let reason = unsafe { text("reason", reason)? };
        outside_filters()?;
        // SAFETY: the same.
        unsafe { Handle::take(worker.cast::<Handle<Inner>>())? }.worker.fail(reason);
        Ok(kr_status::KR_OK)
    })
}
