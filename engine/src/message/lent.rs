//! Arrays that lie where a server on the same host can read them.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

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

/// A piece of a slab that a foreign caller fills through a pointer. Clones share it; its room is given back with the last.
#[derive(Debug, Clone)]
pub struct LentBlock(Arc<SlabBuf>);

impl LentBlock {
    /// `bytes` zeros from `slab`, or `None` when it has no hole of that size.
    pub fn new_in(slab: &Slab, bytes: usize) -> Option<Self> {
        Some(LentBlock(Arc::new(slab.alloc(bytes)?)))
    }

    /// Where it begins: a multiple of 64.
    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Its size.
    pub fn bytes(&self) -> usize {
        self.0.lent().bytes as usize
    }

    /// The `len` values from byte `at` on, to be pushed; `None` if they do not lie inside, or not on a multiple of their
    /// size.
    ///
    /// # Safety
    /// Nobody changes these values until the task they are pushed with has ended.
    pub unsafe fn part<V: Element>(&self, at: usize, len: usize) -> Option<Lent> {
        let bytes = len.checked_mul(size_of::<V>())?;
        let inside = at.is_multiple_of(size_of::<V>()) && at.checked_add(bytes)? <= self.bytes();
        inside.then(|| Lent { memory: Memory::Block { block: self.clone(), at, bytes }, value_type: V::CODE })
    }
}

/// Lent values of either type: a [`LentArray`], or a part of a [`LentBlock`].
#[derive(Debug)]
pub struct Lent {
    memory: Memory,
    value_type: u8,
}

#[derive(Debug)]
enum Memory {
    Array(SlabBuf),
    Block { block: LentBlock, at: usize, bytes: usize },
}

impl Lent {
    fn as_bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Array(buf) => buf,
            Memory::Block { block, at, bytes } => {
                // SAFETY: inside the block (checked by `part`), which `self` keeps; nobody changes these bytes while the
                // task lives, which owns `self`: the promise of `part`.
                unsafe { std::slice::from_raw_parts(block.as_mut_ptr().add(*at), *bytes) }
            }
        }
    }

    fn whole(&self) -> LentRange {
        match &self.memory {
            Memory::Array(buf) => buf.lent(),
            Memory::Block { block, at, bytes } => {
                let LentRange { slab, offset, .. } = block.0.lent();
                LentRange { slab, offset: offset + *at as u64, bytes: *bytes as u64 }
            }
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        super::value_bytes(self.value_type).map_or(0, |bytes| self.whole().bytes as usize / bytes)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The code of the value type.
    pub fn value_type(&self) -> u8 {
        self.value_type
    }

    /// The slab they lie in.
    pub fn slab(&self) -> u32 {
        self.whole().slab
    }

    /// The values, if they are of type `V`.
    pub fn as_slice<V: Element>(&self) -> Option<&[V]> {
        (self.value_type == V::CODE).then(|| bytemuck::cast_slice(self.as_bytes()))
    }

    /// The array, if this is one and its values are of type `V`.
    pub fn into_array<V: Element>(self) -> Option<LentArray<V>> {
        match self.memory {
            Memory::Array(buf) if self.value_type == V::CODE => Some(LentArray { buf, of: PhantomData }),
            _ => None,
        }
    }

    /// The name of the bytes `at` of the values, for the wire; `None` if they do not lie inside.
    pub fn range(&self, at: std::ops::Range<usize>) -> Option<LentRange> {
        self.whole().part(at.start as u64, at.len() as u64)
    }
}

impl<V: Element> From<LentArray<V>> for Lent {
    fn from(array: LentArray<V>) -> Lent {
        Lent { memory: Memory::Array(array.buf), value_type: V::CODE }
    }
}

impl PartialEq for Lent {
    fn eq(&self, other: &Lent) -> bool {
        self.value_type == other.value_type && self.as_bytes() == other.as_bytes()
    }
}
