//! The calls by which server functions written in C are made known; `foreign` runs them.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_void};
use std::sync::Arc;

use engine::filter::FilterRegistry;
use engine::update::Registry;

use crate::foreign::{CFunction, Described, add_to_answer};
use crate::foreign_filter;
use crate::handle::{Entered, Handle, Kind, place, sized, slice};
use crate::status::{Fault, guard, kr_status};
use crate::table::KR_F64;

/// Most columns of a function, the parameters included.
pub const KR_COLUMNS_MAX: u32 = 8;

/// Makes the state of one table on one server thread; `params_json` is what the table's description says ("null" if nothing). NULL
/// refuses the table, with what was given to kr_reply_write() as the reason.
pub type kr_function_create = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        params_json: *const c_char,
        reply: *mut kr_reply,
    ) -> *mut c_void,
>;

/// Frees such a state.
pub type kr_function_destroy = Option<unsafe extern "C-unwind" fn(context: *mut c_void, state: *mut c_void)>;

/// Applies a push: `columns` has one array for each column, the parameters first, `parts` one for each array pushed, all of `values`
/// values of the function's type. The arrays are valid during the call. 0 says that it is applied. Anything else refuses the push: its
/// worker gets KR_REFUSED with this number and what was given to kr_reply_write(). Refuse before a column is changed, for nothing is
/// undone. It runs on the server's thread: it must not block. An exception that
/// leaves it ends the process; longjmp must not.
pub type kr_function_update = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        state: *mut c_void,
        columns: *const *mut c_void,
        parts: *const *const c_void,
        values: usize,
        reply: *mut kr_reply,
    ) -> i32,
>;

/// Takes one worker's part of an aggregated push into what the workers before it came to: `sums` and `parts` have one array for each
/// array pushed, all of `values` values. Anything but 0 refuses the push of all workers, which changes nothing then. Else as
/// kr_function_update, which gets what comes out.
pub type kr_function_aggregate = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        state: *mut c_void,
        sums: *const *mut c_void,
        parts: *const *const c_void,
        values: usize,
        reply: *mut kr_reply,
    ) -> i32,
>;

/// Where the answer of a server function is put together; valid during the call.
pub struct kr_reply {
    _opaque: (),
}

/// Answers a kr_call(): what it gives to kr_reply_write() is the answer, and 0 says that all went well. Anything else refuses the call,
/// with what was written as the reason. At most the job's frame size (a quarter of `kr_job.ring_bytes`, less 64) can be answered. It
/// runs on the server's thread, like the update, and as little may it block or be left otherwise than by its end.
pub type kr_function_call = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        state: *mut c_void,
        verb: *const c_char,
        arguments: *const c_void,
        arguments_bytes: usize,
        reply: *mut kr_reply,
    ) -> i32,
>;

/// A server function. Start from zeros, and set `size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_function {
    /// sizeof(kr_function).
    pub size: usize,
    /// By which tables name it.
    pub name: *const c_char,
    /// KR_F32 or KR_F64: the type of its tables.
    pub value_type: u32,
    /// Arrays that a push carries, 1 to 8; 0 is 1.
    pub push_parts: u32,
    /// Columns of state for each row besides the parameters, at most KR_COLUMNS_MAX - 1.
    pub state_columns: u32,
    /// If not 0, aggregated pushes are applied one after the other, in the order of workers, instead of summed. (A push that
    /// filters have left rows out of is refused then, and so it is if `neutral` is not 0.)
    pub apply_each: u32,
    /// What the values of each column are before the first push (1 + state_columns numbers); NULL is 0.
    pub initial: *const f64,
    /// May be NULL: then the state is NULL.
    pub create: kr_function_create,
    /// May be NULL.
    pub destroy: kr_function_destroy,
    /// Must be there.
    pub update: kr_function_update,
    /// Given to all of them, from any server thread, possibly from several at once.
    pub context: *mut c_void,
    /// May be NULL: then kr_call() is refused.
    pub call: kr_function_call,
    /// May be NULL: then the pushes of several workers for one time are summed, or applied one after the other if `apply_each`
    /// is not 0. With it, `apply_each` must be 0.
    pub aggregate: kr_function_aggregate,
    /// What each array is that the first worker's part is aggregated into (push_parts numbers); NULL is 0.
    pub neutral: *const f64,
}

/// Server functions for the jobs of this process, the built-in ones included, and filters of yours.
pub struct kr_functions {
    _opaque: (),
}

/// What is behind a [`kr_functions`].
#[derive(Default)]
pub struct Functions {
    functions: Vec<Arc<Described>>,
    filters: BTreeMap<String, Arc<foreign_filter::Described>>,
}

impl Functions {
    /// Adds a filter, if there is none of its name.
    pub fn add_filter(&mut self, filter: foreign_filter::Described) -> Result<(), Fault> {
        let name = filter.name.clone();
        if self.filters.contains_key(&name) {
            return Err(Fault::invalid(format!(
                "kr_filter.name: expected one that is new, but {name:?} was added to these kr_functions before"
            )));
        }
        self.filters.insert(name, Arc::new(filter));
        Ok(())
    }
}

impl Kind for Functions {
    const NAME: &'static str = "kr_functions";
    const MAGIC: u64 = 0x6b72_6675_6e63_0001;
}

/// Begins a set of server functions. Free it with kr_functions_free() once the servers it was given to were started.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_functions_new(functions: *mut *mut kr_functions) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        *unsafe { place("functions", functions)? } = Handle::into_raw(Functions::default()).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Frees a set of server functions; jobs that were started with it keep theirs. NULL is fine.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_functions_free(functions: *mut kr_functions) -> kr_status {
    guard(|| {
        if !functions.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Handle::take(functions.cast::<Handle<Functions>>())? });
        }
        Ok(kr_status::KR_OK)
    })
}

/// Adds a function, replacing a built-in one of the same name. The struct is copied; what its pointers lead to must stay for as long
/// as servers use it.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_functions_add(
    functions: *mut kr_functions,
    function: *const kr_function,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut functions, given) =
            unsafe { (kr_functions::enter(functions)?, sized("kr_function", function)?) };
        // SAFETY: the same.
        let described = unsafe { Described::check(&given)? };
        functions.functions.push(Arc::new(described));
        Ok(kr_status::KR_OK)
    })
}

/// Adds bytes to the answer of the call under way, or to the reason for refusing a push. Only from inside the function that was
/// given this `reply`, on its thread (KR_MISUSE).
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_reply_write(
    reply: *mut kr_reply,
    bytes: *const c_void,
    bytes_count: usize,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        add_to_answer(reply, unsafe { slice("bytes", bytes.cast::<u8>(), bytes_count)? })?;
        Ok(kr_status::KR_OK)
    })
}

impl kr_functions {
    /// Goes into a set of functions.
    ///
    /// # Safety
    /// `functions` is NULL or from kr_functions_new().
    pub unsafe fn enter<'a>(functions: *mut kr_functions) -> Result<Entered<'a, Functions>, Fault> {
        // SAFETY: the caller's promise.
        unsafe { Handle::enter(functions.cast::<Handle<Functions>>()) }
    }

    /// The same to look something up: other threads may be doing so.
    ///
    /// # Safety
    /// `functions` is NULL or from kr_functions_new().
    unsafe fn enter_soon<'a>(functions: *mut kr_functions) -> Result<Entered<'a, Functions>, Fault> {
        // SAFETY: the caller's promise.
        unsafe { Handle::enter_soon(functions.cast::<Handle<Functions>>()) }
    }

    /// The filters of `functions`, which may be NULL.
    ///
    /// # Safety
    /// `functions` is NULL or from kr_functions_new().
    pub unsafe fn filters(functions: *mut kr_functions) -> Result<FilterRegistry, Fault> {
        let mut registry = FilterRegistry::default();
        if !functions.is_null() {
            // SAFETY: the caller's promise.
            foreign_filter::register(unsafe { Self::enter_soon(functions)? }.filters.values(), &mut registry);
        }
        Ok(registry)
    }

    /// The built-in functions and those of `functions`, which may be NULL, with its filters.
    ///
    /// # Safety
    /// `functions` is NULL or from kr_functions_new().
    pub unsafe fn registry(functions: *mut kr_functions) -> Result<Arc<Registry>, Fault> {
        let mut registry = Registry::with_builtins();
        if !functions.is_null() {
            // SAFETY: the caller's promise.
            let functions = unsafe { Self::enter_soon(functions)? };
            foreign_filter::register(functions.filters.values(), &mut registry.filters);
            for described in &functions.functions {
                let (name, maker) = (&described.name, Arc::clone(described));
                if described.value_type == KR_F64 {
                    registry.register_f64(name, move |params| Ok(Box::new(CFunction::make(&maker, params)?)));
                } else {
                    registry.register_f32(name, move |params| Ok(Box::new(CFunction::make(&maker, params)?)));
                }
            }
        }
        Ok(Arc::new(registry))
    }
}
