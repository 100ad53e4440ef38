//! The core itself: submitting, waiting's bookkeeping, ending.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::pieces::{Body, PieceKeys, What};
use super::request::*;
use super::session::{Session, Unsent};
use super::tasks::Tasks;
use crate::key_range::{KeyRange, RangeMap};
use crate::message::{Control, Element, HEADER_BYTES, Kind, PARTS_MAX, VERB_BYTES_MAX, Values, pad64};
use crate::session::{Outbox, PeerId};

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
    /// No deadline passes before this.
    deadline_hint_ns: u64,
}

impl WorkerCore {
    /// A worker that talks to the shards of `map`; shard `i` is `PeerId(i)`.
    pub fn new(config: WorkerConfig, map: Arc<RangeMap>) -> WorkerCore {
        let sessions = (0..map.shards()).map(|_| Session::new()).collect();
        let tasks = Tasks::new(config.tasks_max);
        let config = WorkerConfig { retain: config.retain || config.retry_after.is_some(), ..config };
        let (ready, deadline_hint_ns) = (VecDeque::new(), u64::MAX);
        WorkerCore { config, map, sessions, tasks, ready, now_ns: 0, deadline_hint_ns }
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
    pub fn push<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<Vec<V>>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let parts = parts.into_iter().map(V::wrap).collect();
        self.submit(Kind::Push, table, What::Keys(keys), parts, Values::default(), options, out)
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
        self.submit(Kind::Pull, table, What::Keys(keys), Vec::new(), V::wrap(into), options, out)
    }

    /// Pushes, and pulls the same keys once the push is applied: on a table that aggregates, once the pushes of all
    /// workers for this time are. One round trip.
    pub fn push_pull<V: Element>(
        &mut self,
        table: TableHandle,
        keys: Keys,
        parts: Vec<Vec<V>>,
        into: Vec<V>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let parts = parts.into_iter().map(V::wrap).collect();
        self.submit(Kind::PushPull, table, What::Keys(keys), parts, V::wrap(into), options, out)
    }

    /// Runs `verb` of the table's server function at the target shards.
    pub fn call(
        &mut self,
        table: TableHandle,
        target: Target,
        verb: &str,
        arguments: Vec<u8>,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let what = What::Call(target, verb.to_owned(), arguments);
        self.submit(Kind::Call, table, what, Vec::new(), Values::default(), options, out)
    }

    /// Asks every shard to create, freeze or drop a table.
    pub fn control(
        &mut self,
        control: &Control,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let json = serde_json::to_vec(control).map_err(|error| SubmitError::Keys(error.to_string()))?;
        let table = TableHandle { id: 0, width: 0, value_type: 0, aggregation: Default::default() };
        self.submit(Kind::Control, table, What::Control(json), Vec::new(), Values::default(), options, out)
    }

    #[expect(clippy::too_many_arguments, reason = "the one road of five public calls")]
    fn submit(
        &mut self,
        kind: Kind,
        table: TableHandle,
        what: What,
        parts: Vec<Values>,
        into: Values,
        options: Options,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let mut body = Box::new(Body {
            kind,
            table,
            time: options.time,
            after_time: options.after_time,
            what,
            parts,
            into,
            pieces: Vec::new(),
            found: Vec::new(),
            replies: Vec::new(),
            callback: options.callback,
        });
        self.check(&body)?;
        body.cut(&self.map, self.config.frame_bytes_max);
        self.check_pieces(&body)?;
        let deadline_ns = options.deadline.map_or(u64::MAX, nanos);
        let id = self.tasks.open(deadline_ns).ok_or(SubmitError::TooManyTasks { max: self.tasks.max() })?;
        self.deadline_hint_ns = self.deadline_hint_ns.min(deadline_ns);
        if let Some(task) = self.tasks.get_mut(id) {
            task.body = Some(body);
        }
        self.wait_for(id, &options.after);
        self.pump(out);
        Ok(id)
    }

    fn check(&self, body: &Body) -> Result<(), SubmitError> {
        match &body.what {
            What::Keys(keys) => check_keys(body, keys),
            What::Call(target, verb, arguments) => {
                let shards = self.map.shards();
                if let &Target::Shard(got) = target
                    && got as usize >= shards
                {
                    return Err(SubmitError::NoShard { got, shards });
                }
                check_size("a verb", verb.len(), VERB_BYTES_MAX)?;
                let bytes = HEADER_BYTES + pad64(verb.len()) + arguments.len();
                check_size("a call", bytes, self.config.frame_bytes_max)
            }
            What::Control(json) => {
                check_size("a control request", HEADER_BYTES + json.len(), self.config.frame_bytes_max)
            }
        }
    }

    fn check_pieces(&self, body: &Body) -> Result<(), SubmitError> {
        let row_bytes = body.table.width as usize * crate::message::value_bytes(body.table.value_type).unwrap_or(0);
        let row = HEADER_BYTES + 64 + body.parts.len().max(1) * pad64(row_bytes);
        check_size("a row", row, self.config.frame_bytes_max)?;
        let chunks = body.pieces.iter().map(|piece| usize::from(piece.chunk.count)).max().unwrap_or(0);
        check_size("the chunks of a push", body.pieces.len(), (u32::MAX - 1) as usize)?;
        let collects = body.table.aggregation == crate::table::Aggregation::AllWorkers;
        if collects && body.kind != Kind::Pull && chunks > crate::shard::CHUNKS_MAX {
            let text = format!("an aggregated push in {chunks} frames per shard; at most {}", crate::shard::CHUNKS_MAX);
            return Err(SubmitError::Keys(text));
        }
        for piece in &body.pieces {
            if let Some(reason) = &self.sessions[piece.shard as usize].gone {
                return Err(SubmitError::PeerGone { shard: piece.shard, reason: reason.clone() });
            }
        }
        Ok(())
    }

    /// Registers the task with those it follows; starts it if there are none.
    fn wait_for(&mut self, id: TaskId, after: &[TaskId]) {
        let mut blockers = 0;
        let mut failed = None;
        for &other in after {
            match self.tasks.get_mut(other) {
                Some(task) if task.state != TaskState::Finished => {
                    task.dependents.push(id);
                    blockers += 1;
                }
                Some(task) => failed = failed.or(task.error.clone()),
                None => {}
            }
        }
        if let Some(error) = failed {
            self.end(id, Err(TaskError::Dependency(Box::new(error))));
        } else if let Some(task) = self.tasks.get_mut(id) {
            task.blockers = blockers;
            if blockers == 0 {
                self.ready.push_back(id);
            } else {
                task.state = TaskState::Waiting;
            }
        }
    }

    /// Puts the pieces of a task whose turn has come into the queues of their sessions.
    pub(super) fn start(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.state == TaskState::Finished {
            return;
        }
        task.state = TaskState::Running;
        let Some(body) = &mut task.body else { return };
        if let Some(values) = answer_len(body) {
            resize(&mut body.into, values);
        }
        task.remaining = body.pieces.len() as u32;
        let is_call = matches!(body.kind, Kind::Call | Kind::Control);
        for (piece, to) in body.pieces.iter().enumerate() {
            let unsent = Unsent { task: id, piece: piece as u32, is_call };
            self.sessions[to.shard as usize].unsent.push_back(unsent);
        }
        if task.remaining == 0 {
            self.end(id, Ok(()));
        }
    }

    /// Ends a task: runs its callback or keeps its outcome for `take`, and wakes those that follow it.
    pub(super) fn end(&mut self, id: TaskId, result: Result<(), TaskError>) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.state == TaskState::Finished {
            return;
        }
        task.state = TaskState::Finished;
        task.error = result.err();
        let dependents = std::mem::take(&mut task.dependents);
        let failure = task.error.clone();
        let has_callback = task.body.as_ref().is_some_and(|body| body.callback.is_some());
        if task.body.is_none() && task.error.is_none() {
            task.state = TaskState::Running; // so that close sees an open task
            self.tasks.close_plain(id);
        } else if has_callback && let Some((Some(mut body), error)) = self.tasks.close(id) {
            let callback = body.callback.take();
            let result = error.map_or_else(|| Ok(outcome(body)), Err);
            if let Some(callback) = callback {
                callback(id, result);
            }
        }
        for dependent in dependents {
            self.unblock(dependent, &failure);
        }
    }

    fn unblock(&mut self, id: TaskId, failure: &Option<TaskError>) {
        if let Some(error) = failure {
            return self.end(id, Err(TaskError::Dependency(Box::new(error.clone()))));
        }
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.blockers = task.blockers.saturating_sub(1);
        if task.blockers == 0 && task.state == TaskState::Waiting {
            self.ready.push_back(id);
        }
    }

    /// Where the task stands; a task that was taken, or a one-key push that went well, is finished.
    pub fn state(&self, id: TaskId) -> TaskState {
        self.tasks.get(id).map_or(TaskState::Finished, |task| task.state)
    }

    /// Takes the end of a finished task; `None` while it is unfinished. A task taken before, and a one-key push that
    /// went well, give an empty outcome.
    pub fn take(&mut self, id: TaskId) -> Option<Result<Outcome, TaskError>> {
        match self.tasks.get(id) {
            Some(task) if task.state != TaskState::Finished => return None,
            _ => {}
        }
        let Some((body, error)) = self.tasks.close(id) else { return Some(Ok(Outcome::default())) };
        Some(match (body, error) {
            (_, Some(error)) => Err(error),
            (Some(body), None) => Ok(outcome(body)),
            (None, None) => Ok(Outcome::default()),
        })
    }

    /// Ends a task early. What was sent may still be applied.
    pub fn cancel(&mut self, id: TaskId, out: &mut dyn Outbox) {
        self.end(id, Err(TaskError::Cancelled));
        self.pump(out);
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

    fn expire(&mut self) {
        let now_ns = self.now_ns;
        let late: Vec<TaskId> =
            self.tasks.unfinished().filter(|&(_, deadline)| deadline <= now_ns).map(|(id, _)| id).collect();
        for id in late {
            let missing = self.missing(id);
            self.end(id, Err(TaskError::TimedOut { missing }));
        }
        self.deadline_hint_ns = self.tasks.unfinished().map(|(_, deadline)| deadline).min().unwrap_or(u64::MAX);
    }

    /// Which shards a task waits for, in words.
    fn missing(&self, id: TaskId) -> String {
        if self.tasks.get(id).is_some_and(|task| task.state == TaskState::Waiting) {
            return "the tasks it follows".to_owned();
        }
        let owes = |session: &Session| {
            session.flights.iter().any(|flight| flight.task == Some(id))
                || session.unsent.iter().any(|unsent| unsent.task == id)
        };
        let shards = self.sessions.iter().enumerate().filter(|(_, session)| owes(session));
        let names: Vec<String> = shards.map(|(shard, _)| format!("shard {shard}")).collect();
        names.join(", ")
    }

    /// Gives up on a shard for good: ends every task that still needs it, and refuses new ones.
    pub fn fail(&mut self, peer: PeerId, reason: &str, out: &mut dyn Outbox) {
        let Some(session) = self.sessions.get_mut(peer.0 as usize) else { return };
        session.gone = Some(reason.to_owned());
        let under_way = session.flights.iter().filter_map(|flight| flight.task);
        let mut tasks: Vec<TaskId> = under_way.chain(session.unsent.iter().map(|unsent| unsent.task)).collect();
        session.unsent.clear();
        session.again.clear();
        tasks.sort_unstable();
        tasks.dedup();
        for id in tasks {
            self.end(id, Err(TaskError::PeerGone { shard: peer.0, reason: reason.to_owned() }));
        }
        self.pump(out);
    }

    /// Tasks that have not ended or were not taken.
    pub fn open_tasks(&self) -> usize {
        self.tasks.used()
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

    pub(super) fn note_deadline(&mut self, deadline_ns: u64) {
        self.deadline_hint_ns = self.deadline_hint_ns.min(deadline_ns);
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn check_size(what: &'static str, got: usize, max: usize) -> Result<(), SubmitError> {
    if got <= max { Ok(()) } else { Err(SubmitError::TooLarge { what, got, max }) }
}

fn check_keys(body: &Body, keys: &Keys) -> Result<(), SubmitError> {
    let count = match keys {
        Keys::List(list) => list.len(),
        Keys::ListIn(list, range) => {
            if let Some(span) = list.span().filter(|span| !range.covers(*span)) {
                return Err(SubmitError::Keys(format!("the list's keys {span} leave the task's range {range}")));
            }
            list.len()
        }
        Keys::Range(range) => usize::try_from(range.count()).ok().filter(|&count| count < 1 << 40).ok_or_else(
            || SubmitError::Keys(format!("the range {range} has too many keys; use Keys::Existing")),
        )?,
        Keys::Existing(_) if body.kind == Kind::Pull => 0,
        Keys::Existing(range) => {
            return Err(SubmitError::Keys(format!("existing keys of {range} can only be pulled")));
        }
    };
    let (max, expected_type) = (PARTS_MAX, body.table.value_type);
    for (part, values) in body.parts.iter().chain([&body.into]).enumerate() {
        let (got, got_type) = (body.parts.len(), type_code(values));
        let matters = part < body.parts.len() || body.kind != Kind::Push;
        if matters && got_type != expected_type || got > max {
            return Err(SubmitError::Arrays { max, expected_type, got, got_type });
        }
    }
    let expected = count * body.table.width as usize;
    match body.parts.iter().position(|values| values.len() != expected) {
        Some(part) => Err(SubmitError::ArrayLength { part, expected, got: body.parts[part].len() }),
        None => Ok(()),
    }
}

fn type_code(values: &Values) -> u8 {
    match values {
        Values::F32(_) => f32::CODE,
        Values::F64(_) => f64::CODE,
    }
}

/// How many values the answers bring, if that is known beforehand.
fn answer_len(body: &Body) -> Option<usize> {
    let What::Keys(keys) = &body.what else { return None };
    let rows = match keys {
        _ if body.kind == Kind::Push => return None,
        Keys::List(list) | Keys::ListIn(list, _) => list.len(),
        Keys::Range(range) => range.count() as usize,
        Keys::Existing(_) => 0,
    };
    Some(rows * body.table.width as usize)
}

fn resize(values: &mut Values, len: usize) {
    match values {
        Values::F32(values) => values.resize(len, 0.0),
        Values::F64(values) => values.resize(len, 0.0),
    }
}

fn outcome(body: Box<Body>) -> Outcome {
    let Body { parts, into, mut found, mut replies, .. } = *body;
    replies.sort_by_key(|&(shard, _)| shard);
    found.sort_by_key(|found| found.first);
    let mut outcome = Outcome { parts, values: into, keys: Vec::new(), replies };
    for piece in found {
        outcome.keys.extend_from_slice(&piece.keys);
        match (&mut outcome.values, piece.values) {
            (Values::F32(all), Values::F32(values)) => all.extend_from_slice(&values),
            (Values::F64(all), Values::F64(values)) => all.extend_from_slice(&values),
            _ => {}
        }
    }
    outcome
}

/// The next piece of an existing-keys pull whose answer stopped at `last`.
pub(super) fn rest_of(range: KeyRange, last: u64) -> Option<(KeyRange, PieceKeys)> {
    let first = last.checked_add(1)?;
    Some((KeyRange::new(first, range.last()).ok()?, PieceKeys::Existing))
}
