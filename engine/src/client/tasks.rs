//! Tasks that consist of others: groups, and graphs shipped whole.

use super::{Worker, WorkerError};
use crate::key_range::KeyRange;
use crate::worker::{Graph, Options, TableHandle, TaskId};

impl Worker {
    /// Opens a task that consists of others: those begun with it as their [`Options::group`]. See
    /// [`WorkerCore::group`](crate::worker::WorkerCore::group). It can be waited for, cancelled and followed like any
    /// task; [`Worker::seal`] it first, or it never ends.
    pub fn group(&mut self, options: Options) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.group(options, &mut self.pump.links)?)
    }

    /// Says that `group` gets no more sub-tasks: it ends when those it has have ended.
    pub fn seal(&mut self, group: TaskId) -> Result<(), WorkerError> {
        Ok(self.pump.core.seal(group, &mut self.pump.links)?)
    }

    /// Ships a graph whole, one request per shard; see [`WorkerCore::graph`](crate::worker::WorkerCore::graph).
    pub fn graph(&mut self, graph: Graph, options: Options) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.graph(graph, options, &mut self.pump.links)?)
    }

    /// Begins a task that ends when the pushes of all workers for update `time` of the table have come and it is finished;
    /// see [`WorkerCore::wait_update`](crate::worker::WorkerCore::wait_update).
    pub fn wait_update(
        &mut self,
        table: TableHandle,
        range: KeyRange,
        time: u64,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.wait_update(table, range, time, options, &mut self.pump.links)?)
    }
}
