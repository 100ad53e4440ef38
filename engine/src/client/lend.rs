//! Pushes without a copy: arrays in memory that the servers of this host can read, and that RDMA devices send from.

use keyrange_transport::region::Slab;

use super::{Worker, WorkerError};
use crate::message::{Element, LentArray, LentBlock};
use crate::node::NodeError;

/// A slab has at least this many bytes; pages that are never written take no memory.
const SLAB_BYTES_MIN: usize = 64 << 20;

impl Worker {
    /// An array of `len` zeros that [`Worker::push`] need not copy: servers on this host read it where it lies. Allocate
    /// it once and use it again; dropped, its room serves the next one. To servers behind RDMA its bytes go from where they
    /// lie, without a copy on this side (the memory is locked, at least 64 MiB); others get them as usual.
    pub fn lend<V: Element>(&mut self, len: usize) -> Result<LentArray<V>, WorkerError> {
        self.lend_from(len.saturating_mul(size_of::<V>()), |slab| LentArray::new_in(slab, len))
    }

    /// As [`Worker::lend`], for a caller who fills it through a pointer.
    pub fn lend_block(&mut self, bytes: usize) -> Result<LentBlock, WorkerError> {
        self.lend_from(bytes, |slab| LentBlock::new_in(slab, bytes))
    }

    /// The first slab that `alloc` finds room in, or a new one lent over all links.
    fn lend_from<T>(&mut self, bytes: usize, alloc: impl Fn(&Slab) -> Option<T>) -> Result<T, WorkerError> {
        if let Some(found) = self.slabs.iter().find_map(&alloc) {
            return Ok(found);
        }
        let wrong = |error| NodeError::os("making a slab")(std::io::Error::other(error));
        let slab = Slab::new(self.slabs.len() as u32, bytes.max(SLAB_BYTES_MIN)).map_err(wrong)?;
        self.pump.links.lend(&slab);
        let found = alloc(&slab);
        self.slabs.push(slab);
        let full = || NodeError::os("allocating from a slab")(std::io::ErrorKind::OutOfMemory.into());
        Ok(found.ok_or_else(full)?)
    }
}
