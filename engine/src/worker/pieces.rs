//! How a task is cut: one piece per message, at least one per shard it concerns.

use std::ops::Range;
use std::sync::Arc;

use super::arrays::{Sink, Source};
use super::call::Call;
use super::graph::GraphBody;
use super::group::Group;
use super::request::{Callback, Keys, TableHandle, Target, TaskId};
use super::send::CACHED_KEYS_MIN;
use crate::filter::{Coded, Filters, plain_bytes_max};
use crate::key_list::{Cut, KeyList};
use crate::key_range::{Key, KeyRange, RangeMap};
use crate::message::{Chunk, Kind, Layout, Values, value_bytes};
use crate::table::Aggregation;

/// What hangs on every task but a one-key push.
pub(super) struct Body {
    pub kind: Kind,
    pub table: TableHandle,
    pub time: u64,
    pub after_time: bool,
    pub subscribe: bool,
    /// Of a clocked table: the number of an early part, or 0.
    pub early: u32,
    /// Of a clocked table: rows whose values have come, and the clock they came with.
    pub clocks: Vec<(Range<usize>, u64)>,
    pub priority: i32,
    pub what: What,
    pub parts: Vec<Source>,
    pub into: Sink,
    pub pieces: Vec<Piece>,
    pub found: Vec<Found>,
    pub replies: Vec<(u32, Vec<u8>)>,
    pub callback: Option<Callback>,
    /// The group it is a sub-task of.
    pub group: Option<TaskId>,
    pub filters: Filters,
    /// By piece: what filters made of its values, where that may be needed again.
    pub coded: Vec<(u32, Coded)>,
}

/// What a task is about.
pub(super) enum What {
    Keys(Keys),
    Call(Call),
    /// JSON.
    Control(Vec<u8>),
    /// No messages of its own.
    Group(Group),
    /// Requests of a whole graph.
    Graph(GraphBody),
}

/// One message of a task.
pub(super) struct Piece {
    pub shard: u32,
    /// The header's range.
    pub range: KeyRange,
    pub keys: PieceKeys,
    pub chunk: Chunk,
}

/// The keys of one message.
#[derive(Clone)]
pub(super) enum PieceKeys {
    /// A slice of the task's list.
    Slice { at: Range<usize>, signature: u128 },
    /// All keys of the piece's range; its values start at this row of the arrays.
    Contiguous { start: usize },
    /// The existing keys of the piece's range.
    Existing,
    /// No keys: calls, controls, and contributions to ranges in which the worker has no key.
    None,
}

/// Keys and values found by one [`PieceKeys::Existing`] piece.
pub(super) struct Found {
    pub first: Key,
    pub keys: Vec<Key>,
    pub values: Values,
    /// Of a clocked table: the clock they came with.
    pub clock: Option<u64>,
}

impl Piece {
    /// Rows of the task's arrays that this piece carries.
    pub fn rows(&self) -> Range<usize> {
        match &self.keys {
            PieceKeys::Slice { at, .. } => at.clone(),
            PieceKeys::Contiguous { start } => *start..*start + self.range.count() as usize,
            PieceKeys::Existing | PieceKeys::None => 0..0,
        }
    }

    /// The signature of its key list, if that is long enough to be sent instead of it.
    #[inline]
    pub fn cacheable(&self) -> Option<u128> {
        match &self.keys {
            PieceKeys::Slice { at, signature } if at.len() >= CACHED_KEYS_MIN => Some(*signature),
            _ => None,
        }
    }
}

impl Body {
    /// A request with nothing but its kind, table and subject.
    pub fn new(kind: Kind, table: TableHandle, what: What) -> Body {
        Body {
            kind,
            table,
            time: 0,
            after_time: false,
            subscribe: false,
            early: 0,
            priority: 0,
            clocks: Vec::new(),
            what,
            parts: Vec::new(),
            into: Sink::default(),
            pieces: Vec::new(),
            found: Vec::new(),
            replies: Vec::new(),
            callback: None,
            group: None,
            filters: Filters::default(),
            coded: Vec::new(),
        }
    }

    /// The keys of the task's list.
    pub fn list(&self) -> &[Key] {
        match &self.what {
            What::Keys(Keys::List(list) | Keys::ListIn(list, _)) => list.as_slice(),
            _ => &[],
        }
    }

    /// Cuts the task over `map`; frames stay within `frame_bytes_max`.
    pub fn cut(&mut self, map: &RangeMap, frame_bytes_max: usize) {
        let frame_bytes_max =
            if self.is_filtered() { plain_bytes_max(frame_bytes_max) } else { frame_bytes_max };
        let row_bytes = self.table.width as usize * value_bytes(self.table.value_type).unwrap_or(0);
        let arrays = self.parts.len().max(1);
        let keys_max = Layout::keys_max(frame_bytes_max, arrays, row_bytes);
        // Every shard hears of a time that counts, of who wants to hear of its clock, and of who wants to hear of an update.
        let collects = match self.kind {
            Kind::Pull if self.after_time && self.list().is_empty() => true,
            Kind::Pull => self.table.aggregation.counts_times() && self.subscribe,
            // An early part advances nobody's clock.
            _ => self.table.aggregation.counts_times() && self.early == 0,
        };
        self.pieces = match &self.what {
            What::Keys(Keys::List(list)) => {
                let range = if collects { Some(KeyRange::ALL) } else { list.span() };
                list_pieces(list, range, map, keys_max, collects)
            }
            What::Keys(Keys::ListIn(list, range)) => list_pieces(list, Some(*range), map, keys_max, collects),
            What::Keys(Keys::Range(range)) => range_pieces(*range, map, keys_max as u64),
            What::Keys(Keys::Existing(range)) => map
                .slices_of_range(*range)
                .map(|(shard, range)| bare(shard, range, PieceKeys::Existing))
                .collect(),
            What::Call(Call { target: Target::Shard(shard), .. }) => {
                vec![bare(*shard as usize, KeyRange::ALL, PieceKeys::None)]
            }
            What::Call(Call { target: Target::OwnerOf(key), .. }) => {
                vec![bare(map.shard_of(*key), KeyRange::one(*key), PieceKeys::None)]
            }
            What::Group(_) => Vec::new(),
            What::Graph(graph) => {
                let shards = graph.shards();
                shards.map(|shard| bare(shard as usize, KeyRange::ALL, PieceKeys::None)).collect()
            }
            What::Call(Call { target: Target::All, .. }) | What::Control(_) => {
                (0..map.shards()).map(|shard| bare(shard, KeyRange::ALL, PieceKeys::None)).collect()
            }
        };
        if self.kind == Kind::Push && self.table.aggregation == Aggregation::Clocked {
            self.divide_ranges();
        }
        self.number_chunks();
    }

    /// Gives each piece of a shard a range of its own, so that their ranges together are what they all had: a clocked push
    /// speaks for every key of its range.
    fn divide_ranges(&mut self) {
        let first_key = |piece: &Piece, list: &[Key]| match &piece.keys {
            PieceKeys::Slice { at, .. } => list.get(at.start).copied(),
            _ => None,
        };
        let starts: Vec<_> = self.pieces.iter().map(|piece| first_key(piece, self.list())).collect();
        let mut before: Option<&mut Piece> = None;
        for (piece, start) in self.pieces.iter_mut().zip(starts) {
            if let (Some(before), Some(start)) = (before, start)
                && before.shard == piece.shard
                && let Ok(lower) = KeyRange::new(before.range.first(), start - 1)
                && let Ok(upper) = KeyRange::new(start, piece.range.last())
            {
                (before.range, piece.range) = (lower, upper);
            }
            before = Some(piece);
        }
    }

    /// Numbers the pieces that go to one shard: neighbours, because pieces are in key order.
    fn number_chunks(&mut self) {
        for pieces in self.pieces.chunk_by_mut(|a, b| a.shard == b.shard) {
            let count = pieces.len() as u16;
            for (index, piece) in pieces.iter_mut().enumerate() {
                piece.chunk = Chunk { index: index as u16, count };
            }
        }
    }
}

fn bare(shard: usize, range: KeyRange, keys: PieceKeys) -> Piece {
    Piece { shard: shard as u32, range, keys, chunk: Chunk::WHOLE }
}

fn list_pieces(
    list: &KeyList,
    range: Option<KeyRange>,
    map: &RangeMap,
    keys_max: usize,
    collects: bool,
) -> Vec<Piece> {
    let Some(range) = range else { return Vec::new() };
    let cut: Arc<Cut> = list.cut(map, keys_max);
    let mut pieces = Vec::with_capacity(cut.slices.len());
    for (shard, range) in map.slices_of_range(range) {
        let slices = cut.of_shard(shard as u32);
        pieces.extend(slices.iter().map(|slice| {
            let keys = PieceKeys::Slice { at: slice.at.clone(), signature: slice.signature };
            bare(shard, range, keys)
        }));
        if slices.is_empty() && collects {
            pieces.push(bare(shard, range, PieceKeys::None));
        }
    }
    pieces
}

fn range_pieces(range: KeyRange, map: &RangeMap, keys_max: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (shard, slice) in map.slices_of_range(range) {
        for chunk in slice.chunks(keys_max) {
            let start = (chunk.first() - range.first()) as usize;
            pieces.push(bare(shard, chunk, PieceKeys::Contiguous { start }));
        }
    }
    pieces
}

/// The next piece of an existing-keys pull whose answer stopped at `last`.
pub(super) fn rest_of(range: KeyRange, last: u64) -> Option<(KeyRange, PieceKeys)> {
    let first = last.checked_add(1)?;
    Some((KeyRange::new(first, range.last()).ok()?, PieceKeys::Existing))
}
