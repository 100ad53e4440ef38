//! Chains of filters: how requests name them, and what they have saved.

use std::ffi::{CString, c_char, c_void};
use std::sync::Arc;

use engine::filter::{Chain, ChainSpec, Direction, FilterSpecError, Filters};

use crate::foreign_filter::outside_filters;
use crate::function::kr_functions;
use crate::handle::{Handle, Kind, place, text};
use crate::status::{Fault, guard, kr_status, no_way_but_return};
use crate::table::{KR_F64, kr_table};

/// A chain for what is pushed: it runs in the worker.
pub const KR_PUSH: u32 = 1;
/// A chain for what is pulled: it runs in the servers.
pub const KR_PULL: u32 = 2;

/// Filters at work in one direction, with what they remember and have counted. Make one for each worker and direction, and
/// name it in kr_options of each request that is to pass it. Any number of threads may use it at once; free it when none does.
pub struct kr_chain {
    _opaque: (),
}

struct Filtering(Arc<Chain>);

impl Kind for Filtering {
    const NAME: &'static str = "kr_chain";
    const MAGIC: u64 = 0x6b72_6368_6169_0001;
}

impl From<FilterSpecError> for Fault {
    fn from(error: FilterSpecError) -> Fault {
        Fault::invalid(error.to_string())
    }
}

/// # Safety
/// `chain` is NULL or from kr_chain_new(), and nobody frees it during the call.
unsafe fn chain<'a>(chain: *mut kr_chain) -> Result<&'a Arc<Chain>, Fault> {
    outside_filters()?;
    // SAFETY: the caller's promise; nobody enters a chain.
    Ok(&unsafe { Handle::share(chain.cast::<Handle<Filtering>>())? }.0)
}

/// What a request is to pass.
///
/// # Safety
/// Each is NULL or from kr_chain_new(), and nobody frees it during the call.
pub unsafe fn filters(push: *mut kr_chain, pull: *mut kr_chain) -> Result<Filters, Fault> {
    let optional = |given: *mut kr_chain| {
        // SAFETY: the caller's promise.
        if given.is_null() { Ok(None) } else { unsafe { chain(given).map(Arc::clone).map(Some) } }
    };
    let (push, pull) = (optional(push)?, optional(pull)?);
    Ok(if push.is_none() && pull.is_none() { Filters::default() } else { Filters::of(push, pull) })
}

/// Makes a chain with an empty memory from filters in the order in which they are applied, such as "key-cache,significant:0.1,fixed:2,lz4"
/// or "user:clip:5"; "none" is no filter. `direction` is KR_PUSH or KR_PULL; what is random in it follows from `seed`. Filters of
/// yours are those of `functions`, which may be NULL and may be freed afterwards, and of which any number of threads may make chains at
/// once: of a push chain they must be there; of a pull
/// chain the servers must have them.
/// KR_INVALID: an unknown filter or parameter, an order or direction that makes no sense, a filter that is not there or refuses its
/// parameter.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_chain_new(
    filters: *const c_char,
    direction: u32,
    seed: u64,
    functions: *mut kr_functions,
    chain: *mut *mut kr_chain,
) -> kr_status {
    guard(|| {
        outside_filters()?;
        // SAFETY: the caller's promise.
        let (filters, chain) = unsafe { (text("filters", filters)?, place("chain", chain)?) };
        // SAFETY: the same.
        let own = unsafe { kr_functions::filters(functions)? };
        let direction = match direction {
            KR_PUSH => Direction::Push,
            KR_PULL => Direction::Pull,
            got => return Err(Fault::invalid(format!("direction: expected KR_PUSH or KR_PULL, got {got}"))),
        };
        let spec: ChainSpec = filters.parse()?;
        let made = Chain::with_users(&spec, direction, seed, &own)?;
        *chain = Handle::into_raw(Filtering(made)).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Frees a chain; requests under way keep what they need of it. NULL is fine.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_chain_free(chain: *mut kr_chain) -> kr_status {
    guard(|| {
        outside_filters()?;
        if !chain.is_null() {
            // SAFETY: the caller's promise.
            drop(unsafe { Handle::take(chain.cast::<Handle<Filtering>>())? });
        }
        Ok(kr_status::KR_OK)
    })
}

/// What one filter of a chain has done since the chain was made. Bytes are of what it was given and what it passed on: keys for
/// key-cache, value arrays (with a bit for each row where some are left out) for the others, everything behind the header for lz4.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_filter_report {
    /// sizeof(kr_filter_report), as the library knows it.
    pub size: usize,
    /// The filter as written in the chain.
    pub filter: *const c_char,
    /// Bytes before it.
    pub bytes_in: u64,
    /// Bytes after it.
    pub bytes_out: u64,
    /// Rows it left out.
    pub entries_dropped: u64,
    /// Time it took at this end: encoding of pushes, decoding of pulls.
    pub nanoseconds: u64,
}

/// Called with what one filter has done. The report is valid during the call.
pub type kr_visit_filter =
    Option<unsafe extern "C-unwind" fn(context: *mut c_void, report: *const kr_filter_report)>;

/// Calls `visit` with what each filter of the chain has done so far, in the order of the chain.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_chain_report(
    chain: *mut kr_chain,
    visit: kr_visit_filter,
    context: *mut c_void,
) -> kr_status {
    guard(|| {
        let visit = visit.ok_or_else(|| Fault::invalid("visit: expected a function, got NULL"))?;
        // SAFETY: the caller's promise.
        let chain = unsafe { self::chain(chain)? };
        for done in chain.report() {
            let filter = CString::new(done.filter).unwrap_or_default();
            let report = kr_filter_report {
                size: size_of::<kr_filter_report>(),
                filter: filter.as_ptr(),
                bytes_in: done.bytes_in,
                bytes_out: done.bytes_out,
                entries_dropped: done.entries_dropped,
                nanoseconds: done.nanoseconds,
            };
            // SAFETY: the caller's promise; the report lives during the call.
            no_way_but_return("a kr_visit_filter", || unsafe { visit(context, &raw const report) });
        }
        Ok(kr_status::KR_OK)
    })
}

/// Called with rows that were held back: `count` rising keys, and `parts_count` arrays of their count x width values, of the table's
/// type. All are valid during the call.
pub type kr_visit_held = Option<
    unsafe extern "C-unwind" fn(
        context: *mut c_void,
        keys: *const u64,
        count: usize,
        parts: *const *const c_void,
        parts_count: usize,
    ),
>;

/// Takes the rows that `significant` has held back from pushes to `table` out of the chain, and calls `visit` once with them. Push
/// them without the chain at the end, and nothing is missing.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_chain_take_held_back(
    chain: *mut kr_chain,
    table: kr_table,
    visit: kr_visit_held,
    context: *mut c_void,
) -> kr_status {
    guard(|| {
        let visit = visit.ok_or_else(|| Fault::invalid("visit: expected a function, got NULL"))?;
        // SAFETY: the caller's promise.
        let chain = unsafe { self::chain(chain)? };
        let tell = |keys: &[u64], parts: &[*const c_void]| {
            // SAFETY: the caller's promise; keys and values live during the call.
            no_way_but_return("a kr_visit_held", || unsafe {
                visit(context, keys.as_ptr(), keys.len(), parts.as_ptr(), parts.len());
            });
        };
        if u32::from(table.value_type) == KR_F64 {
            let (keys, parts) = chain.take_held_back::<f64>(table.id);
            tell(&keys, &parts.iter().map(|part| part.as_ptr().cast()).collect::<Vec<_>>());
        } else {
            let (keys, parts) = chain.take_held_back::<f32>(table.id);
            tell(&keys, &parts.iter().map(|part| part.as_ptr().cast()).collect::<Vec<_>>());
        }
        Ok(kr_status::KR_OK)
    })
}
