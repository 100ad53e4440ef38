//! What decides: when a row may be read, what to ask for, and when a clock is done.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{ClockError, ClockedConfig};
use super::linger::Linger;
use super::range_clock::RangeClock;
use super::rows::Rows;
use super::streams::Streams;
use crate::history::{Event, Recorder};
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange};
use crate::message::{Control, Element};
use crate::session::Outbox;
use crate::table::Aggregation;
use crate::worker::{Keys, Options, Outcome, RowsFrame, TableHandle, TaskId, TaskState, WorkerCore};

/// What a table has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockStats {
    /// Rows read, by how far the newest clock they wholly hold was behind the reader's: entry `n` counts differences of
    /// `-1 - n`.
    pub reads_behind: Vec<u64>,
    /// Rows asked for.
    pub rows_pulled: u64,
    /// Rows that came unasked.
    pub rows_pushed: u64,
    /// Streams asked for anew.
    pub restreams: u64,
}

/// One worker's view of a clocked table, as a value: see the module's documentation. The caller's loop hands received frames
/// to the [`WorkerCore`], polls that, and then asks here again; nothing here waits.
pub struct ClockedCore<V: Element> {
    table: TableHandle,
    config: ClockedConfig,
    rank: usize,
    /// Values of a row that are the caller's.
    width: usize,
    clock: u64,
    rows: Rows<V>,
    /// Closed clocks under way, oldest first.
    pushes: VecDeque<TaskId>,
    /// What a predecessor of this worker had done, and whether that is known: a replacement must ask.
    before: RangeClock,
    knows_before: bool,
    asks_before: Option<TaskId>,
    /// Rows asked for.
    pull: Option<(TaskId, KeyList)>,
    restream: Option<TaskId>,
    streams: Streams,
    linger: Linger,
    /// Increments of closed clocks that others may not see yet, for the value bound.
    in_transit: VecDeque<(u64, Vec<Key>, Vec<V>)>,
    stats: ClockStats,
    recorder: Option<Box<dyn Recorder>>,
}

impl<V: Element> ClockedCore<V> {
    /// A view of `table` (of all its values per row, the audit's included) at clock 0.
    ///
    /// # Errors
    /// [`ClockError::NotClocked`], [`ClockError::ValueBound`]; [`ClockError::Width`] for an audit without values of its own.
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
            before: RangeClock::new(KeyRange::ALL),
            knows_before: core.config().epoch == 0,
            asks_before: None,
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

    /// The clock a row in the cache holds wholly, if it is there.
    fn clock_of(&self, key: Key, core: &WorkerCore) -> Option<u64> {
        let row = self.rows.get(key)?;
        let had = row.clock?;
        // What did not come since the stream's clock has not changed since.
        Some(if row.subscribed { had.max(self.streams.clock_of(core.map().shard_of(key))) } else { had })
    }

    /// Whether all of `keys` (in any order) can be read at this clock; asks for those that cannot. Call it again after each
    /// round until it says so.
    ///
    /// # Errors
    /// [`ClockError::Submit`], [`ClockError::Task`].
    pub fn fetch(
        &mut self,
        keys: &[Key],
        core: &mut WorkerCore,
        now: Duration,
        out: &mut dyn Outbox,
    ) -> Result<bool, ClockError> {
        self.poll(core)?;
        if !self.knows_before {
            if self.asks_before.is_none() {
                self.asks_before = Some(core.clock(self.table, Options::default(), out)?);
            }
            return Ok(false);
        }
        let oldest = self.config.staleness.oldest_at(self.clock);
        let mut wanted = Vec::new();
        let mut is_late = false;
        for &key in keys {
            if self.clock_of(key, core).is_some_and(|clock| clock >= oldest) {
                continue;
            }
            match self.rows.get(key) {
                Some(row) if row.subscribed => is_late = true,
                _ => wanted.push(key),
            }
        }
        self.keep_streaming(is_late, core, now, out)?;
        if !wanted.is_empty() && self.pull.is_none() {
            self.pull(wanted, oldest, core, out)?;
        }
        if is_late || self.pull.is_some() {
            return Ok(false);
        }
        // Ahead of the others by more than its own clock under way.
        let is_ahead = self.config.eager && self.streams.system_clock() + 1 < self.clock;
        match self.linger.holds(self.clock, is_ahead, now) {
            Some(until) => core.wake_by(until),
            None => return Ok(true),
        }
        Ok(false)
    }

    /// Pulls rows. Own increments all have arrived before, so that the answer holds them.
    fn pull(
        &mut self,
        mut keys: Vec<Key>,
        oldest: u64,
        core: &mut WorkerCore,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        keys.sort_unstable();
        keys.dedup();
        self.stats.rows_pulled += keys.len() as u64;
        let list = KeyList::new(keys).expect("sorted just before");
        let options = Options {
            after_time: true,
            subscribe: self.config.eager,
            after: self.pushes.iter().copied().collect(),
            ..Options::at(oldest)
        };
        let task = core.pull(self.table, Keys::List(list.clone()), Vec::<V>::new(), options, out)?;
        self.pull = Some((task, list));
        Ok(())
    }

    /// Takes in what has come. [`ClockedCore::fetch`] and [`ClockedCore::settled`] do so themselves.
    ///
    /// # Errors
    /// [`ClockError::Task`] if a request failed.
    pub fn poll(&mut self, core: &mut WorkerCore) -> Result<(), ClockError> {
        while let Some(&task) = self.pushes.front() {
            let Some(result) = core.take(task) else { break };
            result?;
            self.pushes.pop_front();
        }
        if let Some(result) = self.asks_before.and_then(|task| core.take(task)) {
            self.learn_before(result?, core)?;
        }
        if let Some(result) = self.restream.and_then(|task| core.take(task)) {
            result?;
            self.restream = None;
        }
        let is_there = |(task, _): &mut (TaskId, KeyList)| core.state(*task) == TaskState::Finished;
        if let Some((task, list)) = self.pull.take_if(is_there) {
            self.take_pulled(&list, &core.take(task).expect("it is finished")?);
        }
        while let Some(frame) = core.take_rows(self.table.id) {
            self.take_in(frame);
        }
        Ok(())
    }

    /// Puts pulled rows into the cache, each with the clock of its own answer: with an earlier one, such as another shard's,
    /// an older state of the row that comes unasked later would replace it.
    fn take_pulled(&mut self, list: &KeyList, outcome: &Outcome) {
        let width = self.table.width as usize;
        let values = outcome.values.as_slice::<V>().unwrap_or(&[]);
        for (rows, clock) in &outcome.clocks {
            let keys = &list.as_slice()[rows.clone()];
            for (&key, row) in keys.iter().zip(values.chunks_exact(width).skip(rows.start)) {
                let is_held = self.before.get(key) > Some(self.clock);
                self.rows.put(key, row, *clock, self.clock, is_held);
                if self.config.eager {
                    self.rows.subscribe(key);
                }
            }
        }
    }

    fn take_in(&mut self, frame: RowsFrame) {
        let (rows, stats, width) = (&mut self.rows, &mut self.stats, self.table.width as usize);
        let clock = self.clock;
        self.streams.take_in(frame, |frame| {
            let values = frame.values.as_slice::<V>().unwrap_or(&[]);
            stats.rows_pushed += frame.keys.len() as u64;
            for (&key, row) in frame.keys.iter().zip(values.chunks_exact(width)) {
                rows.put(key, row, frame.clock, frame.own_clock, frame.own_clock > clock);
            }
        });
    }

    /// Asks for the streams anew if frames were lost.
    fn keep_streaming(
        &mut self,
        is_late: bool,
        core: &mut WorkerCore,
        now: Duration,
        out: &mut dyn Outbox,
    ) -> Result<(), ClockError> {
        if !self.config.eager || self.restream.is_some() {
            return Ok(());
        }
        let lossy = core.config().retry_after.is_some();
        if let Some(generation) = self.streams.ask_again(now, is_late, lossy, core.links_replaced()) {
            let control = Control::Restream { table: self.table.id, generation };
            self.restream = Some(core.control(&control, Options::default(), out)?);
            self.stats.restreams += 1;
        }
        Ok(())
    }

    /// The values of a fetched row.
    ///
    /// # Errors
    /// [`ClockError::NotFetched`] if it is not there, or too old.
    pub fn get(&mut self, key: Key, core: &WorkerCore) -> Result<&[V], ClockError> {
        let oldest = self.config.staleness.oldest_at(self.clock);
        let clock = self.clock_of(key, core).filter(|&clock| clock >= oldest);
        let (Some(clock), Some(row)) = (clock, self.rows.get(key)) else {
            return Err(ClockError::NotFetched { key, clock: self.clock });
        };
        let behind = self.clock.saturating_sub(clock) as usize;
        if self.stats.reads_behind.len() <= behind {
            self.stats.reads_behind.resize(behind + 1, 0);
        }
        self.stats.reads_behind[behind] += 1;
        if let Some(recorder) = &mut self.recorder {
            let counts = row.values[self.width..].iter().map(|count| count.to_f64() as u32).collect();
            recorder.note(&Event::Read { key, clock: self.clock, row_clock: clock, counts });
        }
        Ok(&row.values[..self.width])
    }

    /// A replacement takes over from its predecessor: what that did is in the rows that come.
    fn learn_before(&mut self, outcome: Outcome, core: &WorkerCore) -> Result<(), ClockError> {
        self.asks_before = None;
        for (shard, bytes) in outcome.replies {
            let last = core.map().range_of(shard as usize).last();
            self.before.set_bytes(&bytes, last).map_err(|text| ClockError::Answer { shard, text })?;
        }
        self.knows_before = true;
        Ok(())
    }

    /// The clock up to which a predecessor of this worker had done everything: a program that can begin there may as well
    /// do its clocks over again, for what was counted once is not counted again. 0 for a worker that replaces nobody;
    /// known to a replacement after its first fetch.
    pub fn done_before(&self) -> u64 {
        self.before.min()
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
    /// [`ClockError::Fetching`] while rows are on their way; [`ClockError::Submit`].
    pub fn close(&mut self, core: &mut WorkerCore, out: &mut dyn Outbox) -> Result<(), ClockError> {
        self.poll(core)?;
        if self.pull.is_some() || !self.knows_before {
            return Err(ClockError::Fetching { clock: self.clock });
        }
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
        self.poll(core)?;
        // A clock leaves when the one before it has arrived. To be further ahead than that gains nothing, but reads get older.
        if self.pushes.len() > 1 {
            return Ok(false);
        }
        let Some(v0) = self.config.value_bound else { return Ok(true) };
        let system = self.streams.system_clock();
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
        self.pushes.is_empty() && self.pull.is_none() && self.restream.is_none()
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
