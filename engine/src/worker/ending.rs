//! How tasks start, follow each other and end.

use super::arrays::Source;
use super::core::WorkerCore;
use super::pieces::{Body, What};
use super::request::{Keys, Outcome, TaskError, TaskId, TaskState};
use super::session::{Session, Unsent};
use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::{Kind, Values};
use crate::session::{Outbox, PeerId};

impl WorkerCore {
    /// Registers the task with those it follows and with its group; starts it if there is nothing to wait for.
    pub(super) fn wait_for(&mut self, id: TaskId, after: &[TaskId], group: Option<TaskId>) {
        let mut blockers = group.map_or(0, |group| u32::from(self.join(id, group)));
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
            self.end(id, Err(error.of_dependency()));
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
        if matches!(body.what, What::Group(_)) {
            return self.start_group(id);
        }
        if let Some(values) = answer_len(body) {
            body.into.resize(values);
        }
        task.remaining = body.pieces.len() as u32;
        let is_call = matches!(body.kind, Kind::Call | Kind::Control | Kind::Clock | Kind::Graph);
        for (piece, to) in body.pieces.iter().enumerate() {
            let unsent = Unsent { task: id, piece: piece as u32, is_call, priority: body.priority };
            self.sessions[to.shard as usize].queue(unsent);
        }
        if task.remaining == 0 {
            self.end(id, Ok(()));
        }
    }

    /// Ends a task, and with it all whose end follows from that: those that follow it if it failed, its group if it was
    /// the last sub-task, its sub-tasks if it fails before they have ended.
    pub(super) fn end(&mut self, id: TaskId, result: Result<(), TaskError>) {
        if result.is_ok() && self.end_alone(id) {
            return;
        }
        let mut ends = VecDeque::new(); // not recursion: a chain of tasks may be long
        self.end_one(id, result.err(), &mut ends);
        while let Some((id, failure)) = ends.pop_front() {
            self.end_one(id, failure, &mut ends);
        }
    }

    /// The common end: the task went well and nothing follows from that. False if something does, with nothing done.
    #[inline]
    fn end_alone(&mut self, id: TaskId) -> bool {
        let Some(task) = self.tasks.get_mut(id) else { return true };
        if task.state == TaskState::Finished {
            return true;
        }
        let has_more = |body: &Body| body.callback.is_some() || body.group.is_some();
        if !task.dependents.is_empty() || task.body.as_deref().is_some_and(has_more) {
            return false;
        }
        if task.body.is_some() {
            task.state = TaskState::Finished;
        } else {
            self.tasks.close_plain(id);
        }
        true
    }

    /// Runs the callback of a task or keeps its outcome for `take`, and wakes those that follow it.
    fn end_one(
        &mut self,
        id: TaskId,
        failure: Option<TaskError>,
        ends: &mut VecDeque<(TaskId, Option<TaskError>)>,
    ) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.state == TaskState::Finished {
            return;
        }
        let dependents = std::mem::take(&mut task.dependents);
        let has_callback = task.body.as_ref().is_some_and(|body| body.callback.is_some());
        let group = task.body.as_ref().and_then(|body| body.group);
        let orphans = if failure.is_some() { self.children(id) } else { Vec::new() };
        let Some(task) = self.tasks.get_mut(id) else { return };
        if task.body.is_none() && failure.is_none() {
            self.tasks.close_plain(id);
        } else {
            task.state = TaskState::Finished;
            task.error.clone_from(&failure);
            if failure.is_some() && task.remaining > 0 {
                self.has_strays = true;
                self.keep_lent(id);
            }
        }
        if has_callback && let Some((Some(mut body), error)) = self.tasks.close(id) {
            let callback = body.callback.take();
            let result = error.map_or_else(|| Ok(outcome(body)), Err);
            if let Some(callback) = callback {
                callback(id, result);
            }
        }
        for dependent in dependents {
            match &failure {
                Some(error) => ends.push_back((dependent, Some(error.of_dependency()))),
                None => self.unblock(dependent),
            }
        }
        for child in orphans {
            let error = match &failure {
                Some(TaskError::TimedOut { .. }) => TaskError::TimedOut { missing: self.missing(child) },
                error => error.clone().unwrap_or(TaskError::Cancelled),
            };
            ends.push_back((child, Some(error)));
        }
        if let Some(group) = group
            && let Some(end) = self.child_ended(group, &failure)
        {
            ends.push_back((group, end));
        }
    }

    /// A shard may still come to read the lent arrays of a task that fails: keeps them until it has answered.
    fn keep_lent(&mut self, id: TaskId) {
        let Some(body) = self.tasks.get_mut(id).and_then(|task| task.body.as_mut()) else { return };
        let lent: Vec<Source> = body.parts.extract_if(.., |part| part.lent().is_some()).collect();
        if !lent.is_empty() {
            let lent = Arc::new(lent);
            self.sessions.iter_mut().for_each(|session| session.keep(id, &lent));
        }
    }

    /// Forgets what is under way for tasks that have failed: one pass for all of them.
    pub(super) fn forget_strays(&mut self) {
        if std::mem::take(&mut self.has_strays) {
            let tasks = &self.tasks;
            let live = |id| tasks.get(id).is_some_and(|task| task.state != TaskState::Finished);
            self.sessions.iter_mut().for_each(|session| session.forget(live));
        }
    }

    /// One thing less that the task waits for.
    pub(super) fn unblock(&mut self, id: TaskId) {
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

    pub(super) fn expire(&mut self) {
        let now_ns = self.now_ns;
        let late: Vec<TaskId> =
            self.tasks.unfinished().filter(|&(_, deadline)| deadline <= now_ns).map(|(id, _)| id).collect();
        for id in late {
            let missing = self.missing(id);
            self.end(id, Err(TaskError::TimedOut { missing }));
        }
        self.deadline_hint_ns =
            self.tasks.unfinished().map(|(_, deadline)| deadline).min().unwrap_or(u64::MAX);
    }

    /// Which shards a task waits for, in words.
    fn missing(&self, id: TaskId) -> String {
        if self.tasks.get(id).is_some_and(|task| task.state == TaskState::Waiting) {
            return "the tasks it follows".to_owned();
        }
        if !self.children(id).is_empty() {
            return "its sub-tasks".to_owned();
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
        let mut tasks: Vec<TaskId> =
            under_way.chain(session.unsent.iter().map(|unsent| unsent.task)).collect();
        session.unsent.clear();
        session.again.clear();
        tasks.sort_unstable();
        tasks.dedup();
        for id in tasks {
            self.end(id, Err(TaskError::PeerGone { shard: peer.0, reason: reason.to_owned() }));
        }
        self.pump(out);
    }
}

/// How many values the answers bring, if that is known beforehand.
pub(super) fn answer_len(body: &Body) -> Option<usize> {
    let What::Keys(keys) = &body.what else { return None };
    let rows = match keys {
        _ if body.kind == Kind::Push => return None,
        Keys::List(list) | Keys::ListIn(list, _) => list.len(),
        Keys::Range(range) => range.count() as usize,
        Keys::Existing(_) => 0,
    };
    Some(rows * body.table.width as usize)
}

fn outcome(body: Box<Body>) -> Outcome {
    let Body { what, parts, into, mut found, mut replies, mut clocks, .. } = *body;
    replies.sort_by_key(|&(shard, _)| shard);
    found.sort_by_key(|found| found.first);
    clocks.sort_unstable_by_key(|(rows, _)| rows.start);
    let mut outcome = Outcome { values: into.into_values(), clocks, replies, ..Outcome::default() };
    if let What::Graph(graph) = what {
        let ends = graph.into_nodes().into_iter();
        outcome.nodes = ends
            .map(|(body, failure)| failure.map_or_else(|| Ok(self::outcome(Box::new(body))), Err))
            .collect();
    }
    for part in parts {
        match part {
            Source::Owned(values) => outcome.parts.push(values),
            Source::Lent(lent) => outcome.lent.push(lent),
            Source::Borrowed(_) => {}
        }
    }
    for piece in found {
        let start = outcome.keys.len();
        outcome.keys.extend_from_slice(&piece.keys);
        outcome.clocks.extend(piece.clock.map(|clock| (start..outcome.keys.len(), clock)));
        match (&mut outcome.values, piece.values) {
            (Values::F32(all), Values::F32(values)) => all.extend_from_slice(&values),
            (Values::F64(all), Values::F64(values)) => all.extend_from_slice(&values),
            _ => {}
        }
    }
    outcome
}
