//! What decides: when a row may be read, what to ask for, and when a clock is done.

use std::collections::VecDeque;
use std::time::Duration;

use super::config::{ClockError, ClockedConfig};
use super::linger::Linger;
use super::range_clock::RangeClock;
use super::rows::{Own, Rows};
use super::sender::EarlySender;
use super::stats::ClockStats;
use super::streams::Streams;
use crate::history::{Event, Recorder};
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange};
use crate::message::{Control, Element};
use crate::session::Outbox;
use crate::table::Aggregation;
use crate::worker::{Keys, Options, Outcome, RowsFrame, TableHandle, TaskId, TaskState, WorkerCore};

/// The rows of a clock that are waited for. Looked through when something has come, not at every round of waiting.
#[derive(Default)]
struct Fetching {
    clock: u64,
    keys: Vec<Key>,
    /// Those that cannot be read yet.
    missing: Vec<Key>,
    /// Some of them come unasked.
    is_late: bool,
    /// Something has come since they were looked through.
    has_news: bool,
}

impl Fetching {
    /// Begins anew if these rows are not those waited for.
    fn turn_to(&mut self, clock: u64, keys: &[Key]) {
        if self.clock != clock || self.keys != keys {
            (self.keys, self.missing) = (keys.to_vec(), keys.to_vec());
            (self.clock, self.has_news) = (clock, true);
        }
    }
}

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
    fetching: Fetching,
    /// Rows asked for.
    pub(super) pull: Option<(TaskId, KeyList)>,
    restream: Option<TaskId>,
    streams: Streams,
    linger: Linger,
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

    /// The clock a row in the cache holds wholly, if it is there.
    fn clock_of(&self, key: Key, core: &WorkerCore) -> Option<u64> {
        let row = self.rows.get(key)?;
        let had = row.clock?;
        // What did not come since the stream's clock has not changed since. The others may be ahead; this worker's own
        // increments at its clock are yet to be made.
        let clock =
            if row.subscribed { had.max(self.streams.clock_of(core.map().shard_of(key))) } else { had };
        Some(clock.min(self.clock))
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
        self.poll(core, now, out)?;
        if !self.knows_before {
            if self.asks_before.is_none() {
                self.ask_before(core, out)?;
            }
            return Ok(false);
        }
        self.ask_for_early(core, out)?;
        self.fetching.turn_to(self.clock, keys);
        if std::mem::take(&mut self.fetching.has_news) {
            self.look_through(core, out)?;
        }
        self.keep_streaming(self.fetching.is_late, core, now, out)?;
        if self.fetching.is_late || self.pull.is_some() {
            return Ok(false);
        }
        let lead = if self.config.eager { self.clock.saturating_sub(self.streams.system_clock()) } else { 0 };
        match self.linger.holds(self.clock, lead, now) {
            Some(until) => core.wake_by(until),
            None => return Ok(true),
        }
        Ok(false)
    }

    /// Sets aside the rows that can be read now, and asks for the others unless they come unasked.
    fn look_through(&mut self, core: &mut WorkerCore, out: &mut dyn Outbox) -> Result<(), ClockError> {
        let oldest = self.config.staleness.oldest_at(self.clock);
        let mut missing = std::mem::take(&mut self.fetching.missing);
        missing.retain(|&key| self.clock_of(key, core).is_none_or(|clock| clock < oldest));
        let is_subscribed = |key: &Key| self.rows.get(*key).is_some_and(|row| row.subscribed);
        let wanted: Vec<Key> = missing.iter().copied().filter(|key| !is_subscribed(key)).collect();
        self.fetching.is_late = wanted.len() < missing.len();
        self.fetching.missing = missing;
        if !wanted.is_empty() && self.pull.is_none() {
            self.pull(wanted, oldest, core, out)?;
        }
        Ok(())
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

    /// Puts pulled rows into the cache, each with the clock of its own answer: with an earlier one, such as another shard's,
    /// an older state of the row that comes unasked later would replace it.
    fn take_pulled(&mut self, list: &KeyList, outcome: &Outcome) {
        let width = self.table.width as usize;
        let values = outcome.values.as_slice::<V>().unwrap_or(&[]);
        let early = self.sender.as_ref().map_or(0, |sender| sender.number);
        for (rows, clock) in &outcome.clocks {
            let keys = &list.as_slice()[rows.clone()];
            for (&key, row) in keys.iter().zip(values.chunks_exact(width).skip(rows.start)) {
                let is_held = self.before.get(key) > Some(self.clock);
                let own = Own { clock: self.clock, early, is_held };
                self.rows.put(key, row, *clock, own, true);
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
            if frame.is_early {
                stats.early.rows_received += frame.keys.len() as u64;
                stats.early.bytes_received += frame.frame_bytes;
            }
            let own =
                Own { clock: frame.own_clock, early: frame.own_early, is_held: frame.own_clock > clock };
            for (&key, row) in frame.keys.iter().zip(values.chunks_exact(width)) {
                rows.put(key, row, frame.clock, own, false);
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
        self.take_answers(core)?;
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
