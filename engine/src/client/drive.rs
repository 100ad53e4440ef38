//! For views on top of the core that wait for more than a task: the loop under the calls, with a condition of theirs.

use std::time::{Duration, Instant};

use super::{Worker, WorkerError};
use crate::session::Outbox;
use crate::worker::WorkerCore;

/// A view that waits for what comes unasked is asked at least this often, for it may have to ask again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Worker {
    /// The core, to look at.
    pub(crate) fn core(&self) -> &WorkerCore {
        &self.pump.core
    }

    /// Does something with the core, at the time on its clock.
    pub(crate) fn with_core<R>(
        &mut self,
        act: impl FnOnce(&mut WorkerCore, Duration, &mut dyn Outbox) -> R,
    ) -> R {
        let now = self.pump.clock();
        act(&mut self.pump.core, now, &mut self.pump.links)
    }

    /// Moves things on until `done` answers; `None` after `limit`. Moves them on once at least.
    pub(crate) fn drive<R>(
        &mut self,
        limit: Duration,
        done: &mut dyn FnMut(&mut WorkerCore, Duration, &mut dyn Outbox) -> Option<R>,
    ) -> Result<Option<R>, WorkerError> {
        self.pump.round()?;
        let until = Instant::now() + limit;
        loop {
            let look_at = until.min(Instant::now() + LOOK_EVERY);
            let result = self.pump.run(look_at, &mut |pump| {
                let now = pump.clock();
                done(&mut pump.core, now, &mut pump.links)
            })?;
            if result.is_some() || Instant::now() >= until {
                return Ok(result);
            }
        }
    }
}
