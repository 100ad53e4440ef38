//! What each kind of request does, for the first time and again.

use super::core::ShardCore;
use super::graph::NodeRef;
use super::key_cache::Located;
use super::lent::arrays;
use super::replies::{Answer, Reply};
use super::tables::Parked;
use crate::key_range::{Key, KeyRange};
use crate::message::{Control, DecodeError, Element, Flags, Frame, HEADER_BYTES, KeyPart, Kind, RefusalCode};
use crate::session::{Outbox, Outcome, PeerId};
use crate::table::{Aggregation, AnyTable, Resolved, Table, TableError};
use crate::worker::{CACHED_KEYS_MIN, PeerFault};

/// Why a request has no effect.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub code: RefusalCode,
    pub text: String,
}

impl Refusal {
    pub fn new(code: RefusalCode, text: String) -> Refusal {
        Refusal { code, text }
    }

    pub fn no_table(table: u16) -> Refusal {
        Refusal::new(RefusalCode::NoTable, format!("there is no table {table} on this shard"))
    }

    pub fn table(error: TableError) -> Refusal {
        let code = match error {
            TableError::NoSuchKey { .. } | TableError::Unsorted { .. } => RefusalCode::Keys,
            TableError::Full { .. } | TableError::OutOfMemory { .. } | TableError::Range { .. } => {
                RefusalCode::Limit
            }
            TableError::Refused { .. } => RefusalCode::Function,
            _ => RefusalCode::Mismatch,
        };
        Refusal::new(code, error.to_string())
    }

    pub fn too_large(got: usize, max: usize) -> Refusal {
        let text = format!("the answer has {got} bytes, and a frame at most {max}: ask for less at a time");
        Refusal::new(RefusalCode::Limit, text)
    }

    pub fn mismatch(error: DecodeError) -> Refusal {
        Refusal::new(RefusalCode::Mismatch, format!("does not fit the table: {error}"))
    }
}

/// Why a request cannot go on.
pub(super) enum Stop {
    Refused(Refusal),
    NeedKeys,
    Fault(PeerFault),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Stop {
        Stop::Refused(refusal)
    }
}

impl ShardCore {
    /// Handles a request for the first time.
    pub(super) fn execute(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let result = match frame.kind {
            Kind::Push | Kind::PushPull => self.push(rank, frame, out),
            Kind::Pull => self.pull(rank, frame, out),
            Kind::Call => self.call(rank, frame, out),
            Kind::Graph => self.graph(rank, frame),
            Kind::Clock => self.tell_clock(rank, frame, out),
            _ => self.control(rank, frame, out),
        };
        self.conclude(rank, frame, result, out)
    }

    pub(super) fn conclude(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        result: Result<(), Stop>,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let sequence = frame.header.sequence;
        match result {
            Ok(()) => {}
            Err(Stop::Fault(fault)) => return Err(fault),
            Err(Stop::NeedKeys) => {
                self.stats.key_misses += 1;
                self.answer(
                    rank,
                    Reply::Bytes { kind: Kind::NeedKeys, sequence, aux: 0, bytes: Vec::new() },
                    out,
                );
            }
            Err(Stop::Refused(refusal)) => {
                self.stats.refused += 1;
                self.record(rank, sequence, Outcome::Refused);
                self.refuse(rank, sequence, refusal, out);
            }
        }
        Ok(())
    }

    pub(super) fn refuse(&mut self, rank: u32, sequence: u64, refusal: Refusal, out: &mut dyn Outbox) {
        let (aux, mut bytes) = (refusal.code as u32, refusal.text.into_bytes());
        bytes.truncate(self.config.frame_bytes_max.saturating_sub(HEADER_BYTES));
        self.answer(rank, Reply::Bytes { kind: Kind::Refused, sequence, aux, bytes }, out);
    }

    /// Answers a repetition without applying anything.
    pub(super) fn repeat(
        &mut self,
        rank: u32,
        frame: &Frame<'_>,
        outcome: Outcome,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let header = &frame.header;
        let sequence = header.sequence;
        if outcome == Outcome::Refused && frame.kind != Kind::Pull {
            let text = "this request was refused before".to_owned();
            self.refuse(rank, sequence, Refusal::new(RefusalCode::Repeated, text), out);
            return Ok(());
        }
        if self.is_pending(rank, header) {
            return Ok(()); // its answer will come with the update
        }
        match frame.kind {
            Kind::Push | Kind::Control => self.ack(rank, sequence),
            Kind::Pull | Kind::PushPull => {
                let result = self.pull(rank, frame, out);
                return self.conclude(rank, frame, result, out);
            }
            _ => {
                let session = self.sessions[rank as usize].as_ref();
                match session.and_then(|session| session.answer_to(sequence)) {
                    Some(Ok(answer)) => self.answer(rank, Reply::Answer { sequence, answer }, out),
                    Some(Err(refusal)) => self.refuse(rank, sequence, refusal, out),
                    None => {} // so old that the worker had its answer
                }
            }
        }
        Ok(())
    }

    fn push(&mut self, rank: u32, frame: &Frame<'_>, out: &mut dyn Outbox) -> Result<(), Stop> {
        let header = &frame.header;
        let id = header.table;
        self.check_owned(frame.range())?;
        let slot = self.slot(id).ok_or_else(|| Refusal::no_table(id))?;
        let declares = header.parts == 0;
        if !declares && slot.spec.aggregation == Aggregation::AllWorkers {
            return self.contribute(rank, frame, out);
        }
        if !declares && slot.clocks.is_some() {
            return self.push_clocked(rank, frame, out);
        }
        if frame.is_early() {
            return Err(super::clocked::not_clocked(id).into());
        }
        if frame.kind == Kind::Push && header.key_count == 1 && header.flags == Flags::CONTIGUOUS {
            // The cheap road of one key: nothing is allocated here.
            let at = slot.resolve_one(header.first, true)?;
            apply(&mut slot.table, frame, &at, PeerId(rank), out)?;
        } else {
            let located = self.locate(frame, true)?;
            let slot = self.slot(id).ok_or_else(|| Refusal::no_table(id))?;
            apply(&mut slot.table, frame, &located.at, PeerId(rank), out)?;
            if frame.kind == Kind::PushPull {
                self.record(rank, header.sequence, Outcome::Applied);
                self.answer(rank, Reply::Values { header: *header, located }, out);
                return Ok(());
            }
        }
        self.record(rank, header.sequence, Outcome::Applied);
        self.ack(rank, header.sequence);
        Ok(())
    }

    fn pull(&mut self, rank: u32, frame: &Frame<'_>, out: &mut dyn Outbox) -> Result<(), Stop> {
        let header = &frame.header;
        self.check_owned(frame.range())?;
        let spec = &self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?.spec;
        if spec.value_type as u8 != header.value_type {
            let (expected, got) = (spec.value_type, header.value_type);
            let text =
                format!("the table has values of type {expected:?}, got a pull of values of type {got}");
            return Err(Refusal::new(RefusalCode::Mismatch, text).into());
        }
        if header.flags & Flags::EXISTING != 0 {
            self.record(rank, header.sequence, Outcome::Applied);
            self.answer(rank, Reply::Existing { header: *header }, out);
            return Ok(());
        }
        let subscribes = header.flags & Flags::SUBSCRIBE != 0;
        let located = self.locate(frame, subscribes)?;
        if subscribes {
            self.subscribe(rank, header.table, &located)?;
        }
        if header.flags & Flags::AFTER_TIME != 0 && !self.is_finished(header.table, header.time)? {
            return self.park(rank, frame, located);
        }
        self.record(rank, header.sequence, Outcome::Applied);
        self.answer(rank, Reply::Values { header: *header, located }, out);
        Ok(())
    }

    fn is_finished(&mut self, table: u16, time: u64) -> Result<bool, Refusal> {
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        if let Some(clocks) = &slot.clocks {
            return Ok(clocks.least() >= time);
        }
        if slot.spec.aggregation != Aggregation::AllWorkers {
            let text = format!("table {table} applies pushes at once; no update of it ever finishes");
            return Err(Refusal::new(RefusalCode::Mismatch, text));
        }
        Ok(slot.finished.contains(time))
    }

    /// Keeps a pull until its update is finished. It has no effect, so its number is recorded only when it is answered.
    fn park(&mut self, rank: u32, frame: &Frame<'_>, located: Located) -> Result<(), Stop> {
        let header = frame.header;
        let limit = self.config.window_requests;
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let mine = slot.parked.iter().filter(|parked| parked.rank == rank);
        if mine.clone().any(|parked| parked.header.sequence == header.sequence) {
            return Ok(());
        }
        if mine.count() >= limit {
            let text = format!("{limit} pulls of this worker wait for updates already");
            return Err(Refusal::new(RefusalCode::Limit, text).into());
        }
        slot.parked.push(Parked { rank, header, located });
        Ok(())
    }

    fn call(&mut self, rank: u32, frame: &Frame<'_>, out: &mut dyn Outbox) -> Result<(), Stop> {
        let header = &frame.header;
        let (verb, arguments) = frame.call().map_err(|error| Stop::Fault(error.into()))?;
        let limit = self.config.frame_bytes_max - HEADER_BYTES;
        let slot = self.slot(header.table).ok_or_else(|| Refusal::no_table(header.table))?;
        let answer = match slot.table.call_issuing(verb, arguments) {
            Ok((answer, _)) if answer.len() > limit => Err(Refusal::too_large(answer.len(), limit)),
            Ok((answer, subtasks)) if subtasks.is_empty() => Ok(answer),
            Ok((answer, subtasks)) => match self.issue(rank, header.sequence, answer, subtasks, out) {
                Ok(()) => return Ok(()),
                Err(refusal) => Err(refusal),
            },
            Err(error) => Err(Refusal::new(RefusalCode::Function, error.to_string())),
        };
        self.conclude_call(rank, header.sequence, answer, out);
        Ok(())
    }

    /// Answers a call, and remembers the answer.
    pub(super) fn conclude_call(&mut self, rank: u32, sequence: u64, answer: Answer, out: &mut dyn Outbox) {
        // A call may have had an effect even if its answer is no: it counts as applied and is never run again.
        self.record(rank, sequence, Outcome::Applied);
        self.remember_and_answer(rank, sequence, answer, out);
    }

    /// Answers a request that must not be run again, also when it is repeated.
    pub(super) fn remember_and_answer(
        &mut self,
        rank: u32,
        sequence: u64,
        answer: Answer,
        out: &mut dyn Outbox,
    ) {
        if let Some(Some(session)) = self.sessions.get_mut(rank as usize)
            && NodeRef::of(sequence).is_none()
        {
            session.remember_answer(sequence, answer.clone());
        }
        match answer {
            Ok(answer) => self.answer(rank, Reply::Answer { sequence, answer }, out),
            Err(refusal) => self.refuse(rank, sequence, refusal, out),
        }
    }

    fn control(&mut self, rank: u32, frame: &Frame<'_>, out: &mut dyn Outbox) -> Result<(), Stop> {
        let sequence = frame.header.sequence;
        let wrong = |error: serde_json::Error| Refusal::new(RefusalCode::Mismatch, error.to_string());
        match serde_json::from_slice(frame.payload()).map_err(wrong)? {
            Control::Create(spec) => self.create_table(spec).map_err(Refusal::table)?,
            Control::Freeze { table } => self.freeze(table)?,
            Control::Restream { table, generation } => self.restream(rank, table, generation)?,
            Control::SendEarly { table, early, width } => self.begin_early(rank, table, early, width)?,
            Control::Reached { table, time } => self.reached(table, time)?,
            Control::Drop { table } => self.drop_table(table, out),
        }
        self.record(rank, sequence, Outcome::Applied);
        self.ack(rank, sequence);
        Ok(())
    }

    fn check_owned(&self, range: KeyRange) -> Result<(), Refusal> {
        if self.config.owned.covers(range) {
            return Ok(());
        }
        let (shard, owned) = (self.config.shard, self.config.owned);
        Err(Refusal::new(RefusalCode::NotOwned, format!("shard {shard} owns keys {owned}, got {range}")))
    }

    /// Finds the rows of the frame's keys, from the cache if they are named by signature.
    pub(super) fn locate(&mut self, frame: &Frame<'_>, insert: bool) -> Result<Located, Stop> {
        let table = frame.header.table;
        let slot = self.tables.get_mut(table as usize).and_then(Option::as_deref_mut);
        let slot = slot.ok_or_else(|| Refusal::no_table(table))?;
        match frame.keys() {
            KeyPart::Contiguous(range) => Ok(slot.locate_range(range, insert)?),
            KeyPart::Signature(signature) => {
                let located = self.cache.get((table, signature)).ok_or(Stop::NeedKeys)?;
                if located.at.len() != frame.header.key_count as usize {
                    let text = format!("the list has {} keys, the request says otherwise", located.at.len());
                    return Err(Refusal::new(RefusalCode::Keys, text).into());
                }
                if slot.has_lost(located) {
                    return Err(Stop::NeedKeys);
                }
                slot.refresh(located, insert)?;
                Ok(located.clone())
            }
            KeyPart::List(keys) => {
                self.keys.clear();
                self.keys.extend_from_slice(keys);
                let keys = self.keys.as_slice();
                check_list(keys, frame.range())?;
                let located = slot.locate_list(keys, || keys.into(), insert)?;
                if keys.len() >= CACHED_KEYS_MIN {
                    let signature = keyrange_kernels::keys::signature(keys);
                    self.cache.insert((table, signature), located.clone());
                }
                Ok(located)
            }
        }
    }
}

/// The keys must rise strictly and stay within the range the header promises.
#[inline]
fn check_list(keys: &[Key], range: KeyRange) -> Result<(), Refusal> {
    if !keyrange_kernels::keys::is_sorted_unique(keys) {
        return Err(Refusal::new(RefusalCode::Keys, "the key list does not rise strictly".to_owned()));
    }
    let inside = |key: Option<&Key>| key.is_none_or(|&key| range.contains(key));
    if inside(keys.first()) && inside(keys.last()) {
        return Ok(());
    }
    Err(Refusal::new(RefusalCode::NotOwned, format!("the key list leaves the message's range {range}")))
}

/// Applies the frame's values at once; without value arrays there is nothing more to do.
pub(super) fn apply(
    table: &mut AnyTable,
    frame: &Frame<'_>,
    at: &Resolved,
    from: PeerId,
    out: &dyn Outbox,
) -> Result<(), Refusal> {
    fn push<V: Element>(
        table: &mut Table<V>,
        frame: &Frame<'_>,
        at: &Resolved,
        from: PeerId,
        out: &dyn Outbox,
    ) -> Result<(), Refusal> {
        let width = table.spec().width as usize;
        let arrays = arrays::<V>(frame, width, from, out)?;
        let parts = &arrays[..frame.header.parts as usize];
        if parts.is_empty() { Ok(()) } else { table.push(at, parts).map_err(Refusal::table) }
    }
    match table {
        AnyTable::F32(table) => push(table, frame, at, from, out),
        AnyTable::F64(table) => push(table, frame, at, from, out),
    }
}
