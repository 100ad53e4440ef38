//! The ends of tasks.

use std::ffi::c_void;

use engine::message::Values;
use engine::worker::{Outcome, TaskId, TaskState};

use crate::request::kr_task;
use crate::status::{Fault, guard, kr_status, no_way_but_return};
use crate::worker::{Inner, enter, kr_worker, millis};

/// Waits for the end of a request, at most `timeout_ms`, and says how it ended. KR_TIMED_OUT: it goes on, wait again. A request
/// whose end was told before, and one with a callback, count as ended well.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_wait(worker: *mut kr_worker, task: kr_task, timeout_ms: u32) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        end(&mut inner, task, timeout_ms)?;
        Ok(kr_status::KR_OK)
    })
}

fn end(inner: &mut Inner, task: kr_task, timeout_ms: u32) -> Result<Outcome, Fault> {
    Ok(inner.worker.wait(TaskId::from_number(task), millis(timeout_ms))?)
}

/// Moves things on without waiting and says whether the request has ended: KR_PENDING if not, else how. Told once, like kr_wait().
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_test(worker: *mut kr_worker, task: kr_task) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        let task = TaskId::from_number(task);
        if inner.worker.state(task) != TaskState::Finished {
            inner.worker.poll()?;
        }
        match inner.worker.take(task) {
            None => Ok(kr_status::KR_PENDING),
            Some(end) => end.map(|_| kr_status::KR_OK).map_err(Fault::from),
        }
    })
}

/// Moves things on without waiting: sends what found no room, takes in what has arrived, calls callbacks.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_poll(worker: *mut kr_worker) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { enter(worker)? }.worker.poll()?;
        Ok(kr_status::KR_OK)
    })
}

/// Waits until fewer than `open` requests are under way, at most `timeout_ms`: to bound how far ahead a loop of pushes runs. 0 and
/// 1 both wait for all.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_wait_below(worker: *mut kr_worker, open: usize, timeout_ms: u32) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { enter(worker)? }.worker.wait_open_below(open.max(1), millis(timeout_ms))?;
        Ok(kr_status::KR_OK)
    })
}

/// Ends a request early, as KR_CANCELLED. Its arrays are yours again when this returns; what was sent may still be applied.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_cancel(worker: *mut kr_worker, task: kr_task) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { enter(worker)? }.worker.cancel(TaskId::from_number(task));
        Ok(kr_status::KR_OK)
    })
}

/// Called with what a pull of existing keys found: `count` rising keys and their count x width values, of the table's type. Both are
/// valid during the call.
pub type kr_visit_found = Option<
    unsafe extern "C-unwind" fn(context: *mut c_void, keys: *const u64, count: usize, values: *const c_void),
>;

/// Waits for a kr_pull_existing(), at most `timeout_ms`, and calls `visit` once with what it found.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_wait_found(
    worker: *mut kr_worker,
    task: kr_task,
    timeout_ms: u32,
    visit: kr_visit_found,
    context: *mut c_void,
) -> kr_status {
    guard(|| {
        let visit = visit.ok_or_else(|| Fault::invalid("visit: expected a function, got NULL"))?;
        // SAFETY: the caller's promise.
        let outcome = end(&mut *unsafe { enter(worker)? }, task, timeout_ms)?;
        let values: *const c_void = match &outcome.values {
            Values::F32(values) => values.as_ptr().cast(),
            Values::F64(values) => values.as_ptr().cast(),
        };
        // SAFETY: the caller's promise; keys and values live until the end of this function.
        no_way_but_return("a kr_visit_found", || unsafe {
            visit(context, outcome.keys.as_ptr(), outcome.keys.len(), values);
        });
        Ok(kr_status::KR_OK)
    })
}

/// Called with the answer of one shard. The bytes are valid during the call.
pub type kr_visit_reply = Option<
    unsafe extern "C-unwind" fn(context: *mut c_void, shard: u32, reply: *const c_void, reply_bytes: usize),
>;

/// Waits for a kr_call(), at most `timeout_ms`, and calls `visit` with each shard's answer, in the order of shards.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_wait_replies(
    worker: *mut kr_worker,
    task: kr_task,
    timeout_ms: u32,
    visit: kr_visit_reply,
    context: *mut c_void,
) -> kr_status {
    guard(|| {
        let visit = visit.ok_or_else(|| Fault::invalid("visit: expected a function, got NULL"))?;
        // SAFETY: the caller's promise.
        let outcome = end(&mut *unsafe { enter(worker)? }, task, timeout_ms)?;
        for (shard, reply) in &outcome.replies {
            // SAFETY: the caller's promise; the reply lives until the end of this function.
            no_way_but_return("a kr_visit_reply", || unsafe {
                visit(context, *shard, reply.as_ptr().cast(), reply.len());
            });
        }
        Ok(kr_status::KR_OK)
    })
}
