//! What can be asked of a worker's core, and how it can end.

use std::ops::Range;
use std::time::Duration;

use thiserror::Error;

use crate::filter::Filters;
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange};
use crate::message::{DecodeError, GraphError, Lent, RefusalCode, Values};
use crate::table::{Aggregation, TableSpec};

/// Names a task of one worker core; never reused within its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TaskId(pub(super) u64);

impl TaskId {
    /// The id as a number, never 0.
    pub fn to_number(self) -> u64 {
        self.0
    }

    /// The id that this number came from; any other number names no task, or one that has ended.
    pub fn from_number(number: u64) -> TaskId {
        TaskId(number)
    }
}

/// What a worker must know of a table to talk about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableHandle {
    /// Number of the table.
    pub id: u16,
    /// Values per key.
    pub width: u32,
    /// Code of the value type in messages.
    pub value_type: u8,
    /// When pushes are applied.
    pub aggregation: Aggregation,
    /// The name of its function, if that is known not to add what is pushed: see [`FunctionSpec::not_adding`](crate::table::FunctionSpec::not_adding).
    pub not_adding: Option<&'static str>,
}

impl From<&TableSpec> for TableHandle {
    fn from(spec: &TableSpec) -> TableHandle {
        TableHandle {
            id: spec.id,
            width: spec.width,
            value_type: spec.value_type as u8,
            aggregation: spec.aggregation,
            not_adding: spec.function.not_adding(),
        }
    }
}

/// Which keys a request is about.
#[derive(Debug, Clone)]
pub enum Keys {
    /// The keys of a list. On a table that aggregates over all workers the task's range is all keys.
    List(KeyList),
    /// The keys of a list, all inside the task's range. On a table that aggregates over all workers, every worker
    /// must give the same range for the same time: each shard the range touches awaits one contribution of each.
    ListIn(KeyList, KeyRange),
    /// Every key of the range, present or not (missing ones read as 0).
    Range(KeyRange),
    /// Pull only: the keys of the range that exist; the outcome names them.
    Existing(KeyRange),
}

/// Called once with the end of its task, from inside `handle` or `poll`.
pub type Callback = Box<dyn FnOnce(TaskId, Result<Outcome, TaskError>) + Send>;

/// How a task is to be run. `Options::default()` starts at once, never expires, at time 0.
#[derive(Default)]
pub struct Options {
    /// The caller's task number; aggregated updates are matched by it.
    pub time: u64,
    /// The task starts when all of these are finished, and fails if one of them fails.
    pub after: Vec<TaskId>,
    /// The group this task is a sub-task of; see [`WorkerCore::group`](super::WorkerCore::group).
    pub group: Option<TaskId>,
    /// Pull only: answer when update `time` of the table is finished at each shard.
    pub after_time: bool,
    /// Pull of a clocked table only: have the rows sent again whenever somebody has changed them.
    pub subscribe: bool,
    /// Clocked tables only. Push: these are increments of a clock that is not closed, the so manieth part of them, from 1; 0
    /// closes the clock. Pull of existing keys: not 0 asks for what this worker's predecessor pushed so.
    pub early: u32,
    /// Requests of a higher priority leave before those of a lower one that wait for room; otherwise first in, first out.
    pub priority: i32,
    /// When to give up, on the clock given to `poll`.
    pub deadline: Option<Duration>,
    /// Takes the end of the task instead of `take`.
    pub callback: Option<Callback>,
    /// How keys and values travel; by default as they are, key lists by signature.
    pub filters: Filters,
}

impl Options {
    /// Default options at time `time`.
    pub fn at(time: u64) -> Options {
        Options { time, ..Options::default() }
    }
}

/// Which shards a call goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All of them.
    All,
    /// The shard with this index.
    Shard(u32),
    /// The shard that owns this key.
    OwnerOf(Key),
}

/// What a task brought back.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// The arrays that were pushed, returned.
    pub parts: Vec<Values>,
    /// The lent arrays that were pushed, returned.
    pub lent: Vec<Lent>,
    /// What was pulled, in key order; otherwise the array that was given.
    pub values: Values,
    /// The keys the values belong to, for [`Keys::Existing`] only.
    pub keys: Vec<Key>,
    /// Pull of a clocked table, by rows in order: no worker's clock was below this when the values of these rows were read.
    /// Each answer has a clock of its own, for one shard hears of a push before another does.
    pub clocks: Vec<(Range<usize>, u64)>,
    /// Answers of a call by shard, in shard order.
    pub replies: Vec<(u32, Vec<u8>)>,
    /// How each node of a graph ended.
    pub nodes: Vec<Result<Outcome, TaskError>>,
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TaskState {
    /// It waits for other tasks.
    Waiting,
    /// It is under way.
    Running,
    /// It ended, well or not.
    Finished,
}

/// Why a task did not finish well.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TaskError {
    /// Its deadline passed; whether a push was applied is unknown.
    #[error("the deadline passed, still waiting for {missing}")]
    TimedOut {
        /// Shards that have not answered, or what else it waited for.
        missing: String,
    },
    /// A shard refused it.
    #[error("shard {shard} refused: {text}")]
    Refused {
        /// Index of the shard.
        shard: u32,
        /// The reason, for programs.
        code: RefusalCode,
        /// The reason, for people.
        text: String,
    },
    /// A shard is gone for good.
    #[error("shard {shard} is gone: {reason}")]
    PeerGone {
        /// Index of the shard.
        shard: u32,
        /// What is known about it.
        reason: String,
    },
    /// The answer of a shard came through filters and cannot be undone.
    #[error("the filters of shard {shard}'s answer: {text}")]
    Filter {
        /// Index of the shard.
        shard: u32,
        /// The filter, what was expected and what came.
        text: String,
    },
    /// A filter of the program's own said no to values that were to be pushed.
    #[error("the filters of the push: {text}")]
    PushFilter {
        /// The filter, and what it said.
        text: String,
    },
    /// A task it was to follow failed.
    #[error("a task it waits for failed: {0}")]
    Dependency(Box<TaskError>),
    /// A sub-task of the group failed.
    #[error("a sub-task failed: {0}")]
    Subtask(Box<TaskError>),
    /// Cancelled by the caller; whether a push was applied is unknown.
    #[error("cancelled")]
    Cancelled,
}

impl TaskError {
    /// The failure behind those of tasks that failed because another one did.
    pub fn cause(&self) -> &TaskError {
        let mut error = self;
        while let TaskError::Dependency(cause) | TaskError::Subtask(cause) = error {
            error = cause;
        }
        error
    }

    /// How a task fails that follows the failed one.
    pub(super) fn of_dependency(&self) -> TaskError {
        TaskError::Dependency(Box::new(self.cause().clone()))
    }

    /// How a group fails that the failed one is a sub-task of.
    pub(super) fn of_subtask(&self) -> TaskError {
        TaskError::Subtask(Box::new(self.cause().clone()))
    }
}

/// Why a task could not even begin. Nothing was sent and nothing is kept.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// No room now: handle what has arrived, poll, and try again. Only the one-key calls answer this.
    #[error("too many requests under way to shard {shard}; handle replies and try again")]
    Busy {
        /// The shard without room.
        shard: u32,
    },
    /// As many tasks are open (or finished and not taken) as the configuration allows.
    #[error("{max} tasks are open, as many as allowed; take the finished ones")]
    TooManyTasks {
        /// The limit.
        max: usize,
    },
    /// An array has the wrong length.
    #[error("value array {part}: expected {expected} values (keys x width), got {got}")]
    ArrayLength {
        /// Which array.
        part: usize,
        /// Values needed.
        expected: usize,
        /// Values given.
        got: usize,
    },
    /// The array to pull into has the wrong length.
    #[error("the array to pull into: expected {expected} values (keys x width), got {got}")]
    IntoLength {
        /// Values needed.
        expected: usize,
        /// Values there is room for.
        got: usize,
    },
    /// Too many arrays, or of a type that is not the table's.
    #[error(
        "expected at most {max} value arrays of the table's type {expected_type}, got {got} of type {got_type}"
    )]
    Arrays {
        /// The limit.
        max: usize,
        /// Code of the table's type.
        expected_type: u8,
        /// Arrays given.
        got: usize,
        /// Code of their type.
        got_type: u8,
    },
    /// The keys do not fit the request.
    #[error("{0}")]
    Keys(String),
    /// The group takes no such sub-task.
    #[error("group {group} {text}")]
    Group {
        /// Number of the group's task.
        group: u64,
        /// What is wrong.
        text: String,
    },
    /// A chain of filters does not fit the request.
    #[error("filters: {0}")]
    Filter(String),
    /// The graph has no nodes, too many, or a cycle.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// A node of the graph is impossible by itself.
    #[error("node {node}: {error}")]
    Node {
        /// Which node.
        node: usize,
        /// Why.
        error: Box<SubmitError>,
    },
    /// A row, a verb or its arguments do not fit into a frame.
    #[error("{what} of {got} bytes does not fit, at most {max}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// There is no shard of this index.
    #[error("there is no shard {got}, only {shards}")]
    NoShard {
        /// Index asked for.
        got: u32,
        /// Number of shards.
        shards: usize,
    },
    /// The shard is gone for good.
    #[error("shard {shard} is gone: {reason}")]
    PeerGone {
        /// Index of the shard.
        shard: u32,
        /// What is known about it.
        reason: String,
    },
}

/// The peer broke the protocol: close its link, with this reason.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PeerFault {
    /// Not a frame.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The frame names another sender than the link does.
    #[error("expected frames of node {expected}, got one of node {got}")]
    Sender {
        /// Who is at the other end.
        expected: u32,
        /// Who the frame says it is from.
        got: u32,
    },
    /// No session with this peer was opened.
    #[error("no session with peer {peer}")]
    NoSession {
        /// The peer.
        peer: u32,
    },
    /// A sequence number that cannot be.
    #[error("sequence {got} cannot be: the session is at {newest}")]
    Sequence {
        /// The number.
        got: u64,
        /// The highest number so far.
        newest: u64,
    },
    /// The answer does not fit the request it answers.
    #[error("answer to request {sequence}: {text}")]
    Answer {
        /// The request.
        sequence: u64,
        /// Expected and got.
        text: String,
    },
    /// The peer asks without reading the answers.
    #[error("{queued} answers wait for a peer that does not read them")]
    Unread {
        /// Answers waiting.
        queued: usize,
    },
}
