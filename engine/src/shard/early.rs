//! Increments that come before their clock is closed, and rows that go before the others' clocks have advanced.
//!
//! *Coming*: an early part is applied at once and advances nobody's clock. What a worker sent so of its clock at hand is
//! also kept by itself, for it may die before it closes that clock: its replacement does the clock over again, whole, and
//! what the predecessor had sent of it is then taken off, so that the clock counts once. Nobody who read it sees it
//! vanish. The replacement asks for it too, and takes it off the rows it reads until it has closed that clock itself.
//!
//! *Going*: subscribed rows that changed, the heaviest first. One that was sent so and has not changed since need not be
//! sent again when those clocks advance. One whose pull was answered since then waits for that: the worker could not
//! tell which of the two is newer.

use std::time::Duration;

use super::clocked::{Clocks, keys_of, not_clocked};
use super::core::ShardCore;
use super::key_cache::Located;
use super::lent::arrays;
use super::replies::Sender;
use super::requests::{Refusal, Stop, apply};
use super::streams::{Batch, Bits, slots_of};
use super::tables::TableSlot;
use crate::clock::EarlyConfig;
use crate::clock::early::{Bucket, Weigher, keep_heaviest, relative_magnitude, rows_frame_bytes};
use crate::key_range::KeyRange;
use crate::message::{Element, Flags, Frame, Header, RefusalCode};
use crate::session::{Outbox, OutboxError, Outcome, PeerId};
use crate::table::{AnyTable, Resolved, StoreKind, Table, TableError, TableSpec};
use crate::update::Registry;

/// What a worker has sent early of a clock it has not closed.
pub(super) struct Ledger {
    epoch: u32,
    clock: u64,
    /// Number of the last part.
    number: u32,
    pub sums: AnyTable,
}

impl Ledger {
    fn new(epoch: u32, clock: u64, spec: &TableSpec, registry: &Registry) -> Result<Ledger, TableError> {
        let spec = TableSpec { store: StoreKind::Sparse, ..spec.clone() };
        Ok(Ledger { epoch, clock, number: 0, sums: AnyTable::new(spec, registry)? })
    }

    /// Whether the worker has closed that clock, being at `clock` everywhere now.
    pub fn is_closed(&self, clock: u64) -> bool {
        self.clock <= clock
    }
}

impl Clocks {
    /// The early parts of worker `rank`, in its incarnation `epoch`, that rows hold in which its own clock is `own_clock`.
    pub fn own_early(&self, rank: usize, epoch: u32, own_clock: u64) -> u32 {
        let ledger = self.ledgers.get(rank).and_then(Option::as_ref);
        let open = ledger.filter(|ledger| ledger.epoch == epoch && ledger.clock == own_clock + 1);
        open.map_or(0, |ledger| ledger.number)
    }

    /// Why part `number` of clock `time` cannot come now, if that is so.
    fn check_early(
        &self,
        rank: u32,
        epoch: u32,
        (range, time, number): (KeyRange, u64, u32),
    ) -> Result<(), String> {
        if let Some((_, at)) = self.workers[rank as usize].pieces(range).find(|&(_, at)| at + 1 != time) {
            return Err(format!(
                "an early part of clock {time} of worker {rank}, which is at {at}: expected one of {}",
                at + 1
            ));
        }
        match &self.ledgers[rank as usize] {
            Some(ledger) if ledger.clock == time && ledger.epoch != epoch => Err(format!(
                "worker {rank} sends clock {time} early, which its predecessor had begun to: expected it whole"
            )),
            Some(ledger) if ledger.clock == time && ledger.number >= number => Err(format!(
                "part {number} of clock {time} of worker {rank}: expected one above {}",
                ledger.number
            )),
            _ => Ok(()),
        }
    }
}

impl ShardCore {
    /// Applies increments of a clock that is not closed.
    pub(super) fn push_early(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Stop> {
        let header = frame.header;
        let epoch = self.sessions[rank as usize].as_ref().map_or(0, |session| session.epoch);
        let applies_twice = self.config.planted_bug_apply_twice;
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let Some(clocks) = &slot.clocks else { return Err(not_clocked(header.table).into()) };
        if slot.spec.function.name != "add" {
            let name = &slot.spec.function.name;
            let text = format!("only sums can be sent in parts: expected the function \"add\", got {name:?}");
            return Err(Refusal::new(RefusalCode::Mismatch, text).into());
        }
        if !applies_twice {
            let part = (frame.range(), header.time, header.aux);
            let checked = clocks.check_early(rank, epoch, part);
            checked.map_err(|text| Refusal::new(RefusalCode::Time, text))?;
        }
        let located = self.locate(frame, true)?;
        let (tables, registry) = (&mut self.tables, &self.registry);
        let slot = tables[header.table as usize].as_deref_mut().expect("located in it just before");
        slot.keep_early(rank, epoch, frame, &located, registry, out)?;
        apply(&mut slot.table, frame, &located.at, PeerId(rank), out)?;
        slot.note_changed(&located, frame, PeerId(rank), out);
        self.record(rank, header.sequence, Outcome::Applied);
        self.ack(rank, header.sequence);
        Ok(())
    }

    /// Has changed rows sent early to worker `rank` from now on.
    pub(super) fn begin_early(
        &mut self,
        rank: u32,
        table: u16,
        early: EarlyConfig,
        width: u32,
    ) -> Result<(), Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        let (row_bytes, shard_seed) = (slot.row_bytes(), u64::from(rank) << 32 | u64::from(table));
        let clocks = slot.clocks.as_mut().ok_or_else(|| not_clocked(table))?;
        early.check(row_bytes).map_err(|error| Refusal::new(RefusalCode::Limit, error.to_string()))?;
        if let Some(stream) = clocks.streams.get_mut(rank as usize)
            && stream.early.as_ref().is_none_or(|before| before.config != early)
        {
            stream.early = Some(Box::new(EarlyRows::new(early, width as usize, shard_seed)));
            self.sends_early = true;
        }
        Ok(())
    }

    /// Tells the time (on any clock that does not go back): sends what may go early. Call it after each round of `handle`
    /// and when [`ShardCore::next_wake`] says.
    pub fn poll(&mut self, now: Duration, out: &mut dyn Outbox) {
        if !self.sends_early {
            return;
        }
        for slot in self.tables.iter_mut().flatten() {
            for (rank, session) in self.sessions.iter_mut().enumerate() {
                let Some(session) = session else { continue };
                let (peer, epoch, config) = (PeerId(rank as u32), session.epoch, &self.config);
                let sender = Sender { peer, epoch, config, filters: &mut session.filters };
                sender.send_early(slot, now, out);
            }
        }
    }

    /// When [`ShardCore::poll`] has something to do at the latest; `None` if not before more comes.
    pub fn next_wake(&self) -> Option<Duration> {
        if !self.sends_early {
            return None;
        }
        let clocks = self.tables.iter().flatten().filter_map(|slot| slot.clocks.as_ref());
        let streams = clocks.flat_map(|clocks| &clocks.streams).filter(|stream| !stream.owes());
        let waiting = streams.filter_map(|stream| stream.early.as_ref().filter(|early| early.has_changed));
        waiting.map(|early| early.bucket.full_at()).min()
    }
}

impl TableSlot {
    /// Adds an early part to what the worker has sent so of this clock.
    fn keep_early(
        &mut self,
        rank: u32,
        epoch: u32,
        frame: &Frame<'_>,
        located: &Located,
        registry: &Registry,
        out: &mut dyn Outbox,
    ) -> Result<(), Refusal> {
        let clocks = self.clocks.as_mut().expect("a clocked table");
        let place = &mut clocks.ledgers[rank as usize];
        if place.as_ref().is_none_or(|ledger| ledger.clock != frame.header.time) {
            let ledger = Ledger::new(epoch, frame.header.time, &self.spec, registry);
            *place = Some(ledger.map_err(Refusal::table)?);
        }
        let Some(ledger) = place else { return Ok(()) };
        let at = ledger.sums.resolve(&keys_of(located), true).map_err(Refusal::table)?;
        apply(&mut ledger.sums, frame, &at, PeerId(rank), out)?;
        ledger.number = frame.header.aux;
        Ok(())
    }

    /// What this worker, or its predecessor, has sent of a clock that is not closed.
    pub fn sent_early(&self, worker: PeerId) -> Option<&AnyTable> {
        self.clocks.as_ref()?.ledgers.get(worker.0 as usize)?.as_ref().map(|ledger| &ledger.sums)
    }

    /// The same, to look keys up.
    pub fn sent_early_mut(&mut self, worker: PeerId) -> Option<&mut AnyTable> {
        let ledgers = &mut self.clocks.as_mut()?.ledgers;
        ledgers.get_mut(worker.0 as usize)?.as_mut().map(|ledger| &mut ledger.sums)
    }

    /// The answer to a worker's pull is made now: of rows it subscribed to, those that go early later must not be taken
    /// for older.
    pub fn note_pulled(&mut self, worker: PeerId, request: &Header, located: &Located) {
        let stream = self.clocks.as_mut().and_then(|clocks| clocks.streams.get_mut(worker.0 as usize));
        if let Some(early) = stream.and_then(|stream| stream.early.as_mut())
            && request.flags & Flags::SUBSCRIBE != 0
        {
            slots_of(&located.at).for_each(|slot| early.pull(slot));
        }
    }

    /// Worker `rank`, in incarnation `epoch`, has closed `ranges` at `time` with all increments of that clock: those that its
    /// predecessor had sent early are taken off.
    pub(super) fn take_off(
        &mut self,
        rank: u32,
        epoch: u32,
        ranges: &[KeyRange],
        time: u64,
    ) -> Result<(), Refusal> {
        fn subtract<V: Element>(
            table: &mut Table<V>,
            sums: &mut Table<V>,
            range: KeyRange,
        ) -> Result<Resolved, TableError> {
            let (keys, from) = sums.existing(range.first(), range.last());
            let mut values = vec![V::ZERO; keys.len() * table.spec().width as usize];
            sums.pull(&from, &mut values)?;
            values.iter_mut().for_each(|value| *value = V::ZERO - *value);
            let at = table.resolve(&keys, true)?;
            table.push(&at, &[&values])?;
            Ok(at)
        }
        let Some(clocks) = &mut self.clocks else { return Ok(()) };
        let place = &mut clocks.ledgers[rank as usize];
        let Some(ledger) = place.as_mut().filter(|ledger| ledger.clock == time && ledger.epoch != epoch)
        else {
            return Ok(());
        };
        let mut changed = Vec::new();
        for &range in ranges {
            changed.push(
                match (&mut self.table, &mut ledger.sums) {
                    (AnyTable::F32(table), AnyTable::F32(sums)) => subtract(table, sums, range),
                    (AnyTable::F64(table), AnyTable::F64(sums)) => subtract(table, sums, range),
                    _ => unreachable!("the sums are of the table's type"),
                }
                .map_err(Refusal::table)?,
            );
        }
        changed.iter().for_each(|at| clocks.set_dirty(at, &[], None));
        Ok(())
    }

    /// A worker's rows have changed by the values of `frame`.
    pub(super) fn note_changed(
        &mut self,
        located: &Located,
        frame: &Frame<'_>,
        from: PeerId,
        out: &dyn Outbox,
    ) {
        fn moved<V: Element>(
            table: &Table<V>,
            at: &Resolved,
            changes: Result<[&[V]; 4], Refusal>,
            counted: usize,
        ) -> Vec<f64> {
            let width = table.spec().width as usize;
            let mut values = vec![V::ZERO; at.len() * width];
            let (Ok([changes, ..]), Ok(())) = (changes, table.pull(at, &mut values)) else {
                return Vec::new();
            };
            let rows = changes.chunks_exact(width).zip(values.chunks_exact(width));
            rows.map(|(change, row)| relative_magnitude(&change[..counted], &row[..counted])).collect()
        }
        let Some(clocks) = &mut self.clocks else { return };
        let (width, at) = (self.spec.width as usize, &located.at);
        let counted = clocks.streams.iter().find_map(|stream| stream.early.as_ref()?.counted());
        let moved = match (counted.map(|counted| counted.min(width)), &self.table) {
            (None, _) => Vec::new(),
            (Some(counted), AnyTable::F32(table)) => {
                moved(table, at, arrays(frame, width, from, out), counted)
            }
            (Some(counted), AnyTable::F64(table)) => {
                moved(table, at, arrays(frame, width, from, out), counted)
            }
        };
        let knows = clocks.adds.then_some(from.0 as usize);
        clocks.set_dirty(at, &moved, knows);
    }
}

impl Clocks {
    /// These rows have changed, each by so much for its size (by nothing, as far as nobody says); the worker of rank `knows`
    /// did that and knows what they are now.
    fn set_dirty(&mut self, at: &Resolved, moved: &[f64], knows: Option<usize>) {
        if !self.streams.iter().any(|stream| stream.is_followed()) {
            return;
        }
        for (row, slot) in slots_of(at).enumerate() {
            for (rank, stream) in self.streams.iter_mut().enumerate() {
                if Some(rank) == knows {
                    stream.changed_by_itself(slot);
                } else {
                    stream.changed(slot, moved.get(row).copied().unwrap_or(0.0));
                }
            }
        }
    }
}

/// Rows that go to one worker before the least clock has advanced.
pub(super) struct EarlyRows {
    config: EarlyConfig,
    width: usize,
    bucket: Bucket,
    weigher: Weigher,
    /// Subscribed rows that changed since they were last sent, and how much each weighs, by slot.
    changed: Bits,
    weights: Vec<f64>,
    has_changed: bool,
    /// Rows that were sent since the least clock advanced, and have not changed since.
    sent: Bits,
    /// Rows whose pull was answered since then.
    pulled: Bits,
    /// The least clock has advanced since it began; pulls that were answered before are not known.
    has_begun: bool,
}

impl EarlyRows {
    fn new(config: EarlyConfig, width: usize, seed: u64) -> EarlyRows {
        EarlyRows {
            config,
            width,
            bucket: Bucket::new(config.bytes_per_s, config.burst_bytes),
            weigher: Weigher::new(config.order, seed),
            changed: Bits::default(),
            weights: Vec::new(),
            has_changed: false,
            sent: Bits::default(),
            pulled: Bits::default(),
            has_begun: false,
        }
    }

    /// The values of a row that magnitudes are made of, if somebody needs those.
    fn counted(&self) -> Option<usize> {
        self.weigher.needs_magnitudes().then_some(self.width)
    }

    /// A subscribed row has changed.
    pub fn change(&mut self, slot: u32, moved: f64) {
        self.sent.unset(slot);
        if !self.has_begun || self.pulled.has(slot) {
            return;
        }
        let place = slot as usize;
        if self.weights.len() <= place {
            self.weights.resize(place + 1, 0.0);
        }
        let before = self.changed.has(slot).then_some(self.weights[place]);
        self.weights[place] = self.weigher.weigh(before, || moved);
        self.changed.set(slot);
        self.has_changed = true;
    }

    /// The answer to a pull holds this row.
    pub fn pull(&mut self, slot: u32) {
        self.pulled.set(slot);
        self.changed.unset(slot);
    }

    /// The others' clocks have advanced: of the rows that changed those need not go that went early.
    pub fn advance(&mut self, pending: &mut Bits) {
        self.sent.iter().for_each(|slot| pending.unset(slot));
        [&mut self.sent, &mut self.pulled, &mut self.changed].into_iter().for_each(Bits::clear);
        (self.has_changed, self.has_begun) = (false, true);
    }
}

impl Sender<'_> {
    /// Sends one frame of this worker's rows early, if its budget has room for a burst.
    fn send_early(&self, slot: &mut TableSlot, now: Duration, out: &mut dyn Outbox) {
        let (row_bytes, rank) = (slot.row_bytes(), self.peer.0 as usize);
        let Some(clocks) = &mut slot.clocks else { return };
        let Some((clock, stream)) = clocks.workers.get(rank).zip(clocks.streams.get_mut(rank)) else {
            return;
        };
        let least = stream.least();
        let can_go = stream.is_followed() && !stream.owes();
        let Some(early) = stream.early.as_mut().filter(|early| can_go && early.has_changed) else { return };
        if !early.bucket.is_full(now) {
            return;
        }
        let most = early.config.burst_bytes.min(self.config.frame_bytes_max as u64) as usize;
        let rows_max = most / (row_bytes + size_of::<u64>());
        let mut rows: Vec<(f64, u32)> =
            early.changed.iter().map(|slot| (early.weights[slot as usize], slot)).collect();
        keep_heaviest(&mut rows, rows_max);
        let mut batch = Batch::empty(least);
        for (_, slot) in rows {
            let fits = rows_frame_bytes(batch.slots.len() + 1, row_bytes) <= most;
            if !fits {
                break;
            }
            // A row with another clock of the worker's own waits for the next frame.
            batch.try_add(slot, &clocks.keys, clock);
        }
        early.has_changed = !batch.slots.is_empty();
        if batch.slots.is_empty() {
            return;
        }
        early.bucket.take(rows_frame_bytes(batch.slots.len(), row_bytes));
        let sent: Result<(), OutboxError> = self.send_batch(slot, &batch, true, out);
        // Without room this part of the budget has passed unused.
        let stream = slot.clocks.as_mut().and_then(|clocks| clocks.streams.get_mut(rank));
        if let (Ok(()), Some(early)) = (sent, stream.and_then(|stream| stream.early.as_mut())) {
            for &slot in &batch.slots {
                early.changed.unset(slot);
                early.sent.set(slot);
            }
        }
    }
}
