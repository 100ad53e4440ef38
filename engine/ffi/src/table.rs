//! Tables: their description, creation and end.

use std::ffi::c_char;
use std::sync::Arc;

use engine::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use engine::worker::TableHandle;

use crate::handle::{place, sized, text};
use crate::status::{Fault, guard, kr_status};
use crate::worker::{enter, kr_worker, millis};

/// 32-bit values (float).
pub const KR_F32: u32 = 1;
/// 64-bit values (double).
pub const KR_F64: u32 = 2;

/// Any key; a row comes into being when it is first pushed.
pub const KR_SPARSE: u32 = 0;
/// Every key from `first_key` to `last_key` has a row from the start.
pub const KR_DENSE: u32 = 1;
/// Like KR_SPARSE until kr_table_freeze(); then the keys are fixed and rows lie in the order of keys.
pub const KR_FROZEN: u32 = 2;

/// Each push is applied by itself, as it arrives.
pub const KR_IMMEDIATE: u32 = 0;
/// The pushes of all workers for one time are summed in the order of workers, then applied once.
pub const KR_ALL_WORKERS: u32 = 1;
/// Each push is applied as it arrives and ends a clock of its worker: reads may ask for all that was done up to some clock. Use
/// such tables through kr_clocked_open(), of function "add"; KR_FROZEN and filters that lose something are refused.
pub const KR_CLOCKED: u32 = 2;

/// What a table is. Start from kr_table_spec_init().
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_table_spec {
    /// sizeof(kr_table_spec).
    pub size: usize,
    /// For messages to people, at most 255 bytes. NULL is "table" and its number.
    pub name: *const c_char,
    /// The server function: "add", "assign", "max", "min", "sgd", "adagrad", "adam", "ftrl", "prox_l1", "elastic_net", or one of
    /// yours. NULL is "add".
    pub function: *const c_char,
    /// Its parameters as JSON, such as {"rate": 0.1}; NULL for its defaults.
    pub params_json: *const c_char,
    /// KR_DENSE: the first key.
    pub first_key: u64,
    /// KR_DENSE: the last key, included.
    pub last_key: u64,
    /// The number of the table in this job, from 0. All workers name it by this number.
    pub id: u16,
    /// KR_F32 or KR_F64; 0 is KR_F32.
    pub value_type: u32,
    /// Values per key; 0 is 1.
    pub width: u32,
    /// KR_SPARSE, KR_DENSE or KR_FROZEN.
    pub store: u32,
    /// KR_IMMEDIATE, KR_ALL_WORKERS or KR_CLOCKED.
    pub aggregation: u32,
}

/// A table as calls name it: copy it freely. Every worker may create the same table to get it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct kr_table {
    /// Its number.
    pub id: u16,
    /// KR_F32 or KR_F64.
    pub value_type: u16,
    /// Values per key.
    pub width: u32,
    /// KR_IMMEDIATE, KR_ALL_WORKERS or KR_CLOCKED.
    pub aggregation: u32,
}

/// The tables that one worker has created, by number: a request for any other would be answered in values nobody expects.
#[derive(Default)]
pub struct Tables(Vec<Option<Known>>);

/// One of them.
#[derive(Clone)]
struct Known {
    table: TableHandle,
    /// What was opened of it: the same [`Arc`] is in the handle.
    clocked: Option<Arc<()>>,
}

impl Tables {
    /// The engine's name for `table`, if this worker created just that.
    pub fn handle(&self, table: kr_table) -> Result<TableHandle, Fault> {
        let known = self.known(table.id).map(|known| known.table);
        let known = known.ok_or_else(|| {
            let id = table.id;
            Fault::invalid(format!(
                "this worker has not created table {id}: kr_table_create() gives it every worker"
            ))
        })?;
        if name(known) != table {
            let (expected, got) = (name(known), table);
            return Err(Fault::invalid(format!(
                "the table: expected what kr_table_create() gave, {expected:?}, got {got:?}"
            )));
        }
        Ok(known)
    }

    fn known(&self, id: u16) -> Option<&Known> {
        self.0.get(usize::from(id))?.as_ref()
    }

    fn add(&mut self, table: TableHandle) {
        let id = usize::from(table.id);
        if self.0.len() <= id {
            self.0.resize(id + 1, None);
        }
        if self.known(table.id).is_none_or(|known| known.table != table) {
            self.0[id] = Some(Known { table, clocked: None });
        }
    }

    /// Notes that `opened` is how this worker uses a clocked table from now on. There is one way at a time, for the clock that
    /// the servers count is the worker's.
    pub fn open_clocked(&mut self, table: TableHandle, opened: Arc<()>) {
        if let Some(known) = self.0.get_mut(usize::from(table.id)).and_then(Option::as_mut) {
            known.clocked = Some(opened);
        }
    }

    /// Whether this worker has opened the table of this number as a clocked one.
    pub fn is_clocked(&self, id: u16) -> bool {
        self.known(id).is_some_and(|known| known.clocked.is_some())
    }

    /// Whether it has opened it as just this.
    pub fn has_opened(&self, id: u16, opened: &Arc<()>) -> bool {
        let clocked = self.known(id).and_then(|known| known.clocked.as_ref());
        clocked.is_some_and(|known| Arc::ptr_eq(known, opened))
    }
}

/// The caller's name for a table.
fn name(table: TableHandle) -> kr_table {
    let aggregation = match table.aggregation {
        Aggregation::Immediate => KR_IMMEDIATE,
        Aggregation::AllWorkers => KR_ALL_WORKERS,
        Aggregation::Clocked => KR_CLOCKED,
    };
    kr_table { id: table.id, value_type: table.value_type.into(), width: table.width, aggregation }
}

fn value_type(code: u32) -> Result<ValueType, Fault> {
    match code {
        KR_F32 => Ok(ValueType::F32),
        KR_F64 => Ok(ValueType::F64),
        _ => Err(Fault::invalid(format!("value type: expected KR_F32 or KR_F64, got {code}"))),
    }
}

fn aggregation(code: u32) -> Result<Aggregation, Fault> {
    match code {
        KR_IMMEDIATE => Ok(Aggregation::Immediate),
        KR_ALL_WORKERS => Ok(Aggregation::AllWorkers),
        KR_CLOCKED => Ok(Aggregation::Clocked),
        _ => Err(Fault::invalid(format!(
            "aggregation: expected KR_IMMEDIATE, KR_ALL_WORKERS or KR_CLOCKED, got {code}"
        ))),
    }
}

impl kr_table_spec {
    /// # Safety
    /// Its strings are NULL or end with a zero byte.
    unsafe fn spec(&self) -> Result<TableSpec, Fault> {
        let optional = |what, string: *const c_char| {
            if string.is_null() {
                return Ok(None);
            }
            // SAFETY: the caller's promise, for all three.
            unsafe { text(what, string) }.map(Some)
        };
        let params = match optional("params_json", self.params_json)? {
            None => serde_json::Value::Null,
            Some(json) => serde_json::from_str(json).map_err(|error| {
                Fault::invalid(format!("params_json: expected JSON, got {json:?}: {error}"))
            })?,
        };
        let store = match self.store {
            KR_SPARSE => StoreKind::Sparse,
            KR_DENSE => StoreKind::Dense { first: self.first_key, last: self.last_key },
            KR_FROZEN => StoreKind::Frozen,
            got => {
                return Err(Fault::invalid(format!(
                    "store: expected KR_SPARSE, KR_DENSE or KR_FROZEN, got {got}"
                )));
            }
        };
        Ok(TableSpec {
            id: self.id,
            name: optional("name", self.name)?.map_or_else(|| format!("table {}", self.id), str::to_owned),
            value_type: value_type(if self.value_type == 0 { KR_F32 } else { self.value_type })?,
            width: self.width.max(1),
            store,
            function: FunctionSpec {
                name: optional("function", self.function)?.unwrap_or("add").to_owned(),
                params,
            },
            aggregation: aggregation(self.aggregation)?,
        })
    }
}

/// Fills `spec` with the default: table 0, sparse, float, one value per key, "add", applied at once.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_table_spec_init(spec: *mut kr_table_spec) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let spec = unsafe { place("kr_table_spec", spec)? };
        let none = std::ptr::null();
        *spec = kr_table_spec {
            size: size_of::<kr_table_spec>(),
            name: none,
            function: none,
            params_json: none,
            first_key: 0,
            last_key: 0,
            id: 0,
            value_type: KR_F32,
            width: 1,
            store: KR_SPARSE,
            aggregation: KR_IMMEDIATE,
        };
        Ok(kr_status::KR_OK)
    })
}

/// Creates a table on every server and waits for it, at most `timeout_ms`. Every worker may create the same table; a
/// different one of the same number is KR_REFUSED.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_table_create(
    worker: *mut kr_worker,
    spec: *const kr_table_spec,
    timeout_ms: u32,
    table: *mut kr_table,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut worker, spec, table) =
            unsafe { (enter(worker)?, sized("kr_table_spec", spec)?.spec()?, place("table", table)?) };
        let made = worker.worker.create_table(&spec, millis(timeout_ms))?;
        worker.tables.add(made);
        *table = name(made);
        Ok(kr_status::KR_OK)
    })
}

/// Fixes the keys of a KR_FROZEN table on every server.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_table_freeze(
    worker: *mut kr_worker,
    table: kr_table,
    timeout_ms: u32,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        let table = inner.tables.handle(table)?;
        inner.worker.freeze(table, millis(timeout_ms))?;
        Ok(kr_status::KR_OK)
    })
}

/// Forgets a table and its values on every server.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_table_drop(
    worker: *mut kr_worker,
    table: kr_table,
    timeout_ms: u32,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        let table = inner.tables.handle(table)?;
        inner.worker.drop_table(table, millis(timeout_ms))?;
        inner.tables.0[usize::from(table.id)] = None;
        Ok(kr_status::KR_OK)
    })
}
