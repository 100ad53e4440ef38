//! Key lists: checked once, used again and again.

use engine::key_list::KeyList;
use engine::key_range::KeyRange;
use engine::worker::Keys;

use crate::handle::{Handle, Kind, place, slice};
use crate::status::{Fault, guard, kr_status};

/// A list of strictly rising keys, checked and copied once. Use the same list again for the same keys: what it was cut into
/// and whether servers know it stays with it, so a repeated push or pull sends 16 bytes instead of the keys.
/// Any number of threads may use it at once; free it when none does.
pub struct kr_keys {
    _opaque: (),
}

struct List(KeyList);

impl Kind for List {
    const NAME: &'static str = "kr_keys";
    const MAGIC: u64 = 0x6b72_6b65_7973_0001;
}

/// Copies `count` keys, which must rise strictly; every number is a key. Free the list with kr_keys_free(); requests under
/// way keep what they need of it.
/// KR_INVALID: keys that do not rise (the text names the first), NULL.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_keys_new(keys: *const u64, count: usize, list: *mut *mut kr_keys) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (keys, list) = unsafe { (slice("keys", keys, count)?, place("list", list)?) };
        let checked = KeyList::new(keys.to_vec()).map_err(|error| Fault::invalid(error.to_string()))?;
        *list = Handle::into_raw(List(checked)).cast();
        Ok(kr_status::KR_OK)
    })
}

/// Whether a list holds just these `count` keys: 1 in `is_equal` if so, else 0. Cheaper by far than a list anew, for callers who get
/// the same keys again without being told.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_keys_equal(
    list: *mut kr_keys,
    keys: *const u64,
    count: usize,
    is_equal: *mut i32,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (list, keys, is_equal) = unsafe {
            (
                Handle::share(list.cast::<Handle<List>>())?,
                slice("keys", keys, count)?,
                place("is_equal", is_equal)?,
            )
        };
        *is_equal = i32::from(list.0.holds(keys));
        Ok(kr_status::KR_OK)
    })
}

/// Frees a list. NULL is fine.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_keys_free(list: *mut kr_keys) -> kr_status {
    guard(|| {
        if !list.is_null() {
            // SAFETY: the caller's promise.
            unsafe { Handle::take(list.cast::<Handle<List>>())? };
        }
        Ok(kr_status::KR_OK)
    })
}

/// Which keys a request is about: those of `list`, or if it is NULL all from `first` to `last`, both included.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct kr_select {
    /// A key list, or NULL.
    pub list: *mut kr_keys,
    /// Without a list: the first key.
    pub first: u64,
    /// Without a list: the last key, included.
    pub last: u64,
}

impl kr_select {
    /// The keys.
    ///
    /// # Safety
    /// `list` is NULL or from kr_keys_new(), and not freed meanwhile.
    pub unsafe fn keys(self) -> Result<Keys, Fault> {
        if self.list.is_null() {
            let range =
                KeyRange::new(self.first, self.last).map_err(|error| Fault::invalid(error.to_string()))?;
            return Ok(Keys::Range(range));
        }
        // SAFETY: the caller's promise.
        let list = unsafe { Handle::share(self.list.cast::<Handle<List>>())? };
        Ok(Keys::List(list.0.clone()))
    }

    /// The keys from `first` to `last`, whichever of them exist.
    pub fn existing(self) -> Result<Keys, Fault> {
        if !self.list.is_null() {
            return Err(Fault::invalid("kr_pull_existing: expected a range (list = NULL), got a list"));
        }
        let range =
            KeyRange::new(self.first, self.last).map_err(|error| Fault::invalid(error.to_string()))?;
        Ok(Keys::Existing(range))
    }
}
