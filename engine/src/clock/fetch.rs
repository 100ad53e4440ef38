//! How rows come: those that can be read are waited for, the others asked for or awaited in the stream.

use std::time::Duration;

use super::config::ClockError;
use super::core::ClockedCore;
use super::rows::Own;
use crate::key_list::KeyList;
use crate::key_range::Key;
use crate::message::{Control, Element};
use crate::session::Outbox;
use crate::worker::{Keys, Options, Outcome, RowsFrame, WorkerCore};

/// The rows of a clock that are waited for. Looked through when something has come, not at every round of waiting.
#[derive(Default)]
pub(super) struct Fetching {
    clock: u64,
    keys: Vec<Key>,
    /// Those that could not be read when they were looked through.
    missing: Vec<Key>,
    /// Some of them come unasked.
    is_late: bool,
    /// Something has come since they were looked through.
    pub has_news: bool,
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

impl<V: Element> ClockedCore<V> {
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
        self.note_bound(now);
        if self.fetching.has_news {
            self.look_through(core, out)?;
        }
        self.keep_streaming(self.fetching.is_late, core, now, out)?;
        if !self.fetching.missing.is_empty() || self.pull.is_some() {
            return Ok(false);
        }
        let held = if self.config.eager { self.linger.holds(self.clock, self.lead(), now) } else { None };
        if let Some(until) = held {
            core.wake_by(until);
        }
        Ok(held.is_none())
    }

    /// By how many clocks this worker is ahead of what it knows of the others.
    fn lead(&self) -> i64 {
        self.clock as i64 - self.streams.system_clock() as i64
    }

    /// Tells [`Linger`](super::linger::Linger) whether the bound stands against this clock.
    fn note_bound(&mut self, now: Duration) {
        let is_held = self.streams.system_clock() < self.config.staleness.oldest_at(self.clock);
        if self.config.eager && is_held {
            self.linger.hold_up(now);
        } else {
            self.linger.let_go(self.pushes.is_empty(), now);
        }
    }

    /// Sets aside the rows that can be read now, and asks for the others unless they come unasked.
    fn look_through(&mut self, core: &mut WorkerCore, out: &mut dyn Outbox) -> Result<(), ClockError> {
        let oldest = self.config.staleness.oldest_at(self.clock);
        let mut missing = std::mem::take(&mut self.fetching.missing);
        let clock_of = |key| self.clock_of(key, self.rows.get(key)?, core);
        missing.retain(|&key| clock_of(key).is_none_or(|clock| clock < oldest));
        let is_subscribed = |key: &Key| self.rows.get(*key).is_some_and(|row| row.subscribed);
        let wanted: Vec<Key> = missing.iter().copied().filter(|key| !is_subscribed(key)).collect();
        self.fetching.is_late = wanted.len() < missing.len();
        self.fetching.missing = missing;
        if !wanted.is_empty() && self.pull.is_none() {
            self.pull(wanted, oldest, core, out)?;
        }
        self.fetching.has_news = false;
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

    /// Puts pulled rows into the cache, each with the clock of its own answer: with an earlier one, such as another shard's,
    /// an older state of the row that comes unasked later would replace it.
    pub(super) fn take_pulled(&mut self, list: &KeyList, outcome: &Outcome) {
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

    pub(super) fn take_in(&mut self, frame: RowsFrame) {
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
    pub(super) fn keep_streaming(
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
}
