//! Tasks that consist of other tasks.
//!
//! A group is opened, given sub-tasks (requests and other groups, by [`Options::group`](super::Options)), and sealed. It
//! ends when it is sealed and all of them have ended; if one failed, with the first failure. What a group waits for, its
//! sub-tasks wait for; when it is cancelled, times out or loses what it follows, so do they.

use std::collections::HashSet;

use super::core::WorkerCore;
use super::pieces::What;
use super::request::{SubmitError, TaskError, TaskId, TaskState};
use crate::session::Outbox;

/// What hangs on a group beside what hangs on every task. Its `remaining` counts open sub-tasks, plus one until sealed.
pub(super) struct Group {
    /// Sub-tasks; some of them may have ended.
    children: Vec<TaskId>,
    /// The first failure among them.
    failure: Option<TaskError>,
    is_sealed: bool,
}

impl Group {
    pub fn new() -> Group {
        Group { children: Vec::new(), failure: None, is_sealed: false }
    }
}

impl WorkerCore {
    /// Says that `group` gets no more sub-tasks: from now on it can end.
    ///
    /// # Errors
    /// [`SubmitError::Group`] unless it is a group that is neither sealed nor ended.
    pub fn seal(&mut self, group: TaskId, out: &mut dyn Outbox) -> Result<(), SubmitError> {
        self.check_open(group)?.is_sealed = true;
        if let Some(task) = self.tasks.get_mut(group) {
            task.remaining -= 1;
            if task.remaining == 0 && task.state == TaskState::Running {
                self.end_group(group);
            }
        }
        self.pump(out);
        Ok(())
    }

    fn check_open(&mut self, id: TaskId) -> Result<&mut Group, SubmitError> {
        let refuse = |text: &str| Err(SubmitError::Group { group: id.to_number(), text: text.to_owned() });
        let Some(task) = self.tasks.get_mut(id).filter(|task| task.state != TaskState::Finished) else {
            return refuse("has ended");
        };
        match task.body.as_mut().map(|body| &mut body.what) {
            Some(What::Group(group)) if !group.is_sealed => Ok(group),
            Some(What::Group(_)) => refuse("is sealed"),
            _ => refuse("is no group"),
        }
    }

    /// Whether a task of `group` that follows `after` could ever end.
    pub(super) fn check_group(&mut self, group: TaskId, after: &[TaskId]) -> Result<(), SubmitError> {
        self.check_open(group)?;
        if after.is_empty() {
            return Ok(());
        }
        let waiting = self.waiting_for(group);
        match after.iter().any(|&task| waiting.contains(&(task, true)) || waiting.contains(&(task, false))) {
            true => {
                let text =
                    "would wait for itself: its new sub-task follows what waits for the group".to_owned();
                Err(SubmitError::Group { group: group.to_number(), text })
            }
            false => Ok(()),
        }
    }

    /// All tasks that cannot end before `id` has, itself included, each with whether it cannot even start before that.
    fn waiting_for(&self, id: TaskId) -> HashSet<(TaskId, bool)> {
        let (mut found, mut todo) = (HashSet::from([(id, false)]), vec![(id, false)]);
        while let Some((id, cannot_start)) = todo.pop() {
            let Some(task) = self.tasks.get(id) else { continue };
            let body = task.body.as_deref();
            let followers = task.dependents.iter().map(|&next| (next, true));
            let group = body.and_then(|body| body.group).map(|next| (next, false));
            let children = match body.map(|body| &body.what) {
                Some(What::Group(group)) if cannot_start => group.children.as_slice(),
                _ => &[],
            };
            let children = children.iter().map(|&next| (next, true));
            let open = |id| self.tasks.get(id).is_some_and(|task| task.state != TaskState::Finished);
            let next = followers.chain(group).chain(children);
            todo.extend(next.filter(|&(next, how)| open(next) && found.insert((next, how))));
        }
        found
    }

    /// Makes `child` a sub-task of `group`. True if it has to wait until the group starts.
    pub(super) fn join(&mut self, child: TaskId, group: TaskId) -> bool {
        let tasks = &self.tasks;
        let open = |id: TaskId| tasks.get(id).is_some_and(|task| task.state != TaskState::Finished);
        // Those that have ended are dropped now and then, so that a long-lived group stays small.
        let crowded = |children: &[TaskId], open: usize| children.len() > 2 * open + 64;
        let kept: Option<Vec<TaskId>> = tasks.get(group).and_then(|task| match &task.body.as_ref()?.what {
            What::Group(group) if crowded(&group.children, task.remaining as usize) => {
                Some(group.children.iter().copied().filter(|&child| open(child)).collect())
            }
            _ => None,
        });
        let Some(task) = self.tasks.get_mut(group) else { return false };
        task.remaining += 1;
        if let Some(What::Group(group)) = task.body.as_mut().map(|body| &mut body.what) {
            group.children = kept.unwrap_or_else(|| std::mem::take(&mut group.children));
            group.children.push(child);
        }
        task.state == TaskState::Waiting
    }

    /// Starts a group whose turn has come: its sub-tasks need not wait for it any longer.
    pub(super) fn start_group(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get(id) else { return };
        if task.remaining == 0 {
            return self.end_group(id);
        }
        for child in self.children(id) {
            self.unblock(child);
        }
    }

    /// The sub-tasks of `id`, if it is a group.
    pub(super) fn children(&self, id: TaskId) -> Vec<TaskId> {
        match self.tasks.get(id).and_then(|task| task.body.as_ref()).map(|body| &body.what) {
            Some(What::Group(group)) => group.children.clone(),
            _ => Vec::new(),
        }
    }

    /// Notes the end of a sub-task; returns how its group ends if that was the last one.
    pub(super) fn child_ended(
        &mut self,
        group: TaskId,
        failure: &Option<TaskError>,
    ) -> Option<Option<TaskError>> {
        let task = self.tasks.get_mut(group).filter(|task| task.state != TaskState::Finished)?;
        task.remaining -= 1;
        let (ends, body) = (task.remaining == 0 && task.state == TaskState::Running, task.body.as_mut()?);
        let What::Group(group) = &mut body.what else { return None };
        if let (None, Some(error)) = (&group.failure, failure) {
            group.failure = Some(error.of_subtask());
        }
        ends.then(|| group.failure.take())
    }

    fn end_group(&mut self, id: TaskId) {
        let body = self.tasks.get_mut(id).and_then(|task| task.body.as_mut());
        let failure = match body.map(|body| &mut body.what) {
            Some(What::Group(group)) => group.failure.take(),
            _ => None,
        };
        self.end(id, failure.map_or(Ok(()), Err));
    }
}
