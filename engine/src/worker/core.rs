//! The core itself: its settings, and the calls that submit tasks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::arrays::{BorrowedMut, PushArray, Sink, Source};
use super::call::{Arguments, Call};
use super::group::Group;
use super::pieces::{Body, What};
use super::request::*;
use super::rows::Followed;
use super::session::Session;
use super::tasks::Tasks;
use super::traffic::{TableTraffic, Traffic};
use crate::filter::Scratch;
use crate::key_range::RangeMap;
use crate::message::{Control, Element, Kind};
use crate::session::{Outbox, PeerId};
use crate::table::Aggregation;

/// Settings of a [`WorkerCore`].
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerConfig {
    /// This worker's rank, from 0; the shards know it by this number.
    pub rank: u32,
    /// Incarnation: a replacement of a worker has a higher one.
    pub epoch: u32,
    /// Requests under way per shard, at most; not above the shards' own window.
    pub window_requests: usize,
    /// Largest frame any of the links carries.
    pub frame_bytes_max: usize,
    /// Tasks open at once, at most (finished ones that were not taken count).
    pub tasks_max: usize,
    /// Keep what one-key pushes need to be sent again: set it if links can break and be replaced, or lose frames.
    /// (Larger requests can always be sent again.) A row may then have at most 48 bytes.
    pub retain: bool,
    /// Send requests again that are unanswered for this long; only for links that lose frames. Needs `retain`.
    pub retry_after: Option<Duration>,
}

impl WorkerConfig {
    /// Defaults for worker `rank`: window 16,384, frames of 256 KiB, 2^20 tasks, links that do not lose frames.
    pub fn new(rank: u32) -> WorkerConfig {
        WorkerConfig {
            rank,
            epoch: 0,
            window_requests: 1 << 14,
            frame_bytes_max: 256 << 10,
            tasks_max: 1 << 20,
            retain: false,
            retry_after: None,
        }
    }
}

/// The protocol of one worker, as a value. See the module's documentation.
pub struct WorkerCore {
    pub(super) config: WorkerConfig,
    pub(super) map: Arc<RangeMap>,
    pub(super) sessions: Vec<Session>,
    pub(super) tasks: Tasks,
    pub(super) ready: VecDeque<TaskId>,
    pub(super) now_ns: u64,
    /// A task failed with pieces under way, which are to be forgotten.
    pub(super) has_strays: bool,
    /// No deadline passes before this.
    pub(super) deadline_hint_ns: u64,
    /// Frames of changed rows that came, for whom they are meant to.
    pub(super) followed: Vec<Followed>,
    /// Links replaced: what was on them unasked is lost.
    pub(super) links_replaced: u64,
    pub(super) traffic: Traffic,
    /// The filtered answer at hand, undone.
    pub(super) scratch: Scratch,
}

impl WorkerCore {
    /// A worker that talks to the shards of `map`; shard `i` is `PeerId(i)`.
    pub fn new(config: WorkerConfig, map: Arc<RangeMap>) -> WorkerCore {
        let sessions = (0..map.shards()).map(|_| Session::new()).collect();
        let tasks = Tasks::new(config.tasks_max);
        let config = WorkerConfig { retain: config.retain || config.retry_after.is_some(), ..config };
        WorkerCore {
            config,
            map,
            sessions,
            tasks,
            ready: VecDeque::new(),
            now_ns: 0,
            has_strays: false,
            deadline_hint_ns: u64::MAX,
            followed: Vec::new(),
            links_replaced: 0,
            traffic: Traffic::default(),
            scratch: Scratch::default(),
        }
    }

    /// Largest frame that every link carries.
    pub fn frame_bytes_max(&self) -> usize {
        self.config.frame_bytes_max
    }

    /// The range map.
    pub fn map(&self) -> &Arc<RangeMap> {
        &self.map
    }

    /// The settings in force.
    pub fn config(&self) -> &WorkerConfig {
        &self.config
    }

    /// Pushes one array per part, each of keys x width values, in the order of the keys. Without parts the keys only
    /// become known to the table. The task ends when every shard has applied it.
    ///
    /// Owned arrays come back in [`Outcome::parts`]. Of lent ones a link on the same host carries where they lie instead
    /// of their bytes, any other copies them; they come back in [`Outcome::lent`], and a task that fails keeps them until
    /// no shard can be reading them any more, then gives their room back to the slab.
    pub fn push<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        self.submit(Kind::Push, table, What::Keys(keys), sources(parts), Sink::default(), options, out)
    }

    /// Pulls the values of the keys into `into` (its memory is used, its contents and length are not).
    pub fn pull<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        into: Vec<V>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let into = Sink::Owned(V::wrap(into));
        self.submit(Kind::Pull, table, What::Keys(keys), Vec::new(), into, options, out)
    }

    /// Pulls the values of the keys into borrowed memory of exactly keys x width values.
    pub fn pull_into<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        into: BorrowedMut<V>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        self.submit(Kind::Pull, table, What::Keys(keys), Vec::new(), into.into(), options, out)
    }

    /// Pushes, and pulls the same keys once the push is applied: on a table that aggregates, once the pushes of all
    /// workers for this time are. One round trip.
    pub fn push_pull<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        into: Vec<A::Value>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let into = Sink::Owned(A::Value::wrap(into));
        self.submit(Kind::PushPull, table, What::Keys(keys), sources(parts), into, options, out)
    }

    /// As [`WorkerCore::push_pull`], into borrowed memory as in [`WorkerCore::pull_into`].
    pub fn push_pull_into<A: PushArray>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<A>,
        into: BorrowedMut<A::Value>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        self.submit(Kind::PushPull, table, What::Keys(keys), sources(parts), into.into(), options, out)
    }

    /// Asks every shard where this worker's clock of a clocked table is; see [`Kind::Clock`] for the answers. A worker that
    /// replaced another finds what that one had done.
    pub fn clock(
        &mut self,
        table: TableHandle,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let (target, arguments) = (Target::All, Arguments::Owned(Vec::new()));
        let what = What::Call(Call { target, verb: String::new(), arguments, receive: None });
        self.submit(Kind::Clock, table, what, Vec::new(), Sink::default(), options, out)
    }

    /// Asks every shard to create, freeze or drop a table.
    pub fn control(
        &mut self,
        control: &Control,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let json = serde_json::to_vec(control).map_err(|error| SubmitError::Keys(error.to_string()))?;
        self.submit(Kind::Control, NO_TABLE, What::Control(json), Vec::new(), Sink::default(), options, out)
    }

    /// Opens a task that consists of others: those submitted with it as their [`Options::group`]. It ends when it was
    /// [sealed](WorkerCore::seal) and all of them have ended, with the first failure among them if there is one. They
    /// start when the group does; their own ends are to be taken like any task's.
    pub fn group(&mut self, options: Options, out: &mut dyn Outbox) -> Result<TaskId, SubmitError> {
        let what = What::Group(Group::new());
        self.submit(Kind::Control, NO_TABLE, what, Vec::new(), Sink::default(), options, out)
    }

    pub(super) fn submit_call(
        &mut self,
        table: TableHandle,
        call: Call,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        self.submit(Kind::Call, table, What::Call(call), Vec::new(), Sink::default(), options, out)
    }

    #[expect(clippy::too_many_arguments, reason = "the one road of all public calls")]
    pub(super) fn submit(
        &mut self,
        kind: Kind,
        table: TableHandle,
        what: What,
        parts: Vec<Source>,
        into: Sink,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let mut body = Box::new(Body {
            time: options.time,
            after_time: options.after_time,
            subscribe: options.subscribe,
            early: options.early,
            priority: options.priority,
            parts,
            into,
            callback: options.callback,
            group: options.group,
            filters: options.filters,
            ..Body::new(kind, table, what)
        });
        self.check(&body)?;
        if let Some(group) = options.group {
            self.check_group(group, &options.after)?;
        }
        body.cut(&self.map, self.config.frame_bytes_max);
        self.check_pieces(&body)?;
        let deadline_ns = options.deadline.map_or(u64::MAX, nanos);
        let id = self.tasks.open(deadline_ns).ok_or(SubmitError::TooManyTasks { max: self.tasks.max() })?;
        self.deadline_hint_ns = self.deadline_hint_ns.min(deadline_ns);
        if let Some(task) = self.tasks.get_mut(id) {
            task.body = Some(body);
        }
        self.wait_for(id, &options.after, options.group);
        self.pump(out);
        Ok(id)
    }

    /// Tells the time (on any clock that does not go back): ends tasks whose deadline passed, sends again what needs it,
    /// sends what found no room. Call it after each round of `handle`, and at least as often as deadlines matter.
    pub fn poll(&mut self, now: Duration, out: &mut dyn Outbox) {
        self.now_ns = nanos(now);
        if self.now_ns >= self.deadline_hint_ns {
            self.expire();
        }
        if let Some(after) = self.config.retry_after {
            self.retry(nanos(after));
        }
        self.pump(out);
    }

    /// Whether one more task can be opened now.
    ///
    /// # Errors
    /// [`SubmitError::TooManyTasks`].
    pub fn check_room(&self) -> Result<(), SubmitError> {
        let max = self.tasks.max();
        if self.tasks.used() < max { Ok(()) } else { Err(SubmitError::TooManyTasks { max }) }
    }

    /// Tasks that have not ended or were not taken.
    pub fn open_tasks(&self) -> usize {
        self.tasks.used()
    }

    /// Bytes sent and received so far, by table.
    pub fn traffic(&self) -> &[TableTraffic] {
        self.traffic.tables()
    }

    /// Requests under way or waiting for room, over all shards.
    pub fn open_requests(&self) -> usize {
        let open = |session: &Session| session.flights.len() + session.unsent.len();
        self.sessions.iter().map(open).sum()
    }

    /// Whether something waits for room at this peer (so that a sleeper should watch for it).
    pub fn wants_room(&self, peer: PeerId) -> bool {
        let waits = |session: &Session| !session.unsent.is_empty() || !session.again.is_empty();
        self.sessions.get(peer.0 as usize).is_some_and(waits)
    }

    /// When `poll` has something to do at the latest (a deadline or a repetition); `None` if never.
    pub fn next_wake(&self) -> Option<Duration> {
        let retry = self.sessions.iter().filter(|session| !session.flights.is_empty());
        let retry = retry.map(|session| session.retry_at_ns).min();
        let retry = self.config.retry_after.and(retry).unwrap_or(u64::MAX);
        let wake = retry.min(self.deadline_hint_ns);
        (wake != u64::MAX).then(|| Duration::from_nanos(wake))
    }

    /// Has [`WorkerCore::next_wake`] name this time if nothing comes before.
    pub(crate) fn wake_by(&mut self, at: Duration) {
        self.note_deadline(nanos(at));
    }

    pub(super) fn note_deadline(&mut self, deadline_ns: u64) {
        self.deadline_hint_ns = self.deadline_hint_ns.min(deadline_ns);
    }
}

/// For requests that are about no table.
pub(super) const NO_TABLE: TableHandle =
    TableHandle { id: 0, width: 0, value_type: 0, aggregation: Aggregation::Immediate, not_adding: None };

pub(super) fn sources<A: PushArray>(parts: Vec<A>) -> Vec<Source> {
    parts.into_iter().map(|part| part.into_part().0).collect()
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
