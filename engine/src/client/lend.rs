//! Pushes without a copy: arrays in memory that the servers of this host can read.

use keyrange_transport::region::Slab;

use super::{Worker, WorkerError};
use crate::message::{Element, LentArray};
use crate::node::NodeError;
use crate::worker::{Keys, Options, TableHandle, TaskId};

/// A slab has at least this many bytes; pages that are never written take no memory.
const SLAB_BYTES_MIN: usize = 64 << 20;

impl Worker {
    /// An array of `len` zeros that pushes need not copy: servers on this host read it where it lies. Allocate it once and
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

    /// Begins a push from lent arrays, one per part; see [`WorkerCore::push_lent`](crate::worker::WorkerCore::push_lent).
    /// They come back in the outcome and can be changed again then.
    pub fn push_lent<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<LentArray<V>>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.push_lent(table, keys, parts, options, &mut self.pump.links)?)
    }

    /// Begins a push from lent arrays that is answered with the new values of its keys, copied into `into`.
    pub fn push_pull_lent<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<LentArray<V>>,
        into: Vec<V>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.push_pull_lent(table, keys, parts, into, options, &mut self.pump.links)?)
    }
}
