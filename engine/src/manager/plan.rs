//! A job's size and deadlines, how it ends, and what the launcher hears meanwhile.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;

use super::message::{NodeName, SHARDS_MAX};

/// What the job consists of and how long things may take.
#[derive(Debug, Clone, PartialEq)]
pub struct JobPlan {
    /// How many servers register.
    pub servers: u32,
    /// How many workers register.
    pub workers: u32,
    /// Every node must have registered this long after the start, and must have all its links this long after
    /// that.
    pub join_deadline: Duration,
    /// Servers have this long to end after the last worker finished.
    pub stop_deadline: Duration,
    /// A node that says nothing for this long is reported as silent (never given up for that).
    pub silent_after: Duration,
    /// First and last key (inclusive) split evenly over the shards; keys outside belong to the outermost ones.
    pub keys: (u64, u64),
    /// Receive ring of each data link, a power of two from 4 KiB; a frame is at most a quarter of it.
    pub ring_bytes: u32,
    /// Requests under way per worker and shard, at most; also what a shard remembers to recognise repetitions.
    pub window_requests: u32,
    /// Handed to each node at its start.
    pub parameters: Value,
}

impl JobPlan {
    /// A job of this size with usual deadlines over the whole key space.
    pub fn new(servers: u32, workers: u32) -> Self {
        JobPlan {
            servers,
            workers,
            join_deadline: Duration::from_secs(20),
            stop_deadline: Duration::from_secs(10),
            silent_after: Duration::from_millis(1500),
            keys: (0, u64::MAX),
            ring_bytes: 1 << 20,
            window_requests: 1 << 14,
            parameters: Value::Null,
        }
    }
}

/// A plan that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what}: expected {expected}, got {got}")]
pub struct PlanError {
    /// Which field.
    pub what: &'static str,
    /// What would do.
    pub expected: &'static str,
    /// What was given.
    pub got: String,
}

impl JobPlan {
    /// Refuses what cannot be.
    pub fn check(&self) -> Result<(), PlanError> {
        let wrong = |what, expected, got: String| Err(PlanError { what, expected, got });
        if self.servers == 0 || self.servers > SHARDS_MAX {
            return wrong("servers", "1 to 4096", self.servers.to_string());
        }
        if self.workers == 0 {
            return wrong("workers", "at least 1", self.workers.to_string());
        }
        if self.keys.0 > self.keys.1 {
            return wrong("keys", "first <= last", format!("{:?}", self.keys));
        }
        if !self.ring_bytes.is_power_of_two() || !(1 << 12..=1 << 30).contains(&self.ring_bytes) {
            return wrong("ring_bytes", "a power of two from 4 KiB to 1 GiB", self.ring_bytes.to_string());
        }
        if !self.window_requests.is_power_of_two() || !(64..=1 << 20).contains(&self.window_requests) {
            return wrong(
                "window_requests",
                "a power of two from 64 to 2^20",
                self.window_requests.to_string(),
            );
        }
        Ok(())
    }
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// Every node finished.
    Finished,
    /// It failed.
    Aborted {
        /// Who caused it, if a node did.
        culprit: Option<NodeName>,
        /// Why, naming the culprit.
        reason: String,
    },
}

impl fmt::Display for JobEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JobEnd::Finished => f.write_str("finished"),
            JobEnd::Aborted { reason, .. } => write!(f, "aborted: {reason}"),
        }
    }
}

/// What the launcher hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A node registered.
    Joined {
        /// Who.
        node: NodeName,
        /// Its process.
        pid: u32,
    },
    /// A node has all its links.
    Linked {
        /// Who.
        node: NodeName,
        /// One line for each peer: carrier and reason.
        carriers: Vec<String>,
    },
    /// Every node has all its links.
    Running,
    /// Progress of a node.
    Progress {
        /// Who.
        node: NodeName,
        /// What it says.
        body: Value,
    },
    /// A part of the final report.
    Report {
        /// Who.
        node: NodeName,
        /// What it says.
        body: Value,
    },
    /// A node says nothing.
    Silent {
        /// Who.
        node: NodeName,
        /// For how long.
        silent_ms: u64,
    },
    /// A silent node speaks again.
    Back {
        /// Who.
        node: NodeName,
    },
    /// A peer was turned away (wrong secret, another job, no free rank).
    Refused {
        /// Who and why.
        reason: String,
    },
    /// A node finished.
    Left {
        /// Who.
        node: NodeName,
    },
    /// The job is over. Nothing follows.
    Ended(JobEnd),
}
