//! The open tasks of a worker: a slab whose ids are never used twice.
//!
//! A one-key push costs one slot and no allocation; everything larger hangs a [`Body`] on its slot.

use super::pieces::Body;
use super::request::{TaskError, TaskId, TaskState};

/// Low bits of a task id: the slot. The rest counts how often the slot was used, so 2^40 times without repetition.
const SLOT_BITS: u32 = 24;

/// The largest number of tasks that can be open at once.
pub(super) const TASKS_MAX: usize = 1 << SLOT_BITS;

pub(super) struct Task {
    id: u64,
    pub state: TaskState,
    /// Pieces not yet answered.
    pub remaining: u32,
    /// Tasks it still waits for.
    pub blockers: u32,
    /// On the caller's clock; `u64::MAX` is never.
    pub deadline_ns: u64,
    /// Tasks that wait for it.
    pub dependents: Vec<TaskId>,
    pub error: Option<TaskError>,
    pub body: Option<Box<Body>>,
}

impl Task {
    /// Not closed: it runs, or something of its end was not taken.
    fn is_used(&self) -> bool {
        self.state != TaskState::Finished || self.body.is_some() || self.error.is_some()
    }
}

pub(super) struct Tasks {
    slots: Vec<Task>,
    free: Vec<u32>,
    max: usize,
}

impl Tasks {
    pub fn new(max: usize) -> Tasks {
        Tasks { slots: Vec::new(), free: Vec::new(), max: max.clamp(1, TASKS_MAX) }
    }

    pub fn max(&self) -> usize {
        self.max
    }

    /// Opens a running task with one piece outstanding; `None` if as many are open as allowed.
    #[inline]
    pub fn open(&mut self, deadline_ns: u64) -> Option<TaskId> {
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None if self.slots.len() < self.max => {
                self.slots.push(Task {
                    id: self.slots.len() as u64,
                    state: TaskState::Finished,
                    remaining: 0,
                    blockers: 0,
                    deadline_ns,
                    dependents: Vec::new(),
                    error: None,
                    body: None,
                });
                self.slots.len() - 1
            }
            None => return None,
        };
        let task = &mut self.slots[slot];
        // The use count rises at every opening, so an id starts at 1 and 0 never names a task.
        task.id += 1 << SLOT_BITS;
        task.state = TaskState::Running;
        task.remaining = 1;
        task.deadline_ns = deadline_ns;
        Some(TaskId(task.id))
    }

    /// The task, unless it was closed.
    #[inline]
    pub fn get(&self, id: TaskId) -> Option<&Task> {
        let task = self.slots.get(id.0 as usize & (TASKS_MAX - 1))?;
        (task.id == id.0 && task.is_used()).then_some(task)
    }

    /// The task, unless it was closed.
    #[inline]
    pub fn get_mut(&mut self, id: TaskId) -> Option<&mut Task> {
        let task = self.slots.get_mut(id.0 as usize & (TASKS_MAX - 1))?;
        (task.id == id.0 && task.is_used()).then_some(task)
    }

    /// Closes the task and hands out what hangs on it.
    pub fn close(&mut self, id: TaskId) -> Option<(Option<Box<Body>>, Option<TaskError>)> {
        let task = self.get_mut(id)?;
        task.state = TaskState::Finished;
        task.dependents.clear();
        let parts = (task.body.take(), task.error.take());
        self.free.push(id.0 as u32 & (TASKS_MAX as u32 - 1));
        Some(parts)
    }

    /// Closes a task without body, error and dependents: the way of a one-key push.
    #[inline]
    pub fn close_plain(&mut self, id: TaskId) {
        if let Some(task) = self.get_mut(id) {
            task.state = TaskState::Finished;
            self.free.push(id.0 as u32 & (TASKS_MAX as u32 - 1));
        }
    }

    /// Ids of tasks that have not ended, with their deadlines.
    pub fn unfinished(&self) -> impl Iterator<Item = (TaskId, u64)> + '_ {
        let open = self.slots.iter().filter(|task| task.state != TaskState::Finished);
        open.map(|task| (TaskId(task.id), task.deadline_ns))
    }

    /// Slots in use (unfinished, or finished and not taken).
    pub fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}
