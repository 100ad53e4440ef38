//! A worker that replaces another: what that one had done.

use super::config::ClockError;
use super::core::ClockedCore;
use crate::key_range::KeyRange;
use crate::message::Element;
use crate::session::Outbox;
use crate::worker::{Keys, Options, Outcome, TaskId, TaskState, WorkerCore};

impl<V: Element> ClockedCore<V> {
    /// A replacement asks what its predecessor had done.
    pub(super) fn ask_before(
        &mut self,
        core: &mut WorkerCore,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        self.asks_before = Some(core.clock(self.table, Options::default(), out)?);
        if self.config.early.is_some() {
            let (all, options) = (Keys::Existing(KeyRange::ALL), Options { early: 1, ..Options::default() });
            self.asks_early = Some(core.pull(self.table, all, Vec::<V>::new(), options, out)?);
        }
        Ok(())
    }

    /// It takes over from that: what was done is in the rows that come.
    pub(super) fn take_before(&mut self, core: &mut WorkerCore) -> Result<(), ClockError> {
        let has_come = |task: Option<TaskId>| task.is_none_or(|task| core.state(task) == TaskState::Finished);
        if self.knows_before
            || self.asks_before.is_none()
            || !has_come(self.asks_before)
            || !has_come(self.asks_early)
        {
            return Ok(());
        }
        for (shard, bytes) in take_outcome(self.asks_before, core)?.replies {
            let last = core.map().range_of(shard as usize).last();
            self.before.set_bytes(&bytes, last).map_err(|text| ClockError::Answer { shard, text })?;
        }
        let early = take_outcome(self.asks_early, core)?;
        let (values, width) = (early.values.as_slice::<V>().unwrap_or(&[]), self.table.width as usize);
        let rows = early.keys.iter().zip(values.chunks_exact(width));
        let clock = self.before.min() + 1;
        let open = rows.filter(|(key, _)| self.before.get(**key) < Some(clock));
        self.rows.take_off(clock, open.map(|(&key, row)| (key, row.to_vec())).collect());
        self.knows_before = true;
        Ok(())
    }

    /// The clock up to which a predecessor of this worker had done everything: a program that can begin there may as well
    /// do its clocks over again, for what was counted once is not counted again. 0 for a worker that replaces nobody;
    /// known to a replacement after its first fetch.
    pub fn done_before(&self) -> u64 {
        self.before.min()
    }
}

/// What a request that has ended came to; nothing if there was none.
fn take_outcome(task: Option<TaskId>, core: &mut WorkerCore) -> Result<Outcome, ClockError> {
    Ok(task.and_then(|task| core.take(task)).transpose()?.unwrap_or_default())
}
