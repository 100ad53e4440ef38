//! Whether a request can be sent at all.

use super::arrays::Source;
use super::call::Call;
use super::core::WorkerCore;
use super::pieces::{Body, What};
use super::request::{Keys, SubmitError, Target};
use crate::filter::FILTER_BYTES_MAX;
use crate::message::{HEADER_BYTES, Kind, PARTS_MAX, VERB_BYTES_MAX, pad64, value_bytes};
use crate::shard::CHUNKS_MAX;
use crate::table::Aggregation;

impl WorkerCore {
    pub(super) fn check(&self, body: &Body) -> Result<(), SubmitError> {
        match &body.what {
            What::Keys(keys) => {
                body.check_filters()?;
                check_keys(body, keys)
            }
            What::Call(Call { target, verb, arguments, .. }) => {
                let shards = self.map.shards();
                if let &Target::Shard(got) = target
                    && got as usize >= shards
                {
                    return Err(SubmitError::NoShard { got, shards });
                }
                check_size("a verb", verb.len(), VERB_BYTES_MAX)?;
                let bytes = HEADER_BYTES + pad64(verb.len()) + arguments.len();
                check_size("a call", bytes, self.config.frame_bytes_max)
            }
            What::Group(_) | What::Graph(_) => Ok(()),
            What::Control(json) => {
                check_size("a control request", HEADER_BYTES + json.len(), self.config.frame_bytes_max)
            }
        }
    }

    pub(super) fn check_pieces(&self, body: &Body) -> Result<(), SubmitError> {
        let row_bytes = body.table.width as usize * value_bytes(body.table.value_type).unwrap_or(0);
        let row = HEADER_BYTES + 64 + body.parts.len().max(1) * pad64(row_bytes);
        let row = if body.is_filtered() { row + FILTER_BYTES_MAX } else { row };
        check_size("a row", row, self.config.frame_bytes_max)?;
        let chunks = body.pieces.iter().map(|piece| usize::from(piece.chunk.count)).max().unwrap_or(0);
        check_size("the chunks of a push", body.pieces.len(), (u32::MAX - 1) as usize)?;
        let collects = body.table.aggregation == Aggregation::AllWorkers;
        if collects && body.kind != Kind::Pull && chunks > CHUNKS_MAX {
            let text = format!("an aggregated push in {chunks} frames per shard; at most {CHUNKS_MAX}");
            return Err(SubmitError::Keys(text));
        }
        if body.early > 0 && chunks > 1 {
            let text = format!("an early part in {chunks} frames per shard; at most 1");
            return Err(SubmitError::Keys(text));
        }
        for piece in &body.pieces {
            if let Some(reason) = &self.sessions[piece.shard as usize].gone {
                return Err(SubmitError::PeerGone { shard: piece.shard, reason: reason.clone() });
            }
        }
        Ok(())
    }
}

fn check_size(what: &'static str, got: usize, max: usize) -> Result<(), SubmitError> {
    if got <= max { Ok(()) } else { Err(SubmitError::TooLarge { what, got, max }) }
}

fn check_keys(body: &Body, keys: &Keys) -> Result<(), SubmitError> {
    let count = match keys {
        Keys::List(list) => list.len(),
        Keys::ListIn(list, range) => {
            if let Some(span) = list.span().filter(|span| !range.covers(*span)) {
                return Err(SubmitError::Keys(format!(
                    "the list's keys {span} leave the task's range {range}"
                )));
            }
            list.len()
        }
        Keys::Range(range) => {
            usize::try_from(range.count()).ok().filter(|&count| count < 1 << 40).ok_or_else(|| {
                SubmitError::Keys(format!("the range {range} has too many keys; use Keys::Existing"))
            })?
        }
        Keys::Existing(range) if body.into.fixed_len().is_some() => {
            return Err(SubmitError::Keys(format!("how many keys of {range} exist is not known beforehand")));
        }
        Keys::Existing(_) if body.kind == Kind::Pull => 0,
        Keys::Existing(range) => {
            return Err(SubmitError::Keys(format!("existing keys of {range} can only be pulled")));
        }
    };
    let (max, expected_type) = (PARTS_MAX, body.table.value_type);
    let types = body.parts.iter().map(Source::value_type).chain([body.into.value_type()]);
    for (part, got_type) in types.enumerate() {
        let got = body.parts.len();
        let matters = part < body.parts.len() || body.kind != Kind::Push;
        if matters && got_type != expected_type || got > max {
            return Err(SubmitError::Arrays { max, expected_type, got, got_type });
        }
    }
    let expected = count * body.table.width as usize;
    if let Some(got) = body.into.fixed_len().filter(|&got| got != expected && body.kind != Kind::Push) {
        return Err(SubmitError::IntoLength { expected, got });
    }
    match body.parts.iter().position(|values| values.len() != expected) {
        Some(part) => Err(SubmitError::ArrayLength { part, expected, got: body.parts[part].len() }),
        None => Ok(()),
    }
}
