//! Pushes without a copy: arrays in memory that the servers of this host can read.

use keyrange_transport::region::Slab;

use super::{Worker, WorkerError};
use crate::message::{Element, LentArray};
use crate::node::NodeError;

/// A slab has at least this many bytes; pages that are never written take no memory.
const SLAB_BYTES_MIN: usize = 64 << 20;

impl Worker {
    /// An array of `len` zeros that [`Worker::push`] need not copy: servers on this host read it where it lies. Allocate it once and
    /// use it again; dropped, its room serves the next one. Servers on other hosts get its bytes as usual.
    pub fn lend<V: Element>(&mut self, len: usize) -> Result<LentArray<V>, WorkerError> {
        if let Some(array) = self.slabs.iter().find_map(|slab| LentArray::new_in(slab, len)) {
            return Ok(array);
        }
        let wrong = |error| NodeError::os("making a slab")(std::io::Error::other(error));
        let bytes = len.saturating_mul(size_of::<V>()).max(SLAB_BYTES_MIN);
        let slab = Slab::new(self.slabs.len() as u32, bytes).map_err(wrong)?;
        self.pump.links.lend(&slab);
        let array = LentArray::new_in(&slab, len);
        self.slabs.push(slab);
        let full = || NodeError::os("allocating from a slab")(std::io::ErrorKind::OutOfMemory.into());
        Ok(array.ok_or_else(full)?)
    }
}
