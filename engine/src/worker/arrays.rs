//! The arrays of a task: what a push reads, where a pull writes.

use std::marker::PhantomData;

use crate::message::{Element, Lent, LentArray, Values};

/// An array that a push can take: owned (it comes back in the outcome), lent, or borrowed from a foreign caller.
pub trait PushArray {
    /// The type of its values.
    type Value: Element;
    /// Wraps it.
    fn into_part(self) -> Part;
}

/// One value array to push, whatever its type and owner; made by [`PushArray::into_part`].
pub struct Part(pub(super) Source);

pub(super) enum Source {
    Owned(Values),
    Lent(Lent),
    Borrowed(Foreign<*const u8>),
}

impl<V: Element> PushArray for Vec<V> {
    type Value = V;
    fn into_part(self) -> Part {
        Part(Source::Owned(V::wrap(self)))
    }
}

impl<V: Element> PushArray for LentArray<V> {
    type Value = V;
    fn into_part(self) -> Part {
        Part(Source::Lent(self.into()))
    }
}

/// Lent values known to be of type `V`.
pub struct LentPart<V>(Lent, PhantomData<V>);

impl<V: Element> LentPart<V> {
    /// `None` if they are of another type.
    pub fn new(lent: Lent) -> Option<Self> {
        (lent.value_type() == V::CODE).then_some(LentPart(lent, PhantomData))
    }
}

impl<V: Element> PushArray for LentPart<V> {
    type Value = V;
    fn into_part(self) -> Part {
        Part(Source::Lent(self.0))
    }
}

/// An array of a caller whose lifetimes the compiler cannot see (another language, say), to be pushed.
pub struct Borrowed<V>(Foreign<*const u8>, PhantomData<V>);

impl<V: Element> Borrowed<V> {
    /// `len` values at `data`.
    ///
    /// # Safety
    /// `data` points to `len` values that stay readable, and that nobody changes, until the task they are pushed
    /// with has ended ([`WorkerCore::state`](super::WorkerCore::state) says finished, or its callback was called) or
    /// the worker is dropped.
    pub unsafe fn new(data: *const V, len: usize) -> Self {
        Borrowed(Foreign { data: data.cast(), len, value_type: V::CODE }, PhantomData)
    }
}

impl<V: Element> PushArray for Borrowed<V> {
    type Value = V;
    fn into_part(self) -> Part {
        Part(Source::Borrowed(self.0))
    }
}

/// As [`Borrowed`], to be pulled into.
pub struct BorrowedMut<V>(Foreign<*mut u8>, PhantomData<V>);

impl<V: Element> BorrowedMut<V> {
    /// Room for `len` values at `data`.
    ///
    /// # Safety
    /// `data` points to `len` values that stay writable, and that nobody else reads or writes, until the task they are
    /// pulled with has ended or the worker is dropped.
    pub unsafe fn new(data: *mut V, len: usize) -> Self {
        BorrowedMut(Foreign { data: data.cast(), len, value_type: V::CODE }, PhantomData)
    }
}

/// In place of a value type: bytes that are no values.
const BYTES: u8 = 0;

/// Memory of a foreign caller. Held by a task only, and never touched once that has ended.
#[derive(Clone, Copy)]
pub(super) struct Foreign<P> {
    data: P,
    len: usize,
    value_type: u8,
}

// SAFETY: the promise of `Borrowed::new` and `BorrowedMut::new` names no thread: whoever has the task may read (write) it.
unsafe impl<P> Send for Foreign<P> {}
// SAFETY: shared access to a `Foreign` only reads, which the promises above allow to any thread.
unsafe impl<P> Sync for Foreign<P> {}

impl Foreign<*const u8> {
    /// `len` bytes at `data`, with the promise of `Borrowed::new`.
    pub fn bytes(data: *const u8, len: usize) -> Self {
        Foreign { data, len, value_type: BYTES }
    }

    /// The bytes; nothing if it was made as an array of values.
    pub fn as_bytes(&self) -> &[u8] {
        if self.len == 0 || self.value_type != BYTES {
            return &[];
        }
        // SAFETY: `len` bytes (the code says so) that stay as they are while the task lives, and it lives as long as `self`: the
        // promise of `BorrowedBytes::new`, the only caller of `bytes`.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }

    fn as_slice<V: Element>(&self) -> Option<&[V]> {
        if self.len == 0 {
            return Some(&[]);
        }
        // SAFETY: `len` values of type V (the code says so) that stay as they are while the task lives, and it lives as
        // long as `self`: the promise of `Borrowed::new`, the only constructor.
        (self.value_type == V::CODE)
            .then(|| unsafe { std::slice::from_raw_parts(self.data.cast(), self.len) })
    }
}

impl Source {
    pub fn len(&self) -> usize {
        match self {
            Source::Owned(values) => values.len(),
            Source::Lent(lent) => lent.len(),
            Source::Borrowed(array) => array.len,
        }
    }

    pub fn value_type(&self) -> u8 {
        match self {
            Source::Owned(values) => values.value_type(),
            Source::Lent(lent) => lent.value_type(),
            Source::Borrowed(array) => array.value_type,
        }
    }

    pub fn as_slice<V: Element>(&self) -> Option<&[V]> {
        match self {
            Source::Owned(values) => values.as_slice(),
            Source::Lent(lent) => lent.as_slice(),
            Source::Borrowed(array) => array.as_slice(),
        }
    }

    pub fn lent(&self) -> Option<&Lent> {
        if let Source::Lent(lent) = self { Some(lent) } else { None }
    }
}

/// Where the values of a pull go.
pub(super) enum Sink {
    Owned(Values),
    Borrowed(Foreign<*mut u8>),
}

impl Default for Sink {
    fn default() -> Sink {
        Sink::Owned(Values::default())
    }
}

impl<V: Element> From<BorrowedMut<V>> for Sink {
    fn from(array: BorrowedMut<V>) -> Sink {
        Sink::Borrowed(array.0)
    }
}

impl Sink {
    pub fn value_type(&self) -> u8 {
        match self {
            Sink::Owned(values) => values.value_type(),
            Sink::Borrowed(array) => array.value_type,
        }
    }

    /// The number of values it was made for, if that is fixed.
    pub fn fixed_len(&self) -> Option<usize> {
        if let Sink::Borrowed(array) = self { Some(array.len) } else { None }
    }

    /// Gives owned memory the length of the answer; borrowed memory has it already.
    pub fn resize(&mut self, len: usize) {
        match self {
            Sink::Owned(Values::F32(values)) => values.resize(len, 0.0),
            Sink::Owned(Values::F64(values)) => values.resize(len, 0.0),
            Sink::Borrowed(_) => {}
        }
    }

    /// Copies `values` to where value `at` lies. False, with nothing written, if they are of another type or do not fit.
    pub fn write<V: Element>(&mut self, at: usize, values: &[V]) -> bool {
        let into = match self {
            Sink::Owned(owned) => V::vec_of(owned).map(Vec::as_mut_slice),
            Sink::Borrowed(array) if array.value_type != V::CODE => None,
            Sink::Borrowed(array) if array.len == 0 => Some(&mut [][..]),
            Sink::Borrowed(array) => {
                let data = array.data.cast::<V>();
                // SAFETY: `len` writable values of type V (the code says so) that are ours while the task lives, and it
                // lives as long as `self`: the promise of `BorrowedMut::new`, the only constructor. Nobody else makes a
                // reference to them, and this one ends with the call.
                Some(unsafe { std::slice::from_raw_parts_mut(data, array.len) })
            }
        };
        let Some(into) = into.and_then(|into| into.get_mut(at..at.checked_add(values.len())?)) else {
            return false;
        };
        into.copy_from_slice(values);
        true
    }

    /// What the caller gets back.
    pub fn into_values(self) -> Values {
        match self {
            Sink::Owned(values) => values,
            Sink::Borrowed(array) if array.value_type == f64::CODE => Values::F64(Vec::new()),
            Sink::Borrowed(_) => Values::default(),
        }
    }
}
