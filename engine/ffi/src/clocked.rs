//! Clocked tables: reads that are at most so many clocks behind. What to ask for and when to wait is decided in the engine.

use std::ffi::c_void;
use std::sync::Arc;

use engine::clock::ClockedTable;
use engine::table::Aggregation;

use crate::clocked_config::{kr_clocked_config, kr_clocked_stats};
use crate::foreign_filter::outside_filters;
use crate::handle::{Handle, Kind, fill, place, sized, slice};
use crate::status::{Fault, guard, kr_status};
use crate::table::{KR_F64, kr_table};
use crate::worker::{Inner, enter, kr_worker, millis};

/// A KR_CLOCKED table as one worker uses it: fetch the rows of a clock, get them and add to them, close the clock. Clocks count from
/// 0. Every call takes the worker that opened it, and one thread at a time may be in a call with either. Nothing happens between
/// calls: kr_clocked_poll() now and then within a long clock takes in what has come.
pub struct kr_clocked {
    _opaque: (),
}

/// The engine's table, by the type of its values.
enum Typed {
    F32(ClockedTable<f32>),
    F64(ClockedTable<f64>),
}

/// The same expression with the table of either type.
macro_rules! typed {
    ($of:expr, $rows:ident => $do:expr) => {
        match $of {
            Typed::F32($rows) => $do,
            Typed::F64($rows) => $do,
        }
    };
}

/// What is behind a [`kr_clocked`].
struct Clocked {
    rows: Typed,
    table: kr_table,
    /// Rank of the worker that opened it.
    rank: u32,
    /// That worker has the same among its tables, as long as it has the table.
    opened: Arc<()>,
}

impl Kind for Clocked {
    const NAME: &'static str = "kr_clocked";
    const MAGIC: u64 = 0x6b72_636c_6f63_0001;
}

impl Clocked {
    /// Only the worker that opened it has the links, the rows that came unasked, and the clock at the servers.
    fn check(&self, inner: &Inner) -> Result<(), Fault> {
        let (expected, got, id) = (self.rank, inner.worker.rank(), self.table.id);
        if inner.tables.has_opened(id, &self.opened) {
            return Ok(());
        }
        Err(Fault::invalid(if expected == got {
            format!(
                "kr_clocked: expected the worker {expected} that opened it, got one of another job, or table {id} was dropped \
                 since: open it with this worker"
            )
        } else {
            format!("kr_clocked: expected worker {expected}, which opened table {id}, got worker {got}")
        }))
    }
}

/// The road of every call: into the worker and the table, whether they belong together, and what `act` does there.
///
/// # Safety
/// `worker` and `clocked` are NULL or handles.
unsafe fn with(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    act: impl FnOnce(&mut Inner, &mut Clocked) -> Result<(), Fault>,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, mut clocked) =
            unsafe { (enter(worker)?, Handle::enter(clocked.cast::<Handle<Clocked>>())?) };
        clocked.check(&inner)?;
        act(&mut inner, &mut clocked)?;
        Ok(kr_status::KR_OK)
    })
}

/// Opens a KR_CLOCKED table at clock 0, once per worker and table: the servers go on counting where the worker's clock is. Every
/// worker of the job must open it and close clocks, or the others wait. Free it with kr_clocked_free().
/// KR_INVALID: a table that counts no clocks or is open already, a configuration that makes no sense.
/// Since 0.1.
///
/// Example: add a step to some rows of the table at every clock.
///
///     kr_clocked_config config;
///     kr_clocked *rows;
///     kr_clocked_config_init(&config);
///     config.staleness = 2;
///     if (kr_clocked_open(worker, table, &config, &rows) != KR_OK)
///         return fail(kr_last_error());
///     for (clock = 0; clock < 100; clock++)
///         if (kr_clocked_fetch(worker, rows, keys, count, 10000) || !add_steps(worker, rows) || kr_clocked_close(worker, rows, 10000))
///             return fail(kr_last_error());
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_open(
    worker: *mut kr_worker,
    table: kr_table,
    config: *const kr_clocked_config,
    clocked: *mut *mut kr_clocked,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, config, clocked) = unsafe {
            (enter(worker)?, sized("kr_clocked_config", config)?.config()?, place("clocked", clocked)?)
        };
        let (handle, id) = (inner.tables.handle(table)?, table.id);
        if handle.aggregation != Aggregation::Clocked {
            return Err(Fault::invalid(format!(
                "table {id} counts no clocks: expected one whose kr_table_spec.aggregation is KR_CLOCKED"
            )));
        }
        let rank = inner.worker.rank();
        if inner.tables.is_clocked(id) {
            return Err(Fault::invalid(format!(
                "worker {rank} has opened table {id} before, and the servers count on from the clocks it has closed: expected \
                 one kr_clocked per worker and table, from beginning to end"
            )));
        }
        let rows = match u32::from(table.value_type) {
            KR_F64 => Typed::F64(ClockedTable::new(&mut inner.worker, handle, config)?),
            _ => Typed::F32(ClockedTable::new(&mut inner.worker, handle, config)?),
        };
        let opened = Arc::new(());
        inner.tables.open_clocked(handle, Arc::clone(&opened));
        *clocked = Handle::into_raw(Clocked { rows, table, rank, opened }).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Makes the rows of `count` keys, in any order, readable at this clock: waits, at most `timeout_ms`, for those that are not there or
/// too old. Keys that nobody has added to read as 0.
/// KR_TIMED_OUT: fetch again; the text names the workers that are behind (the servers get a second more to say so).
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_fetch(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    keys: *const u64,
    count: usize,
    timeout_ms: u32,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |inner, clocked| {
            let keys = slice("keys", keys, count)?;
            Ok(typed!(&mut clocked.rows, rows => rows.fetch(&mut inner.worker, keys, millis(timeout_ms)))?)
        })
    }
}

/// Copies the row of a key that was fetched at this clock to `row`: room for one row, of the table's width and type. It holds what this
/// worker has added, in this clock too.
/// KR_INVALID: it was not fetched at this clock.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_get(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    key: u64,
    row: *mut c_void,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(
            worker,
            clocked,
            |inner, clocked| typed!(&mut clocked.rows, rows => fill("row", row.cast(), rows.get(&inner.worker, key)?)),
        )
    }
}

/// Adds `delta`, one row of the table's width and type, to the row of `key`: for this worker at once, for all others when the clock is
/// closed. The row need not have been fetched.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_inc(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    key: u64,
    delta: *const c_void,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |_, clocked| {
            let width = clocked.table.width as usize;
            Ok(typed!(&mut clocked.rows, rows => rows.inc(key, slice("delta", delta.cast(), width)?))?)
        })
    }
}

/// Adds one row of `deltas` (`count` x width values) to the row of each of `count` keys, in any order.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_batch_inc(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    keys: *const u64,
    count: usize,
    deltas: *const c_void,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |_, clocked| {
            let (keys, width) = (slice("keys", keys, count)?, clocked.table.width as usize);
            // Beyond memory, `slice` says so.
            let values = count.saturating_mul(width);
            Ok(
                typed!(&mut clocked.rows, rows => rows.batch_inc(keys, slice("deltas", deltas.cast(), values)?))?,
            )
        })
    }
}

/// Closes the clock: what was added in it leaves for the servers. Then waits, at most `timeout_ms`, until the clock before it has arrived
/// there and the value bound holds.
/// KR_TIMED_OUT: the clock is closed nevertheless; go on, or wait with kr_clocked_flush(). KR_INVALID: rows of a kr_clocked_fetch() that
/// timed out are still on their way; fetch them first.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_close(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    timeout_ms: u32,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |inner, clocked| {
            Ok(typed!(&mut clocked.rows, rows => rows.close(&mut inner.worker, millis(timeout_ms)))?)
        })
    }
}

/// Takes in what has come, and sends what may go early, without waiting: reads that follow get fresher, here and elsewhere.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_poll(worker: *mut kr_worker, clocked: *mut kr_clocked) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |inner, clocked| {
            Ok(typed!(&mut clocked.rows, rows => rows.poll(&mut inner.worker))?)
        })
    }
}

/// Waits, at most `timeout_ms`, until all closed clocks have arrived at the servers.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_flush(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    timeout_ms: u32,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |inner, clocked| {
            Ok(typed!(&mut clocked.rows, rows => rows.flush(&mut inner.worker, millis(timeout_ms)))?)
        })
    }
}

/// How many clocks this worker has closed: the number of the clock at hand.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_clock(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    clock: *mut u64,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |_, clocked| {
            *place("clock", clock)? = typed!(&clocked.rows, rows => rows.clock());
            Ok(())
        })
    }
}

/// Tells what was done so far. Set `stats->size` before.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_describe(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    stats: *mut kr_clocked_stats,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |_, clocked| {
            let size = sized("kr_clocked_stats", stats.cast_const())?.size;
            let told = typed!(&clocked.rows, rows => {
                kr_clocked_stats::of(rows.stats(), rows.clock(), rows.waited().as_secs_f64(), size)
            });
            // SAFETY: the caller's struct has `size` bytes, at most as many as ours.
            (&raw const told).cast::<u8>().copy_to_nonoverlapping(stats.cast(), size);
            Ok(())
        })
    }
}

/// Writes how many rows were read that were 0, 1, ... clocks behind to `reads`, room for `count` numbers; the last one counts all that were
/// further behind.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_reads(
    worker: *mut kr_worker,
    clocked: *mut kr_clocked,
    reads: *mut u64,
    count: usize,
) -> kr_status {
    // SAFETY: the caller's promise.
    unsafe {
        with(worker, clocked, |_, clocked| {
            if count == 0 {
                return Err(Fault::invalid("count: expected room for at least one number, got 0"));
            }
            let behind = typed!(&clocked.rows, rows => &rows.stats().reads_behind);
            let mut counts = vec![0; behind.len().max(count)];
            counts[..behind.len()].copy_from_slice(behind);
            let beyond = counts.drain(count..).sum::<u64>();
            counts[count - 1] += beyond;
            fill("reads", reads, &counts)?;
            Ok(())
        })
    }
}

/// Frees the handle, not the table; NULL is fine. What was added in a clock that is not closed is lost: close and flush first. The
/// worker may have been freed before.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_clocked_free(clocked: *mut kr_clocked) -> kr_status {
    guard(|| {
        outside_filters()?;
        if !clocked.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Handle::take(clocked.cast::<Handle<Clocked>>())? });
        }
        Ok(kr_status::KR_OK)
    })
}
