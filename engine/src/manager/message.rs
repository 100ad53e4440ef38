//! What nodes and manager say to each other: one JSON object a line.
//!
//! Nothing here is trusted: lines are bounded by [`super::line`], numbers are checked by the core.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::address::Address;
use super::host::HostFingerprint;

/// What a node does in the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Owns key ranges: one shard a thread.
    Server,
    /// Pushes and pulls.
    Worker,
}

/// A node's name in every message to people: "server 0", "worker 3".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeName {
    /// What it does.
    pub role: Role,
    /// Its number among the nodes of that role, from 0.
    pub rank: u32,
}

impl NodeName {
    /// The server of this rank.
    pub fn server(rank: u32) -> Self {
        NodeName { role: Role::Server, rank }
    }

    /// The worker of this rank.
    pub fn worker(rank: u32) -> Self {
        NodeName { role: Role::Worker, rank }
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Server => "server",
            Role::Worker => "worker",
        };
        write!(f, "{role} {}", self.rank)
    }
}

/// What a node tells the manager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToManager {
    /// The first line: who I am and where I can be reached.
    Register(Registration),
    /// Every link this node needs is up.
    Ready {
        /// "server 0: shm (same host)" and so on: what was chosen for each peer, and why.
        carriers: Vec<String>,
    },
    /// I am alive. Sent at a steady pace by a thread that does nothing else.
    Heartbeat,
    /// A worker arrived at a barrier.
    Barrier {
        /// The barrier's name; bounded by [`NAME_BYTES_MAX`].
        name: String,
    },
    /// For the launcher's eyes, while the job runs.
    Progress {
        /// Whatever the application says.
        body: Value,
    },
    /// For the launcher's report at the end.
    Report {
        /// Whatever the application says.
        body: Value,
    },
    /// Done; closing this connection is in order from now on.
    Finish,
    /// This node cannot go on.
    Failed {
        /// Why, for people.
        reason: String,
    },
}

/// A node's introduction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// What it does.
    pub role: Role,
    /// The rank it wants; without one, the lowest free rank.
    pub rank: Option<u32>,
    /// Its process id, for people.
    pub pid: u32,
    /// Which host (and network namespace) it lives in.
    pub host: HostFingerprint,
    /// How many shards it runs (servers, at least 1; workers 0).
    pub shards: u32,
    /// Where it listens for data links (servers).
    pub addresses: Vec<Address>,
    /// The link layer of its RDMA port, if it can use one (servers).
    #[serde(default)]
    pub verbs: Option<String>,
}

/// A server as the workers see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Its rank.
    pub rank: u32,
    /// Which host it lives in.
    pub host: HostFingerprint,
    /// The global number of its first shard; the others follow.
    pub shard_first: u32,
    /// How many shards it runs.
    pub shards: u32,
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// The link layer of its RDMA port, if it can use one.
    #[serde(default)]
    pub verbs: Option<String>,
}

/// Everything a node needs to begin, sent to all of them when the last one has registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// The receiver's own rank.
    pub rank: u32,
    /// How many workers there are.
    pub workers: u32,
    /// Shards and workers on the receiver's own host: so many threads want its cores.
    pub busy_threads: u32,
    /// The servers in rank order.
    pub servers: Vec<ServerInfo>,
    /// First and last key (inclusive) to be split evenly over all shards.
    pub keys: (u64, u64),
    /// Receive ring of each data link.
    pub ring_bytes: u32,
    /// Requests under way per worker and shard, at most.
    pub window_requests: u32,
    /// The job's parameters as the launcher gave them.
    pub parameters: Value,
}

impl Start {
    /// How many shards there are over all servers.
    pub fn shards(&self) -> u32 {
        self.servers.iter().map(|server| server.shards).sum()
    }
}

/// What the manager tells a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum FromManager {
    /// This node has no place in the job; the connection closes.
    Refused {
        /// Expected, got, what to do.
        reason: String,
    },
    /// Everybody is here.
    Start(Box<Start>),
    /// All workers arrived.
    BarrierDone {
        /// The barrier's name.
        name: String,
    },
    /// Some workers have not arrived yet (sent now and then to those who wait).
    BarrierMissing {
        /// The barrier's name.
        name: String,
        /// Who is missing.
        missing: Vec<NodeName>,
    },
    /// A node says nothing (stopped, or its host overloaded). It is not given up.
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
    /// All workers finished; servers end now.
    Stop,
    /// The job failed; everybody ends now.
    Abort {
        /// Who caused it, if a node did.
        culprit: Option<NodeName>,
        /// Why, naming the culprit.
        reason: String,
    },
}

/// Names of barriers are at most this long.
pub const NAME_BYTES_MAX: usize = 256;

/// A server runs at most this many shards.
pub const SHARDS_MAX: u32 = 4096;
