//! What the library has to say, to a function of the caller's.

use std::ffi::{CString, c_char, c_void};
use std::fmt::{Debug, Write};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::status::{Fault, guard, kr_status, no_way_but_return};

/// Called with one message, from any thread of the library, possibly from several at once. `level` is 1 (error) to 5 (trace).
pub type kr_log =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, level: u32, message: *const c_char)>;

struct Sink {
    write: unsafe extern "C-unwind" fn(*mut c_void, u32, *const c_char),
    context: *mut c_void,
    level: Level,
}

// SAFETY: `kr_log_to` asks for a function that any thread may call with this context.
unsafe impl Send for Sink {}
// SAFETY: the same, several at once.
unsafe impl Sync for Sink {}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

fn number(level: Level) -> u32 {
    match level {
        Level::ERROR => 1,
        Level::WARN => 2,
        Level::INFO => 3,
        Level::DEBUG => 4,
        _ => 5,
    }
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level <= self.level {
            let mut line = Line(String::new());
            event.record(&mut line);
            let text = CString::new(line.0.replace('\0', " ")).unwrap_or_default();
            // SAFETY: the caller gave this function for this context.
            no_way_but_return("a kr_log", || unsafe {
                (self.write)(self.context, number(level), text.as_ptr());
            });
        }
    }
}

/// Sends the library's messages up to `level` (1 error, 2 warning, 3 info, 4 debug, 5 trace) to a function. Once for a process, before
/// anything else is started; KR_MISUSE the second time. Without it the library says nothing.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_log_to(log: kr_log, level: u32, context: *mut c_void) -> kr_status {
    guard(|| {
        let write = log.ok_or_else(|| Fault::invalid("log: expected a function, got NULL"))?;
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        let level = level.checked_sub(1).and_then(|at| levels.get(at as usize).copied());
        let level = level.ok_or_else(|| Fault::invalid("level: expected 1 (error) to 5 (trace)"))?;
        let subscriber = tracing_subscriber::registry().with(Sink { write, context, level });
        tracing::subscriber::set_global_default(subscriber)
            .map_err(|_| Fault::misuse("messages go somewhere already: call kr_log_to() once, and first"))?;
        Ok(kr_status::KR_OK)
    })
}
