//! Answers: how they are kept when there is no room, and how they become frames.

use std::collections::VecDeque;
use std::io::IoSlice;

use keyrange_transport::link::WORD_BYTES;

use super::core::ShardConfig;
use super::filtered::{Plain, Ready, ReplyFilters, Unsent};
use super::key_cache::{KeysRef, Located};
use super::requests::Refusal;
use super::tables::TableSlot;
use crate::key_range::Key;
use crate::message::{
    Element, Flags, HEADER_BYTES, Header, Kind, Layout, body_part, compose_bytes, compose_header,
    compose_parts,
};
use crate::session::{Outbox, OutboxError, PeerId, Received};
use crate::table::{AnyTable, Table};
use crate::update;
use crate::worker::{CALLS_KEPT, GATHERED_BYTES_MIN};

/// An answer, described; the values are read when it leaves.
pub(super) enum Reply {
    /// `count` requests from `sequence` on are done.
    Ack { sequence: u64, count: u32 },
    /// Values of known keys. The header is the request's.
    Values { header: Header, located: Located },
    /// The keys that exist in the request's range, and their values.
    Existing { header: Header },
    /// Changed rows the worker subscribed to; which, the table's stream knows.
    Rows { table: u16 },
    /// Coded values.
    Ready(Box<Ready>),
    /// Of a call.
    Answer { sequence: u64, answer: update::Answer },
    /// Refused or NeedKeys.
    Bytes { kind: Kind, sequence: u64, aux: u32, bytes: Vec<u8> },
}

impl Reply {
    /// The request it answers; rows that come unasked answer none.
    pub fn sequence_mut(&mut self) -> Option<&mut u64> {
        Some(match self {
            Reply::Rows { .. } => return None,
            Reply::Ack { sequence, .. } | Reply::Bytes { sequence, .. } | Reply::Answer { sequence, .. } => {
                sequence
            }
            Reply::Ready(ready) => &mut ready.header.sequence,
            Reply::Values { header, .. } | Reply::Existing { header } => &mut header.sequence,
        })
    }
}

/// What a call came to.
pub(super) type Answer = Result<update::Answer, Refusal>;

/// One worker, as the shard sees it.
pub(super) struct Session {
    pub epoch: u32,
    /// Whether this incarnation replaced another.
    pub replacement: bool,
    pub received: Received,
    /// Acknowledgements not yet sent: consecutive numbers from, count.
    acks: (u64, u32),
    queue: VecDeque<Reply>,
    /// The last answers to calls, for repetitions.
    answers: VecDeque<(u64, Answer)>,
    /// Bytes of contributions that wait.
    pub held_bytes: usize,
    /// What answers are to go through.
    pub filters: ReplyFilters,
}

impl Session {
    pub fn new(epoch: u32, replacement: bool, window: usize) -> Session {
        Session {
            epoch,
            replacement,
            received: Received::new(window),
            acks: (0, 0),
            queue: VecDeque::new(),
            answers: VecDeque::new(),
            held_bytes: 0,
            filters: ReplyFilters::default(),
        }
    }

    /// Acknowledges one request, together with its neighbours if they follow.
    #[inline]
    pub fn ack(&mut self, sequence: u64) {
        let (from, count) = self.acks;
        if count > 0 && sequence == from + u64::from(count) {
            self.acks.1 += 1;
        } else {
            self.settle_acks();
            self.acks = (sequence, 1);
        }
    }

    fn settle_acks(&mut self) {
        let (sequence, count) = std::mem::take(&mut self.acks);
        if count > 0 {
            self.queue.push_back(Reply::Ack { sequence, count });
        }
    }

    pub fn queue(&mut self, reply: Reply) {
        self.queue.push_back(reply);
    }

    pub fn queued(&self) -> usize {
        self.queue.len() + usize::from(self.acks.1 > 0)
    }

    pub fn remember_answer(&mut self, sequence: u64, answer: Answer) {
        if self.answers.len() == CALLS_KEPT {
            self.answers.pop_front();
        }
        self.answers.push_back((sequence, answer));
    }

    pub fn answer_to(&self, sequence: u64) -> Option<Answer> {
        self.answers.iter().find(|(of, _)| *of == sequence).map(|(_, answer)| answer.clone())
    }

    /// Sends what waits, in order, until there is no room. Returns whether all is sent.
    pub fn flush(
        &mut self,
        peer: PeerId,
        config: &ShardConfig,
        tables: &mut [Option<Box<TableSlot>>],
        out: &mut dyn Outbox,
    ) -> bool {
        self.settle_acks();
        while let Some(reply) = self.queue.front_mut() {
            let mut sender = Sender { peer, epoch: self.epoch, config, filters: &mut self.filters };
            if sender.send(reply, tables, out).is_err() {
                return false;
            }
            self.queue.pop_front();
        }
        true
    }
}

/// Who answers whom.
pub(super) struct Sender<'a> {
    pub peer: PeerId,
    pub epoch: u32,
    pub config: &'a ShardConfig,
    pub filters: &'a mut ReplyFilters,
}

impl Sender<'_> {
    pub fn header(&self, kind: Kind, sequence: u64) -> Header {
        Header { epoch: self.epoch, sender: self.config.shard, sequence, ..Header::new(kind) }
    }

    pub fn send(
        &mut self,
        reply: &mut Reply,
        tables: &mut [Option<Box<TableSlot>>],
        out: &mut dyn Outbox,
    ) -> Result<(), OutboxError> {
        match reply {
            Reply::Ack { sequence, count } => {
                let header = Header { key_count: *count, ..self.header(Kind::Ack, *sequence) };
                self.send_bytes(&header, &[], out)
            }
            Reply::Answer { sequence, answer } => {
                let header = self.header(Kind::Reply, *sequence);
                let bytes = HEADER_BYTES + answer.len();
                if bytes >= GATHERED_BYTES_MIN && out.gathers(self.peer) {
                    let parts = [&bytemuck::bytes_of(&header)[WORD_BYTES..], &answer.own, answer.tail()];
                    return out.send_parts(self.peer, header.checksum(), &parts.map(IoSlice::new));
                }
                out.send(self.peer, bytes, &mut |body| {
                    compose_parts(body, &header, &answer.own, answer.tail())
                })
            }
            Reply::Bytes { kind, sequence, aux, bytes } => {
                let header = Header { aux: *aux, ..self.header(*kind, *sequence) };
                self.send_bytes(&header, bytes, out)
            }
            Reply::Values { header, located } => {
                let Some(slot) = slot_of(tables, header.table) else {
                    return self.send_refusal(header.sequence, &Refusal::no_table(header.table), out);
                };
                slot.note_pulled(self.peer, header, located);
                match slot.refresh(located, false) {
                    Ok(()) => {
                        self.send_values(header, slot, located, out).map_err(|unsent| keep(unsent, reply))
                    }
                    Err(refusal) => self.send_refusal(header.sequence, &refusal, out),
                }
            }
            Reply::Rows { table } => match slot_of(tables, *table) {
                Some(slot) => self.send_rows(slot, out),
                None => Ok(()),
            },
            Reply::Ready(ready) => ready.send(self.peer, out),
            Reply::Existing { header } => match slot_of(tables, header.table) {
                Some(slot) => self.send_existing(header, slot, out).map_err(|unsent| keep(unsent, reply)),
                None => self.send_refusal(header.sequence, &Refusal::no_table(header.table), out),
            },
        }
    }

    fn send_bytes(&self, header: &Header, bytes: &[u8], out: &mut dyn Outbox) -> Result<(), OutboxError> {
        out.send(self.peer, HEADER_BYTES + bytes.len(), &mut |body| compose_bytes(body, header, bytes))
    }

    fn send_refusal(
        &self,
        sequence: u64,
        refusal: &Refusal,
        out: &mut dyn Outbox,
    ) -> Result<(), OutboxError> {
        let header = Header { aux: refusal.code as u32, ..self.header(Kind::Refused, sequence) };
        self.send_bytes(&header, refusal.text.as_bytes(), out)
    }

    /// Sends the values, or answers what they were coded to.
    fn send_values(
        &mut self,
        request: &Header,
        slot: &TableSlot,
        located: &Located,
        out: &mut dyn Outbox,
    ) -> Result<(), Unsent> {
        let count = located.at.len();
        let mut header = self.values_header(request, slot, count);
        if let KeysRef::Range(range) = located.keys {
            (header.first, header.last) = (range.first(), range.last());
        }
        let layout = Layout::new(0, count * slot.row_bytes(), 1);
        if layout.frame_bytes > self.config.frame_bytes_max {
            let refusal = Refusal::too_large(layout.frame_bytes, self.config.frame_bytes_max);
            return Ok(self.send_refusal(request.sequence, &refusal, out)?);
        }
        if self.filters.are_wished()
            && let Some(sent) = self.filters.send(&Plain { header, slot, located, keys: &[] }, self.peer, out)
        {
            return sent;
        }
        let sent = out.send(self.peer, layout.frame_bytes, &mut |body| {
            write_rows(&slot.table, located, body_part(body, layout.array(0)));
            compose_header(body, &header)
        });
        Ok(sent?)
    }

    fn values_header(&self, request: &Header, slot: &TableSlot, count: usize) -> Header {
        Header {
            table: request.table,
            value_type: slot.spec.value_type as u8,
            parts: 1,
            time: slot.clocks.as_ref().map_or(request.time, |clocks| clocks.told(self.peer, request)),
            first: request.first,
            last: request.last,
            key_count: count as u32,
            ..self.header(Kind::Values, request.sequence)
        }
    }

    fn send_existing(
        &mut self,
        request: &Header,
        slot: &mut TableSlot,
        out: &mut dyn Outbox,
    ) -> Result<(), Unsent> {
        let frame_bytes_max = self.filters.plain_bytes_max(request.sequence, self.config.frame_bytes_max);
        let limit = Layout::keys_max(frame_bytes_max, 1, slot.row_bytes());
        let is_early = request.flags & Flags::EARLY != 0;
        let nothing = (Vec::new(), slot.table.at_slots(Vec::new()));
        let table = if is_early { slot.sent_early_mut(self.peer) } else { Some(&mut slot.table) };
        let found = table.map(|table| table.existing_up_to(request.first, request.last, limit));
        let (keys, at) = found.unwrap_or(nothing);
        let mut header = self.values_header(request, slot, keys.len());
        header.flags = Flags::EXISTING;
        if keys.len() == limit
            && let Some(&last) = keys.last()
        {
            header.aux = 1;
            header.last = last;
        }
        let layout = Layout::new(size_of_val::<[Key]>(&keys), keys.len() * slot.row_bytes(), 1);
        let located = Located { keys: KeysRef::Settled, at: at.into() };
        let plain = Plain { header, slot, located: &located, keys: &keys };
        if !is_early
            && self.filters.are_wished()
            && let Some(sent) = self.filters.send(&plain, self.peer, out)
        {
            return sent;
        }
        let table = slot.sent_early(self.peer).filter(|_| is_early).unwrap_or(&slot.table);
        let sent = out.send(self.peer, layout.frame_bytes, &mut |body| {
            let key_part = body_part(body, HEADER_BYTES..HEADER_BYTES + layout.key_bytes);
            key_part.copy_from_slice(bytemuck::cast_slice(&keys));
            write_rows(table, &located, body_part(body, layout.array(0)));
            compose_header(body, &header)
        });
        Ok(sent?)
    }
}

/// Keeps an answer that was coded, as it is, until there is room.
fn keep(Unsent { error, ready }: Unsent, reply: &mut Reply) -> OutboxError {
    if let Some(ready) = ready {
        *reply = Reply::Ready(ready);
    }
    error
}

/// Reads rows straight into a frame.
pub(super) fn write_rows(table: &AnyTable, located: &Located, bytes: &mut [u8]) {
    fn write<V: Element>(table: &Table<V>, located: &Located, bytes: &mut [u8]) {
        // The frame's parts are aligned, and the rows were refreshed against this table just before.
        let written = bytemuck::try_cast_slice_mut(bytes).map(|out| table.pull(&located.at, out));
        debug_assert!(matches!(written, Ok(Ok(()))));
    }
    match table {
        AnyTable::F32(table) => write(table, located, bytes),
        AnyTable::F64(table) => write(table, located, bytes),
    }
}

fn slot_of(tables: &mut [Option<Box<TableSlot>>], table: u16) -> Option<&mut TableSlot> {
    tables.get_mut(table as usize)?.as_deref_mut()
}
