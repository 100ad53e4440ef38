//! Server functions written in C.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use engine::message::Element;
use engine::table::CallError;
use engine::update::{Answer, CallView, Combine, Registry, Rows, ServerFn};

use crate::handle::{Handle, Kind, place, sized, slice, text};
use crate::status::{Fault, guard, kr_status};
use crate::table::{KR_F32, KR_F64};

/// Most columns of a function, the parameters included.
pub const KR_COLUMNS_MAX: u32 = 8;

/// Makes the state of one table on one server thread; `params_json` is what the table's description says ("null" if nothing). NULL
/// refuses the table.
pub type kr_function_create =
    Option<unsafe extern "C" fn(context: *mut c_void, params_json: *const c_char) -> *mut c_void>;

/// Frees such a state.
pub type kr_function_destroy = Option<unsafe extern "C" fn(context: *mut c_void, state: *mut c_void)>;

/// Applies a push: `columns` has one array for each column, the parameters first, `parts` one for each array pushed, all of `values`
/// values of the function's type. The arrays are valid during the call. It runs on the server's thread: it must not block, throw, or
/// longjmp out.
pub type kr_function_update = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        state: *mut c_void,
        columns: *const *mut c_void,
        parts: *const *const c_void,
        values: usize,
    ),
>;

/// Where a call's answer is put together; valid during the call.
pub struct kr_reply {
    _opaque: (),
}

/// Answers a kr_call(): what it gives to kr_reply_write() is the answer, and 0 says that all went well. Anything else refuses the call,
/// with what was written as the reason. At most the job's frame size (a quarter of `kr_job.ring_bytes`, less 64) can be answered. It
/// runs on the server's thread, like the update: it must not block, throw, or longjmp out.
pub type kr_function_call = Option<
    unsafe extern "C" fn(
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
    /// If not 0, aggregated pushes are applied one after the other, in the order of workers, instead of summed.
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
}

/// Server functions for the jobs of this process, the built-in ones included.
pub struct kr_functions {
    _opaque: (),
}

#[derive(Default)]
struct Functions(Vec<Arc<Described>>);

impl Kind for Functions {
    const NAME: &'static str = "kr_functions";
    const MAGIC: u64 = 0x6b72_6675_6e63_0001;
}

/// A checked copy of a [`kr_function`].
struct Described {
    name: String,
    value_type: u32,
    push_parts: usize,
    state_columns: usize,
    combine: Combine,
    initial: Vec<f64>,
    create: kr_function_create,
    destroy: kr_function_destroy,
    update: unsafe extern "C" fn(*mut c_void, *mut c_void, *const *mut c_void, *const *const c_void, usize),
    context: *mut c_void,
    call: kr_function_call,
}

// SAFETY: the functions and their context are promised to be callable from any server thread (see `kr_function::context`).
unsafe impl Send for Described {}
// SAFETY: the same, from several at once.
unsafe impl Sync for Described {}

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
        let (mut functions, given) = unsafe {
            (Handle::enter(functions.cast::<Handle<Functions>>())?, sized("kr_function", function)?)
        };
        // SAFETY: the same.
        let described = unsafe { given.described()? };
        functions.0.push(Arc::new(described));
        Ok(kr_status::KR_OK)
    })
}

/// Adds bytes to the answer of the call under way.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_reply_write(
    reply: *mut kr_reply,
    bytes: *const c_void,
    bytes_count: usize,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (reply, bytes) = unsafe {
            (place("reply", reply.cast::<Answer>())?, slice("bytes", bytes.cast::<u8>(), bytes_count)?)
        };
        if reply.kept.is_some() {
            return Err(Fault::misuse(
                "kr_reply_write: expected no more bytes behind those of kr_reply_lend()",
            ));
        }
        reply.own.extend_from_slice(bytes);
        Ok(kr_status::KR_OK)
    })
}

impl kr_functions {
    /// The built-in functions and those of `functions`, which may be NULL.
    ///
    /// # Safety
    /// `functions` is NULL or from kr_functions_new().
    pub unsafe fn registry(functions: *mut kr_functions) -> Result<Arc<Registry>, Fault> {
        let mut registry = Registry::with_builtins();
        if !functions.is_null() {
            // SAFETY: the caller's promise.
            let functions = unsafe { Handle::enter(functions.cast::<Handle<Functions>>())? };
            for described in &functions.0 {
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

impl kr_function {
    /// # Safety
    /// Its pointers are NULL or point to what they say.
    unsafe fn described(&self) -> Result<Described, Fault> {
        // SAFETY: the caller's promise.
        let name = unsafe { text("kr_function.name", self.name)? };
        if self.value_type != KR_F32 && self.value_type != KR_F64 {
            let got = self.value_type;
            return Err(Fault::invalid(format!(
                "kr_function.value_type: expected KR_F32 or KR_F64, got {got}"
            )));
        }
        if self.push_parts > 8 || self.state_columns >= KR_COLUMNS_MAX {
            return Err(Fault::invalid(format!(
                "kr_function {name:?}: expected at most 8 push_parts and {} state_columns, got {} and {}",
                KR_COLUMNS_MAX - 1,
                self.push_parts,
                self.state_columns
            )));
        }
        let state_columns = self.state_columns as usize;
        let initial = if self.initial.is_null() {
            vec![0.0; 1 + state_columns]
        } else {
            // SAFETY: the caller's promise.
            unsafe { slice("kr_function.initial", self.initial, 1 + state_columns)? }.to_vec()
        };
        let update =
            self.update.ok_or_else(|| Fault::invalid("kr_function.update: expected a function, got NULL"))?;
        Ok(Described {
            name: name.to_owned(),
            value_type: self.value_type,
            push_parts: self.push_parts.max(1) as usize,
            state_columns,
            combine: if self.apply_each == 0 { Combine::Sum } else { Combine::Each },
            initial,
            create: self.create,
            destroy: self.destroy,
            update,
            context: self.context,
            call: self.call,
        })
    }
}

/// One function for one table of one server thread.
struct CFunction {
    described: Arc<Described>,
    state: *mut c_void,
}

// SAFETY: the state is used by the thread that owns the table only, and the functions may be called from any.
unsafe impl Send for CFunction {}

impl CFunction {
    fn make(described: &Arc<Described>, params: &serde_json::Value) -> Result<CFunction, String> {
        let mut state = std::ptr::null_mut();
        if let Some(create) = described.create {
            let json = CString::new(params.to_string()).map_err(|error| error.to_string())?;
            // SAFETY: the function was given for this.
            state = unsafe { create(described.context, json.as_ptr()) };
            if state.is_null() {
                return Err(format!("the function refuses the parameters {params}"));
            }
        }
        Ok(CFunction { described: Arc::clone(described), state })
    }

    fn run<V: Element, const N: usize>(&self, rows: &mut Rows<'_, V>, parts: &[&[V]]) {
        let parts: Vec<*const c_void> = parts.iter().map(|part| part.as_ptr().cast()).collect();
        rows.apply(|mut columns: [&mut [V]; N]| {
            let values = columns[0].len();
            let columns: [*mut c_void; N] = columns.each_mut().map(|column| column.as_mut_ptr().cast());
            let Described { update, context, .. } = *self.described;
            // SAFETY: the function was given for this; every array has `values` values and lives during the call.
            unsafe { update(context, self.state, columns.as_ptr(), parts.as_ptr(), values) };
        });
    }
}

impl Drop for CFunction {
    fn drop(&mut self) {
        if let Some(destroy) = self.described.destroy {
            // SAFETY: the function was given for this, and this is the state's end.
            unsafe { destroy(self.described.context, self.state) };
        }
    }
}

impl<V: Element> ServerFn<V> for CFunction {
    fn name(&self) -> &str {
        &self.described.name
    }

    fn push_parts(&self) -> usize {
        self.described.push_parts
    }

    fn state_columns(&self) -> usize {
        self.described.state_columns
    }

    fn initial(&self, column: usize) -> V {
        V::from_f64(self.described.initial[column])
    }

    fn combine(&self) -> Combine {
        self.described.combine
    }

    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) {
        match self.described.state_columns {
            0 => self.run::<V, 1>(rows, parts),
            1 => self.run::<V, 2>(rows, parts),
            2 => self.run::<V, 3>(rows, parts),
            3 => self.run::<V, 4>(rows, parts),
            4 => self.run::<V, 5>(rows, parts),
            5 => self.run::<V, 6>(rows, parts),
            6 => self.run::<V, 7>(rows, parts),
            _ => self.run::<V, 8>(rows, parts),
        }
    }

    fn answer(&mut self, verb: &str, args: &[u8], _: &mut CallView<'_, V>) -> Result<Answer, CallError> {
        let refuse = |text: String| CallError::Arguments { verb: verb.to_owned(), text };
        let Some(call) = self.described.call else {
            let function = self.described.name.clone();
            return Err(CallError::UnknownVerb { function, verb: verb.to_owned() });
        };
        let name = CString::new(verb).map_err(|error| refuse(error.to_string()))?;
        let (context, mut reply) = (self.described.context, Answer::default());
        let to = (&raw mut reply).cast::<kr_reply>();
        // SAFETY: the function was given for this; name, arguments and reply live during the call.
        let code = unsafe { call(context, self.state, name.as_ptr(), args.as_ptr().cast(), args.len(), to) };
        if code == 0 {
            Ok(reply)
        } else {
            Err(refuse(String::from_utf8_lossy(&reply.into_bytes()).into_owned()))
        }
    }
}
