//! Clocked tables: pushes that count as their worker's clock.
//!
//! Each worker has a range clock over the keys of this shard. A push with time `t` speaks for every key of its range, those it
//! has increments for and those it has none for, and takes the worker's clock there from `t - 1` to `t`. The table's least
//! clock is the minimum over workers and keys; it is what waiting pulls wait for. Changed rows go to a subscriber when the
//! minimum over the *other* workers advances: it has its own increments anyway, and need not wait for them to have come here
//! before it hears of the others'. Session numbers keep repetitions out; the range clock does it for what a worker's replacement
//! does over again, key by key, because its predecessor may have come to die between two pieces of one clock.

use super::core::ShardCore;
use super::early::Ledger;
use super::key_cache::{KeysRef, Located};
use super::lent::arrays;
use super::replies::Reply;
use super::requests::{Refusal, Stop, apply};
use super::streams::{Stream, slots_of};
use super::tables::TableSlot;
use crate::clock::{RangeClock, behind};
use crate::key_range::{Key, KeyRange};
use crate::message::{Element, Flags, Frame, HEADER_BYTES, Header, Kind, RefusalCode};
use crate::session::{Outbox, Outcome, PeerId};
use crate::table::{Aggregation, AnyTable, Table};

/// The clocks of a table's workers, and who wants to hear of changed rows.
pub(super) struct Clocks {
    /// By rank.
    pub workers: Vec<RangeClock>,
    least: u64,
    /// By rank.
    pub streams: Vec<Stream>,
    /// By rank, what was sent of clocks that are not closed.
    pub ledgers: Vec<Option<Ledger>>,
    /// By slot, for those somebody subscribed to.
    pub keys: Vec<Key>,
    /// Rows are sums of increments, so that workers know what their own have made of them.
    pub adds: bool,
}

/// How a push stands to the clock of its worker.
enum Standing {
    /// All of it is news.
    Next,
    /// The worker's predecessor did all of it.
    Done,
    /// The worker's predecessor did some of it: these ranges are news.
    Partly(Vec<KeyRange>),
}

impl Clocks {
    /// No worker's clock is below this.
    pub fn least(&self) -> u64 {
        self.least
    }

    /// By rank: no other worker's clock is below this. It is what rows hold of the others, for a worker that knows its own
    /// increments.
    fn least_of_others(&self) -> impl Fn(usize) -> u64 + use<> {
        let (mut least, mut second, mut slowest) = (u64::MAX, u64::MAX, 0);
        for (rank, clock) in self.workers.iter().map(RangeClock::min).enumerate() {
            if clock < least {
                (least, second, slowest) = (clock, least, rank);
            } else {
                second = second.min(clock);
            }
        }
        // A worker alone has only itself to go by.
        let second = if second == u64::MAX { least } else { second };
        move |rank| if rank == slowest { second } else { least }
    }

    /// The clock that the answer to a worker's pull is of. Where rows come unasked too, both must count alike.
    pub fn told(&self, worker: PeerId, request: &Header) -> u64 {
        let stream = self.streams.get(worker.0 as usize).filter(|_| request.flags & Flags::SUBSCRIBE != 0);
        stream.map_or(self.least, Stream::least)
    }

    /// Forgets what a worker subscribed to: its replacement does so anew.
    pub fn unsubscribe(&mut self, rank: u32) {
        if let Some(stream) = self.streams.get_mut(rank as usize) {
            *stream = Stream::default();
        }
    }

    /// Judges a push of worker `rank` for `range` that takes its clock to `time`.
    fn standing(
        &self,
        rank: u32,
        range: KeyRange,
        time: u64,
        is_replacement: bool,
    ) -> Result<Standing, String> {
        let clock = &self.workers[rank as usize];
        let (mut news, mut done) = (Vec::new(), false);
        for (piece, at) in clock.pieces(range) {
            if at >= time && is_replacement {
                done = true;
            } else if at >= time {
                return Err(format!("the clock of worker {rank} goes backwards: it was at {at}, got {time}"));
            } else if at + 1 < time {
                return Err(format!("the clock of worker {rank} skips: expected {}, got {time}", at + 1));
            } else {
                news.push(piece);
            }
        }
        Ok(match (done, news.is_empty()) {
            (false, _) => Standing::Next,
            (true, true) => Standing::Done,
            (true, false) => Standing::Partly(news),
        })
    }

    /// Whom clock `time` waits for, in words; `None` if everybody is there.
    pub fn waits(&self, time: u64) -> Option<String> {
        let late: Vec<(u32, u64)> = behind(&self.workers, time).collect();
        let names: Vec<_> = late.iter().map(|(rank, at)| format!("worker {rank} (at {at})")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    }
}

impl TableSlot {
    /// Gives a clocked table its clocks.
    pub fn count_clocks(&mut self, owned: KeyRange, workers: u32) {
        if self.spec.aggregation != Aggregation::Clocked {
            return;
        }
        let workers: Vec<_> = (0..workers).map(|_| RangeClock::new(owned)).collect();
        let streams = workers.iter().map(|_| Stream::default()).collect();
        let ledgers = workers.iter().map(|_| None).collect();
        let adds = self.spec.function.name == "add";
        self.clocks = Some(Box::new(Clocks { workers, least: 0, streams, ledgers, keys: Vec::new(), adds }));
    }
}

impl ShardCore {
    /// Applies a push at once and advances its worker's clock.
    pub(super) fn push_clocked(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Stop> {
        let (header, range) = (frame.header, frame.range());
        if frame.kind == Kind::PushPull {
            let text = "a clocked table is pulled by itself: expected a push, got a push with a pull";
            return Err(Refusal::new(RefusalCode::Mismatch, text.to_owned()).into());
        }
        let session = self.sessions[rank as usize].as_ref();
        let (is_replacement, epoch) =
            session.map_or((false, 0), |session| (session.replacement, session.epoch));
        let workers = self.config.workers;
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        slot.check_parts(frame)?;
        let Some(clocks) = slot.clocks.as_ref().filter(|_| rank < workers) else {
            let text = format!("clocks are those of workers 0 to {}, got worker {rank}", workers - 1);
            return Err(Refusal::new(RefusalCode::Limit, text).into());
        };
        if frame.is_early() {
            return self.push_early(rank, frame, out);
        }
        let standing = clocks.standing(rank, range, header.time, is_replacement);
        match standing.map_err(|text| Refusal::new(RefusalCode::Time, text))? {
            Standing::Done => {}
            Standing::Next => {
                let located = self.locate(frame, true)?;
                let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
                apply(&mut slot.table, frame, &located.at, PeerId(rank), out)?;
                slot.take_off(rank, epoch, &[range], header.time)?;
                slot.note_changed(&located, frame, PeerId(rank), out);
            }
            Standing::Partly(news) => {
                self.apply_news(rank, frame, &news, out)?;
                let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
                slot.take_off(rank, epoch, &news, header.time)?;
            }
        }
        self.record(rank, header.sequence, Outcome::Applied);
        self.ack(rank, header.sequence);
        if let Some(clocks) = self.slot(header.table).and_then(|slot| slot.clocks.as_mut()) {
            let clock = &mut clocks.workers[rank as usize];
            if clock.min_in(range).is_some_and(|at| at < header.time) {
                clock.set(range, header.time);
            }
            let done = clock.min();
            clocks.ledgers[rank as usize].take_if(|ledger| ledger.is_closed(done));
        }
        self.advance(header.table, out);
        Ok(())
    }

    /// Applies the rows of the frame that lie in `news`.
    fn apply_news(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        news: &[KeyRange],
        out: &mut dyn Outbox,
    ) -> Result<(), Stop> {
        fn apply_some<V: Element>(
            table: &mut Table<V>,
            arrays: &[&[V]],
            keys: &[Key],
            is_new: impl Fn(Key) -> bool,
        ) -> Result<(), Refusal> {
            let width = table.spec().width as usize;
            let rows = |array: &[V]| {
                let rows = keys.iter().zip(array.chunks_exact(width));
                rows.filter(|(key, _)| is_new(**key)).flat_map(|(_, row)| row.iter().copied()).collect()
            };
            let values: Vec<Vec<V>> = arrays.iter().map(|array| rows(array)).collect();
            let some: Vec<Key> = keys.iter().copied().filter(|&key| is_new(key)).collect();
            let at = table.resolve(&some, true).map_err(Refusal::table)?;
            let values: Vec<&[V]> = values.iter().map(Vec::as_slice).collect();
            table.push(&at, &values).map_err(Refusal::table)
        }
        let located = self.locate(frame, true)?;
        let slot = self.slot(frame.header.table).ok_or_else(|| Refusal::no_table(frame.header.table))?;
        let keys = keys_of(&located);
        let (width, parts) = (slot.spec.width as usize, frame.header.parts as usize);
        let is_new = |key: Key| news.iter().any(|range| range.contains(key));
        match &mut slot.table {
            AnyTable::F32(table) => {
                apply_some(table, &arrays(frame, width, PeerId(rank), out)?[..parts], &keys, is_new)?;
            }
            AnyTable::F64(table) => {
                apply_some(table, &arrays(frame, width, PeerId(rank), out)?[..parts], &keys, is_new)?;
            }
        }
        slot.note_changed(&located, frame, PeerId(rank), out);
        Ok(())
    }

    /// If the table's least clock has advanced, answers the pulls that waited for it and sends changed rows.
    fn advance(&mut self, table: u16, out: &mut dyn Outbox) {
        let Some(slot) = self.slot(table) else { return };
        let Some(clocks) = &mut slot.clocks else { return };
        let before = clocks.least;
        clocks.least = clocks.workers.iter().map(RangeClock::min).min().unwrap_or(0);
        let least = clocks.least;
        let least_of_others = clocks.least_of_others();
        let streams = (0..).zip(&mut clocks.streams);
        let news: Vec<u32> = streams
            .filter_map(|(rank, stream)| stream.advance(least_of_others(rank as usize)).then_some(rank))
            .collect();
        for rank in news {
            self.answer(rank, Reply::Rows { table }, out);
        }
        if least == before {
            return;
        }
        let Some(slot) = self.slot(table) else { return };
        let due: Vec<_> = slot.parked.extract_if(.., |parked| parked.header.time <= least).collect();
        for parked in due {
            self.record(parked.rank, parked.header.sequence, Outcome::Applied);
            let reply = Reply::Values { header: parked.header, located: parked.located };
            self.answer(parked.rank, reply, out);
        }
    }

    /// Has the rows sent to worker `rank` again whenever they have changed.
    pub(super) fn subscribe(&mut self, rank: u32, table: u16, located: &Located) -> Result<(), Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        let clocks = slot.clocks.as_mut().ok_or_else(|| not_clocked(table))?;
        let least = clocks.least_of_others()(rank as usize);
        let Some(stream) = clocks.streams.get_mut(rank as usize) else {
            let text = format!("only workers of the job can subscribe, got worker {rank}");
            return Err(Refusal::new(RefusalCode::Limit, text));
        };
        stream.follow(least);
        for (slot, key) in slots_of(&located.at).zip(keys_of(located)) {
            stream.subscribe(slot);
            let place = slot as usize;
            if clocks.keys.len() <= place {
                clocks.keys.resize(place + 1, 0);
            }
            clocks.keys[place] = key;
        }
        Ok(())
    }

    /// Begins a worker's stream of changed rows anew.
    pub(super) fn restream(&mut self, rank: u32, table: u16, generation: u32) -> Result<(), Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        let clocks = slot.clocks.as_mut().ok_or_else(|| not_clocked(table))?;
        let stream = clocks.streams.get_mut(rank as usize);
        let begins = stream.is_some_and(|stream| stream.restart(generation));
        if let (true, Some(Some(session))) = (begins, self.sessions.get_mut(rank as usize)) {
            session.queue(Reply::Rows { table });
        }
        Ok(())
    }

    /// Tells a worker where its clock is.
    pub(super) fn tell_clock(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Stop> {
        let (id, limit) = (frame.header.table, self.config.frame_bytes_max - HEADER_BYTES);
        let slot = self.slot(id).ok_or_else(|| Refusal::no_table(id))?;
        let clocks = slot.clocks.as_ref().ok_or_else(|| not_clocked(id))?;
        let clock = clocks.workers.get(rank as usize).map(RangeClock::to_bytes).unwrap_or_default();
        let answer =
            if clock.len() > limit { Err(Refusal::too_large(clock.len(), limit)) } else { Ok(clock.into()) };
        self.conclude_call(rank, frame.header.sequence, answer, out);
        Ok(())
    }

    /// Whether all workers' clocks are at `time`; the refusal names those that are not.
    pub(super) fn reached(&mut self, table: u16, time: u64) -> Result<(), Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        let clocks = slot.clocks.as_ref().ok_or_else(|| not_clocked(table))?;
        match clocks.waits(time) {
            Some(names) => Err(Refusal::new(RefusalCode::Time, format!("clock {time} waits for {names}"))),
            None => Ok(()),
        }
    }
}

/// The keys of a request; a clocked table keeps them with its lists.
pub(super) fn keys_of(located: &Located) -> Vec<Key> {
    match &located.keys {
        KeysRef::Range(range) => (range.first()..=range.last()).collect(),
        KeysRef::List(keys) => keys.to_vec(),
        KeysRef::Settled => Vec::new(),
    }
}

pub(super) fn not_clocked(table: u16) -> Refusal {
    let text = format!("table {table} has no clocks: expected one with clocked pushes");
    Refusal::new(RefusalCode::Mismatch, text)
}
