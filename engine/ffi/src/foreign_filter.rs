//! Runs filters written in C.

use std::cell::Cell;
use std::ffi::{CString, c_void};
use std::sync::Arc;

use engine::filter::{FilterRegistry, PartView, RowView, UserFilter};
use engine::message::PARTS_MAX;
use engine::table::ValueType;

use crate::filter::{kr_filter, kr_filter_create, kr_filter_destroy, kr_rows};
use crate::foreign::{answered, told};
use crate::function::kr_reply;
use crate::handle::text;
use crate::status::{Fault, no_way_but_return};
use crate::table::{KR_F32, KR_F64};

thread_local! {
    /// Whether a filter runs on this thread, with its chain locked.
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
}

/// Whether nothing is amiss with using a worker or a chain on this thread.
pub fn outside_filters() -> Result<(), Fault> {
    if IS_RUNNING.get() {
        return Err(Fault::misuse(
            "a kr_filter is running on this thread: it must not use a worker or a chain",
        ));
    }
    Ok(())
}

type Apply = unsafe extern "C-unwind" fn(*mut c_void, *mut c_void, *const kr_rows, *mut kr_reply) -> i32;

/// A checked copy of a [`kr_filter`].
pub struct Described {
    /// By which chains name it.
    pub name: String,
    value_type: Option<ValueType>,
    create: kr_filter_create,
    destroy: kr_filter_destroy,
    rows: Apply,
    context: *mut c_void,
}

// SAFETY: the functions and their context are promised to be callable from any thread (see `kr_filter::context`).
unsafe impl Send for Described {}
// SAFETY: the same, from several at once.
unsafe impl Sync for Described {}

impl Described {
    /// # Safety
    /// The pointers of `given` are NULL or point to what they say.
    pub unsafe fn check(given: &kr_filter) -> Result<Described, Fault> {
        // SAFETY: the caller's promise.
        let name = unsafe { text("kr_filter.name", given.name)? };
        let is_word = |c: char| !c.is_whitespace() && !matches!(c, ',' | ':');
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(Fault::invalid(format!(
                "kr_filter.name: expected a name without comma, colon and spaces, as chains write it, got {name:?}"
            )));
        }
        let value_type = match given.value_type {
            0 => None,
            KR_F32 => Some(ValueType::F32),
            KR_F64 => Some(ValueType::F64),
            got => {
                return Err(Fault::invalid(format!(
                    "kr_filter.value_type: expected KR_F32, KR_F64 or 0 for both, got {got}"
                )));
            }
        };
        let rows =
            given.rows.ok_or_else(|| Fault::invalid("kr_filter.rows: expected a function, got NULL"))?;
        let (create, destroy, context) = (given.create, given.destroy, given.context);
        Ok(Described { name: name.to_owned(), value_type, create, destroy, rows, context })
    }
}

/// Makes filters known to the chains of a worker or the shards of a server.
pub fn register<'a>(filters: impl IntoIterator<Item = &'a Arc<Described>>, registry: &mut FilterRegistry) {
    for described in filters {
        let maker = Arc::clone(described);
        registry.register(&described.name, move |parameter| Ok(Box::new(CFilter::make(&maker, parameter)?)));
    }
}

/// One filter of one chain.
struct CFilter {
    described: Arc<Described>,
    state: *mut c_void,
    // Used again for each message.
    keys: Vec<u64>,
    present: Vec<u8>,
}

// SAFETY: a chain uses its filters under a lock, one thread at a time, and the functions may be called from any.
unsafe impl Send for CFilter {}

impl CFilter {
    /// Makes the state of one chain's filter, or says why not.
    fn make(described: &Arc<Described>, parameter: &str) -> Result<CFilter, String> {
        let (keys, present) = Default::default();
        let mut state = std::ptr::null_mut();
        match described.create {
            Some(create) => {
                let given = CString::new(parameter).map_err(|error| error.to_string())?;
                // SAFETY: the function was given for this; parameter and reply live during the call.
                let (made, reason) = answered("kr_filter.create", |reply| unsafe {
                    create(described.context, given.as_ptr(), reply)
                });
                if made.is_null() {
                    let reason = reason.into_bytes();
                    let reason = String::from_utf8_lossy(&reason);
                    return Err(format!("the filter refuses the parameter {parameter:?}: {reason}"));
                }
                state = made;
            }
            None if !parameter.is_empty() => {
                return Err(format!(
                    "expected no parameter, for it has no kr_filter.create, got {parameter:?}"
                ));
            }
            None => {}
        }
        Ok(CFilter { described: Arc::clone(described), state, keys, present })
    }
}

impl UserFilter for CFilter {
    fn value_type(&self) -> Option<ValueType> {
        self.described.value_type
    }

    fn rows(&mut self, view: &mut RowView<'_>) -> Result<(), String> {
        let rows = view.rows();
        self.keys.clear();
        self.keys.extend((0..rows).map_while(|row| view.key(row)));
        self.present.clear();
        self.present.extend((0..rows).map(|row| u8::from(view.is_present(row))));
        let (width, time, table) = (view.width() as u32, view.time(), view.table());
        let (mut parts, mut value_type) = ([std::ptr::null_mut::<c_void>(); PARTS_MAX], KR_F32);
        let parts_count = view.parts().len() as u32;
        for (pointer, part) in parts.iter_mut().zip(view.parts()) {
            *pointer = match part {
                PartView::F32(values) => values.as_mut_ptr().cast(),
                PartView::F64(values) => {
                    value_type = KR_F64;
                    values.as_mut_ptr().cast()
                }
            };
        }
        let given = kr_rows {
            size: size_of::<kr_rows>(),
            rows,
            width,
            value_type,
            parts_count,
            table,
            time,
            parts: parts.as_ptr(),
            keys: if self.keys.len() == rows { self.keys.as_ptr() } else { std::ptr::null() },
            present: self.present.as_mut_ptr(),
        };
        let (apply, context) = (self.described.rows, self.described.context);
        IS_RUNNING.set(true);
        // SAFETY: the function was given for this; every array has as many values as `given` says, is touched by nobody else
        // meanwhile, and all lives during the call.
        let (code, reason) = answered("kr_filter.rows", |reply| unsafe {
            apply(context, self.state, &raw const given, reply)
        });
        IS_RUNNING.set(false);
        if code != 0 {
            return Err(told(code, reason));
        }
        let left_out = self.present.iter().enumerate().filter(|(_, is_there)| **is_there == 0);
        left_out.for_each(|(row, _)| view.drop_row(row));
        Ok(())
    }
}

impl Drop for CFilter {
    fn drop(&mut self) {
        if let Some(destroy) = self.described.destroy {
            // SAFETY: the function was given for this, and this is the state's end.
            no_way_but_return("kr_filter.destroy", || unsafe {
                destroy(self.described.context, self.state);
            });
        }
    }
}
