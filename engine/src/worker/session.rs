//! What is under way to one shard.
//!
//! Requests are numbered when they leave. Those not yet answered lie in a queue indexed by number, so finding one is a
//! subtraction; its front moves on as the oldest are answered.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use super::arrays::Source;
use super::request::TaskId;

/// Most calls and controls under way at once.
pub(crate) const CALLS_MAX: usize = 16;

/// The shard keeps so many of its last answers to calls, for repetitions; so a call that may have to be repeated is
/// among the last so many of its session until it is answered.
pub(crate) const CALLS_KEPT: usize = 64;

/// Most key lists a session remembers as known to the shard; forgetting one costs sending its keys again.
const KNOWN_MAX: usize = 1 << 16;

/// Values of a one-key push, kept if the session may have to send it again.
#[derive(Clone, Copy)]
pub(super) struct Row {
    pub key: u64,
    pub table: u16,
    pub value_type: u8,
    pub bytes: u8,
    pub values: [u8; ROW_BYTES_MAX],
}

/// The largest row of a one-key push.
pub(super) const ROW_BYTES_MAX: usize = 48;

/// A request that left and is not yet answered.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    /// `None` once answered, or when its task ended without waiting for the answer.
    pub task: Option<TaskId>,
    /// Index of the piece; [`Flight::ONE_KEY`] for a one-key push.
    pub piece: u32,
    pub is_call: bool,
    pub sent_ns: u64,
}

impl Flight {
    pub const ONE_KEY: u32 = u32::MAX;
}

/// A piece that waits to leave.
#[derive(Clone, Copy)]
pub(super) struct Unsent {
    pub task: TaskId,
    pub piece: u32,
    pub is_call: bool,
    pub priority: i32,
}

pub(super) struct Session {
    /// Number of the request at the front of `flights`.
    pub base: u64,
    pub flights: VecDeque<Flight>,
    /// Parallel to `flights` if rows are retained, else empty.
    pub rows: VecDeque<Row>,
    pub unsent: VecDeque<Unsent>,
    /// Numbers to send again.
    pub again: VecDeque<u64>,
    calls: usize,
    /// Numbers of the calls from the oldest unanswered one on.
    calls_since: VecDeque<u64>,
    /// Lists the shard should know.
    pub known: HashSet<(u16, u128), BuildHasherDefault<SignatureHasher>>,
    /// Lent arrays of failed tasks, by the number of the request that may still be read.
    pub kept: Vec<(u64, Arc<Vec<Source>>)>,
    pub gone: Option<String>,
    pub retry_at_ns: u64,
}

impl Session {
    /// Queues a piece behind all of its priority and above.
    #[inline]
    pub fn queue(&mut self, unsent: Unsent) {
        match self.unsent.back() {
            Some(last) if last.priority < unsent.priority => self.overtake(unsent),
            _ => self.unsent.push_back(unsent),
        }
    }

    /// Priorities are rare.
    #[cold]
    fn overtake(&mut self, unsent: Unsent) {
        let before = self.unsent.iter().rposition(|other| other.priority >= unsent.priority);
        self.unsent.insert(before.map_or(0, |place| place + 1), unsent);
    }

    pub fn new() -> Session {
        Session {
            base: 1,
            flights: VecDeque::new(),
            rows: VecDeque::new(),
            unsent: VecDeque::new(),
            again: VecDeque::new(),
            calls: 0,
            calls_since: VecDeque::new(),
            known: HashSet::default(),
            kept: Vec::new(),
            gone: None,
            retry_at_ns: 0,
        }
    }

    /// The number the next request gets.
    #[inline]
    pub fn next(&self) -> u64 {
        self.base + self.flights.len() as u64
    }

    /// The request with this number, if it is not answered.
    #[inline]
    pub fn flight(&self, sequence: u64) -> Option<(TaskId, Flight)> {
        let flight = self.flights.get(sequence.checked_sub(self.base)? as usize)?;
        Some((flight.task?, *flight))
    }

    /// The retained row of the request with this number.
    pub fn row(&self, sequence: u64) -> Option<Row> {
        self.rows.get(sequence.checked_sub(self.base)? as usize).copied()
    }

    /// Notes a request that left.
    #[inline]
    pub fn depart(&mut self, flight: Flight, row: Option<Row>) {
        if flight.is_call {
            self.calls += 1;
            self.calls_since.push_back(self.next());
        }
        self.flights.push_back(flight);
        if let Some(row) = row {
            self.rows.push_back(row);
        }
    }

    /// Keeps the lent arrays of `task` as long as its requests under way are not answered.
    pub fn keep(&mut self, task: TaskId, lent: &Arc<Vec<Source>>) {
        let numbered = self.flights.iter().zip(self.base..);
        let mine = numbered.filter(|(flight, _)| flight.task == Some(task));
        self.kept.extend(mine.map(|(_, sequence)| (sequence, Arc::clone(lent))));
    }

    /// Lets go of what was kept for `count` requests from `sequence` on.
    #[inline]
    pub fn answered(&mut self, sequence: u64, count: u64) {
        if !self.kept.is_empty() {
            self.kept.retain(|&(of, _)| of < sequence || of >= sequence + count);
        }
    }

    /// Takes the request with this number as answered; `None` if it was already.
    #[inline]
    pub fn arrive(&mut self, sequence: u64) -> Option<(TaskId, u32)> {
        self.answered(sequence, 1);
        let flight = self.flights.get_mut(sequence.checked_sub(self.base)? as usize)?;
        let task = flight.task.take()?;
        let (piece, is_call) = (flight.piece, flight.is_call);
        self.advance();
        if is_call {
            self.calls -= 1;
            self.settle_calls();
        }
        Some((task, piece))
    }

    /// Numbers of all requests not answered, oldest first.
    pub fn open(&self) -> impl Iterator<Item = u64> + '_ {
        let numbered = self.flights.iter().zip(self.base..);
        numbered.filter(|(flight, _)| flight.task.is_some()).map(|(_, sequence)| sequence)
    }

    /// Whether the shard should know this list.
    pub fn knows(&self, table: u16, signature: u128) -> bool {
        self.known.contains(&(table, signature))
    }

    /// Notes that the keys of this list have left for the shard: call it once they really have.
    pub fn note_known(&mut self, table: u16, signature: u128) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert((table, signature));
    }

    /// Forgets the requests whose tasks are not `live` any more: nobody waits for their answers, which may never come.
    pub fn forget(&mut self, live: impl Fn(TaskId) -> bool) {
        self.unsent.retain(|unsent| live(unsent.task));
        for flight in &mut self.flights {
            if flight.task.is_some_and(|task| !live(task)) {
                flight.task = None;
                self.calls -= usize::from(flight.is_call);
            }
        }
        self.advance();
        self.settle_calls();
    }

    /// Whether one more call may leave; `is_lossy` if calls may have to be sent again.
    pub fn has_room_for_call(&self, is_lossy: bool) -> bool {
        self.calls < CALLS_MAX && !(is_lossy && self.calls_since.len() >= CALLS_KEPT)
    }

    fn settle_calls(&mut self) {
        while self.calls_since.front().is_some_and(|&sequence| self.flight(sequence).is_none()) {
            self.calls_since.pop_front();
        }
    }

    #[inline]
    fn advance(&mut self) {
        while self.flights.front().is_some_and(|flight| flight.task.is_none()) {
            self.flights.pop_front();
            self.rows.pop_front();
            self.base += 1;
        }
    }
}

/// A signature is a hash already: its low bits will do. (These are this worker's own lists, not a stranger's.)
#[derive(Default)]
pub(super) struct SignatureHasher(u64);

impl Hasher for SignatureHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }
    fn write_u16(&mut self, table: u16) {
        self.0 ^= u64::from(table) << 48;
    }
    fn write_u128(&mut self, signature: u128) {
        self.0 ^= signature as u64;
    }
}
