//! Updates that wait for all workers.
//!
//! An update is named by table and time. Each worker contributes once to it on every shard that the task's range touches,
//! with or without keys there, in one request or in several chunks. Contributions are copied and wait; the one that
//! completes the update is used where it lies. Then everything is applied once, in the order of the workers' ranks, so the
//! result does not depend on who came first, to the last bit.

use super::CHUNKS_MAX;
use super::buffers::{Buffer, Buffers};
use super::core::ShardCore;
use super::key_cache::Located;
use super::replies::Reply;
use super::requests::{Refusal, Stop};
use super::tables::TableSlot;
use crate::message::{Chunk, Element, Frame, Header, Kind, Layout, RefusalCode};
use crate::session::{Outbox, Outcome};
use crate::table::{AnyTable, Contribution, Table, TableError};
use crate::update::Combine;

/// An update not all workers have contributed to.
pub(super) struct OpenUpdate {
    /// By rank.
    workers: Vec<Share>,
    /// Workers whose share is complete.
    complete: usize,
}

/// One worker's share.
#[derive(Default)]
struct Share {
    /// By chunk index; empty before the first chunk came.
    chunks: Vec<Option<Held>>,
    got: usize,
}

/// One chunk.
struct Held {
    header: Header,
    located: Located,
    /// `None` if the frame that completed the update holds the values.
    copy: Option<Buffer>,
}

impl OpenUpdate {
    fn new(workers: usize) -> OpenUpdate {
        OpenUpdate { workers: (0..workers).map(|_| Share::default()).collect(), complete: 0 }
    }

    fn held(&self) -> impl Iterator<Item = (u32, &Held)> {
        let shares = self.workers.iter().enumerate();
        shares.flat_map(|(rank, share)| share.chunks.iter().flatten().map(move |held| (rank as u32, held)))
    }

    /// Who contributed, and by which requests.
    pub fn requests(&self) -> impl Iterator<Item = (u32, u64)> {
        self.held().map(|(rank, held)| (rank, held.header.sequence))
    }

    /// Whether `chunk` of `rank` would be the last one missing.
    fn completes(&self, rank: u32, chunk: Chunk) -> bool {
        let share = &self.workers[rank as usize];
        self.complete + 1 == self.workers.len() && share.got + 1 == usize::from(chunk.count)
    }

    fn add(&mut self, rank: u32, chunk: Chunk, held: Held) {
        let share = &mut self.workers[rank as usize];
        share.chunks.resize_with(usize::from(chunk.count), || None);
        share.chunks[usize::from(chunk.index)] = Some(held);
        share.got += 1;
        self.complete += usize::from(share.got == share.chunks.len());
    }
}

impl ShardCore {
    /// Takes in one worker's contribution, and applies the update if it was the last.
    pub(super) fn contribute(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), Stop> {
        let header = frame.header;
        let chunk = self.check_contribution(rank, &header)?;
        if self.is_finished_before(rank, &header)? {
            // A replaced worker contributed before it died, and the update went through.
            let located = self.locate(frame, true)?;
            self.record(rank, header.sequence, Outcome::Applied);
            self.conclude_chunk(rank, header, located, out);
            return Ok(());
        }
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let bytes = if frame.is_lent() { &[] } else { values_bytes(slot, frame)? };
        let located = self.locate(frame, true)?;
        let lent = if frame.is_lent() { Some(self.hold_lent(rank, frame, out)?) } else { None };
        let workers = self.config.workers as usize;
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let update = slot.open.entry(header.time).or_insert_with(|| OpenUpdate::new(workers));
        let completes = update.completes(rank, chunk);
        let copy = if lent.is_some() || completes { lent } else { Some(self.hold(rank, bytes)) };
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        if let Some(update) = slot.open.get_mut(&header.time) {
            update.add(rank, chunk, Held { header, located, copy });
        }
        self.record(rank, header.sequence, Outcome::Applied);
        if completes {
            self.finish(header.table, header.time, bytes, out);
        }
        Ok(())
    }

    fn hold(&mut self, rank: u32, bytes: &[u8]) -> Buffer {
        self.count_held(rank, bytes.len());
        self.buffers.copy(bytes)
    }

    pub(super) fn count_held(&mut self, rank: u32, bytes: usize) {
        if let Some(Some(session)) = self.sessions.get_mut(rank as usize) {
            session.held_bytes += bytes;
        }
    }

    /// Whether this very update is finished already; an error unless that can be so by rights.
    fn is_finished_before(&mut self, rank: u32, header: &Header) -> Result<bool, Refusal> {
        let replacement = matches!(&self.sessions[rank as usize], Some(session) if session.replacement);
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        if !slot.finished.contains(header.time) {
            return Ok(false);
        }
        if replacement && slot.finished.is_refused(header.time, rank) {
            let text = format!("update {} was refused when worker {rank} was another", header.time);
            return Err(Refusal::new(RefusalCode::Function, text));
        }
        if replacement {
            return Ok(true);
        }
        let what = if slot.finished.forgot(header.time) { "too old" } else { "finished already" };
        let text = format!("update {} of table {} is {what}", header.time, header.table);
        Err(Refusal::new(RefusalCode::Time, text))
    }

    fn check_contribution(&mut self, rank: u32, header: &Header) -> Result<Chunk, Refusal> {
        let (workers, open_max) = (self.config.workers, self.config.open_updates_max);
        let held_max = self.config.held_bytes_max;
        let limit = |text: String| Err(Refusal::new(RefusalCode::Limit, text));
        if rank >= workers {
            return limit(format!(
                "updates await workers 0 to {}, got worker {rank}",
                workers.saturating_sub(1)
            ));
        }
        let chunk = Chunk::from_aux(header.aux).filter(|chunk| usize::from(chunk.count) <= CHUNKS_MAX);
        let Some(chunk) = chunk else {
            return limit(format!("a contribution has chunks 1 to {CHUNKS_MAX}, got {:#x}", header.aux));
        };
        if self.sessions[rank as usize].as_ref().is_some_and(|session| session.held_bytes > held_max) {
            return limit(format!("more than {held_max} bytes of this worker wait for other workers"));
        }
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let time = |text: String| Err(Refusal::new(RefusalCode::Time, text));
        let Some(update) = slot.open.get(&header.time) else {
            if slot.open.len() >= open_max {
                return time(format!(
                    "{open_max} updates of this table wait already, the oldest for {}",
                    slot.waits()
                ));
            }
            return Ok(chunk);
        };
        let share = &update.workers[rank as usize];
        let fits = share.chunks.is_empty() || share.chunks.len() == usize::from(chunk.count);
        if !fits || share.chunks.get(usize::from(chunk.index)).is_some_and(Option::is_some) {
            return time(format!("worker {rank} contributed to update {} already", header.time));
        }
        Ok(chunk)
    }

    /// Applies a complete update; `last` are the values of the frame that completed it.
    fn finish(&mut self, table: u16, time: u64, last: &[u8], out: &mut dyn Outbox) {
        let Some(slot) = self.slot(table) else { return };
        let Some(update) = slot.open.remove(&time) else { return };
        let applied = match &mut slot.table {
            AnyTable::F32(table) => apply_update(table, &update, last),
            AnyTable::F64(table) => apply_update(table, &update, last),
        };
        slot.finished.insert(time);
        self.stats.updates += 1;
        let chunks: Vec<(u32, Header, Located)> =
            update.held().map(|(rank, held)| (rank, held.header, held.located.clone())).collect();
        self.release(update);
        for ((rank, header, located), applied) in chunks.into_iter().zip(applied) {
            match applied {
                Ok(()) => self.conclude_chunk(rank, header, located, out),
                Err(error) => {
                    if let Some(slot) = self.slot(table) {
                        slot.finished.refuse(time, rank);
                    }
                    self.refuse_held(rank, header.sequence, Refusal::table(error), out);
                }
            }
        }
        self.unpark(table, time, out);
    }

    /// Refuses a contribution that was accepted when it came: a repetition of it hears the same from now on.
    fn refuse_held(&mut self, rank: u32, sequence: u64, refusal: Refusal, out: &mut dyn Outbox) {
        self.stats.refused += 1;
        if let Some(Some(session)) = self.sessions.get_mut(rank as usize) {
            session.received.refuse(sequence);
        }
        self.refuse(rank, sequence, refusal, out);
    }

    fn conclude_chunk(&mut self, rank: u32, header: Header, located: Located, out: &mut dyn Outbox) {
        if header.kind == Kind::PushPull as u8 {
            self.answer(rank, Reply::Values { header, located }, out);
        } else {
            self.ack(rank, header.sequence);
        }
    }

    fn unpark(&mut self, table: u16, time: u64, out: &mut dyn Outbox) {
        let Some(slot) = self.slot(table) else { return };
        let due: Vec<_> = slot.parked.extract_if(.., |parked| parked.header.time == time).collect();
        for parked in due {
            self.record(parked.rank, parked.header.sequence, Outcome::Applied);
            let reply = Reply::Values { header: parked.header, located: parked.located };
            self.answer(parked.rank, reply, out);
        }
    }

    /// Whether this request is part of an update that is not finished.
    pub(super) fn is_pending(&mut self, rank: u32, header: &Header) -> bool {
        let Some(update) = self.slot(header.table).and_then(|slot| slot.open.get(&header.time)) else {
            return false;
        };
        let mut held = update.held();
        held.any(|(of, held)| of == rank && held.header.sequence == header.sequence)
    }

    /// Gives the buffers of an update back.
    pub(super) fn release(&mut self, update: OpenUpdate) {
        for (rank, share) in update.workers.into_iter().enumerate() {
            for held in share.chunks.into_iter().flatten() {
                self.release_held(rank, held);
            }
        }
    }

    fn release_held(&mut self, rank: usize, held: Held) {
        let Some(copy) = held.copy else { return };
        if let Some(Some(session)) = self.sessions.get_mut(rank) {
            session.held_bytes = session.held_bytes.saturating_sub(copy.bytes().len());
        }
        let buffers: &mut Buffers = &mut self.buffers;
        buffers.recycle(copy);
    }

    /// Forgets what worker `rank` contributed to unfinished updates, and its waiting pulls.
    pub(super) fn drop_contributions(&mut self, rank: u32) {
        self.graphs.forget(rank);
        let mut dropped = Vec::new();
        for slot in self.tables.iter_mut().flatten() {
            slot.parked.retain(|parked| parked.rank != rank);
            slot.clocks.iter_mut().for_each(|clocks| clocks.unsubscribe(rank));
            for update in slot.open.values_mut() {
                let Some(share) = update.workers.get_mut(rank as usize) else { continue };
                let complete = share.got > 0 && share.got == share.chunks.len();
                update.complete -= usize::from(complete);
                dropped.extend(std::mem::take(share).chunks.into_iter().flatten());
            }
        }
        for held in dropped {
            self.release_held(rank as usize, held);
        }
    }
}

impl TableSlot {
    /// A contribution brings as many arrays as the server function takes.
    pub(super) fn check_parts(&self, frame: &Frame<'_>) -> Result<(), Refusal> {
        let (parts, got) = (self.table.push_parts(), frame.header.parts as usize);
        if parts == got {
            return Ok(());
        }
        let text = format!("the table's server function takes {parts} value arrays, got {got}");
        Err(Refusal::new(RefusalCode::Mismatch, text))
    }

    /// Whom the oldest open update waits for, in words.
    fn waits(&self) -> String {
        let Some((time, update)) = self.open.first_key_value() else { return String::new() };
        let missing =
            update.workers.iter().position(|share| share.got == 0 || share.got < share.chunks.len());
        format!("update {time}: worker {}", missing.unwrap_or(0))
    }
}

/// The frame's value arrays as they lie, checked against the table.
fn values_bytes<'a>(slot: &TableSlot, frame: &Frame<'a>) -> Result<&'a [u8], Refusal> {
    slot.check_parts(frame)?;
    let width = slot.spec.width as usize;
    let bytes = match slot.table {
        AnyTable::F32(_) => frame.value_bytes::<f32>(width),
        AnyTable::F64(_) => frame.value_bytes::<f64>(width),
    };
    bytes.map_err(Refusal::mismatch)
}

/// One pass over all contributions, in the order of ranks and chunks; what became of each.
fn apply_update<V: Element>(
    table: &mut Table<V>,
    update: &OpenUpdate,
    last: &[u8],
) -> Vec<Result<(), TableError>> {
    let width = table.spec().width as usize;
    let arrays: Vec<_> = update
        .held()
        .map(|(_, held)| {
            let bytes = held.copy.as_ref().map_or(last, Buffer::bytes);
            let parts = held.header.parts as usize;
            let array_bytes = held.header.key_count as usize * width * size_of::<V>();
            (&*held.located.at, parts, Layout::arrays::<V>(bytes, array_bytes, parts))
        })
        .collect();
    let contributions: Vec<Contribution<'_, V>> =
        arrays.iter().map(|&(at, count, ref parts)| Contribution { at, parts: &parts[..count] }).collect();
    match table.combine() {
        Combine::Each => table.apply_each(&contributions),
        Combine::Sum | Combine::Fold => vec![table.apply_sum(&contributions); contributions.len()],
    }
}
