//! Tasks that consist of others.

use super::{Worker, WorkerError};
use crate::worker::{Options, TaskId};

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
}
