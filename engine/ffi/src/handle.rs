//! What stands behind a handle of the C interface, and what is found out about a pointer before it is used.
//!
//! A handle begins with a number that says what it is, and that changes when it is freed. Its few bytes are kept for a
//! while after that, so that a use after free is told and not felt. A second thread inside the same handle, and a child
//! process after `fork`, are told too.

use std::any::Any;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::status::Fault;

/// Freed handles whose bytes are kept.
const KEPT_MAX: usize = 4096;

/// How long a call waits for another thread's that only looks something up.
const SOON: Duration = Duration::from_secs(1);

const FREED: u64 = 0x6b72_0000_dead_0000;

static KEPT: Mutex<VecDeque<Box<dyn Any + Send>>> = Mutex::new(VecDeque::new());

/// How often this process is a fork of a fork.
static FORKS: AtomicU32 = AtomicU32::new(0);

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

fn forks() -> u32 {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler only adds to an atomic, which a child may do between fork and exec.
        unsafe { libc::pthread_atfork(None, None, Some(forked)) };
    });
    FORKS.load(Ordering::Relaxed)
}

/// The number of a live handle of this kind: another one in every copy of this library in the process, for what lies behind a
/// handle of another copy, maybe of another version, is not to be touched here.
fn number_of<T: Kind>() -> u64 {
    T::MAGIC ^ ((&raw const KEPT).addr() as u64) << 16
}

/// A kind of handle.
pub trait Kind: Send + 'static {
    /// In texts, such as "kr_worker".
    const NAME: &'static str;
    /// Different for every kind.
    const MAGIC: u64;
}

/// A `T` behind a pointer of the C interface.
#[repr(C)]
pub struct Handle<T> {
    magic: AtomicU64,
    busy: AtomicBool,
    forks: u32,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: `value` is touched by whoever has set `busy` only, one thread at a time, and `T: Send` by `Kind`.
unsafe impl<T: Kind> Sync for Handle<T> {}

impl<T: Kind> Handle<T> {
    /// Puts `value` behind a pointer; [`Handle::take`] is its end.
    pub fn into_raw(value: T) -> *mut Self {
        let (magic, busy) = (AtomicU64::new(number_of::<T>()), AtomicBool::new(false));
        Box::into_raw(Box::new(Handle { magic, busy, forks: forks(), value: UnsafeCell::new(Some(value)) }))
    }

    /// The handle behind this pointer, if it is a live one of this kind.
    ///
    /// # Safety
    /// `handle` is NULL, or comes from [`Handle::into_raw`] of some kind; if it was freed, then by a call that has returned,
    /// and at most [`KEPT_MAX`] handles were freed since.
    unsafe fn live<'a>(handle: *mut Self) -> Result<&'a Self, Fault> {
        let name = T::NAME;
        let handle = NonNull::new(handle)
            .ok_or_else(|| Fault::invalid(format!("{name}: expected a handle, got NULL")))?;
        if !handle.is_aligned() {
            return Err(Fault::misuse(format!("{name}: expected a handle, got {handle:p}, which is none")));
        }
        // SAFETY: the caller's promise: every kind of handle begins with its number, and freed ones are kept.
        let number = unsafe { (*handle.as_ptr().cast::<AtomicU64>()).load(Ordering::Acquire) };
        match number {
            live if live == number_of::<T>() => {}
            FREED => return Err(Fault::misuse(format!("{name} {handle:p} was freed before"))),
            _ => {
                return Err(Fault::misuse(format!(
                    "{name}: {handle:p} is a handle of another kind, of another copy of the library, or none"
                )));
            }
        }
        // SAFETY: the number says that it is a live `Handle<T>`.
        let handle: &'a Handle<T> = unsafe { handle.as_ref() };
        if handle.forks != forks() {
            return Err(Fault::misuse(format!(
                "this process got the {name} by fork(): its links and threads stayed with the parent; start anew after fork"
            )));
        }
        Ok(handle)
    }

    /// Goes in: nobody else can until the result is dropped.
    ///
    /// # Safety
    /// `handle` is NULL, or comes from [`Handle::into_raw`] of some kind; if it was freed, then by a call that has returned,
    /// and not thousands of frees ago.
    pub unsafe fn enter<'a>(handle: *mut Self) -> Result<Entered<'a, T>, Fault> {
        // SAFETY: the same promise.
        unsafe { Self::try_enter(handle)? }.ok_or_else(Self::in_use)
    }

    /// As [`Handle::enter`], but waits for calls of other threads, which are soon over.
    ///
    /// # Safety
    /// As for [`Handle::enter`].
    pub unsafe fn enter_soon<'a>(handle: *mut Self) -> Result<Entered<'a, T>, Fault> {
        let until = Instant::now() + SOON;
        loop {
            // SAFETY: the same promise.
            match unsafe { Self::try_enter(handle)? } {
                Some(entered) => return Ok(entered),
                None if Instant::now() >= until => return Err(Self::in_use()),
                None => std::thread::yield_now(),
            }
        }
    }

    fn in_use() -> Fault {
        Fault::misuse(format!(
            "the {} is in use: a call of another thread, or the one whose callback this is, has not returned",
            T::NAME
        ))
    }

    /// # Safety
    /// As for [`Handle::enter`].
    unsafe fn try_enter<'a>(handle: *mut Self) -> Result<Option<Entered<'a, T>>, Fault> {
        // SAFETY: the same promise.
        let handle = unsafe { Self::live(handle)? };
        if handle.busy.swap(true, Ordering::Acquire) {
            return Ok(None);
        }
        let entered = Entered(handle);
        // Another thread may have freed it between the two looks.
        if handle.magic.load(Ordering::Acquire) == FREED {
            return Err(Fault::misuse(format!("{} {handle:p} was freed before", T::NAME)));
        }
        Ok(Some(entered))
    }

    /// Looks in without keeping others out: for values that never change.
    ///
    /// # Safety
    /// As for [`Handle::enter`], and nobody enters or frees the handle while the result is used.
    pub unsafe fn share<'a>(handle: *mut Self) -> Result<&'a T, Fault>
    where
        T: Sync,
    {
        // SAFETY: the same promise; nobody holds a reference that could change the value.
        let slot = unsafe { &*Self::live(handle)?.value.get() };
        slot.as_ref().ok_or_else(|| Fault::misuse(format!("{} {handle:p} was freed before", T::NAME)))
    }

    /// Frees the handle and returns what was behind it.
    ///
    /// # Safety
    /// As for [`Handle::enter`].
    pub unsafe fn take(handle: *mut Self) -> Result<T, Fault> {
        // SAFETY: the same promise.
        let mut entered = unsafe { Self::enter(handle)? };
        let value = entered.slot().take();
        entered.0.magic.store(FREED, Ordering::Release);
        drop(entered);
        // SAFETY: made by `into_raw`, and its number keeps everybody out from now on, so this is its only owner.
        keep(unsafe { Box::from_raw(handle) });
        value.ok_or_else(|| Fault::misuse(format!("{} {handle:p} was freed before", T::NAME)))
    }
}

fn keep(freed: Box<dyn Any + Send>) {
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    kept.push_back(freed);
    if kept.len() > KEPT_MAX {
        kept.pop_front();
    }
}

/// The inside of a handle, for one thread.
pub struct Entered<'a, T: Kind>(&'a Handle<T>);

impl<T: Kind> Entered<'_, T> {
    fn slot(&mut self) -> &mut Option<T> {
        // SAFETY: `busy` is ours since `enter`, and the result borrows `self`, so there is one reference at a time.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T: Kind> Deref for Entered<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `busy` is ours since `enter`, and changes need `&mut self`.
        let slot = unsafe { &*self.0.value.get() };
        slot.as_ref().expect("only `take` empties a handle, and it marks it as freed")
    }
}

impl<T: Kind> DerefMut for Entered<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.slot().as_mut().expect("only `take` empties a handle, and it marks it as freed")
    }
}

impl<T: Kind> Drop for Entered<'_, T> {
    fn drop(&mut self) {
        self.0.busy.store(false, Ordering::Release);
    }
}

/// The text at `text`.
///
/// # Safety
/// `text` is NULL or a string that ends with a zero byte and stays as it is during the call.
pub unsafe fn text<'a>(what: &str, text: *const std::ffi::c_char) -> Result<&'a str, Fault> {
    if text.is_null() {
        return Err(Fault::invalid(format!("{what}: expected a string, got NULL")));
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { std::ffi::CStr::from_ptr(text) };
    bytes.to_str().map_err(|_| Fault::invalid(format!("{what}: expected UTF-8, got {bytes:?}")))
}

/// Whether `len` values can lie at `data`; nothing is read.
pub fn check_array<T>(what: &str, data: *const T, len: usize) -> Result<(), Fault> {
    if len > 0 && (data.is_null() || !data.is_aligned()) {
        let expected = align_of::<T>();
        return Err(Fault::invalid(format!(
            "{what}: expected {len} values at a multiple of {expected}, got {data:p}"
        )));
    }
    if len > isize::MAX as usize / size_of::<T>().max(1) {
        return Err(Fault::invalid(format!("{what}: {len} values do not fit into memory")));
    }
    Ok(())
}

/// The `len` values at `data`.
///
/// # Safety
/// `data` is NULL, or points to `len` values that stay as they are for as long as the result is used.
pub unsafe fn slice<'a, T>(what: &str, data: *const T, len: usize) -> Result<&'a [T], Fault> {
    if len == 0 {
        return Ok(&[]);
    }
    check_array(what, data, len)?;
    // SAFETY: not NULL, aligned, not longer than memory; the rest is the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// Where an answer goes.
///
/// # Safety
/// `place` is NULL or points to room for a `T` that nobody else uses during the call.
pub unsafe fn place<'a, T>(what: &str, place: *mut T) -> Result<&'a mut T, Fault> {
    if place.is_null() || !place.is_aligned() {
        return Err(Fault::invalid(format!("{what}: expected where to put the answer, got {place:p}")));
    }
    // SAFETY: not NULL and aligned; the rest is the caller's promise. C structs and numbers of this interface have no
    // invalid bit patterns, but enums: those are never read through such a place.
    Ok(unsafe { &mut *place })
}

/// Copies an answer to the caller's room for it, which may hold anything before.
///
/// # Safety
/// `room` is NULL or points to room for as many values as there are in `values`, that nobody else uses during the call.
pub unsafe fn fill<T: Copy>(what: &str, room: *mut T, values: &[T]) -> Result<(), Fault> {
    if room.is_null() || !room.is_aligned() {
        let (count, expected) = (values.len(), align_of::<T>());
        return Err(Fault::invalid(format!(
            "{what}: expected room for {count} values at a multiple of {expected}, got {room:p}"
        )));
    }
    // SAFETY: not NULL and aligned; the room is the caller's promise, and `values` lie in the library's own memory.
    unsafe { values.as_ptr().copy_to_nonoverlapping(room, values.len()) };
    Ok(())
}

/// A struct that the caller gives, which begins with its size: programs built with an older header give a shorter one, and
/// the fields it lacks are zero.
///
/// # Safety
/// `given` is NULL, or points to a `size_t` that says how many bytes of the struct are there. All fields of `T` may be zero.
pub unsafe fn sized<T: Copy>(what: &str, given: *const T) -> Result<T, Fault> {
    if given.is_null() || !given.is_aligned() {
        return Err(Fault::invalid(format!("{what}: expected a pointer to one, got {given:p}")));
    }
    // SAFETY: the caller's promise: a size_t comes first.
    let size = unsafe { given.cast::<usize>().read() };
    if size < size_of::<usize>() || size > size_of::<T>() {
        let expected = size_of::<T>();
        return Err(Fault::invalid(format!(
            "{what}.size: expected sizeof the struct, at most {expected}, got {size}: start from zeros with size set, or \
             from {what}_init() where there is one"
        )));
    }
    let mut whole = std::mem::MaybeUninit::<T>::zeroed();
    // SAFETY: `size` bytes are there (the caller's promise) and fit (just checked); the rest is zero, which every field of
    // `T` may be.
    unsafe {
        given.cast::<u8>().copy_to_nonoverlapping(whole.as_mut_ptr().cast(), size);
        Ok(whole.assume_init())
    }
}
