//! Push, pull and call.

use std::ffi::{CString, c_char, c_void};
use std::time::Duration;

use engine::message::Element;
use engine::worker::{Borrowed, BorrowedMut, Keys, Options, Part, PushArray, Target, TaskId};

use crate::chain::{filters, kr_chain};
use crate::handle::{check_array, place, sized, slice, text};
use crate::keys::kr_select;
use crate::memory::Blocks;
use crate::status::{Fault, guard, kr_status, no_way_but_return};
use crate::table::{KR_F64, kr_table};
use crate::worker::{Inner, enter, kr_worker, millis};

/// Names a request of one worker. Never 0, never used again.
pub type kr_task = u64;

/// Called once with the end of a request, from inside a later call with its worker and on that call's thread. `message` is valid
/// during the call; for KR_OK it is "". It must not use the same worker (KR_MISUSE). An exception
/// that leaves it ends the process; longjmp must not.
pub type kr_callback = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        task: kr_task,
        status: kr_status,
        message: *const c_char,
    ),
>;

/// How a request is to be run. Zero everywhere but `size` starts it at once, without a deadline, at time 0. NULL for the struct
/// says the same.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_options {
    /// sizeof(kr_options).
    pub size: usize,
    /// The number of the update: on tables that aggregate over all workers, pushes of the same time belong together, and every
    /// worker pushes once for each.
    pub time: u64,
    /// Requests of this worker that must have ended well before this one starts.
    pub after: *const kr_task,
    /// How many.
    pub after_count: usize,
    /// The request ends as KR_CANCELLED when it has not ended so long after its start; 0 is never.
    pub deadline_ms: u32,
    /// Pull only, if not 0: answer when update `time` of the table is finished.
    pub after_time: u32,
    /// Takes the end of the request instead of kr_wait(), or NULL.
    pub callback: kr_callback,
    /// Given to the callback.
    pub context: *mut c_void,
    /// Requests of a higher priority leave before those of a lower one that wait for room; otherwise first in, first out.
    pub priority: i32,
    /// What this request pushes passes this chain of KR_PUSH; NULL is none.
    pub push_chain: *mut kr_chain,
    /// What this request pulls passes this chain of KR_PULL; NULL is none. With a chain key lists travel whole, unless one of the two
    /// says key-cache.
    pub pull_chain: *mut kr_chain,
}

struct Context(*mut c_void);

// SAFETY: the pointer is the caller's own and only handed back; `kr_callback` says on which thread.
unsafe impl Send for Context {}

impl Context {
    /// (A method, so that closures capture the whole and not the pointer in it.)
    fn pointer(&self) -> *mut c_void {
        self.0
    }
}

/// # Safety
/// `options` is NULL or as described at [`kr_options`].
pub unsafe fn options(inner: &Inner, options: *const kr_options) -> Result<Options, Fault> {
    if options.is_null() {
        return Ok(Options::default());
    }
    // SAFETY: the caller's promise; every field may be zero.
    let given = unsafe { sized("kr_options", options)? };
    // SAFETY: the same.
    let after = unsafe { slice("after", given.after, given.after_count)? };
    let deadline = match given.deadline_ms {
        0 => None,
        limit_ms => Some(inner.worker.clock() + Duration::from_millis(limit_ms.into())),
    };
    let mut options = Options {
        time: given.time,
        after: after.iter().map(|&task| TaskId::from_number(task)).collect(),
        after_time: given.after_time != 0,
        priority: given.priority,
        deadline,
        // SAFETY: the same.
        filters: unsafe { filters(given.push_chain, given.pull_chain)? },
        ..Options::default()
    };
    if let Some(callback) = given.callback {
        let context = Context(given.context);
        options.callback = Some(Box::new(move |task, end| {
            let (status, text) = match end {
                Ok(_) => (kr_status::KR_OK, String::new()),
                Err(error) => {
                    let fault = Fault::from(error);
                    (fault.status, fault.text)
                }
            };
            let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
            // SAFETY: the caller gave this function for this context, to be called from here.
            no_way_but_return("a kr_callback", || unsafe {
                callback(context.pointer(), task.to_number(), status, text.as_ptr())
            });
        }));
    }
    Ok(options)
}

/// As [`options`], for a call.
///
/// # Safety
/// As for [`options`].
pub unsafe fn call_options(inner: &Inner, given: *const kr_options) -> Result<Options, Fault> {
    // SAFETY: the caller's promise.
    let options = unsafe { options(inner, given)? };
    if !options.filters.is_default() {
        let text = "kr_options: a call has no rows to filter: expected push_chain and pull_chain to be NULL";
        return Err(Fault::invalid(text));
    }
    Ok(options)
}

/// An array to push: in a block of kr_alloc() or anywhere else.
enum Array<V> {
    Lent(Part),
    Borrowed(Borrowed<V>),
}

impl<V: Element> PushArray for Array<V> {
    type Value = V;
    fn into_part(self) -> Part {
        match self {
            Array::Lent(part) => part,
            Array::Borrowed(array) => array.into_part(),
        }
    }
}

/// # Safety
/// `parts` points to `count` pointers to `values` values of type `V` each, valid until the task has ended.
unsafe fn arrays<V: Element>(
    blocks: &Blocks,
    parts: *const *const c_void,
    count: usize,
    values: usize,
) -> Result<Vec<Array<V>>, Fault> {
    // SAFETY: the caller's promise.
    let parts = unsafe { slice("parts", parts, count)? };
    let array = |&data: &*const c_void| {
        // SAFETY: the same; only checks, the result is not used.
        unsafe { slice("an array of values", data.cast::<V>(), values)? };
        // SAFETY: the values stay as they are until the task has ended.
        Ok(match unsafe { blocks.part::<V>(data.addr(), values) } {
            Some(part) => Array::Lent(part),
            // SAFETY: the same.
            None => Array::Borrowed(unsafe { Borrowed::new(data.cast::<V>(), values) }),
        })
    };
    parts.iter().map(array).collect()
}

/// # Safety
/// `into` points to room for `values` values of type `V`, ours until the task has ended.
unsafe fn room<V: Element>(into: *mut c_void, values: usize) -> Result<BorrowedMut<V>, Fault> {
    // What is there may be anything yet: it is not read.
    check_array("the array to pull into", into.cast_const().cast::<V>(), values)?;
    // SAFETY: the caller's promise.
    Ok(unsafe { BorrowedMut::new(into.cast::<V>(), values) })
}

/// The road of every request that becomes a task: into the worker, what `begin` does there, and its number to the caller.
///
/// # Safety
/// `worker` is NULL or a worker; `task` is NULL or points to room for a number.
pub unsafe fn submit(
    worker: *mut kr_worker,
    task: *mut kr_task,
    begin: impl FnOnce(&mut Inner) -> Result<TaskId, Fault>,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, task) = unsafe { (enter(worker)?, place("task", task)?) };
        *task = begin(&mut inner)?.to_number();
        Ok(kr_status::KR_OK)
    })
}

/// Begins a push: `parts_count` arrays (as many as the table's function takes, usually 1; 0 only makes the keys known) of
/// `values` = keys x width values each, in the order of the keys. The arrays stay yours, but must stay as they are until the task
/// has ended: nothing is copied but into the ring; from a block of kr_alloc() not even that where the server is on this host.
/// KR_INVALID: a wrong length or type, keys that are not the table's. KR_BUSY: too many open tasks.
/// Since 0.1.
///
/// Example: push a gradient for a list of keys, and wait.
///
///     kr_select which = {keys, 0, 0};
///     const void *parts[] = {gradient};
///     kr_task task;
///     if (kr_push(worker, table, which, parts, 1, count, NULL, &task) || kr_wait(worker, task, 10000))
///         fprintf(stderr, "%s\n", kr_last_error());
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_push(
    worker: *mut kr_worker,
    table: kr_table,
    which: kr_select,
    parts: *const *const c_void,
    parts_count: usize,
    values: usize,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| match u32::from(table.value_type) {
            KR_F64 => push::<f64>(inner, table, which.keys()?, parts, parts_count, values, options),
            _ => push::<f32>(inner, table, which.keys()?, parts, parts_count, values, options),
        })
    }
}

/// # Safety
/// As for [`kr_push`], with values of type `V`.
unsafe fn push<V: Element>(
    inner: &mut Inner,
    table: kr_table,
    keys: Keys,
    parts: *const *const c_void,
    parts_count: usize,
    values: usize,
    given: *const kr_options,
) -> Result<TaskId, Fault> {
    // SAFETY: the caller's promise.
    let (parts, options) =
        unsafe { (arrays::<V>(&inner.blocks, parts, parts_count, values)?, options(inner, given)?) };
    let table = inner.tables.handle(table)?;
    Ok(inner.worker.push(table, keys, parts, options)?)
}

/// Begins a pull into `into`, room for `values` = keys x width values, which is the library's until the task has ended. Keys that
/// were never pushed read as the table's initial value.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pull(
    worker: *mut kr_worker,
    table: kr_table,
    which: kr_select,
    into: *mut c_void,
    values: usize,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| {
            let (handle, keys) = (inner.tables.handle(table)?, which.keys()?);
            let options = self::options(inner, options)?;
            Ok(match u32::from(table.value_type) {
                KR_F64 => inner.worker.pull_into(handle, keys, room::<f64>(into, values)?, options)?,
                _ => inner.worker.pull_into(handle, keys, room::<f32>(into, values)?, options)?,
            })
        })
    }
}

/// Begins a push that is answered with the new values of its keys: kr_push() and kr_pull() in one round trip. On a table that
/// aggregates over all workers the values are those after all of them have pushed for this time.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_push_pull(
    worker: *mut kr_worker,
    table: kr_table,
    which: kr_select,
    parts: *const *const c_void,
    parts_count: usize,
    into: *mut c_void,
    values: usize,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| match u32::from(table.value_type) {
            KR_F64 => {
                push_pull::<f64>(inner, table, which.keys()?, parts, parts_count, into, values, options)
            }
            _ => push_pull::<f32>(inner, table, which.keys()?, parts, parts_count, into, values, options),
        })
    }
}

/// # Safety
/// As for [`kr_push_pull`], with values of type `V`.
unsafe fn push_pull<V: Element>(
    inner: &mut Inner,
    table: kr_table,
    keys: Keys,
    parts: *const *const c_void,
    parts_count: usize,
    into: *mut c_void,
    values: usize,
    given: *const kr_options,
) -> Result<TaskId, Fault> {
    // SAFETY: the caller's promise.
    let (parts, options) =
        unsafe { (arrays::<V>(&inner.blocks, parts, parts_count, values)?, options(inner, given)?) };
    // SAFETY: the same.
    let into = unsafe { room::<V>(into, values)? };
    let table = inner.tables.handle(table)?;
    Ok(inner.worker.push_pull_into(table, keys, parts, into, options)?)
}

/// Begins a pull of the keys from which.first to which.last that exist. Take them with kr_wait_found().
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_pull_existing(
    worker: *mut kr_worker,
    table: kr_table,
    which: kr_select,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| {
            let (handle, keys) = (inner.tables.handle(table)?, which.existing()?);
            let options = self::options(inner, options)?;
            Ok(match u32::from(table.value_type) {
                KR_F64 => inner.worker.pull(handle, keys, Vec::<f64>::new(), options)?,
                _ => inner.worker.pull(handle, keys, Vec::<f32>::new(), options)?,
            })
        })
    }
}

/// Pushes the row of one key: the cheapest request there is. The row is copied at once. Waits for room, at most `timeout_ms`, when
/// as many requests are under way as the job allows. `task` may be NULL if nobody will wait for this one; kr_wait_below(worker, 0, ...) waits for
/// all.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_push_one(
    worker: *mut kr_worker,
    table: kr_table,
    key: u64,
    row: *const c_void,
    timeout_ms: u32,
    task: *mut kr_task,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        let (handle, width, limit) = (inner.tables.handle(table)?, table.width as usize, millis(timeout_ms));
        // SAFETY: the same.
        let begun = unsafe {
            match u32::from(table.value_type) {
                KR_F64 => inner.worker.push_one(handle, key, slice("row", row.cast::<f64>(), width)?, limit),
                _ => inner.worker.push_one(handle, key, slice("row", row.cast::<f32>(), width)?, limit),
            }
        };
        let begun = begun?.to_number();
        if !task.is_null() {
            // SAFETY: the same.
            *unsafe { place("task", task)? } = begun;
        }
        Ok(kr_status::KR_OK)
    })
}

/// For kr_call(): every shard.
pub const KR_ALL_SHARDS: u32 = u32::MAX;

/// Begins to run `verb` of the table's server function with these argument bytes, at one shard or at KR_ALL_SHARDS. Take the answers
/// with kr_wait_replies().
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_call(
    worker: *mut kr_worker,
    table: kr_table,
    shard: u32,
    verb: *const c_char,
    arguments: *const c_void,
    arguments_bytes: usize,
    options: *const kr_options,
    task: *mut kr_task,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        submit(worker, task, |inner| {
            let (handle, verb) = (inner.tables.handle(table)?, text("verb", verb)?);
            let arguments = slice("arguments", arguments.cast::<u8>(), arguments_bytes)?.to_vec();
            let options = call_options(inner, options)?;
            let target = if shard == KR_ALL_SHARDS { Target::All } else { Target::Shard(shard) };
            Ok(inner.worker.call(handle, target, verb, arguments, options)?)
        })
    }
}
