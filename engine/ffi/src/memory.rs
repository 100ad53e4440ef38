//! Memory that servers on this host read where it lies.

use std::collections::BTreeMap;
use std::ffi::c_void;

use engine::message::{Element, LentBlock};
use engine::worker::{LentPart, Part, PushArray};

use crate::handle::place;
use crate::status::{Fault, guard, kr_status};
use crate::worker::{enter, kr_worker};

/// The blocks of one worker, by address.
#[derive(Default)]
pub struct Blocks(BTreeMap<usize, LentBlock>);

impl Blocks {
    /// The `len` values at `address`, if they lie in a block.
    ///
    /// # Safety
    /// Nobody changes them until the task they are pushed with has ended.
    pub unsafe fn part<V: Element>(&self, address: usize, len: usize) -> Option<Part> {
        let (&begin, block) = self.0.range(..=address).next_back()?;
        // SAFETY: the caller's promise.
        let lent = unsafe { block.part::<V>(address - begin, len)? };
        Some(LentPart::<V>::new(lent)?.into_part())
    }
}

/// Allocates `bytes` zeros on a multiple of 64, in memory that is lent to the servers: arrays in it are pushed without a copy where
/// the server is on this host (elsewhere like any other array). Any part of it may be pushed. Allocate once and use it again; free it
/// with kr_free(), or with its worker.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_alloc(
    worker: *mut kr_worker,
    bytes: usize,
    memory: *mut *mut c_void,
) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (mut inner, memory) = unsafe { (enter(worker)?, place("memory", memory)?) };
        let block = inner.worker.lend_block(bytes)?;
        *memory = block.as_mut_ptr().cast();
        inner.blocks.0.insert(block.as_mut_ptr().addr(), block);
        Ok(kr_status::KR_OK)
    })
}

/// Frees memory of kr_alloc(). Requests under way keep what they push of it. NULL is fine.
/// KR_INVALID: not a pointer that kr_alloc() of this worker returned, or freed before.
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kr_free(worker: *mut kr_worker, memory: *mut c_void) -> kr_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let mut inner = unsafe { enter(worker)? };
        if !memory.is_null() && inner.blocks.0.remove(&memory.addr()).is_none() {
            let text =
                format!("kr_free: {memory:p} is not from kr_alloc() of this worker, or was freed before");
            return Err(Fault::invalid(text));
        }
        Ok(kr_status::KR_OK)
    })
}
