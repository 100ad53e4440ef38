//! The core itself: sessions, tables, and the way of a frame.

use std::sync::Arc;

use thiserror::Error;

use super::buffers::Buffers;
use super::graph::{Graphs, NodeRef};
use super::key_cache::KeyCache;
use super::replies::{Reply, Session};
use super::requests::Refusal;
use super::tables::{Parked, TableSlot};
use crate::filter::Scratch;
use crate::key_range::{Key, KeyRange};
use crate::message::{Frame, Kind, RefusalCode};
use crate::session::{Outbox, Outcome, PeerId, Verdict};
use crate::table::{Aggregation, AnyTable, TableError, TableSpec};
use crate::update::Registry;
use crate::worker::PeerFault;

/// Settings of a [`ShardCore`].
#[derive(Debug, Clone, PartialEq)]
pub struct ShardConfig {
    /// Index of this shard in the range map; workers know it by this number.
    pub shard: u32,
    /// The keys it owns.
    pub owned: KeyRange,
    /// Workers of the job: an aggregated update awaits ranks 0 to `workers - 1`.
    pub workers: u32,
    /// Request numbers remembered per worker (a power of two from 64); not below the workers' own window.
    pub window_requests: usize,
    /// Largest frame any of the links carries.
    pub frame_bytes_max: usize,
    /// Bytes of key lists (and their rows) kept for requests that name them by signature.
    pub key_cache_bytes: usize,
    /// Bytes of contributions to unfinished updates held per worker, at most.
    pub held_bytes_max: usize,
    /// Unfinished updates per table, at most.
    pub open_updates_max: usize,
    /// Apply repeated requests again. Only to see that the simulator notices.
    pub planted_bug_apply_twice: bool,
}

impl ShardConfig {
    /// Defaults: window 16,384, frames of 256 KiB, 256 MiB of key lists, 1 GiB held per worker, 256 open updates.
    pub fn new(shard: u32, owned: KeyRange, workers: u32) -> ShardConfig {
        ShardConfig {
            shard,
            owned,
            workers,
            window_requests: 1 << 14,
            frame_bytes_max: 256 << 10,
            key_cache_bytes: 256 << 20,
            held_bytes_max: 1 << 30,
            open_updates_max: 256,
            planted_bug_apply_twice: false,
        }
    }
}

/// A worker connected in an older incarnation than one seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("worker {rank} connects as incarnation {got}, but incarnation {current} was here already")]
pub struct StaleEpoch {
    /// The worker.
    pub rank: u32,
    /// Its incarnation.
    pub got: u32,
    /// The newest known.
    pub current: u32,
}

/// Counters since the core was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Requests handled for the first time.
    pub requests: u64,
    /// Requests that were repetitions.
    pub repeated: u64,
    /// Key lists asked for again.
    pub key_misses: u64,
    /// Requests refused.
    pub refused: u64,
    /// Aggregated updates applied.
    pub updates: u64,
}

/// The protocol of one shard, as a value. See the module's documentation.
pub struct ShardCore {
    pub(super) config: ShardConfig,
    pub(super) registry: Arc<Registry>,
    pub(super) tables: Vec<Option<Box<TableSlot>>>,
    pub(super) sessions: Vec<Option<Session>>,
    pub(super) cache: KeyCache,
    pub(super) buffers: Buffers,
    /// The list of the request at hand, copied: a peer on shared memory could change what was checked.
    pub(super) keys: Vec<Key>,
    pub(super) stats: ShardStats,
    /// The filtered request at hand, undone.
    pub(super) scratch: Scratch,
    /// Requests that consist of others.
    pub(super) graphs: Graphs,
    /// Somebody wants changed rows before the least clock has advanced.
    pub(super) sends_early: bool,
}

impl ShardCore {
    /// A shard without tables; `registry` makes the server functions of those that are created.
    pub fn new(config: ShardConfig, registry: Arc<Registry>) -> ShardCore {
        let cache = KeyCache::new(config.key_cache_bytes);
        let sessions = (0..config.workers).map(|_| None).collect();
        let (buffers, keys, stats) = (Buffers::default(), Vec::new(), ShardStats::default());
        let (tables, scratch, graphs) = (Vec::new(), Scratch::default(), Graphs::default());
        let sends_early = false;
        ShardCore {
            config,
            registry,
            tables,
            sessions,
            cache,
            buffers,
            keys,
            stats,
            scratch,
            graphs,
            sends_early,
        }
    }

    /// The settings.
    pub fn config(&self) -> &ShardConfig {
        &self.config
    }

    /// Counters.
    pub fn stats(&self) -> ShardStats {
        self.stats
    }

    /// Memory held by tables and key lists, in bytes.
    pub fn bytes(&self) -> usize {
        let tables: usize = self.tables.iter().flatten().map(|slot| slot.table.bytes()).sum();
        tables + self.cache.bytes()
    }

    /// Opens the session of worker `rank` in incarnation `epoch`, or goes on with it if it is the same incarnation (its
    /// link was replaced). A higher incarnation replaces the worker: what the old one contributed to unfinished updates
    /// is dropped, for the new one will contribute again.
    ///
    /// # Errors
    /// [`StaleEpoch`] for a lower incarnation.
    pub fn connect(&mut self, rank: u32, epoch: u32) -> Result<(), StaleEpoch> {
        let index = rank as usize;
        if index >= self.sessions.len() {
            self.sessions.resize_with(index + 1, || None);
        }
        match &self.sessions[index] {
            Some(session) if session.epoch == epoch => return Ok(()),
            Some(session) if session.epoch > epoch => {
                return Err(StaleEpoch { rank, got: epoch, current: session.epoch });
            }
            _ => {}
        }
        let replacement = self.sessions[index].is_some();
        if replacement {
            self.drop_contributions(rank);
        }
        self.sessions[index] = Some(Session::new(epoch, replacement, self.config.window_requests));
        Ok(())
    }

    /// Creates a table by its description, as a Control request would.
    ///
    /// # Errors
    /// As [`crate::table::Table::new`]; a different table of the same number is a [`TableError::Spec`].
    pub fn create_table(&mut self, spec: TableSpec) -> Result<(), TableError> {
        if let Some(slot) = self.slot(spec.id) {
            return if slot.spec == spec {
                Ok(())
            } else {
                let text = format!("a different table, {:?}, has this number already", slot.spec.name);
                Err(TableError::Spec { table: spec.id, text })
            };
        }
        let mut slot = TableSlot::create(spec, self.config.owned, &self.registry)?;
        slot.count_clocks(self.config.owned, self.config.workers);
        self.put_slot(slot);
        Ok(())
    }

    /// Adds a table made elsewhere (with a server function no registry knows), replacing one of the same number.
    pub fn add_table(&mut self, table: AnyTable) {
        let mut slot = TableSlot::with_table(table.spec().clone(), table, None);
        slot.count_clocks(self.config.owned, self.config.workers);
        self.put_slot(slot);
    }

    fn put_slot(&mut self, slot: TableSlot) {
        let id = slot.spec.id as usize;
        if self.tables.len() <= id {
            self.tables.resize_with(id + 1, || None);
        }
        self.tables[id] = Some(Box::new(slot));
    }

    /// Fixes the keys of a frozen table; doing so again changes nothing.
    pub(super) fn freeze(&mut self, table: u16) -> Result<(), Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        if !slot.open.is_empty() {
            let text = format!("table {table} has unfinished updates and cannot be frozen now");
            return Err(Refusal::new(RefusalCode::Time, text));
        }
        if slot.is_frozen {
            return Ok(());
        }
        slot.table.freeze().map_err(Refusal::table)?;
        slot.is_frozen = true;
        Ok(())
    }

    /// Forgets a table. What waits for its updates will never see them, and is refused.
    pub(super) fn drop_table(&mut self, table: u16, out: &mut dyn Outbox) {
        let Some(slot) = self.tables.get_mut(table as usize).and_then(Option::take) else { return };
        let mut waiting: Vec<(u32, u64)> = slot.parked.iter().map(Parked::request).collect();
        for (_, update) in slot.open {
            waiting.extend(update.requests());
            self.release(update);
        }
        self.cache.forget(table);
        for (rank, sequence) in waiting {
            self.refuse(rank, sequence, Refusal::no_table(table), out);
        }
    }

    /// The table of this number.
    pub fn table(&self, id: u16) -> Option<&AnyTable> {
        Some(&self.tables.get(id as usize)?.as_deref()?.table)
    }

    /// The table of this number, for server-side work between requests.
    pub fn table_mut(&mut self, id: u16) -> Option<&mut AnyTable> {
        self.slot(id).map(|slot| &mut slot.table)
    }

    pub(super) fn slot(&mut self, id: u16) -> Option<&mut TableSlot> {
        self.tables.get_mut(id as usize)?.as_deref_mut()
    }

    /// Takes in one frame from worker `from` (carrier's word included). When this returns, the frame is not needed any
    /// more. Answers leave at once or at the next [`ShardCore::flush`]; acknowledgements only then.
    ///
    /// # Errors
    /// The peer broke the protocol: close its link. The shard itself is unharmed.
    pub fn handle(&mut self, from: PeerId, bytes: &[u8], out: &mut dyn Outbox) -> Result<(), PeerFault> {
        let frame = Frame::decode(bytes)?;
        let header = &frame.header;
        let session = match self.sessions.get(from.0 as usize) {
            Some(Some(session)) => session,
            _ => return Err(PeerFault::NoSession { peer: from.0 }),
        };
        if header.sender != from.0 {
            return Err(PeerFault::Sender { expected: from.0, got: header.sender });
        }
        if !frame.kind.is_request() {
            return Err(PeerFault::Decode(crate::message::DecodeError::Kind { got: header.kind }));
        }
        if header.epoch != session.epoch {
            return Ok(()); // a late frame of a worker that was replaced
        }
        if frame.is_filtered() || frame.has_wish() {
            return self.handle_filtered(from, &frame, out);
        }
        self.admit(from, &frame, out)
    }

    /// Takes in a checked plain request of a worker in session.
    #[inline(always)]
    pub(super) fn admit(
        &mut self,
        from: PeerId,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let header = &frame.header;
        let Some(Some(session)) = self.sessions.get(from.0 as usize) else {
            return Err(PeerFault::NoSession { peer: from.0 });
        };
        match session.received.check(header.sequence) {
            Verdict::New => {
                self.stats.requests += 1;
                self.execute(from.0, frame, out)?;
            }
            Verdict::Repeated(_) if self.applies_twice(frame) => {
                self.execute(from.0, frame, out)?;
            }
            Verdict::Repeated(outcome) => {
                self.stats.repeated += 1;
                self.repeat(from.0, frame, outcome, out)?;
            }
            Verdict::Ancient => {}
            Verdict::Impossible => {
                let newest = session.received.newest();
                return Err(PeerFault::Sequence { got: header.sequence, newest });
            }
        }
        if !self.graphs.is_idle() {
            self.run_graphs(out);
        }
        self.check_unread(from)
    }

    /// The planted bug: repeated pushes to tables that apply them at once are applied again, and so are early parts.
    fn applies_twice(&self, frame: &Frame<'_>) -> bool {
        let at_once = |slot: &TableSlot| slot.spec.aggregation == Aggregation::Immediate || frame.is_early();
        let slot = || self.tables.get(frame.header.table as usize).and_then(Option::as_deref);
        self.config.planted_bug_apply_twice && frame.kind == Kind::Push && slot().is_some_and(at_once)
    }

    fn check_unread(&self, from: PeerId) -> Result<(), PeerFault> {
        let queued = self.sessions[from.0 as usize].as_ref().map_or(0, Session::queued);
        if queued as u64 > 2 * self.config.window_requests as u64 + 64 {
            return Err(PeerFault::Unread { queued });
        }
        Ok(())
    }

    /// Sends answers that wait, as far as there is room. Returns whether all are sent. Call it after each round of
    /// `handle`, and when a link that was full has room again.
    pub fn flush(&mut self, out: &mut dyn Outbox) -> bool {
        let mut all = true;
        for (rank, session) in self.sessions.iter_mut().enumerate() {
            if let Some(session) = session
                && session.queued() > 0
            {
                all &= session.flush(PeerId(rank as u32), &self.config, &mut self.tables, out);
            }
        }
        all
    }

    /// Queues an answer, and sends it at once if nothing waits before it.
    pub(super) fn answer(&mut self, rank: u32, mut reply: Reply, out: &mut dyn Outbox) {
        if let Some(node) = reply.sequence_mut().and_then(|&mut sequence| NodeRef::of(sequence)) {
            return self.node_answered(node, reply);
        }
        let Some(Some(session)) = self.sessions.get_mut(rank as usize) else { return };
        if session.queued() == 0 {
            let mut sender = super::replies::Sender {
                peer: PeerId(rank),
                epoch: session.epoch,
                config: &self.config,
                filters: &mut session.filters,
            };
            if sender.send(&mut reply, &mut self.tables, out).is_ok() {
                return;
            }
        }
        session.queue(reply);
    }

    #[inline]
    pub(super) fn record(&mut self, rank: u32, sequence: u64, outcome: Outcome) {
        if let Some(Some(session)) = self.sessions.get_mut(rank as usize)
            && session.received.check(sequence) == Verdict::New
        {
            session.received.record(sequence, outcome);
        }
    }

    #[inline]
    pub(super) fn ack(&mut self, rank: u32, sequence: u64) {
        if let Some(node) = NodeRef::of(sequence) {
            return self.node_answered(node, Reply::Ack { sequence, count: 1 });
        }
        if let Some(Some(session)) = self.sessions.get_mut(rank as usize) {
            session.ack(sequence);
        }
    }
}
