//! What decides: when a row may be read, what to ask for, and when a clock is done.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{ClockError, ClockedConfig};
use super::fetch::Fetching;
use super::linger::Linger;
use super::range_clock::RangeClock;
use super::rows::{Row, Rows};
use super::sender::EarlySender;
use super::stats::ClockStats;
use super::streams::Streams;
use crate::history::{Event, Recorder};
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange};
use crate::message::{Control, Element};
use crate::session::Outbox;
use crate::table::Aggregation;
use crate::worker::{Keys, Options, TableHandle, TaskId, TaskState, WorkerCore};

/// One worker's view of a clocked table, as a value: see the module's documentation. The caller's loop hands received frames
/// to the [`WorkerCore`], polls that, and then asks here again; nothing here waits.
pub struct ClockedCore<V: Element> {
    pub(super) table: TableHandle,
    pub(super) config: ClockedConfig,
    rank: usize,
    /// Values of a row that are the caller's.
    pub(super) width: usize,
    pub(super) clock: u64,
    pub(super) rows: Rows<V>,
    /// Closed clocks and early parts under way, oldest first.
    pub(super) pushes: VecDeque<TaskId>,
    pub(super) sender: Option<EarlySender>,
    /// What a predecessor of this worker had done, and whether that is known: a replacement must ask.
    pub(super) before: RangeClock,
    pub(super) knows_before: bool,
    pub(super) asks_before: Option<TaskId>,
    /// What it had sent early of a clock it did not close.
    pub(super) asks_early: Option<TaskId>,
    pub(super) fetching: Fetching,
    /// Rows asked for.
    pub(super) pull: Option<(TaskId, KeyList)>,
    pub(super) restream: Option<TaskId>,
    pub(super) streams: Streams,
    pub(super) linger: Linger,
    /// Increments that others may not see yet, for the value bound: those of a clock, early ones too, until all are there.
    pub(super) in_transit: VecDeque<(u64, Vec<Key>, Vec<V>)>,
    pub(super) stats: ClockStats,
    recorder: Option<Box<dyn Recorder>>,
}

impl<V: Element> ClockedCore<V> {
    /// A view of `table` (of all its values per row, the audit's included) at clock 0.
    ///
    /// # Errors
    /// [`ClockError::NotClocked`], [`ClockError::ValueBound`], [`ClockError::EarlyBudget`]; [`ClockError::Width`] for an audit without values of its own.
    pub fn new(
        table: TableHandle,
        config: ClockedConfig,
        workers: u32,
        core: &mut WorkerCore,
    ) -> Result<ClockedCore<V>, ClockError> {
        config.check()?;
        if table.aggregation != Aggregation::Clocked {
            return Err(ClockError::NotClocked { table: table.id });
        }
        let counters = if config.audit { workers as usize } else { 0 };
        let all = table.width as usize;
        let width = all.checked_sub(counters).filter(|&width| width > 0);
        let width = width.ok_or(ClockError::Width { expected: counters + 1, got: all })?;
        if let Some(early) = config.early {
            early.check(all * size_of::<V>())?;
        }
        if config.eager {
            core.follow(table);
        }
        Ok(ClockedCore {
            table,
            config,
            rank: core.config().rank as usize,
            width,
            clock: 0,
            rows: Rows::new(all),
            pushes: VecDeque::new(),
            sender: config.early.map(|early| EarlySender::new(early, core.config().rank)),
            before: RangeClock::new(KeyRange::ALL),
            knows_before: core.config().epoch == 0,
            asks_before: None,
            asks_early: None,
            fetching: Fetching::default(),
            pull: None,
            restream: None,
            streams: Streams::new(core.map().shards()),
            linger: Linger::default(),
            in_transit: VecDeque::new(),
            stats: ClockStats::default(),
            recorder: None,
        })
    }

    /// From now on `recorder` is told of every read, increment and clock.
    pub fn record(&mut self, recorder: Box<dyn Recorder>) {
        self.recorder = Some(recorder);
    }

    /// The table.
    pub fn table(&self) -> TableHandle {
        self.table
    }

    /// How many clocks this worker has closed.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// What has been done so far.
    pub fn stats(&self) -> &ClockStats {
        &self.stats
    }

    /// The clock a row of the cache holds wholly, if it came.
    pub(super) fn clock_of(&self, key: Key, row: &Row<V>, core: &WorkerCore) -> Option<u64> {
        let had = row.clock?;
        // What did not come since the stream's clock has not changed since. The others may be ahead; this worker's own
        // increments at its clock are yet to be made.
        let clock =
            if row.subscribed { had.max(self.streams.clock_of(core.map().shard_of(key))) } else { had };
        Some(clock.min(self.clock))
    }

    /// Takes in what has come, and sends what may go early. [`ClockedCore::fetch`] and [`ClockedCore::settled`] do so
    /// themselves.
    ///
    /// # Errors
    /// [`ClockError::Task`] if a request failed, [`ClockError::Submit`].
    pub fn poll(
        &mut self,
        core: &mut WorkerCore,
        now: Duration,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        self.take_answers(core)?;
        self.send_early(core, now, out)
    }

    fn take_answers(&mut self, core: &mut WorkerCore) -> Result<(), ClockError> {
        while let Some(&task) = self.pushes.front() {
            let Some(result) = core.take(task) else { break };
            result?;
            self.pushes.pop_front();
        }
        self.take_before(core)?;
        if let Some(sender) = &mut self.sender
            && let Some(result) = sender.asks.and_then(|task| core.take(task))
        {
            result?;
            sender.asks = None;
        }
        if let Some(result) = self.restream.and_then(|task| core.take(task)) {
            result?;
            self.restream = None;
        }
        let is_there = |(task, _): &mut (TaskId, KeyList)| core.state(*task) == TaskState::Finished;
        if let Some((task, list)) = self.pull.take_if(is_there) {
            self.fetching.has_news = true;
            self.take_pulled(&list, &core.take(task).expect("it is finished")?);
        }
        while let Some(frame) = core.take_rows(self.table.id) {
            self.fetching.has_news = true;
            self.take_in(frame);
        }
        Ok(())
    }

    /// The values of a fetched row.
    ///
    /// # Errors
    /// [`ClockError::NotFetched`] if it is not there, or too old.
    pub fn get(&mut self, key: Key, core: &WorkerCore) -> Result<&[V], ClockError> {
        let oldest = self.config.staleness.oldest_at(self.clock);
        let found = self.rows.get(key).and_then(|row| Some((row, self.clock_of(key, row, core)?)));
        let Some((row, clock)) = found.filter(|&(_, clock)| clock >= oldest) else {
            return Err(ClockError::NotFetched { key, clock: self.clock });
        };
        let values = self.rows.values(row);
        let behind = self.clock.saturating_sub(clock) as usize;
        if self.stats.reads_behind.len() <= behind {
            self.stats.reads_behind.resize(behind + 1, 0);
        }
        self.stats.reads_behind[behind] += 1;
        if let Some(recorder) = &mut self.recorder {
            let counts = values[self.width..].iter().map(|count| count.to_f64() as u32).collect();
            recorder.note(&Event::Read { key, clock: self.clock, row_clock: clock, counts });
        }
        Ok(&values[..self.width])
    }

    /// Adds `delta` to a row. It is part of the row for this worker at once, and for everybody when the clock is closed.
    ///
    /// # Errors
    /// [`ClockError::Width`].
    pub fn inc(&mut self, key: Key, delta: &[V]) -> Result<(), ClockError> {
        if delta.len() != self.width {
            return Err(ClockError::Width { expected: self.width, got: delta.len() });
        }
        if !self.knows_before {
            return Err(ClockError::Fetching { clock: self.clock });
        }
        let is_held = self.before.get(key) > Some(self.clock);
        self.rows.add(key, 0, delta, is_held);
        if self.config.audit {
            self.rows.add(key, self.width + self.rank, &[V::ONE], is_held);
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.note(&Event::Inc { key, clock: self.clock });
        }
        Ok(())
    }

    /// Closes the clock: sends the increments made since the last one. Go on once it is [settled](ClockedCore::settled).
    ///
    /// # Errors
    /// [`ClockError::Fetching`] while rows are on their way; [`ClockError::Submit`]: with too many tasks open the clock is not
    /// closed, and nothing of it is lost.
    pub fn close(&mut self, core: &mut WorkerCore, out: &mut dyn Outbox) -> Result<(), ClockError> {
        self.take_answers(core)?;
        if self.pull.is_some() || !self.knows_before {
            return Err(ClockError::Fetching { clock: self.clock });
        }
        core.check_room()?;
        let (keys, values) = self.rows.close(self.clock + 1);
        if self.config.value_bound.is_some() {
            self.in_transit.push_back((self.clock + 1, keys.clone(), values.clone()));
        }
        // One clock after the other: a server counts them, and a piece may have to be sent again.
        let options = Options {
            after: self.pushes.back().copied().into_iter().collect(),
            ..Options::at(self.clock + 1)
        };
        let list = KeyList::new(keys).expect("sorted, each row once");
        let task = core.push(self.table, Keys::List(list), vec![values], options, out)?;
        self.pushes.push_back(task);
        self.clock += 1;
        self.sender.iter_mut().for_each(|sender| sender.number = 0);
        if let Some(recorder) = &mut self.recorder {
            recorder.note(&Event::Clock { clock: self.clock });
        }
        Ok(())
    }

    /// Whether this worker may go on after closing a clock: when the one before has arrived at the servers, and the value
    /// bound, if there is one, holds.
    ///
    /// # Errors
    /// As [`ClockedCore::fetch`].
    pub fn settled(
        &mut self,
        core: &mut WorkerCore,
        now: Duration,
        out: &mut dyn Outbox,
    ) -> Result<bool, ClockError> {
        self.poll(core, now, out)?;
        // A clock leaves when the one before it has arrived. To be further ahead than that gains nothing, but reads get older.
        if self.pushes.len() > 1 {
            return Ok(false);
        }
        let Some(v0) = self.config.value_bound else { return Ok(true) };
        // A clock that has not arrived at the servers nobody can have come to know.
        let system = self.streams.system_clock().min(self.clock.saturating_sub(self.pushes.len() as u64));
        while self.in_transit.front().is_some_and(|&(clock, ..)| clock <= system) {
            self.in_transit.pop_front();
        }
        let bound = v0 / (self.clock.max(1) as f64).sqrt();
        let norm = self.transit_norm();
        let is_settled = norm <= bound;
        self.keep_streaming(!is_settled, core, now, out)?;
        if let (true, Some(recorder)) = (is_settled, &mut self.recorder) {
            recorder.note(&Event::Settled { clock: self.clock, norm, bound });
        }
        Ok(is_settled)
    }

    /// The largest element of the sum of the increments under way.
    fn transit_norm(&self) -> f64 {
        let mut sums: std::collections::BTreeMap<Key, Vec<f64>> = Default::default();
        let all = self.table.width as usize;
        for (_, keys, values) in &self.in_transit {
            for (&key, row) in keys.iter().zip(values.chunks_exact(all)) {
                let sum = sums.entry(key).or_insert_with(|| vec![0.0; self.width]);
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value.to_f64());
            }
        }
        sums.values().flatten().fold(0.0, |norm, sum| norm.max(sum.abs()))
    }

    /// Whether all closed clocks have arrived at the servers.
    pub fn is_idle(&self) -> bool {
        self.pushes.is_empty()
            && self.pull.is_none()
            && self.restream.is_none()
            && self.sender.as_ref().is_none_or(|sender| sender.asks.is_none())
    }

    /// Whom the clock this worker waits for waits for, as a request to the servers: it is refused with their names.
    pub(super) fn question(&self) -> Control {
        let time = self.config.staleness.oldest_at(self.clock).max(1);
        let time = if self.config.value_bound.is_some() { self.clock } else { time };
        Control::Reached { table: self.table.id, time }
    }

    /// The end of the recording, with its last words.
    pub fn finish_recording(&mut self) -> Option<Box<dyn Recorder>> {
        self.recorder.take()
    }
}
