//! Bounded delay: task `t` starts when every task up to `t - 1 - tau` has finished.

use std::collections::VecDeque;

use super::TaskId;

/// Keeps the open tasks of one sequence and says what the next one must wait for.
///
/// `tau = 0` is sequential, `u64::MAX` is eventual; `tau` may change at any time. Rule: start(t) requires finished(j)
/// for all j <= t - 1 - tau (Li et al., OSDI'14, 3.5).
#[derive(Debug, Clone)]
pub struct BoundedDelay {
    tau: u64,
    open: VecDeque<(u64, TaskId)>,
}

impl BoundedDelay {
    /// With delay bound `tau`.
    pub fn new(tau: u64) -> BoundedDelay {
        BoundedDelay { tau, open: VecDeque::new() }
    }

    /// The bound.
    pub fn tau(&self) -> u64 {
        self.tau
    }

    /// Changes the bound for the tasks that start from now on.
    pub fn set_tau(&mut self, tau: u64) {
        self.tau = tau;
    }

    /// The open tasks that task number `time` must wait for: give them to `Options::after`, or wait for them.
    pub fn blockers(&self, time: u64) -> impl Iterator<Item = TaskId> + '_ {
        // j <= time - 1 - tau, written so that it cannot underflow.
        let tau = self.tau;
        let blocks = move |j: u64| j < time && time - j > tau;
        self.open.iter().filter(move |&&(j, _)| blocks(j)).map(|&(_, task)| task)
    }

    /// Whether task number `time` may start now.
    pub fn ready(&self, time: u64) -> bool {
        self.blockers(time).next().is_none()
    }

    /// Notes that task number `time` was submitted as `task`.
    pub fn started(&mut self, time: u64, task: TaskId) {
        self.open.push_back((time, task));
    }

    /// Notes that `task` is finished.
    pub fn finished(&mut self, task: TaskId) {
        self.open.retain(|&(_, open)| open != task);
    }

    /// Open tasks, oldest first, with their numbers.
    pub fn open(&self) -> impl Iterator<Item = (u64, TaskId)> + '_ {
        self.open.iter().copied()
    }
}
