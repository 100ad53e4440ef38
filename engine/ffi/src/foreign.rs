//! Runs server functions written in C.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use engine::message::Element;
use engine::table::CallError;
use engine::update::{Answer, CallView, Combine, Kept, Rows, ServerFn, UpdateError};

use crate::function::{
    KR_COLUMNS_MAX, kr_function, kr_function_aggregate, kr_function_call, kr_function_create,
    kr_function_destroy, kr_reply,
};
use crate::handle::{slice, text};
use crate::status::{Fault, no_way_but_return};
use crate::table::{KR_F32, KR_F64};

thread_local! {
    /// Where the answer of the function goes that runs on this thread.
    static ANSWER: Cell<*mut Answer> = const { Cell::new(std::ptr::null_mut()) };
}

/// Runs a function of the caller's that can write an answer; what it returned and what it wrote.
pub fn answered<R>(what: &str, function: impl FnOnce(*mut kr_reply) -> R) -> (R, Answer) {
    let mut answer = Answer::default();
    let to = &raw mut answer;
    let outer = ANSWER.replace(to);
    let result = no_way_but_return(what, || function(to.cast()));
    ANSWER.set(outer);
    (result, answer)
}

/// The answer of the function that runs on this thread, if `reply` is the one it was given, and has no end yet.
fn open_answer<'a>(reply: *mut kr_reply) -> Result<&'a mut Answer, Fault> {
    let answer = ANSWER.get();
    if reply.is_null() || answer != reply.cast() {
        return Err(Fault::misuse(format!(
            "kr_reply {reply:p}: expected the one that the function running on this thread was given; it is valid during that \
             call only"
        )));
    }
    // SAFETY: set by `answered`, which is still running on this thread, and nobody else looks at it meanwhile: the two callers
    // drop the reference before they return to the function.
    let answer = unsafe { &mut *answer };
    match answer.kept {
        None => Ok(answer),
        Some(_) => Err(Fault::misuse(
            "kr_reply: expected no more bytes, for the answer has its end already: kr_reply_lend()",
        )),
    }
}

/// Adds to the answer of the function that runs on this thread.
pub fn add_to_answer(reply: *mut kr_reply, bytes: &[u8]) -> Result<(), Fault> {
    open_answer(reply)?.own.extend_from_slice(bytes);
    Ok(())
}

/// Ends the answer of the function that runs on this thread with bytes that lie elsewhere.
pub fn end_answer(reply: *mut kr_reply, bytes: impl FnOnce() -> Kept) -> Result<(), Fault> {
    open_answer(reply)?.kept = Some(bytes());
    Ok(())
}

/// What an update and an aggregation look like: context, state, arrays to change, arrays pushed, values, reason.
type Apply = unsafe extern "C-unwind" fn(
    *mut c_void,
    *mut c_void,
    *const *mut c_void,
    *const *const c_void,
    usize,
    *mut kr_reply,
) -> i32;

/// A checked copy of a [`kr_function`].
pub struct Described {
    /// By which tables name it.
    pub name: String,
    /// KR_F32 or KR_F64.
    pub value_type: u32,
    push_parts: usize,
    state_columns: usize,
    combine: Combine,
    initial: Vec<f64>,
    neutral: Vec<f64>,
    create: kr_function_create,
    destroy: kr_function_destroy,
    update: Apply,
    aggregate: kr_function_aggregate,
    call: kr_function_call,
    context: *mut c_void,
}

// SAFETY: the functions and their context are promised to be callable from any server thread (see `kr_function::context`).
unsafe impl Send for Described {}
// SAFETY: the same, from several at once.
unsafe impl Sync for Described {}

impl Described {
    /// # Safety
    /// The pointers of `given` are NULL or point to what they say.
    pub unsafe fn check(given: &kr_function) -> Result<Described, Fault> {
        // SAFETY: the caller's promise.
        let name = unsafe { text("kr_function.name", given.name)? };
        if given.value_type != KR_F32 && given.value_type != KR_F64 {
            let got = given.value_type;
            return Err(Fault::invalid(format!(
                "kr_function.value_type: expected KR_F32 or KR_F64, got {got}"
            )));
        }
        if given.push_parts > 8 || given.state_columns >= KR_COLUMNS_MAX {
            return Err(Fault::invalid(format!(
                "kr_function {name:?}: expected at most 8 push_parts and {} state_columns, got {} and {}",
                KR_COLUMNS_MAX - 1,
                given.push_parts,
                given.state_columns
            )));
        }
        let combine = match (given.apply_each != 0, given.aggregate.is_some()) {
            (false, false) => Combine::Sum,
            (true, false) => Combine::Each,
            (false, true) => Combine::Fold,
            (true, true) => {
                let text =
                    "kr_function.aggregate: expected NULL, since apply_each says that nothing is aggregated";
                return Err(Fault::invalid(text));
            }
        };
        let update = given
            .update
            .ok_or_else(|| Fault::invalid("kr_function.update: expected a function, got NULL"))?;
        let (push_parts, state_columns) = (given.push_parts.max(1) as usize, given.state_columns as usize);
        // SAFETY: the caller's promise.
        let (initial, neutral) = unsafe {
            (
                numbers("kr_function.initial", given.initial, 1 + state_columns)?,
                numbers("kr_function.neutral", given.neutral, push_parts)?,
            )
        };
        Ok(Described {
            name: name.to_owned(),
            value_type: given.value_type,
            push_parts,
            state_columns,
            combine,
            initial,
            neutral,
            create: given.create,
            destroy: given.destroy,
            update,
            aggregate: given.aggregate,
            call: given.call,
            context: given.context,
        })
    }
}

/// # Safety
/// `given` is NULL, for zeros, or points to `count` numbers.
unsafe fn numbers(what: &str, given: *const f64, count: usize) -> Result<Vec<f64>, Fault> {
    if given.is_null() {
        return Ok(vec![0.0; count]);
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { slice(what, given, count)? }.to_vec())
}

/// One function for one table of one server thread.
pub struct CFunction {
    described: Arc<Described>,
    state: *mut c_void,
}

// SAFETY: the state is used by the thread that owns the table only, and the functions may be called from any.
unsafe impl Send for CFunction {}

impl CFunction {
    /// Makes the state of a table with these parameters, or says why not.
    pub fn make(described: &Arc<Described>, params: &serde_json::Value) -> Result<CFunction, String> {
        let mut state = std::ptr::null_mut();
        if let Some(create) = described.create {
            let json = CString::new(params.to_string()).map_err(|error| error.to_string())?;
            // SAFETY: the function was given for this; parameters and reply live during the call.
            let (made, reason) = answered("kr_function.create", |reply| unsafe {
                create(described.context, json.as_ptr(), reply)
            });
            state = made;
            if state.is_null() {
                let reason = reason.into_bytes();
                let reason = String::from_utf8_lossy(&reason);
                return Err(format!("the function refuses the parameters {params}: {reason}"));
            }
        }
        Ok(CFunction { described: Arc::clone(described), state })
    }

    fn update_columns<V: Element, const N: usize>(
        &self,
        rows: &mut Rows<'_, V>,
        parts: &[&[V]],
    ) -> Result<(), UpdateError> {
        rows.try_apply(|columns: [&mut [V]; N]| {
            self.run("kr_function.update", self.described.update, columns, parts)
        })
    }

    /// Runs an update or an aggregation; all the arrays have the same length.
    fn run<'a, V: Element>(
        &self,
        what: &str,
        apply: Apply,
        arrays: impl IntoIterator<Item = &'a mut [V]>,
        parts: &[&[V]],
    ) -> Result<(), UpdateError> {
        debug_assert!(parts.len() <= 8);
        let mut inputs = [std::ptr::null::<c_void>(); 8];
        for (input, part) in inputs.iter_mut().zip(parts) {
            *input = part.as_ptr().cast();
        }
        let mut outputs = [std::ptr::null_mut::<c_void>(); 8];
        for (output, array) in outputs.iter_mut().zip(arrays) {
            debug_assert_eq!(array.len(), parts[0].len());
            *output = array.as_mut_ptr().cast();
        }
        let (context, values) = (self.described.context, parts[0].len());
        // SAFETY: the function was given for this; every array has `values` values, and all lives during the call.
        let (code, reason) = answered(what, |reply| unsafe {
            apply(context, self.state, outputs.as_ptr(), inputs.as_ptr(), values, reply)
        });
        if code == 0 { Ok(()) } else { Err(UpdateError(told(code, reason))) }
    }
}

/// What a function gave as its reason, and its number.
pub fn told(code: i32, reason: Answer) -> String {
    match String::from_utf8_lossy(&reason.into_bytes()) {
        none if none.is_empty() => format!("code {code}, without a text from kr_reply_write()"),
        reason => format!("{reason} (code {code})"),
    }
}

impl Drop for CFunction {
    fn drop(&mut self) {
        if let Some(destroy) = self.described.destroy {
            // SAFETY: the function was given for this, and this is the state's end.
            no_way_but_return("kr_function.destroy", || unsafe {
                destroy(self.described.context, self.state);
            });
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

    fn neutral(&self, part: usize) -> V {
        V::from_f64(self.described.neutral[part])
    }

    fn fold(&mut self, sums: &mut [&mut [V]], parts: &[&[V]]) -> Result<(), UpdateError> {
        // Only with Combine::Fold, that is with this function.
        let Some(aggregate) = self.described.aggregate else { return Ok(()) };
        let sums = sums.iter_mut().map(|sum| &mut **sum);
        self.run("kr_function.aggregate", aggregate, sums, parts)
    }

    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        match self.described.state_columns {
            0 => self.update_columns::<V, 1>(rows, parts),
            1 => self.update_columns::<V, 2>(rows, parts),
            2 => self.update_columns::<V, 3>(rows, parts),
            3 => self.update_columns::<V, 4>(rows, parts),
            4 => self.update_columns::<V, 5>(rows, parts),
            5 => self.update_columns::<V, 6>(rows, parts),
            6 => self.update_columns::<V, 7>(rows, parts),
            _ => self.update_columns::<V, 8>(rows, parts),
        }
    }

    fn answer(&mut self, verb: &str, args: &[u8], _: &mut CallView<'_, V>) -> Result<Answer, CallError> {
        let refuse = |text: String| CallError::Arguments { verb: verb.to_owned(), text };
        let Some(call) = self.described.call else {
            let function = self.described.name.clone();
            return Err(CallError::UnknownVerb { function, verb: verb.to_owned() });
        };
        let verb_c = CString::new(verb).map_err(|error| refuse(error.to_string()))?;
        let context = self.described.context;
        let (name, arguments): (*const c_char, *const c_void) = (verb_c.as_ptr(), args.as_ptr().cast());
        // SAFETY: the function was given for this; name, arguments and reply live during the call.
        let (code, reply) = answered("kr_function.call", |reply| unsafe {
            call(context, self.state, name, arguments, args.len(), reply)
        });
        if code == 0 { Ok(reply) } else { Err(refuse(told(code, reply))) }
    }
}
