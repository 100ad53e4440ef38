//! Requests and answers that go through filters: requests are undone before anything else sees them, answers are coded
//! when they leave. Everything between works on plain frames.

use std::collections::HashMap;
use std::sync::Arc;

use super::core::ShardCore;
use super::key_cache::{KeysRef, Located};
use super::replies::write_rows;
use super::requests::{Refusal, Stop};
use super::tables::TableSlot;
use crate::filter::{
    Chain, ChainSpec, Context, FilterError, FilterRegistry, FilterSpecError, Outgoing, RowKeys, Scratch,
    TEXT_BYTES_MAX, Wish, chain_text, plain_bytes_max, undo,
};
use crate::key_range::Key;
use crate::message::{Element, Flags, Frame, HEADER_BYTES, Header, Kind, RefusalCode, compose_bytes};
use crate::session::{Outbox, OutboxError, PeerId, Verdict};
use crate::shard::buffers::Buffer;
use crate::table::{TableSpec, ValueType};
use crate::worker::PeerFault;

/// Chains remembered per worker, each with the streams it keeps: with more in use, answers are only longer.
const CHAINS_MAX: usize = 4;

/// What one worker's answers are to go through.
#[derive(Default)]
pub(super) struct ReplyFilters {
    /// By request, until it is answered.
    wishes: HashMap<u64, Asked>,
    chains: Vec<Arc<Chain>>,
    /// The rows of the answer at hand.
    rows: Buffer,
}

/// What one request asked of its answers.
struct Asked {
    wish: Wish,
    chain: Arc<Chain>,
    /// Answers still to come: one for each time the request did.
    answers: u32,
}

/// An answer as it would leave without filters.
pub(super) struct Plain<'a> {
    pub header: Header,
    pub slot: &'a TableSlot,
    pub located: &'a Located,
    /// The keys that go with the values.
    pub keys: &'a [Key],
}

/// Why an answer did not leave, and the answer if it was coded.
pub(super) struct Unsent {
    pub error: OutboxError,
    pub ready: Option<Box<Ready>>,
}

impl From<OutboxError> for Unsent {
    fn from(error: OutboxError) -> Unsent {
        Unsent { error, ready: None }
    }
}

/// An answer that was coded and found no room: coded again it would be another, where filters remember.
pub(super) struct Ready {
    pub header: Header,
    pub bytes: Vec<u8>,
}

impl Ready {
    /// A filter said no to the answer with this header.
    fn refused(header: &Header, error: &FilterSpecError) -> Ready {
        let (epoch, sender, sequence) = (header.epoch, header.sender, header.sequence);
        let aux = RefusalCode::Filter as u32;
        let header = Header { epoch, sender, sequence, aux, ..Header::new(Kind::Refused) };
        let mut text = format!("the filters of the answer: {error}").into_bytes();
        text.truncate(TEXT_BYTES_MAX);
        Ready { header, bytes: text }
    }

    pub fn send(&self, peer: PeerId, out: &mut dyn Outbox) -> Result<(), OutboxError> {
        let frame_bytes = HEADER_BYTES + self.bytes.len();
        out.send(peer, frame_bytes, &mut |body| compose_bytes(body, &self.header, &self.bytes))
    }
}

impl ReplyFilters {
    /// Notes what the answer to `sequence` is to go through. Of numbers further back than `window` nobody waits any more.
    /// Only the first answer to a request is part of its stream: with two answers of one number, neither end could know
    /// which of them the other one kept.
    fn wish(
        &mut self,
        sequence: u64,
        (mut wish, text): (Wish, &[u8]),
        value_type: ValueType,
        is_repeated: bool,
        window: u64,
        users: &FilterRegistry,
    ) -> Result<(), FilterError> {
        if is_repeated {
            if let Some(asked) = self.wishes.get_mut(&sequence) {
                asked.answers += 1;
                return Ok(());
            }
            wish.number = 0;
        }
        let known = self.chains.iter().find(|chain| chain.text().as_bytes() == text);
        let chain = match known {
            Some(chain) => Arc::clone(chain),
            None => {
                let spec: ChainSpec = chain_text(text)?.parse()?;
                let chain = Chain::for_answers(&spec, wish.seed, users)?;
                if self.chains.len() == CHAINS_MAX {
                    self.chains.remove(0);
                }
                self.chains.push(Arc::clone(&chain));
                chain
            }
        };
        chain.check_values(value_type as u8)?;
        if self.wishes.len() as u64 > 2 * window {
            self.wishes.retain(|&of, _| of + window > sequence);
        }
        self.wishes.insert(sequence, Asked { wish, chain, answers: 1 });
        Ok(())
    }

    /// How large the answer may be before it is coded.
    pub fn plain_bytes_max(&self, sequence: u64, frame_bytes_max: usize) -> usize {
        let is_coded = !self.wishes.is_empty() && self.wishes.contains_key(&sequence);
        if is_coded { plain_bytes_max(frame_bytes_max) } else { frame_bytes_max }
    }

    /// Whether any answer may have to be coded.
    #[inline]
    pub fn are_wished(&self) -> bool {
        !self.wishes.is_empty()
    }

    /// Codes an answer, if that was wished, and sends it; `None` leaves it as it is.
    #[inline(never)] // so that plain answers do not carry its weight
    pub fn send(
        &mut self,
        answer: &Plain<'_>,
        peer: PeerId,
        out: &mut dyn Outbox,
    ) -> Option<Result<(), Unsent>> {
        let Plain { header, slot, .. } = answer;
        let mut asked = self.wishes.remove(&header.sequence)?;
        let sent = match slot.spec.value_type {
            ValueType::F32 => self.send_as::<f32>(answer, &asked, peer, out),
            ValueType::F64 => self.send_as::<f64>(answer, &asked, peer, out),
        };
        asked.answers -= 1;
        if asked.answers > 0 {
            asked.wish.number = 0;
            self.wishes.insert(header.sequence, asked);
        }
        sent
    }

    fn send_as<V: Element>(
        &mut self,
        &Plain { ref header, slot, located, keys }: &Plain<'_>,
        Asked { wish, chain, .. }: &Asked,
        peer: PeerId,
        out: &mut dyn Outbox,
    ) -> Option<Result<(), Unsent>> {
        self.rows.resize(located.at.len() * slot.row_bytes());
        write_rows(&slot.table, located, self.rows.bytes_mut());
        let rows: &[V] = bytemuck::cast_slice(self.rows.bytes());
        let row_keys = match &located.keys {
            _ if !keys.is_empty() => RowKeys::List(keys),
            KeysRef::Range(range) => RowKeys::From(range.first()),
            KeysRef::List(keys) => RowKeys::List(keys),
            KeysRef::Settled => RowKeys::Unknown,
        };
        let stream = (wish.number > 0).then_some(((0, header.table, wish.stream), wish.number, wish.whole));
        let values = Outgoing {
            table: header.table,
            time: header.time,
            width: slot.spec.width as usize,
            keys: row_keys,
            arrays: &[rows],
            seed: chain.request_seed(wish.seed, header.sender, header.sequence),
            stream,
        };
        let key_bytes: &[u8] = bytemuck::cast_slice(keys);
        let parcel = match chain.parcel(&values, key_bytes) {
            Ok(parcel) => parcel?,
            Err(error) => {
                let ready = Ready::refused(header, &error);
                return Some(
                    ready.send(peer, out).map_err(|error| Unsent { error, ready: Some(Box::new(ready)) }),
                );
            }
        };
        let header = Header { flags: header.flags | Flags::FILTERED, ..*header };
        let sent = parcel.send(out, peer, &header, key_bytes, &[]);
        Some(sent.map(drop).map_err(|error| {
            let mut bytes = vec![0; parcel.bytes(key_bytes)];
            parcel.write(key_bytes, &mut bytes);
            Unsent { error, ready: Some(Box::new(Ready { header, bytes })) }
        }))
    }
}

impl Refusal {
    /// A push leaves rows out, and the table's function would take them for zeros.
    fn partial(table: &TableSpec) -> Refusal {
        let (name, function) = (&table.name, &table.function.name);
        let text = format!(
            "table {name:?} does {function:?} with what is pushed, and rows that the filters of this push left out \
             would arrive as 0: push there without significant, skip, frequency, bloom and filters of your own that \
             drop rows, or to a table whose function adds"
        );
        Refusal::new(RefusalCode::Filter, text)
    }
}

impl ShardCore {
    /// Undoes the filters of a request, notes what its answer is to go through, and goes on with what it was.
    #[inline(never)] // so that plain requests do not carry its weight
    pub(super) fn handle_filtered(
        &mut self,
        from: PeerId,
        frame: &Frame<'_>,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = match self.undo(from, frame, &mut scratch) {
            Ok(()) if frame.is_filtered() => Frame::decode(scratch.frame())
                .map_err(PeerFault::from)
                .and_then(|plain| self.admit(from, &plain, out)),
            Ok(()) => self.admit(from, frame, out),
            Err(refusal) => self.refuse_filtered(from, frame, refusal, out),
        };
        self.scratch = scratch;
        result
    }

    fn undo(&mut self, from: PeerId, frame: &Frame<'_>, scratch: &mut Scratch) -> Result<(), Refusal> {
        let (table, sequence) = (frame.header.table, frame.header.sequence);
        let frame_bytes_max = self.config.frame_bytes_max;
        let slot = self.slot(table).ok_or_else(|| Refusal::no_table(table))?;
        let context = Context { width: slot.spec.width as usize, frame_bytes_max, pull: None };
        let wrong = |error: FilterError| {
            let text = format!("the filters of worker {}'s request: {error}", from.0);
            Refusal::new(RefusalCode::Filter, text)
        };
        if frame.is_filtered() && undo(frame, &context, scratch).map_err(wrong)? && !slot.table.adds() {
            return Err(Refusal::partial(&slot.spec));
        }
        let value_type = slot.spec.value_type;
        let wish = frame.wish().map(Wish::read).transpose().map_err(wrong)?;
        if let (Some(wish), Some(Some(session))) = (wish, self.sessions.get_mut(from.0 as usize)) {
            let window = session.received.window();
            let is_repeated = matches!(session.received.check(sequence), Verdict::Repeated(_));
            let users = &self.registry.filters;
            session.filters.wish(sequence, wish, value_type, is_repeated, window, users).map_err(wrong)?;
        }
        Ok(())
    }

    /// The link is sound (the header's checksum was right), so only the request fails.
    fn refuse_filtered(
        &mut self,
        from: PeerId,
        frame: &Frame<'_>,
        refusal: Refusal,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let sequence = frame.header.sequence;
        let Some(Some(session)) = self.sessions.get(from.0 as usize) else { return Ok(()) };
        match session.received.check(sequence) {
            Verdict::New => self.conclude(from.0, frame, Err(Stop::Refused(refusal)), out),
            Verdict::Repeated(_) => {
                self.refuse(from.0, sequence, refusal, out);
                Ok(())
            }
            Verdict::Ancient => Ok(()),
            Verdict::Impossible => {
                Err(PeerFault::Sequence { got: sequence, newest: session.received.newest() })
            }
        }
    }
}
