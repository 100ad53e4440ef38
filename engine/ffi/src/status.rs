//! How calls end: a code for programs, a text for people.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::client::WorkerError;
use engine::manager::SessionEnd;
use engine::node::NodeError;
use engine::worker::{SubmitError, TaskError};

/// How a call ended. Every code but KR_OK and KR_PENDING leaves a text in kr_last_error().
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum kr_status {
    /// Done.
    KR_OK = 0,
    /// The task is under way (kr_test only).
    KR_PENDING = 1,
    /// Not done within the time given; the task goes on and can be waited for again.
    KR_TIMED_OUT = 2,
    /// An argument is not what the call takes: NULL, a wrong length, keys that do not rise, an unknown name.
    KR_INVALID = 3,
    /// A handle was freed, is of another kind, is in use by another thread or by a callback, or was inherited by fork().
    KR_MISUSE = 4,
    /// No room now: wait for some tasks, then try again.
    KR_BUSY = 5,
    /// A server, or a filter of yours, refused the request or a piece of a large one; nothing of what it refused was applied.
    KR_REFUSED = 6,
    /// A server is gone for good.
    KR_GONE = 7,
    /// The job is over: it was aborted, a node died, or this node has finished.
    KR_ENDED = 8,
    /// A node could not join, connect or listen, or the operating system refused something.
    KR_NODE = 9,
    /// The task was cancelled, or its own deadline passed; whether a push was applied is unknown.
    KR_CANCELLED = 10,
    /// A bug of this library; the text says where. The handle concerned is not to be trusted any more.
    KR_PANIC = 11,
}

use kr_status::*;

/// Why a call failed.
#[derive(Debug)]
pub struct Fault {
    /// For programs.
    pub status: kr_status,
    /// For people.
    pub text: String,
}

impl Fault {
    /// An argument is not what the call takes.
    pub fn invalid(text: impl Into<String>) -> Fault {
        Fault { status: KR_INVALID, text: text.into() }
    }

    /// A handle was not used as it may be.
    pub fn misuse(text: impl Into<String>) -> Fault {
        Fault { status: KR_MISUSE, text: text.into() }
    }

    /// A node could not begin or go on.
    pub fn node(error: impl Display) -> Fault {
        Fault { status: KR_NODE, text: error.to_string() }
    }
}

impl From<SubmitError> for Fault {
    fn from(error: SubmitError) -> Fault {
        let status = match error {
            SubmitError::Busy { .. } | SubmitError::TooManyTasks { .. } => KR_BUSY,
            SubmitError::PeerGone { .. } => KR_GONE,
            _ => KR_INVALID,
        };
        Fault { status, text: error.to_string() }
    }
}

impl From<TaskError> for Fault {
    fn from(error: TaskError) -> Fault {
        let status = match error.cause() {
            TaskError::Refused { .. } | TaskError::PushFilter { .. } => KR_REFUSED,
            TaskError::PeerGone { .. } => KR_GONE,
            _ => KR_CANCELLED,
        };
        Fault { status, text: error.to_string() }
    }
}

impl From<SessionEnd> for Fault {
    fn from(end: SessionEnd) -> Fault {
        Fault { status: KR_ENDED, text: end.to_string() }
    }
}

impl From<NodeError> for Fault {
    fn from(error: NodeError) -> Fault {
        match error {
            NodeError::Session(end) => end.into(),
            NodeError::Plan(_) | NodeError::Config { .. } => Fault::invalid(error.to_string()),
            error => Fault::node(error),
        }
    }
}

impl From<WorkerError> for Fault {
    fn from(error: WorkerError) -> Fault {
        match error {
            WorkerError::Submit(error) => error.into(),
            WorkerError::Task(error) => error.into(),
            WorkerError::Job(end) => end.into(),
            WorkerError::Node(error) => error.into(),
            WorkerError::TimedOut { .. } => Fault { status: KR_TIMED_OUT, text: error.to_string() },
        }
    }
}

thread_local! {
    static LAST: RefCell<CString> = RefCell::default();
}

/// Keeps `text` for [`kr_last_error`] on this thread.
pub fn remember(text: &str) {
    let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
    LAST.with(|last| last.replace(text));
}

/// Runs the body of a call: no panic leaves it, and its fault's text is kept for the thread.
pub fn guard(body: impl FnOnce() -> Result<kr_status, Fault>) -> kr_status {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(status)) => status,
        Ok(Err(fault)) => {
            remember(&fault.text);
            fault.status
        }
        Err(panic) => {
            remember(&format!("a bug of this library: {}", panic_text(&*panic)));
            KR_PANIC
        }
    }
}

/// Runs a function of the caller's, which can be left by its return only: an exception of C++ that comes out of it would
/// unwind frames that are not made for it, so the process ends there, with a line that says where to look. (What leaves by
/// longjmp cannot be noticed.)
pub fn no_way_but_return<R>(what: &str, function: impl FnOnce() -> R) -> R {
    struct Left<'a>(&'a str);
    impl Drop for Left<'_> {
        fn drop(&mut self) {
            eprintln!("keyrange: an exception left {}: catch it there and return an error instead", self.0);
            std::process::abort();
        }
    }
    let left = Left(what);
    let result = function();
    std::mem::forget(left);
    result
}

/// The message of a panic.
pub fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

/// Why the last call of this thread that failed did so: what was expected, what came, what to do. Never NULL. The text is
/// valid until the next failing call of this thread.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kr_last_error() -> *const c_char {
    LAST.with(|last| last.borrow().as_ptr())
}

/// The name of a status, such as "KR_INVALID"; "unknown" for numbers that are none.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kr_status_name(status: i32) -> *const c_char {
    const NAMES: [&CStr; 12] = [
        c"KR_OK",
        c"KR_PENDING",
        c"KR_TIMED_OUT",
        c"KR_INVALID",
        c"KR_MISUSE",
        c"KR_BUSY",
        c"KR_REFUSED",
        c"KR_GONE",
        c"KR_ENDED",
        c"KR_NODE",
        c"KR_CANCELLED",
        c"KR_PANIC",
    ];
    usize::try_from(status).ok().and_then(|at| NAMES.get(at)).unwrap_or(&c"unknown").as_ptr()
}

/// Version of this interface that the header describes. It rises when a program built with an older header would no longer
/// work; see kr_abi_check().
pub const KR_ABI_VERSION: u32 = 1;

/// Whether the library speaks version `header_version` of the interface: call it once at the start as
/// kr_abi_check(KR_ABI_VERSION). KR_INVALID, with both versions in the text, if not.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kr_abi_check(header_version: u32) -> kr_status {
    guard(|| {
        if header_version == KR_ABI_VERSION {
            return Ok(KR_OK);
        }
        Err(Fault::invalid(format!(
            "the program was built with a keyrange.h of interface version {header_version}, the library has version \
             {KR_ABI_VERSION}: build it with the library's own header"
        )))
    })
}

/// The version of the library, such as "0.1.0".
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kr_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}
