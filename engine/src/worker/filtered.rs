//! Requests that leave through filters, and answers that came through them.

use std::sync::Arc;

use super::arrays::Source;
use super::core::WorkerCore;
use super::pieces::{Body, Piece, PieceKeys, What};
use super::request::{Keys, PeerFault, SubmitError, TableHandle, TaskError, TaskId};
use super::send::send_keys;
use crate::filter::{
    Chain, Context, Direction, FilterError, FilterSpecError, Outgoing, Parcel, RowKeys, Scratch, StreamName,
    TEXT_BYTES_MAX, Wish, undo,
};
use crate::message::{Element, Flags, Frame, Header, Kind, PARTS_MAX};
use crate::session::{Outbox, OutboxError, PeerId};
use crate::table::Aggregation;

impl Body {
    /// The chain that the pushed values go through, if it does anything to them.
    fn push_chain(&self) -> Option<&Chain> {
        let chain = self.filters.push().filter(|_| self.kind != Kind::Pull && !self.parts.is_empty());
        chain.map(Arc::as_ref).filter(|chain| chain.touches_values())
    }

    /// The chain that the answer's values are to go through.
    fn pull_chain(&self) -> Option<&Chain> {
        let chain = self.filters.pull().filter(|_| self.kind != Kind::Push);
        chain.map(Arc::as_ref).filter(|chain| chain.touches_values())
    }

    /// Whether it travels as anything but plain frames.
    #[inline]
    pub fn is_filtered(&self) -> bool {
        !self.filters.is_default()
            && matches!(self.what, What::Keys(_))
            && (self.push_chain().is_some() || self.pull_chain().is_some())
    }

    /// Whether the chains, if there are any, fit the request.
    #[inline]
    pub fn check_filters(&self) -> Result<(), SubmitError> {
        if self.filters.is_default() { Ok(()) } else { self.check_chains() }
    }

    #[cold]
    fn check_chains(&self) -> Result<(), SubmitError> {
        let wrong = |text: String| Err(SubmitError::Filter(text));
        let chains = [(self.filters.push(), Direction::Push), (self.filters.pull(), Direction::Pull)];
        for (chain, direction) in chains {
            let Some(chain) = chain else { continue };
            if chain.direction() != direction {
                return wrong(format!("expected a chain for the {direction}, got {chain:?}"));
            }
            let text = chain.text();
            if self.table.aggregation == Aggregation::Clocked && !chain.spec().is_lossless() {
                return wrong(format!(
                    "in a clocked table all that was added up to a clock is there, and \"{text}\" leaves some out or \
                     changes it: use filters that lose nothing"
                ));
            }
            if text.len() > TEXT_BYTES_MAX {
                return wrong(format!(
                    "expected a chain of at most {TEXT_BYTES_MAX} bytes, got {}",
                    text.len()
                ));
            }
        }
        let fits = |chain: &Chain| chain.check_values(self.table.value_type);
        let pushes = self.push_chain().map(|chain| {
            let TableHandle { id, not_adding, .. } = self.table;
            fits(chain).and_then(|()| chain.spec().check_push(format_args!("{id}"), not_adding))
        });
        let pulls = self.pull_chain().map(fits);
        if let Some(Err(error)) = [pushes, pulls].into_iter().flatten().find(Result::is_err) {
            return wrong(error.to_string());
        }
        let existing = matches!(self.what, What::Keys(Keys::Existing(_)));
        match self.pull_chain().filter(|chain| existing && chain.has_streams()) {
            Some(_) => wrong(
                "significant needs the same keys in each pull; existing keys may be others each time: \
                 use a key list or a range"
                    .to_owned(),
            ),
            None => Ok(()),
        }
    }

    /// Counts an answer that came plain: its chain found nothing to save.
    #[inline]
    pub fn count_answer(&self, frame: &Frame<'_>) {
        if !self.filters.is_default()
            && let Some(chain) = self.pull_chain()
        {
            chain.count_plain(frame.payload().len());
        }
    }

    /// Counts what naming key lists by signature has saved.
    fn count_keys(&self, piece: &Piece, is_cached: bool) {
        let PieceKeys::Slice { at, .. } = &piece.keys else { return };
        for chain in self.filters.chains() {
            chain.count_keys(8 * at.len(), if is_cached { 16 } else { 8 * at.len() });
        }
    }
}

/// The stream that the pulls of this piece form.
fn stream_name(body: &Body, piece: &Piece) -> Option<StreamName> {
    let keys = match piece.keys {
        PieceKeys::Slice { signature, .. } => signature,
        PieceKeys::Contiguous { .. } => {
            u128::from(piece.range.first()) << 64 | u128::from(piece.range.last())
        }
        PieceKeys::Existing | PieceKeys::None => return None,
    };
    Some((piece.shard, body.table.id, keys))
}

/// What the answer to this piece is to go through, and the stream that it is part of.
fn wish_of(body: &Body, piece: &Piece) -> Option<(Wish, Option<StreamName>)> {
    let chain = body.pull_chain()?;
    let name = stream_name(body, piece).filter(|_| chain.has_streams());
    let (number, whole) = name.map_or((0, false), |name| chain.next_pull(name));
    let stream = name.map_or(0, |(_, _, keys)| keys);
    Some((Wish { seed: chain.seed(), stream, number, whole }, name))
}

impl WorkerCore {
    /// As [`WorkerCore::send_piece`], for requests with filters.
    #[inline(never)]
    pub(super) fn send_by_filters(
        &mut self,
        shard: usize,
        id: TaskId,
        index: u32,
        header: Header,
        whole: bool,
        out: &mut dyn Outbox,
    ) -> Result<bool, OutboxError> {
        let Some(body) = self.tasks.get(id).and_then(|task| task.body.as_deref()) else { return Ok(false) };
        let piece = &body.pieces[index as usize];
        let may_name = !whole && !body.filters.whole_keys();
        let known = |&signature: &u128| may_name && self.sessions[shard].knows(header.table, signature);
        let cacheable = piece.cacheable();
        let cached = cacheable.filter(known);
        let bytes = if body.is_filtered() {
            self.send_filtered(id, index, header, cached, out)?
        } else {
            let layout = send_keys(out, PeerId(piece.shard), header, body, piece, cached, &[])?;
            Some((layout.frame_bytes, layout.key_bytes))
        };
        let Some((frame_bytes, key_bytes)) = bytes else { return Ok(false) };
        self.traffic.sent(header.table, frame_bytes, key_bytes);
        if let (Some(signature), None) = (cacheable, cached) {
            self.sessions[shard].note_known(header.table, signature);
        }
        if let Some(body) = self.tasks.get(id).and_then(|task| task.body.as_deref()) {
            body.count_keys(&body.pieces[index as usize], cached.is_some());
        }
        Ok(true)
    }

    /// Sends a piece whose values go through filters, there or back. Says how many bytes went, and how many of them were
    /// keys; `None` if a filter said no, which has ended the task.
    fn send_filtered(
        &mut self,
        id: TaskId,
        index: u32,
        header: Header,
        cached: Option<u128>,
        out: &mut dyn Outbox,
    ) -> Result<Option<(usize, usize)>, OutboxError> {
        if header.value_type == f64::CODE {
            self.send_filtered_as::<f64>(id, index, header, cached, out)
        } else {
            self.send_filtered_as::<f32>(id, index, header, cached, out)
        }
    }

    fn send_filtered_as<V: Element>(
        &mut self,
        id: TaskId,
        index: u32,
        mut header: Header,
        cached: Option<u128>,
        out: &mut dyn Outbox,
    ) -> Result<Option<(usize, usize)>, OutboxError> {
        let Some(body) = self.tasks.get_mut(id).and_then(|task| task.body.as_deref_mut()) else {
            return Ok(None);
        };
        // What was coded before and found no room, or may be asked for again: filters that remember code only once.
        let kept = body.coded.iter().position(|(piece, _)| *piece == index);
        let coded = kept.map(|kept| body.coded.swap_remove(kept).1);
        let body = &*body;
        let piece = &body.pieces[index as usize];
        let peer = PeerId(piece.shard);
        let (rows, width) = (piece.rows(), body.table.width as usize);
        let mut arrays: [&[V]; PARTS_MAX] = [&[]; PARTS_MAX];
        for (array, values) in arrays.iter_mut().zip(&body.parts) {
            *array = &Source::as_slice(values).unwrap_or(&[])[rows.start * width..rows.end * width];
        }
        let arrays = &arrays[..body.parts.len()];
        let signature = cached.unwrap_or_default().to_le_bytes();
        let keys = body.list().get(rows.clone()).unwrap_or(&[]);
        let key_bytes: &[u8] = match piece.keys {
            PieceKeys::Slice { .. } if cached.is_some() => &signature,
            PieceKeys::Slice { .. } => bytemuck::cast_slice(keys),
            _ => &[],
        };
        let wish = wish_of(body, piece);
        let parcel = body.push_chain().filter(|_| !rows.is_empty()).map(|chain| {
            let code = || {
                let keys = if keys.is_empty() { RowKeys::From(header.first) } else { RowKeys::List(keys) };
                let seed = chain.seed() ^ u64::from(piece.shard);
                let seed = chain.request_seed(seed, header.sender, header.sequence);
                let (table, time) = (header.table, header.time);
                chain.code(&Outgoing { table, time, width, keys, arrays, seed, stream: None })
            };
            let coded = coded.map_or_else(code, |coded| Ok(Some(coded)))?;
            Ok(chain.pack(coded, arrays, rows.len(), key_bytes))
        });
        let parcel: Option<Parcel> = match parcel.transpose() {
            Ok(parcel) => parcel.flatten(),
            Err(error) => {
                self.refused_by_filter(id, &error);
                return Ok(None);
            }
        };
        let wish_bytes = match (&wish, body.pull_chain()) {
            (Some((wish, _)), Some(chain)) => wish.to_bytes(chain.text()),
            _ => Vec::new(),
        };
        let sent = match &parcel {
            Some(parcel) => {
                header.flags |= Flags::FILTERED
                    | if cached.is_some() { Flags::KEYS_CACHED } else { 0 }
                    | if wish_bytes.is_empty() { 0 } else { Flags::WISH };
                let sent = parcel.send(out, peer, &header, key_bytes, &wish_bytes);
                sent.map(|frame_bytes| (frame_bytes, key_bytes.len()))
            }
            None => send_keys(out, peer, header, body, piece, cached, &wish_bytes)
                .map(|layout| (layout.frame_bytes + wish_bytes.len(), layout.key_bytes)),
        };
        if let (Some(chain), Some((Wish { number: number @ 1.., .. }, Some(name)))) =
            (body.pull_chain(), wish)
            && sent.is_ok()
        {
            chain.asked(name, number);
        }
        let remembers = body.push_chain().is_some_and(|chain| sent.is_err() || chain.remembers());
        if let Some(coded) = parcel.filter(|_| remembers).and_then(Parcel::into_coded)
            && let Some(body) = self.tasks.get_mut(id).and_then(|task| task.body.as_mut())
        {
            body.coded.push((index, coded));
        }
        sent.map(Some)
    }

    #[cold]
    fn refused_by_filter(&mut self, id: TaskId, error: &FilterSpecError) {
        self.end(id, Err(TaskError::PushFilter { text: error.to_string() }));
    }

    /// Takes in values that went through the filters the request named.
    pub(super) fn filtered_values(&mut self, shard: usize, frame: &Frame<'_>) -> Result<(), PeerFault> {
        let sequence = frame.header.sequence;
        let mut scratch = std::mem::take(&mut self.scratch);
        let undone = self.undo_answer(shard, frame, &mut scratch);
        let result = match undone {
            Ok(()) => Frame::decode(scratch.frame())
                .map_err(PeerFault::from)
                .and_then(|plain| self.values(shard, &plain, false)),
            Err(Some(FilterError::Follows { .. })) => {
                // The same pull again, for everything.
                self.sessions[shard].again.push_back(sequence);
                Ok(())
            }
            Err(Some(error)) => {
                if let Some((task, _)) = self.sessions[shard].arrive(sequence) {
                    let text = error.to_string();
                    self.end(task, Err(TaskError::Filter { shard: shard as u32, text }));
                }
                Ok(())
            }
            Err(None) => {
                self.acknowledged(shard, sequence); // its task has ended
                Ok(())
            }
        };
        self.scratch = scratch;
        result
    }

    fn undo_answer(
        &mut self,
        shard: usize,
        frame: &Frame<'_>,
        scratch: &mut Scratch,
    ) -> Result<(), Option<FilterError>> {
        let frame_bytes_max = self.config.frame_bytes_max;
        let (body, piece) = self.piece_of(shard, frame.header.sequence).ok_or(None)?;
        let header = &frame.header;
        let unasked = FilterError::Kind { value_type: header.value_type, kind: header.kind };
        let Some(chain) = body.pull_chain() else { return Err(Some(unasked)) };
        let piece = &body.pieces[piece];
        if header.value_type != body.table.value_type
            || piece.rows().len() != header.key_count as usize && !matches!(piece.keys, PieceKeys::Existing)
        {
            return Err(Some(unasked));
        }
        let name = stream_name(body, piece).unwrap_or_default();
        let context =
            Context { width: body.table.width as usize, frame_bytes_max, pull: Some((chain, name)) };
        match undo(frame, &context, scratch) {
            Ok(_) => Ok(()),
            Err(error) => {
                if matches!(error, FilterError::Follows { .. }) {
                    chain.forget_pull(name);
                }
                Err(Some(error))
            }
        }
    }
}
