//! Calls with many bytes: nothing is copied but into the frame and out of it.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use engine::worker::{BorrowedBytes, Receive, Target};

use crate::foreign::end_answer;
use crate::function::kr_reply;
use crate::handle::{slice, text};
use crate::request::{KR_ALL_SHARDS, call_options, kr_options, kr_task, submit};
use crate::status::{Fault, guard, kr_status};
use crate::table::kr_table;
use crate::task::kr_visit_reply;
use crate::worker::kr_worker;

/// Some bytes of a caller.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_bytes {
    /// The first; may be NULL if there are none.
    pub bytes: *const c_void,
    /// How many.
    pub bytes_count: usize,
}

/// Gives back memory that was lent to an answer; called once, on any thread.
pub type kr_release = Option<unsafe extern "C" fn(context: *mut c_void)>;

struct Context(*mut c_void);

// SAFETY: the pointer is the caller's own and only handed back; `kr_call_in_place` and `kr_release` say on which threads.
unsafe impl Send for Context {}
// SAFETY: the same; nothing reads what it points to.
unsafe impl Sync for Context {}

impl Context {
    /// (A method, so that closures capture the whole and not the pointer in it.)
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// Begins a kr_call() whose arguments are `parts`, one after the other. They are written into the frame from where they lie, and must
/// stay as they are until the task has ended. `visit` is called with each shard's answer where it lies, as it comes, from inside a
/// later call with this worker and on that call's thread; it must not use the same worker, must not throw, and must not longjmp out.
/// (kr_wait() tells the end.)
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_call_in_place(
    worker: *mut kr_worker,
    table: kr_table,
    shard: u32,
    verb: *const c_char,
    parts: *const kr_bytes,
    parts_count: usize,
    visit: kr_visit_reply,
    visit_context: *mut c_void,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| {
            let visit = visit.ok_or_else(|| Fault::invalid("visit: expected a function, got NULL"))?;
            let (handle, verb) = (inner.tables.handle(table)?, text("verb", verb)?);
            let borrow = |part: &kr_bytes| {
                // Only checks, the result is not used.
                slice("a part of the arguments", part.bytes.cast::<u8>(), part.bytes_count)?;
                Ok(BorrowedBytes::new(part.bytes.cast(), part.bytes_count))
            };
            let arguments = slice("parts", parts, parts_count)?.iter().map(borrow);
            let arguments = arguments.collect::<Result<Vec<_>, Fault>>()?;
            let options = call_options(inner, options)?;
            let target = if shard == KR_ALL_SHARDS { Target::All } else { Target::Shard(shard) };
            let context = Context(visit_context);
            let receive: Receive = Box::new(move |shard, answer| {
                visit(context.pointer(), shard, answer.as_ptr().cast(), answer.len());
            });
            Ok(inner.worker.call_in_place(handle, target, verb, arguments, receive, options)?)
        })
    }
}

/// Memory of a server function, until it is given back.
struct Lent {
    bytes: *const u8,
    len: usize,
    release: kr_release,
    context: Context,
}

// SAFETY: the bytes are promised to stay as they are until `release`, which may be called on any thread.
unsafe impl Send for Lent {}
// SAFETY: the same; they are only read.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the promise of kr_reply_lend(), which checked the pointer: readable until `release`, which is called last.
        unsafe { std::slice::from_raw_parts(self.bytes, self.len) }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: the function was given for this, once.
            unsafe { release(self.context.pointer()) };
        }
    }
}

/// Ends the answer of the call under way with bytes that are sent from where they lie, instead of a copy by kr_reply_write(). They
/// must stay as they are until `release(context)` is called: once, from any thread, and late, as the last few answers are kept for
/// a worker that asks again after its link broke. (`release` may be NULL for memory that stays for ever.) When this fails, `release` is
/// not called.
/// KR_MISUSE: the answer has its end already.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_reply_lend(
    reply: *mut kr_reply,
    bytes: *const c_void,
    bytes_count: usize,
    release: kr_release,
    context: *mut c_void,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let lent = unsafe { slice("bytes", bytes.cast::<u8>(), bytes_count)? };
        let (bytes, len) = (lent.as_ptr(), lent.len());
        end_answer(reply, || Arc::new(Lent { bytes, len, release, context: Context(context) }))?;
        Ok(kr_status::KR_OK)
    })
}
