//! The calls, which wait when asked to.

use std::time::{Duration, Instant};

use super::config::{ClockError, ClockedConfig};
use super::core::ClockedCore;
use super::stats::ClockStats;
use crate::client::{Worker, WorkerError};
use crate::history::Recorder;
use crate::key_range::Key;
use crate::message::Element;
use crate::session::Outbox;
use crate::worker::{TableHandle, TaskError, WorkerCore};

/// After a wait that was too long, the servers have this long to say who is behind.
const QUESTION_LIMIT: Duration = Duration::from_secs(1);

/// A clocked table as one worker uses it: fetch the rows of a clock, get and add to them, close the clock. Every call takes
/// the worker it was made with.
pub struct ClockedTable<V: Element> {
    core: ClockedCore<V>,
    waited: Duration,
}

impl<V: Element> ClockedTable<V> {
    /// A view of a table that was created with [`Aggregation::Clocked`](crate::table::Aggregation::Clocked).
    ///
    /// # Errors
    /// As [`ClockedCore::new`].
    pub fn new(
        worker: &mut Worker,
        table: TableHandle,
        config: ClockedConfig,
    ) -> Result<ClockedTable<V>, ClockError> {
        let workers = worker.workers();
        let core = worker.with_core(|core, _, _| ClockedCore::new(table, config, workers, core))?;
        Ok(ClockedTable { core, waited: Duration::ZERO })
    }

    /// From now on `recorder` is told of every read, increment and clock.
    pub fn record(&mut self, recorder: Box<dyn Recorder>) {
        self.core.record(recorder);
    }

    /// Stops recording.
    pub fn finish_recording(&mut self) -> Option<Box<dyn Recorder>> {
        self.core.finish_recording()
    }

    /// How many clocks this worker has closed.
    pub fn clock(&self) -> u64 {
        self.core.clock()
    }

    /// What has been done so far.
    pub fn stats(&self) -> &ClockStats {
        self.core.stats()
    }

    /// Time spent waiting in these calls.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Makes all of `keys` readable at this clock: waits, at most `limit`, for rows that are not there or too old.
    ///
    /// # Errors
    /// [`ClockError::Late`] with the names of the workers that are behind; [`ClockError::Worker`] if the job is over.
    pub fn fetch(&mut self, worker: &mut Worker, keys: &[Key], limit: Duration) -> Result<(), ClockError> {
        self.wait(worker, "rows of a clock", limit, |table, core, now, out| table.fetch(keys, core, now, out))
    }

    /// Takes in what has come, and sends what may go early, without waiting: now and then within a clock, it makes the reads
    /// that follow fresher, here and elsewhere.
    ///
    /// # Errors
    /// As [`ClockedTable::fetch`].
    pub fn poll(&mut self, worker: &mut Worker) -> Result<(), ClockError> {
        worker.poll()?;
        let core = &mut self.core;
        worker.with_core(|worker, now, out| core.poll(worker, now, out))
    }

    /// The row of `key`, fetched at this clock.
    ///
    /// # Errors
    /// [`ClockError::NotFetched`].
    pub fn get(&mut self, worker: &Worker, key: Key) -> Result<&[V], ClockError> {
        self.core.get(key, worker.core())
    }

    /// Adds `delta` to the row of `key`: for this worker at once, for all when the clock is closed.
    ///
    /// # Errors
    /// [`ClockError::Width`].
    pub fn inc(&mut self, key: Key, delta: &[V]) -> Result<(), ClockError> {
        self.core.inc(key, delta)
    }

    /// Adds a row of `deltas` to each of `keys`.
    ///
    /// # Errors
    /// [`ClockError::Width`] unless there are as many rows as keys; nothing was added.
    pub fn batch_inc(&mut self, keys: &[Key], deltas: &[V]) -> Result<(), ClockError> {
        let width = deltas.len().checked_div(keys.len()).unwrap_or(0);
        if width * keys.len() != deltas.len() {
            return Err(ClockError::Width { expected: keys.len() * width, got: deltas.len() });
        }
        keys.iter().zip(deltas.chunks_exact(width.max(1))).try_for_each(|(&key, row)| self.inc(key, row))
    }

    /// Closes the clock. Waits, at most `limit`, until the one before has arrived at the servers and the value bound holds.
    ///
    /// # Errors
    /// As [`ClockedTable::fetch`].
    pub fn close(&mut self, worker: &mut Worker, limit: Duration) -> Result<(), ClockError> {
        // A clock leaves once the one before it is known to have arrived: hear of that first.
        worker.poll()?;
        let core = &mut self.core;
        worker.with_core(|worker, _, out| core.close(worker, out))?;
        self.wait(worker, "increments under way", limit, |table, core, now, out| {
            table.settled(core, now, out)
        })
    }

    /// Waits until all closed clocks have arrived at the servers, at most `limit`.
    ///
    /// # Errors
    /// As [`ClockedTable::fetch`].
    pub fn flush(&mut self, worker: &mut Worker, limit: Duration) -> Result<(), ClockError> {
        self.wait(worker, "closed clocks", limit, |table, core, now, out| {
            table.poll(core, now, out)?;
            Ok(table.is_idle())
        })
    }

    fn wait(
        &mut self,
        worker: &mut Worker,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(
            &mut ClockedCore<V>,
            &mut WorkerCore,
            Duration,
            &mut dyn Outbox,
        ) -> Result<bool, ClockError>,
    ) -> Result<(), ClockError> {
        let (began, table) = (Instant::now(), &mut self.core);
        let result = worker.drive(limit, &mut |core, now, out| match done(table, core, now, out) {
            Ok(true) => Some(Ok(())),
            Ok(false) => None,
            Err(error) => Some(Err(error)),
        })?;
        self.waited += began.elapsed();
        match result {
            Some(result) => result,
            None => {
                let waits_for = self.who_is_late(worker);
                Err(ClockError::Late { what: format!("{what} at clock {}", self.clock()), limit, waits_for })
            }
        }
    }

    /// Asks the servers.
    fn who_is_late(&mut self, worker: &mut Worker) -> String {
        match worker.control(&self.core.question(), QUESTION_LIMIT) {
            Err(WorkerError::Task(TaskError::Refused { text, .. })) => text,
            Err(error) => error.to_string(),
            Ok(()) => "no worker's clock is behind".to_owned(),
        }
    }
}
