//! What comes unasked: changed rows of tables that this worker follows.

use std::collections::VecDeque;

use super::core::WorkerCore;
use super::request::{PeerFault, TableHandle};
use crate::key_range::Key;
use crate::message::{Element, Frame, KeyPart, Values};
use crate::session::PeerId;

/// Bytes of values kept per table until they are taken. What comes beyond is dropped, and missed by its number.
const HELD_BYTES_MAX: usize = 256 << 20;

/// One frame of changed rows.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsFrame {
    /// Index of the shard that sent it.
    pub shard: u32,
    /// Which stream of the shard it belongs to.
    pub generation: u32,
    /// Its number in the stream, from 0.
    pub number: u32,
    /// No other worker's clock was below this when the rows were read.
    pub clock: u64,
    /// The rows hold this worker's own increments up to this clock, ...
    pub own_clock: u64,
    /// ... of those of the next clock the early parts up to this one, and none after them.
    pub own_early: u32,
    /// Whether the worker has everything of `clock` once it has this frame and those before it.
    pub is_last: bool,
    /// Whether it left before the least clock had advanced.
    pub is_early: bool,
    /// Length of the frame.
    pub frame_bytes: u64,
    /// The keys.
    pub keys: Vec<Key>,
    /// Their rows, one after the other.
    pub values: Values,
}

/// A table whose rows come unasked.
pub(super) struct Followed {
    table: TableHandle,
    frames: VecDeque<RowsFrame>,
    bytes: usize,
}

impl WorkerCore {
    /// From now on frames of changed rows of `table` are kept for [`WorkerCore::take_rows`]; of other tables they are
    /// dropped.
    pub fn follow(&mut self, table: TableHandle) {
        self.followed.retain(|followed| followed.table.id != table.id);
        self.followed.push(Followed { table, frames: VecDeque::new(), bytes: 0 });
    }

    /// The oldest frame of changed rows of a followed table. Frames come as the links bring them.
    pub fn take_rows(&mut self, table: u16) -> Option<RowsFrame> {
        let followed = self.followed.iter_mut().find(|followed| followed.table.id == table)?;
        let frame = followed.frames.pop_front()?;
        followed.bytes -= bytes_of(&frame);
        Some(frame)
    }

    /// How often a link was replaced: what was on it unasked never came.
    pub fn links_replaced(&self) -> u64 {
        self.links_replaced
    }

    pub(super) fn rows_came(&mut self, from: PeerId, frame: &Frame<'_>) -> Result<(), PeerFault> {
        let header = frame.header;
        let Some(followed) = self.followed.iter_mut().find(|followed| followed.table.id == header.table)
        else {
            return Ok(());
        };
        let fault = |text: String| PeerFault::Answer { sequence: header.sequence, text };
        let rows = read(followed.table, from.0, frame).map_err(fault)?;
        let bytes = bytes_of(&rows);
        if followed.bytes + bytes <= HELD_BYTES_MAX {
            followed.bytes += bytes;
            followed.frames.push_back(rows);
        }
        Ok(())
    }
}

fn bytes_of(frame: &RowsFrame) -> usize {
    (frame.keys.len() + frame.values.len()) * size_of::<u64>() + size_of::<RowsFrame>()
}

fn read(table: TableHandle, shard: u32, frame: &Frame<'_>) -> Result<RowsFrame, String> {
    fn values<V: Element>(frame: &Frame<'_>, width: usize) -> Result<Values, String> {
        Ok(V::wrap(frame.values::<V>(width).map_err(|error| error.to_string())?[0].to_vec()))
    }
    let header = &frame.header;
    let KeyPart::List(keys) = frame.keys() else { return Err("expected rows with their keys".to_owned()) };
    let (keys, width) = (keys.to_vec(), table.width as usize);
    if !keys.is_empty() && (header.parts != 1 || header.value_type != table.value_type) {
        let (parts, got) = (header.parts, header.value_type);
        return Err(format!(
            "expected one array of value type {} beside the keys, got {parts} of type {got}",
            table.value_type
        ));
    }
    let values = if table.value_type == f64::CODE {
        values::<f64>(frame, width)
    } else {
        values::<f32>(frame, width)
    }?;
    Ok(RowsFrame {
        shard,
        generation: (header.sequence >> 32) as u32,
        number: header.sequence as u32,
        clock: header.time,
        own_clock: header.first,
        own_early: u32::try_from(header.last - header.first).unwrap_or(u32::MAX),
        is_last: header.aux & 1 != 0,
        is_early: header.aux & 2 != 0,
        frame_bytes: frame.bytes().len() as u64,
        keys,
        values,
    })
}
