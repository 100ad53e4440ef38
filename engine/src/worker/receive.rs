//! From answers to finished tasks.

use super::arrays::Sink;
use super::call::Call;
use super::core::WorkerCore;
use super::pieces::{Body, Found, PieceKeys, What, rest_of};
use super::request::{PeerFault, TaskError, TaskId, TaskState};
use super::session::{Flight, Unsent};
use crate::message::{Element, Frame, HEADER_BYTES, KeyPart, Kind, RefusalCode, Values};
use crate::session::{Outbox, PeerId};
use crate::table::Aggregation;

impl WorkerCore {
    /// Takes in one frame from `from` (carrier's word included). The frame is not needed afterwards. Call
    /// [`WorkerCore::poll`] after each round, so that what finished tasks made possible is sent.
    ///
    /// # Errors
    /// The peer broke the protocol: close the link. The core itself is unharmed.
    pub fn handle(&mut self, from: PeerId, bytes: &[u8], out: &mut dyn Outbox) -> Result<(), PeerFault> {
        let frame = Frame::decode(bytes)?;
        let header = &frame.header;
        if header.sender != from.0 {
            return Err(PeerFault::Sender { expected: from.0, got: header.sender });
        }
        let shard = from.0 as usize;
        let session = self.sessions.get_mut(shard).ok_or(PeerFault::NoSession { peer: from.0 })?;
        if header.epoch != self.config.epoch {
            return Ok(()); // an answer to this worker's predecessor
        }
        if frame.kind == Kind::Rows {
            return self.rows_came(from, &frame);
        }
        let sequence = header.sequence;
        let count = if frame.kind == Kind::Ack { u64::from(header.key_count) } else { 1 };
        if sequence == 0 || sequence.checked_add(count).is_none_or(|end| end > session.next()) {
            return Err(PeerFault::Sequence { got: sequence, newest: session.next() - 1 });
        }
        match frame.kind {
            Kind::Ack => {
                session.answered(sequence, count);
                for sequence in sequence.max(session.base)..sequence + count {
                    self.acknowledged(shard, sequence);
                }
                Ok(())
            }
            Kind::Values => {
                self.traffic.received(header.table, bytes.len(), frame.key_bytes());
                if frame.is_filtered() {
                    self.filtered_values(shard, &frame)
                } else {
                    self.values(shard, &frame, true)
                }
            }
            Kind::NeedKeys => {
                self.need_keys(shard, sequence, out);
                Ok(())
            }
            Kind::Reply => self.reply(shard, &frame),
            Kind::Refused => {
                self.refused(shard, &frame);
                Ok(())
            }
            _ => Err(PeerFault::Decode(crate::message::DecodeError::Kind { got: header.kind })),
        }
    }

    #[inline]
    pub(super) fn acknowledged(&mut self, shard: usize, sequence: u64) {
        if let Some((task, _)) = self.sessions[shard].arrive(sequence) {
            self.piece_done(task);
        }
    }

    #[inline]
    fn piece_done(&mut self, id: TaskId) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        task.remaining = task.remaining.saturating_sub(1);
        if task.remaining == 0 {
            self.end(id, Ok(()));
        }
    }

    /// The piece that the unanswered request `sequence` carries, with its task, unless that has ended: then its arrays
    /// are no longer ours.
    pub(super) fn piece_of(&mut self, shard: usize, sequence: u64) -> Option<(&mut Body, usize)> {
        let (task, flight) = self.sessions[shard].flight(sequence)?;
        let task = self.tasks.get_mut(task).filter(|task| task.state != TaskState::Finished)?;
        let body = task.body.as_deref_mut()?;
        ((flight.piece as usize) < body.pieces.len()).then_some((body, flight.piece as usize))
    }

    pub(super) fn values(&mut self, shard: usize, frame: &Frame<'_>, as_sent: bool) -> Result<(), PeerFault> {
        let sequence = frame.header.sequence;
        let mut rest = None;
        if let Some((body, piece)) = self.piece_of(shard, sequence) {
            let stored = match &body.pieces[piece].keys {
                PieceKeys::Existing => store_found(body, piece, frame).map(|last| rest = last),
                _ => store_values(body, piece, frame),
            };
            stored.map_err(|text| PeerFault::Answer { sequence, text })?;
            if as_sent {
                body.count_answer(frame);
            }
            let rows = body.pieces[piece].rows();
            if let Some(clock) = clock_of(body, frame)
                && !rows.is_empty()
            {
                body.clocks.push((rows, clock));
            }
        }
        let Some((task, piece)) = self.sessions[shard].arrive(sequence) else { return Ok(()) };
        match rest.and_then(|last| self.add_rest(task, piece as usize, last)) {
            Some(piece) => {
                let priority =
                    self.tasks.get(task).and_then(|task| Some(task.body.as_ref()?.priority)).unwrap_or(0);
                self.sessions[shard].queue(Unsent { task, piece, is_call: false, priority });
            }
            None => self.piece_done(task),
        }
        Ok(())
    }

    /// Makes the piece that asks for the existing keys above `last`.
    fn add_rest(&mut self, task: TaskId, piece: usize, last: u64) -> Option<u32> {
        let body = self.tasks.get_mut(task)?.body.as_deref_mut()?;
        let piece = &mut body.pieces[piece];
        let (range, keys) = rest_of(piece.range, last)?;
        let next = super::pieces::Piece { shard: piece.shard, range, keys, chunk: piece.chunk };
        body.pieces.push(next);
        Some(body.pieces.len() as u32 - 1)
    }

    fn need_keys(&mut self, shard: usize, sequence: u64, out: &mut dyn Outbox) {
        let Some((task, flight)) = self.sessions[shard].flight(sequence) else {
            return self.sessions[shard].answered(sequence, 1);
        };
        if flight.piece == Flight::ONE_KEY {
            return;
        }
        if self.send_piece(shard, task, flight.piece, sequence, true, out).is_err() {
            // No room: forget that the shard knows the list, so that sending it again later sends its keys.
            if let Some((body, piece)) = self.piece_of(shard, sequence)
                && let PieceKeys::Slice { signature, .. } = body.pieces[piece].keys
            {
                let table = body.table.id;
                self.sessions[shard].known.remove(&(table, signature));
            }
            self.sessions[shard].again.push_back(sequence);
        }
    }

    fn reply(&mut self, shard: usize, frame: &Frame<'_>) -> Result<(), PeerFault> {
        let sequence = frame.header.sequence;
        if let Some((body, _)) = self.piece_of(shard, sequence) {
            let table = body.table.id;
            match &mut body.what {
                What::Call(Call { receive: Some(receive), .. }) => receive(shard as u32, frame.payload()),
                What::Graph(graph) => graph
                    .store(shard as u32, frame.payload())
                    .map_err(|text| PeerFault::Answer { sequence, text })?,
                _ => body.replies.push((shard as u32, frame.payload().to_vec())),
            }
            self.traffic.received(table, HEADER_BYTES + frame.payload().len(), 0);
        }
        self.acknowledged(shard, sequence);
        Ok(())
    }

    fn refused(&mut self, shard: usize, frame: &Frame<'_>) {
        let Some((task, _)) = self.sessions[shard].arrive(frame.header.sequence) else { return };
        let text = String::from_utf8_lossy(frame.payload()).into_owned();
        let code = RefusalCode::from_code(frame.header.aux);
        if let Some(task) = self.tasks.get_mut(task) {
            task.remaining = task.remaining.saturating_sub(1);
        }
        self.end(task, Err(TaskError::Refused { shard: shard as u32, code, text }));
    }
}

/// The clock of a clocked table when these values were read.
fn clock_of(body: &Body, frame: &Frame<'_>) -> Option<u64> {
    (body.table.aggregation == Aggregation::Clocked).then_some(frame.header.time)
}

pub(super) fn store_values(body: &mut Body, piece: usize, frame: &Frame<'_>) -> Result<(), String> {
    let rows = body.pieces[piece].rows();
    let width = body.table.width as usize;
    let header = &frame.header;
    if header.key_count as usize != rows.len() || header.parts != 1 {
        let got = (header.key_count, header.parts);
        return Err(format!("expected one array for {} keys, got {got:?}", rows.len()));
    }
    let start = rows.start * width;
    if header.value_type == f64::CODE {
        copy_values::<f64>(&mut body.into, start, frame, width)
    } else {
        copy_values::<f32>(&mut body.into, start, frame, width)
    }
}

fn copy_values<V: Element>(
    into: &mut Sink,
    start: usize,
    frame: &Frame<'_>,
    width: usize,
) -> Result<(), String> {
    let values = frame.values::<V>(width).map_err(|error| error.to_string())?[0];
    if into.write(start, values) { Ok(()) } else { Err("the task has no room for such values".to_owned()) }
}

/// Keeps found keys and values; returns the last key covered if the shard has more.
fn store_found(body: &mut Body, piece: usize, frame: &Frame<'_>) -> Result<Option<u64>, String> {
    let KeyPart::List(keys) = frame.keys() else { return Err("expected a key list".to_owned()) };
    let (keys, range) = (keys.to_vec(), body.pieces[piece].range);
    let sorted = keyrange_kernels::keys::is_sorted_unique(&keys);
    let inside = keys.first().is_none_or(|&key| range.contains(key))
        && keys.last().is_none_or(|&key| range.contains(key));
    let last = frame.header.last;
    if !sorted || !inside || !range.contains(last) {
        return Err(format!("expected rising keys within {range}"));
    }
    let width = body.table.width as usize;
    let read = |error: crate::message::DecodeError| error.to_string();
    let values = if body.into.value_type() == f64::CODE {
        Values::F64(frame.values::<f64>(width).map_err(read)?[0].to_vec())
    } else {
        Values::F32(frame.values::<f32>(width).map_err(read)?[0].to_vec())
    };
    if values.len() != keys.len() * width {
        return Err("expected one array of values beside the keys".to_owned());
    }
    body.found.push(Found { first: range.first(), keys, values, clock: clock_of(body, frame) });
    Ok((frame.header.aux == 1 && last < range.last()).then_some(last))
}
