//! From tasks to frames.

use keyrange_transport::region::LentRange;

use super::arrays::Source;
use super::call::Call;
use super::core::WorkerCore;
use super::pieces::{Body, Piece, PieceKeys, What};
use super::request::{SubmitError, TableHandle, TaskError, TaskId};
use super::session::{Flight, ROW_BYTES_MAX, Row};
use crate::key_range::{Key, KeyRange};
use crate::message::{
    Element, Flags, HEADER_BYTES, Header, KeyPart, Kind, Layout, PARTS_MAX, SIGNATURE_BYTES, compose,
    compose_bytes, compose_call, gather, gather_call, pad64, value_bytes,
};
use crate::session::{Outbox, OutboxError, PeerId};

/// Lists shorter than this always travel whole: looking up a signature costs more.
pub(crate) const CACHED_KEYS_MIN: usize = 32;

/// Frames shorter than this are always written in one piece: a copy costs less than a system call of their own.
pub(crate) const GATHERED_BYTES_MIN: usize = 16 << 10;

impl WorkerCore {
    /// Pushes the row of one key at once, or says [`SubmitError::Busy`] and keeps nothing: the cheapest request there
    /// is (no allocation, one frame of two cache lines). `deadline_ns` is on the clock of `poll`, `u64::MAX` for none.
    pub fn push_one<V: Element>(
        &mut self,
        table: TableHandle,
        key: Key,
        row: &[V],
        deadline_ns: u64,
        out: &mut dyn Outbox,
    ) -> Result<TaskId, SubmitError> {
        let bytes = size_of_val(row);
        self.check_row::<V>(table, row.len(), bytes)?;
        let shard = self.map.shard_of(key);
        let session = &mut self.sessions[shard];
        let busy = SubmitError::Busy { shard: shard as u32 };
        if session.flights.len() >= self.config.window_requests || !session.unsent.is_empty() {
            return Err(busy);
        }
        if let Some(reason) = &session.gone {
            return Err(SubmitError::PeerGone { shard: shard as u32, reason: reason.clone() });
        }
        let Some(task) = self.tasks.open(deadline_ns) else {
            return Err(SubmitError::TooManyTasks { max: self.tasks.max() });
        };
        let mut header = one_key_header(table.id, V::CODE, key);
        header.sequence = session.next();
        header.sender = self.config.rank;
        header.epoch = self.config.epoch;
        let peer = PeerId(shard as u32);
        if send_row(out, peer, &header, bytemuck::cast_slice(row)).is_err() {
            self.tasks.close_plain(task);
            return Err(busy);
        }
        let session = &mut self.sessions[shard];
        let flight =
            Flight { task: Some(task), piece: Flight::ONE_KEY, is_call: false, sent_ns: self.now_ns };
        let kept = self.config.retain.then(|| {
            let mut values = [0; ROW_BYTES_MAX];
            values[..bytes].copy_from_slice(bytemuck::cast_slice(row));
            Row { key, table: table.id, value_type: V::CODE, bytes: bytes as u8, values }
        });
        session.depart(flight, kept);
        if deadline_ns != u64::MAX {
            self.note_deadline(deadline_ns);
        }
        Ok(task)
    }

    #[inline]
    fn check_row<V: Element>(&self, table: TableHandle, got: usize, bytes: usize) -> Result<(), SubmitError> {
        let expected = table.width as usize;
        if got != expected {
            return Err(SubmitError::ArrayLength { part: 0, expected, got });
        }
        if table.value_type != V::CODE {
            let (expected_type, got_type) = (table.value_type, V::CODE);
            return Err(SubmitError::Arrays { max: PARTS_MAX, expected_type, got: 1, got_type });
        }
        let frame_max = self.config.frame_bytes_max.saturating_sub(HEADER_BYTES);
        let max = if self.config.retain { frame_max.min(ROW_BYTES_MAX) } else { frame_max };
        if bytes > max { Err(SubmitError::TooLarge { what: "a row", got: bytes, max }) } else { Ok(()) }
    }

    /// Starts what is ready and sends what there is room for.
    pub(super) fn pump(&mut self, out: &mut dyn Outbox) {
        self.forget_strays();
        loop {
            while let Some(task) = self.ready.pop_front() {
                self.start(task);
            }
            for shard in 0..self.sessions.len() {
                let session = &self.sessions[shard];
                if !session.again.is_empty() || !session.unsent.is_empty() {
                    self.flush(shard, out);
                }
            }
            if self.ready.is_empty() {
                return;
            }
        }
    }

    fn flush(&mut self, shard: usize, out: &mut dyn Outbox) {
        if self.sessions[shard].gone.is_some() {
            return;
        }
        while let Some(&sequence) = self.sessions[shard].again.front() {
            if self.send_again(shard, sequence, out).is_err() {
                return;
            }
            self.sessions[shard].again.pop_front();
        }
        while let Some(&unsent) = self.sessions[shard].unsent.front() {
            let session = &self.sessions[shard];
            let no_room = session.flights.len() >= self.config.window_requests
                || (unsent.is_call && !session.has_room_for_call(self.config.retain));
            if no_room {
                return;
            }
            let sequence = session.next();
            match self.send_piece(shard, unsent.task, unsent.piece, sequence, false, out) {
                Err(_) => return,
                Ok(sent) => {
                    let session = &mut self.sessions[shard];
                    session.unsent.pop_front();
                    if sent {
                        let (piece, is_call) = (unsent.piece, unsent.is_call);
                        let flight = Flight { task: Some(unsent.task), piece, is_call, sent_ns: self.now_ns };
                        let empty_row =
                            Row { key: 0, table: 0, value_type: 0, bytes: 0, values: [0; ROW_BYTES_MAX] };
                        session.depart(flight, self.config.retain.then_some(empty_row));
                    }
                }
            }
        }
    }

    /// Sends every unanswered request to `peer` again, under the same numbers: call it when its link was replaced.
    /// One-key pushes that were not retained end as [`TaskError::PeerGone`].
    pub fn resend(&mut self, peer: PeerId, out: &mut dyn Outbox) {
        let Some(session) = self.sessions.get_mut(peer.0 as usize) else { return };
        session.again = session.open().collect();
        session.kept.clear(); // the old link's slabs went with it
        self.links_replaced += 1;
        self.pump(out);
    }

    /// Queues requests that are unanswered for `after_ns`.
    pub(super) fn retry(&mut self, after_ns: u64) {
        let now_ns = self.now_ns;
        for session in &mut self.sessions {
            if session.retry_at_ns > now_ns || session.flights.is_empty() {
                continue;
            }
            if session.again.is_empty() {
                let numbered = session.flights.iter_mut().zip(session.base..);
                for (flight, sequence) in numbered {
                    if flight.task.is_some() && now_ns.saturating_sub(flight.sent_ns) >= after_ns {
                        flight.sent_ns = now_ns;
                        session.again.push_back(sequence);
                    }
                }
            }
            session.retry_at_ns = now_ns + after_ns / 4;
        }
    }

    fn send_again(&mut self, shard: usize, sequence: u64, out: &mut dyn Outbox) -> Result<(), OutboxError> {
        let session = &self.sessions[shard];
        let Some((task, flight)) = session.flight(sequence) else { return Ok(()) };
        if flight.piece != Flight::ONE_KEY {
            self.send_piece(shard, task, flight.piece, sequence, false, out)?;
            return Ok(());
        }
        let Some(row) = session.row(sequence) else {
            self.sessions[shard].arrive(sequence);
            let reason = "the link broke, and one-key pushes are not retained".to_owned();
            self.end(task, Err(TaskError::PeerGone { shard: shard as u32, reason }));
            return Ok(());
        };
        let mut header = one_key_header(row.table, row.value_type, row.key);
        header.sequence = sequence;
        header.sender = self.config.rank;
        header.epoch = self.config.epoch;
        send_row(out, PeerId(shard as u32), &header, &row.values[..row.bytes as usize])
    }

    /// Sends one piece under `sequence`; `Ok(false)` if the task has ended meanwhile. With `whole` its keys travel even
    /// if the shard should know them.
    pub(super) fn send_piece(
        &mut self,
        shard: usize,
        id: TaskId,
        piece: u32,
        sequence: u64,
        whole: bool,
        out: &mut dyn Outbox,
    ) -> Result<bool, OutboxError> {
        let Some(body) = self.tasks.get(id).and_then(|task| task.body.as_deref()) else { return Ok(false) };
        let index = piece;
        let Some(piece) = body.pieces.get(piece as usize) else { return Ok(false) };
        if self.tasks.get(id).is_some_and(|task| task.state == super::TaskState::Finished) {
            return Ok(false);
        }
        let peer = PeerId(shard as u32);
        let mut header = piece_header(body, piece);
        header.sequence = sequence;
        header.sender = self.config.rank;
        header.epoch = self.config.epoch;
        match &body.what {
            What::Call(call) => {
                let bytes = send_call(out, peer, &header, call)?;
                self.traffic.sent(header.table, bytes, 0);
            }
            What::Control(json) => {
                out.send(peer, HEADER_BYTES + json.len(), &mut |body| compose_bytes(body, &header, json))?;
                self.traffic.sent(0, HEADER_BYTES + json.len(), 0);
            }
            What::Group(_) => {}
            What::Graph(graph) => {
                let (header, payload) = graph.message(header, index);
                let bytes = HEADER_BYTES + payload.len();
                out.send(peer, bytes, &mut |body| compose_bytes(body, &header, payload))?;
                self.traffic.sent(0, bytes, 0);
            }
            What::Keys(_) if body.filters.is_default() => {
                let cacheable = piece.cacheable();
                let cached = match cacheable {
                    Some(signature) if !whole && self.sessions[shard].knows(header.table, signature) => {
                        cacheable
                    }
                    _ => None,
                };
                let layout = send_keys(out, peer, header, body, piece, cached, &[])?;
                self.traffic.sent(header.table, layout.frame_bytes, layout.key_bytes);
                // Only now: had there been no room, the next attempt would have to bring the keys.
                if let (Some(signature), None) = (cacheable, cached) {
                    self.sessions[shard].note_known(header.table, signature);
                }
            }
            What::Keys(_) => return self.send_by_filters(shard, id, index, header, whole, out),
        }
        Ok(true)
    }
}

/// Sends one piece as a node of a graph: without number, keys and all.
pub(super) fn send_body(
    out: &mut dyn Outbox,
    peer: PeerId,
    body: &Body,
    piece: &Piece,
) -> Result<(), OutboxError> {
    let header = piece_header(body, piece);
    match &body.what {
        What::Call(call) => send_call(out, peer, &header, call).map(drop),
        _ => send_keys(out, peer, header, body, piece, None, &[]).map(drop),
    }
}

/// Sends a call, and says how many bytes it came to.
fn send_call(out: &mut dyn Outbox, peer: PeerId, header: &Header, call: &Call) -> Result<usize, OutboxError> {
    let Call { verb, arguments, .. } = call;
    let (bytes, arguments) = (HEADER_BYTES + pad64(verb.len()) + arguments.len(), arguments.parts());
    if bytes >= GATHERED_BYTES_MIN && out.gathers(peer) {
        gather_call(header, verb, &arguments, |tag, parts| out.send_parts(peer, tag, parts))?;
    } else {
        out.send(peer, bytes, &mut |body| compose_call(body, header, verb, &arguments))?;
    }
    Ok(bytes)
}

fn one_key_header(table: u16, value_type: u8, key: Key) -> Header {
    Header {
        flags: Flags::CONTIGUOUS,
        table,
        value_type,
        parts: 1,
        first: key,
        last: key,
        key_count: 1,
        aux: crate::message::Chunk::WHOLE.to_aux(),
        ..Header::new(Kind::Push)
    }
}

#[inline]
fn send_row(out: &mut dyn Outbox, peer: PeerId, header: &Header, row: &[u8]) -> Result<(), OutboxError> {
    out.send(peer, HEADER_BYTES + row.len(), &mut |body| compose_bytes(body, header, row))
}

fn piece_header(body: &Body, piece: &Piece) -> Header {
    let flags = match piece.keys {
        PieceKeys::Contiguous { .. } => Flags::CONTIGUOUS,
        PieceKeys::Existing => Flags::EXISTING,
        _ => 0,
    };
    let after = if body.after_time && body.kind == Kind::Pull { Flags::AFTER_TIME } else { 0 };
    let subscribe = if body.subscribe && body.kind == Kind::Pull { Flags::SUBSCRIBE } else { 0 };
    let early = if body.early > 0 { Flags::EARLY } else { 0 };
    Header {
        flags: flags | after | subscribe | early,
        table: body.table.id,
        value_type: body.table.value_type,
        parts: body.parts.len() as u8,
        time: body.time,
        first: piece.range.first(),
        last: piece.range.last(),
        key_count: piece.rows().len() as u32,
        aux: if body.early > 0 { body.early } else { piece.chunk.to_aux() },
        ..Header::new(body.kind)
    }
}

/// Sends a request with keys and values; `cached` is the signature to send instead of the keys, `wish` what the answer is to
/// go through (nothing, if it is empty). Says what it came to without the wish.
pub(super) fn send_keys(
    out: &mut dyn Outbox,
    peer: PeerId,
    mut header: Header,
    body: &Body,
    piece: &Piece,
    cached: Option<u128>,
    wish: &[u8],
) -> Result<Layout, OutboxError> {
    if !wish.is_empty() {
        header.flags |= Flags::WISH;
    }
    let (keys, key_bytes) = match (&piece.keys, cached) {
        (PieceKeys::Slice { .. }, Some(signature)) => {
            header.flags |= Flags::KEYS_CACHED;
            (KeyPart::Signature(signature), SIGNATURE_BYTES)
        }
        (PieceKeys::Slice { at, .. }, None) => {
            let keys = &body.list()[at.clone()];
            (KeyPart::List(keys), size_of_val(keys))
        }
        _ => (KeyPart::Contiguous(KeyRange::ALL), 0),
    };
    let lendable = |part: &Source| part.lent().is_some_and(|lent| out.lends(peer, lent.slab()));
    if !body.parts.is_empty() && !piece.rows().is_empty() && body.parts.iter().all(lendable) {
        return send_lent(out, peer, header, body, piece, (keys, key_bytes), wish);
    }
    if header.value_type == f64::CODE {
        send_arrays::<f64>(out, peer, &header, body, piece, (keys, key_bytes), wish)
    } else {
        send_arrays::<f32>(out, peer, &header, body, piece, (keys, key_bytes), wish)
    }
}

fn send_arrays<V: Element>(
    out: &mut dyn Outbox,
    peer: PeerId,
    header: &Header,
    body: &Body,
    piece: &Piece,
    (keys, key_bytes): (KeyPart<'_>, usize),
    wish: &[u8],
) -> Result<Layout, OutboxError> {
    let width = body.table.width as usize;
    let rows = piece.rows();
    let mut arrays: [&[V]; PARTS_MAX] = [&[]; PARTS_MAX];
    for (array, values) in arrays.iter_mut().zip(&body.parts) {
        *array = &values.as_slice().unwrap_or(&[])[rows.start * width..rows.end * width];
    }
    let arrays = &arrays[..body.parts.len()];
    let layout = Layout::new(key_bytes, rows.len() * width * size_of::<V>(), arrays.len());
    if layout.frame_bytes >= GATHERED_BYTES_MIN {
        // The task owns what it lent until it ends, and a push ends when it was answered.
        let is_source = |part: &Source| part.lent().is_some_and(|lent| out.sends_from(peer, lent.slab()));
        if body.parts.iter().any(is_source) {
            gather(header, keys, arrays, wish, &layout, |tag, parts| out.send_lent(peer, tag, parts))?;
            return Ok(layout);
        }
        if out.gathers(peer) {
            gather(header, keys, arrays, wish, &layout, |tag, parts| out.send_parts(peer, tag, parts))?;
            return Ok(layout);
        }
    }
    let frame_bytes = layout.frame_bytes + wish.len();
    out.send(peer, frame_bytes, &mut |body| compose(body, header, keys, arrays, wish, &layout))?;
    Ok(layout)
}

/// Sends where the values lie instead of the values.
fn send_lent(
    out: &mut dyn Outbox,
    peer: PeerId,
    mut header: Header,
    body: &Body,
    piece: &Piece,
    (keys, key_bytes): (KeyPart<'_>, usize),
    wish: &[u8],
) -> Result<Layout, OutboxError> {
    let row_bytes = body.table.width as usize * value_bytes(body.table.value_type).unwrap_or(0);
    let rows = piece.rows();
    let at = rows.start * row_bytes..rows.end * row_bytes;
    let ranges = body.parts.iter().filter_map(|part| part.lent()?.range(at.clone()));
    let wires: Vec<[u8; LentRange::WIRE_BYTES]> = ranges.map(LentRange::to_bytes).collect();
    let wires: Vec<&[u8]> = wires.iter().map(<[u8; _]>::as_slice).collect();
    header.flags |= Flags::LENT;
    let layout = Layout::new(key_bytes, LentRange::WIRE_BYTES, wires.len());
    let frame_bytes = layout.frame_bytes + wish.len();
    out.send(peer, frame_bytes, &mut |body| compose(body, &header, keys, &wires, wish, &layout))?;
    Ok(layout)
}
