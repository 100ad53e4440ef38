//! The calls.

use std::time::{Duration, Instant};

use keyrange_transport::region::Slab;
use keyrange_transport::verbs::Selection;
use serde_json::Value;

use super::error::WorkerError;
use super::pump::{Mending, Pump};
use crate::key_range::{Key, RangeMap};
use crate::manager::message::{NAME_BYTES_MAX, ToManager};
use crate::manager::{NodeName, Session, SessionEnd, Start};
use crate::message::{Control, Element, HEADER_BYTES};
use crate::node::Membership;
use crate::node::carrier::CarrierWish;
use crate::table::TableSpec;
use crate::worker::{
    BorrowedBytes, BorrowedMut, Keys, Options, Outcome, PushArray, Receive, SubmitError, TableHandle, Target,
    TaskId, TaskState,
};

/// While a worker waits at a barrier it asks the manager this often who is missing.
const BARRIER_ASK_EVERY: Duration = Duration::from_secs(1);

/// Closing a link takes one write; a peer that takes longer has its own troubles.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What a worker is started with.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// The job, and where its manager is.
    pub membership: Membership,
    /// Which carrier to use.
    pub carrier: CarrierWish,
    /// Which RDMA port to use, where the carrier may be verbs.
    pub verbs: Selection,
    /// The core to pin the calling thread to.
    pub core: Option<usize>,
    /// What to do when links break.
    pub mending: Mending,
}

/// One worker of a job. See the module's documentation for threads.
///
/// Dropped without [`Worker::finish`], it counts as having died, and the job ends.
pub struct Worker {
    pub(super) pump: Pump,
    session: Session,
    start: Start,
    /// Where lent arrays come from, in the order of their ids.
    pub(super) slabs: Vec<Slab>,
}

impl Worker {
    pub(crate) fn new(pump: Pump, session: Session, start: Start) -> Self {
        Worker { pump, session, start, slabs: Vec::new() }
    }

    /// This worker's number, from 0.
    pub fn rank(&self) -> u32 {
        self.start.rank
    }

    /// How many workers the job has.
    pub fn workers(&self) -> u32 {
        self.start.workers
    }

    /// How many shards the job has.
    pub fn shards(&self) -> u32 {
        self.start.shards()
    }

    /// The job's parameters, as the launcher gave them.
    pub fn parameters(&self) -> &Value {
        &self.start.parameters
    }

    /// Which shard owns which keys.
    pub fn map(&self) -> &RangeMap {
        self.pump.core.map()
    }

    /// The longest answer to a [`call`](Self::call), in bytes: one frame of the smallest ring.
    pub fn answer_bytes_max(&self) -> usize {
        self.pump.core.frame_bytes_max() - HEADER_BYTES
    }

    /// The time on the clock that [`Options::deadline`] is on.
    pub fn clock(&self) -> Duration {
        self.pump.clock()
    }

    /// The carriers in use and their traffic, by shard.
    pub fn link_stats(&mut self) -> keyrange_transport::link::LinkStats {
        self.pump.links.stats()
    }

    /// Bytes sent and received so far, by table.
    pub fn traffic(&self) -> &[crate::worker::TableTraffic] {
        self.pump.core.traffic()
    }

    /// Creates a table on every shard. Every worker may ask for the same one; a different one of the same number
    /// is refused.
    pub fn create_table(&mut self, spec: &TableSpec, limit: Duration) -> Result<TableHandle, WorkerError> {
        self.control(&Control::Create(spec.clone()), limit)?;
        Ok(spec.into())
    }

    /// Fixes the keys of a frozen table on every shard.
    pub fn freeze(&mut self, table: TableHandle, limit: Duration) -> Result<(), WorkerError> {
        self.control(&Control::Freeze { table: table.id }, limit)
    }

    /// Forgets a table and its values on every shard.
    pub fn drop_table(&mut self, table: TableHandle, limit: Duration) -> Result<(), WorkerError> {
        self.control(&Control::Drop { table: table.id }, limit)
    }

    pub(crate) fn control(&mut self, control: &Control, limit: Duration) -> Result<(), WorkerError> {
        let task = self.pump.core.control(control, Options::default(), &mut self.pump.links)?;
        self.wait(task, limit).map(drop)
    }

    /// Begins a push of one array per part, each of keys x width values; see
    /// [`WorkerCore::push`](crate::worker::WorkerCore::push). Owned and lent arrays come back in the outcome.
    pub fn push<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.push(table, keys, parts, options, &mut self.pump.links)?)
    }

    /// Begins a pull into `into` (its memory is used, its contents and length are not).
    pub fn pull<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        into: Vec<V>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.pull(table, keys, into, options, &mut self.pump.links)?)
    }

    /// Begins a pull into borrowed memory of exactly keys x width values.
    pub fn pull_into<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        into: BorrowedMut<V>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.pull_into(table, keys, into, options, &mut self.pump.links)?)
    }

    /// Begins a push that is answered with the new values of its keys.
    pub fn push_pull<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        into: Vec<A::Value>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.push_pull(table, keys, parts, into, options, &mut self.pump.links)?)
    }

    /// Begins a push that is answered with the new values of its keys, in borrowed memory.
    pub fn push_pull_into<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        into: BorrowedMut<A::Value>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.push_pull_into(table, keys, parts, into, options, &mut self.pump.links)?)
    }

    /// Begins to run `verb` of the table's server function at the target shards.
    pub fn call(
        &mut self,
        table: TableHandle,
        target: Target,
        verb: &str,
        arguments: Vec<u8>,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        Ok(self.pump.core.call(table, target, verb, arguments, options, &mut self.pump.links)?)
    }

    /// As [`call`](Self::call), for many bytes; see [`WorkerCore::call_in_place`](crate::worker::WorkerCore::call_in_place).
    pub fn call_in_place(
        &mut self,
        table: TableHandle,
        target: Target,
        verb: &str,
        arguments: Vec<BorrowedBytes>,
        receive: Receive,
        options: Options,
    ) -> Result<TaskId, WorkerError> {
        let pump = &mut self.pump;
        Ok(pump.core.call_in_place(table, target, verb, arguments, receive, options, &mut pump.links)?)
    }

    /// Pushes the row of one key, the cheapest request there is. Waits for room (at most `limit`) when as many
    /// requests are under way as the configuration allows.
    pub fn push_one<V: Element>(
        &mut self,
        table: TableHandle,
        key: Key,
        row: &[V],
        limit: Duration,
    ) -> Result<TaskId, WorkerError> {
        match self.pump.core.push_one(table, key, row, u64::MAX, &mut self.pump.links) {
            Err(SubmitError::Busy { .. }) => self.push_one_when_room(table, key, row, limit),
            result => Ok(result?),
        }
    }

    #[cold]
    fn push_one_when_room<V: Element>(
        &mut self,
        table: TableHandle,
        key: Key,
        row: &[V],
        limit: Duration,
    ) -> Result<TaskId, WorkerError> {
        let mut attempt =
            |pump: &mut Pump| match pump.core.push_one(table, key, row, u64::MAX, &mut pump.links) {
                Err(SubmitError::Busy { .. }) => None,
                result => Some(result),
            };
        match self.pump.run(Instant::now() + limit, &mut attempt)? {
            Some(result) => Ok(result?),
            None => Err(self.timed_out("room for a request", limit, Vec::new())),
        }
    }

    /// Requests under way or waiting for room, over all shards.
    pub fn open_requests(&self) -> usize {
        self.pump.core.open_requests()
    }

    /// Moves things on without waiting.
    pub fn poll(&mut self) -> Result<(), WorkerError> {
        self.pump.round().map(drop)
    }

    /// Where a task stands.
    pub fn state(&self, task: TaskId) -> TaskState {
        self.pump.core.state(task)
    }

    /// The end of a task if it has ended, without waiting; `None` while it has not.
    pub fn take(&mut self, task: TaskId) -> Option<Result<Outcome, WorkerError>> {
        Some(self.pump.core.take(task)?.map_err(WorkerError::from))
    }

    /// Ends a task early. What was sent may still be applied.
    pub fn cancel(&mut self, task: TaskId) {
        self.pump.core.cancel(task, &mut self.pump.links);
    }

    /// Waits for the end of `task`, at most `limit`. On [`WorkerError::TimedOut`] the task goes on.
    pub fn wait(&mut self, task: TaskId, limit: Duration) -> Result<Outcome, WorkerError> {
        if let Some(result) = self.pump.core.take(task) {
            return Ok(result?);
        }
        match self.pump.run(Instant::now() + limit, &mut |pump| pump.core.take(task))? {
            Some(result) => Ok(result?),
            None => Err(self.timed_out("a task", limit, Vec::new())),
        }
    }

    /// Waits until any of `tasks` has ended, at most `limit`; returns its place in `tasks` and its end.
    pub fn wait_any(&mut self, tasks: &[TaskId], limit: Duration) -> Result<(usize, Outcome), WorkerError> {
        let mut first = |pump: &mut Pump| {
            tasks.iter().enumerate().find_map(|(place, &task)| Some((place, pump.core.take(task)?)))
        };
        match self.pump.run(Instant::now() + limit, &mut first)? {
            Some((place, result)) => Ok((place, result?)),
            None => Err(self.timed_out("any of the tasks", limit, Vec::new())),
        }
    }

    /// Waits until no request is under way, at most `limit`. Ends of tasks stay to be taken.
    pub fn wait_idle(&mut self, limit: Duration) -> Result<(), WorkerError> {
        self.wait_open_below(1, limit)
    }

    /// Waits until fewer than `open` requests are under way (over all shards), at most `limit`.
    pub fn wait_open_below(&mut self, open: usize, limit: Duration) -> Result<(), WorkerError> {
        let mut few = |pump: &mut Pump| (pump.core.open_requests() < open).then_some(());
        match self.pump.run(Instant::now() + limit, &mut few)? {
            Some(()) => Ok(()),
            None => Err(self.timed_out("all requests", limit, Vec::new())),
        }
    }

    /// Waits until every worker has come to the barrier of this name, at most `limit`. Tasks go on meanwhile.
    pub fn barrier(&mut self, name: &str, limit: Duration) -> Result<(), WorkerError> {
        if name.len() > NAME_BYTES_MAX {
            let (what, got, max) = ("the name of a barrier", name.len(), NAME_BYTES_MAX);
            return Err(SubmitError::TooLarge { what, got, max }.into());
        }
        self.session.say(&ToManager::Barrier { name: name.to_owned() })?;
        let notices = self.session.notices().clone();
        let until = Instant::now() + limit;
        loop {
            let ask_at = until.min(Instant::now() + BARRIER_ASK_EVERY);
            let mut done = |_: &mut Pump| notices.take_barrier(name).then_some(());
            if self.pump.run(ask_at, &mut done)?.is_some() {
                return Ok(());
            }
            if Instant::now() >= until {
                let missing = notices.barrier_missing();
                return Err(self.timed_out(&format!("barrier {name:?}"), limit, missing));
            }
            self.session.say(&ToManager::Heartbeat)?;
        }
    }

    /// Tells the launcher how it goes.
    pub fn report_progress(&mut self, body: Value) -> Result<(), WorkerError> {
        Ok(self.session.say(&ToManager::Progress { body })?)
    }

    /// Gives the launcher a part of the final report.
    pub fn report(&mut self, body: Value) -> Result<(), WorkerError> {
        Ok(self.session.say(&ToManager::Report { body })?)
    }

    /// Ends this worker's part in good order: waits for its requests (at most `limit`), closes its links, says
    /// good-bye. When all workers have, the servers end. Requests of cancelled and failed tasks are not waited for.
    pub fn finish(mut self, limit: Duration) -> Result<(), WorkerError> {
        self.wait_idle(limit)?;
        self.pump.close_links(Instant::now() + limit.min(CLOSE_DEADLINE));
        if let Some(end) = self.session.notices().end() {
            return Err(end.into());
        }
        self.session.finish();
        Ok(())
    }

    /// Ends this worker's part because it cannot go on; every other node hears the reason.
    pub fn fail(self, reason: &str) {
        self.session.fail(reason);
        self.session.notices().finish(SessionEnd::Left);
    }

    /// What to tell the manager if this handle is dropped now.
    fn unfinished(&self) -> String {
        match self.pump.fatal() {
            Some(reason) => reason.to_owned(),
            None if std::thread::panicking() => "its thread panicked".to_owned(),
            None => "it left without finishing".to_owned(),
        }
    }

    fn timed_out(&self, what: &str, limit: Duration, waits_for: Vec<NodeName>) -> WorkerError {
        let silent = self.session.notices().silent().into_iter().map(|(node, _)| node).collect();
        WorkerError::TimedOut { what: what.to_owned(), limit, waits_for, silent }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Says nothing when the job is over already, for this worker or for all.
        self.session.fail(&self.unfinished());
    }
}
