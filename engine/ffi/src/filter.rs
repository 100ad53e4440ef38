//! The calls by which filters written in C are made known; `foreign_filter` runs them, `chain` names them in requests.

use std::ffi::{c_char, c_void};

use crate::foreign_filter::Described;
use crate::function::{kr_functions, kr_reply};
use crate::handle::sized;
use crate::status::{guard, kr_status};

/// Rows of one message, for a filter of yours to change or to leave out. The struct and all its arrays are valid during the call.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_rows {
    /// sizeof(kr_rows), as the library knows it.
    pub size: usize,
    /// Number of rows, those left out by filters before included.
    pub rows: usize,
    /// Values per row and array.
    pub width: u32,
    /// KR_F32 or KR_F64.
    pub value_type: u32,
    /// How many arrays of values there are: as many as the push has; 1 in answers.
    pub parts_count: u32,
    /// Number of the table.
    pub table: u16,
    /// kr_options.time of the request.
    pub time: u64,
    /// The arrays, each of rows x width values of the type, one row after the other: change them as you like.
    pub parts: *const *mut c_void,
    /// The key of each row; NULL where only the rows are known (at the servers, for key lists they have seen).
    pub keys: *const u64,
    /// One byte for each row, not 0 if it is there: write 0 to leave it out. A row left out of a push adds nothing (a table whose
    /// function does not add refuses the push); one left out of a pull is read as 0. Rows that are not there stay so.
    pub present: *mut u8,
}

/// Makes the state of one chain's filter; `parameter` is what follows the name in the chain ("" if nothing). NULL refuses the
/// chain, with what was given to kr_reply_write() as the reason.
pub type kr_filter_create = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        parameter: *const c_char,
        reply: *mut kr_reply,
    ) -> *mut c_void,
>;

/// Frees such a state.
pub type kr_filter_destroy = Option<unsafe extern "C-unwind" fn(context: *mut c_void, state: *mut c_void)>;

/// Changes the values of a message, or leaves rows out of it. 0 says that all went well. Anything else fails the request (KR_REFUSED),
/// with this number and what was given to kr_reply_write() as the reason; then this message does not go out. A push runs it on
/// the worker's thread, inside a call with the worker; a pull on a server's. It must not block, nor use a worker or a chain
/// (KR_MISUSE). An exception that leaves it ends the process; longjmp must not.
pub type kr_filter_rows = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        state: *mut c_void,
        rows: *const kr_rows,
        reply: *mut kr_reply,
    ) -> i32,
>;

/// A filter of yours, written user:NAME or user:NAME:PARAMETER in chains. Start from zeros, and set `size`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_filter {
    /// sizeof(kr_filter).
    pub size: usize,
    /// By which chains name it: without comma, colon and spaces.
    pub name: *const c_char,
    /// KR_F32 or KR_F64 if it works on tables of that type only (a request for another is KR_INVALID or, where only the
    /// server knows the filter, KR_REFUSED); 0 for both.
    pub value_type: u32,
    /// May be NULL: then the state is NULL, and a parameter is refused.
    pub create: kr_filter_create,
    /// May be NULL.
    pub destroy: kr_filter_destroy,
    /// Must be there.
    pub rows: kr_filter_rows,
    /// Given to all of them, from any worker's or server's thread, possibly from several at once. A state is used by one thread at a
    /// time.
    pub context: *mut c_void,
}

/// Adds a filter to a set of functions: for the push chains made with it, and for the pull chains that workers ask of the servers started
/// with it. The struct is copied; what its pointers lead to must stay for as long as chains and servers use it.
/// KR_INVALID: there is one of this name, or the name cannot stand in a chain.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_functions_add_filter(
    functions: *mut kr_functions,
    filter: *const kr_filter,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut functions, given) =
            unsafe { (kr_functions::enter(functions)?, sized("kr_filter", filter)?) };
        // SAFETY: the same.
        let described = unsafe { Described::check(&given)? };
        functions.add_filter(described)?;
        Ok(kr_status::KR_OK)
    })
}
