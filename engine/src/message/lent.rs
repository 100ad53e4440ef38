//! Arrays that lie where a server on the same host can read them.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use keyrange_transport::region::{LentRange, Slab, SlabBuf};

use super::Element;

/// An array of values in a slab. A push takes it by value and gives it back with the task's outcome, so nobody can
/// change it while a server reads it where it lies.
pub struct LentArray<V> {
    buf: SlabBuf,
    of: PhantomData<V>,
}

impl<V: Element> LentArray<V> {
    /// `len` zeros from `slab`, or `None` when it has no hole of that size.
    pub fn new_in(slab: &Slab, len: usize) -> Option<Self> {
        let buf = slab.alloc(len.checked_mul(size_of::<V>())?)?;
        Some(LentArray { buf, of: PhantomData })
    }
}

impl<V: Element> Deref for LentArray<V> {
    type Target = [V];

    fn deref(&self) -> &[V] {
        // Slab buffers start on multiples of 64 and this one holds whole values.
        bytemuck::cast_slice(&self.buf)
    }
}

impl<V: Element> DerefMut for LentArray<V> {
    fn deref_mut(&mut self) -> &mut [V] {
        bytemuck::cast_slice_mut(&mut self.buf)
    }
}

impl<V: Element> fmt::Debug for LentArray<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A [`LentArray`] of either value type.
#[derive(Debug)]
pub struct Lent {
    buf: SlabBuf,
    value_type: u8,
}

impl Lent {
    /// Number of values.
    pub fn len(&self) -> usize {
        super::value_bytes(self.value_type).map_or(0, |bytes| self.buf.len() / bytes)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The code of the value type.
    pub fn value_type(&self) -> u8 {
        self.value_type
    }

    /// The slab it lies in.
    pub fn slab(&self) -> u32 {
        self.buf.lent().slab
    }

    /// The values, if they are of type `V`.
    pub fn as_slice<V: Element>(&self) -> Option<&[V]> {
        (self.value_type == V::CODE).then(|| bytemuck::cast_slice(&self.buf))
    }

    /// The array, if its values are of type `V`.
    pub fn into_array<V: Element>(self) -> Option<LentArray<V>> {
        (self.value_type == V::CODE).then_some(LentArray { buf: self.buf, of: PhantomData })
    }

    /// The name of the bytes `at` of the array, for the wire; `None` if they do not lie inside.
    pub fn range(&self, at: std::ops::Range<usize>) -> Option<LentRange> {
        self.buf.lent().part(at.start as u64, at.len() as u64)
    }
}

impl<V: Element> From<LentArray<V>> for Lent {
    fn from(array: LentArray<V>) -> Lent {
        Lent { buf: array.buf, value_type: V::CODE }
    }
}

impl PartialEq for Lent {
    fn eq(&self, other: &Lent) -> bool {
        self.value_type == other.value_type && *self.buf == *other.buf
    }
}
