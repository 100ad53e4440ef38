//! From a filtered frame back to the frame it was: the same header, keys and values, 64-byte aligned.

use std::time::Instant;

use keyrange_kernels::presence;
use keyrange_transport::link::WORD_BYTES;
use thiserror::Error;

use super::chain::Chain;
use super::code::Code;
use super::pack::unpack;
use super::rows::all;
use super::spec::{FilterSpec, FilterSpecError, Stage};
use super::streams::StreamName;
use super::wire::{BITMAP, DELTA, DESCRIPTOR_BYTES, Descriptor, PACKED, PARTIAL};
use crate::message::{
    Element, Flags, Frame, HEADER_BYTES, Header, Layout, body_part, compose_header, value_bytes,
};
use crate::shard::buffers::Buffer;

/// Why a filtered frame cannot be undone.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// No such code or flag.
    #[error("unknown filter {got:#06x} (code and flags); both ends must be of one version")]
    Unknown {
        /// Code in the upper byte, flags in the lower.
        got: u16,
    },
    /// Something is not as long as it must be.
    #[error("{what}: expected {expected} bytes, got {got}")]
    Length {
        /// What it is.
        what: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        got: usize,
    },
    /// The bitmap and the number of rows disagree.
    #[error("zeros: the bitmap of {of} rows must name {expected}, got {got}")]
    Bitmap {
        /// Rows of the message.
        of: u32,
        /// Rows announced.
        expected: u32,
        /// Rows the bitmap names.
        got: usize,
    },
    /// A block that is none.
    #[error("{0}")]
    Block(String),
    /// The values are of no type, or the frame is of a kind that is never filtered.
    #[error("values of type {value_type} in a frame of kind {kind} cannot be filtered")]
    Kind {
        /// Code of the type.
        value_type: u8,
        /// Code of the kind.
        kind: u8,
    },
    /// The answer builds on one that is not here.
    #[error("significant: the answer follows number {follows}, which is not kept here")]
    Follows {
        /// Number of the answer it builds on.
        follows: u32,
    },
    /// The chain wanted for the answer is none.
    #[error("the chain wanted for the answer: {0}")]
    Chain(#[from] FilterSpecError),
}

/// Memory that is used again and again.
#[derive(Default)]
pub(crate) struct Scratch {
    /// The frame, once undone.
    frame: Buffer,
    plain: Vec<u8>,
}

impl Scratch {
    /// The frame that [`undo`] made.
    pub fn frame(&self) -> &[u8] {
        self.frame.bytes()
    }
}

/// What is known about a frame beside its bytes.
pub(crate) struct Context<'a> {
    /// Values per row.
    pub width: usize,
    /// The largest frame there can be, undone.
    pub frame_bytes_max: usize,
    /// The pull's chain and stream, for answers.
    pub pull: Option<(&'a Chain, StreamName)>,
}

/// Undoes `frame` into `scratch`. Says whether rows that were left out, now zero, are missing from a sum: the push is for
/// functions that add.
///
/// # Errors
/// What is wrong with it; never panics, and needs no more memory than the undone frame, which is bounded.
pub(crate) fn undo(
    frame: &Frame<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch,
) -> Result<bool, FilterError> {
    match value_bytes(frame.header.value_type) {
        Some(4) => undo_typed::<f32>(frame, context, scratch),
        Some(_) => undo_typed::<f64>(frame, context, scratch),
        None => Err(FilterError::Kind { value_type: frame.header.value_type, kind: frame.header.kind }),
    }
}

fn undo_typed<V: Element>(
    frame: &Frame<'_>,
    context: &Context<'_>,
    scratch: &mut Scratch,
) -> Result<bool, FilterError> {
    let start = Instant::now();
    let header = Header { flags: frame.header.flags & !(Flags::FILTERED | Flags::WISH), ..frame.header };
    let body = frame.payload();
    let descriptor = Descriptor::read(body)?;
    let coded = Coding::check::<V>(&header, &descriptor, frame.key_bytes(), context)?;
    let rest = &body[DESCRIPTOR_BYTES..];
    let Scratch { frame: undone, plain } = scratch;
    undone.resize(coded.layout.frame_bytes);
    if descriptor.flags & PACKED == 0 {
        if rest.len() != coded.plain_bytes {
            let (expected, got) = (coded.plain_bytes, rest.len());
            return Err(FilterError::Length { what: "keys and values", expected, got });
        }
        coded.write::<V>(&header, rest, context, &descriptor, undone)?;
    } else if coded.is_one_array() {
        let place = body_part(&mut undone.bytes_mut()[WORD_BYTES..], coded.layout.array(0));
        unpack(rest, place).map_err(FilterError::Block)?;
    } else {
        if plain.len() < coded.plain_bytes {
            plain.resize(coded.plain_bytes, 0);
        }
        let plain = &mut plain[..coded.plain_bytes];
        unpack(rest, plain).map_err(FilterError::Block)?;
        coded.write::<V>(&header, plain, context, &descriptor, undone)?;
    }
    finish(&header, undone);
    if let Some((chain, name)) = context.pull {
        chain.note_answer::<V>(name, &descriptor, &coded, rest.len(), &scratch.frame, start);
    }
    Ok(descriptor.flags & PARTIAL != 0)
}

/// The sizes of a filtered frame, checked against each other.
struct Coding {
    code: Code,
    layout: Layout,
    /// Keys, bitmap and codes.
    plain_bytes: usize,
    bitmap_bytes: usize,
    /// Codes of one array.
    code_bytes: usize,
    /// Values of one array that are there.
    values: usize,
}

impl Coding {
    fn check<V: Element>(
        header: &Header,
        descriptor: &Descriptor,
        key_bytes: usize,
        context: &Context<'_>,
    ) -> Result<Coding, FilterError> {
        let got = u16::from_be_bytes([descriptor.code, descriptor.flags]);
        let code = Code::from_code(descriptor.code).ok_or(FilterError::Unknown { got })?;
        let (flags, count) = (descriptor.flags, header.key_count);
        let has_bitmap = flags & BITMAP != 0;
        let is_answer = context.pull.is_some() && header.parts == 1;
        let strange = flags & !(BITMAP | PACKED | DELTA | PARTIAL) != 0
            || (flags & DELTA != 0 && !(is_answer && has_bitmap))
            || (flags & PARTIAL != 0 && context.pull.is_some())
            || (flags & (BITMAP | PARTIAL) != 0 && header.parts == 0);
        if strange {
            return Err(FilterError::Unknown { got });
        }
        if descriptor.rows > count || (!has_bitmap && descriptor.rows != count) {
            return Err(FilterError::Bitmap { of: count, expected: descriptor.rows, got: count as usize });
        }
        let parts = header.parts as usize;
        let array_bytes = (count as usize).saturating_mul(context.width * size_of::<V>());
        let fits = array_bytes.saturating_add(key_bytes) <= context.frame_bytes_max;
        let layout = Layout::new(key_bytes, if fits { array_bytes } else { 0 }, parts);
        if !fits || layout.frame_bytes > context.frame_bytes_max {
            let (expected, got) = (context.frame_bytes_max, array_bytes.saturating_mul(parts.max(1)));
            return Err(FilterError::Length { what: "the frame, undone, at most", expected, got });
        }
        let bitmap_bytes = if has_bitmap { 8 * presence::words(count as usize) } else { 0 };
        let values = descriptor.rows as usize * context.width;
        let code_bytes = code.array_bytes::<V>(values);
        let plain_bytes = key_bytes + bitmap_bytes + parts * code_bytes;
        if descriptor.plain_bytes as usize != plain_bytes {
            let got = descriptor.plain_bytes as usize;
            return Err(FilterError::Length { what: "keys and values", expected: plain_bytes, got });
        }
        Ok(Coding { code, layout, plain_bytes, bitmap_bytes, code_bytes, values })
    }

    /// Whether what was packed is one array of values and nothing else.
    fn is_one_array(&self) -> bool {
        let Layout { key_bytes, parts, .. } = self.layout;
        self.code == Code::Raw && self.bitmap_bytes == 0 && key_bytes == 0 && parts == 1
    }

    /// Writes keys and values as they were.
    fn write<V: Element>(
        &self,
        header: &Header,
        plain: &[u8],
        context: &Context<'_>,
        descriptor: &Descriptor,
        frame: &mut Buffer,
    ) -> Result<(), FilterError> {
        let (keys, rest) = plain.split_at(self.layout.key_bytes);
        let (bitmap, codes) = rest.split_at(self.bitmap_bytes);
        let bitmap = self.bitmap(bitmap, header.key_count, descriptor.rows)?;
        let body = &mut frame.bytes_mut()[WORD_BYTES..];
        body_part(body, HEADER_BYTES..HEADER_BYTES + keys.len()).copy_from_slice(keys);
        for part in 0..self.layout.parts {
            let codes = &codes[part * self.code_bytes..][..self.code_bytes];
            let place = body_part(body, self.layout.array(part));
            // Arrays start on multiples of 64 and hold whole values.
            let values: &mut [V] = bytemuck::cast_slice_mut(place);
            let Some(bitmap) = &bitmap else {
                self.code.decode(codes, values);
                continue;
            };
            if descriptor.flags & DELTA == 0 {
                values.fill(V::ZERO);
            } else {
                restore(context, descriptor.number, values)?;
            }
            let mut packed = vec![V::zeroed(); self.values];
            self.code.decode(codes, &mut packed);
            presence::expand(&packed, context.width, bitmap, values);
        }
        Ok(())
    }

    /// A copy of the bitmap (a peer on shared memory could change the original), which names `expected` of `rows` rows.
    fn bitmap(&self, bytes: &[u8], rows: u32, expected: u32) -> Result<Option<Vec<u64>>, FilterError> {
        if self.bitmap_bytes == 0 {
            return Ok(None);
        }
        let words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let bitmap: Vec<u64> = words.collect();
        let beyond = bitmap.iter().zip(all(rows as usize)).any(|(word, all)| word & !all != 0);
        let got = presence::count(&bitmap);
        if beyond || got != expected as usize {
            return Err(FilterError::Bitmap { of: rows, expected, got });
        }
        Ok(Some(bitmap))
    }
}

/// Writes the header and the carrier's word.
fn finish(header: &Header, frame: &mut Buffer) {
    let bytes = frame.bytes_mut();
    let tag = compose_header(&mut bytes[WORD_BYTES..], &Header { tag: 0, ..*header });
    let frame_bytes = bytes.len() as u32;
    bytes[..4].copy_from_slice(&frame_bytes.to_le_bytes());
    bytes[4..WORD_BYTES].copy_from_slice(&tag.to_le_bytes());
}

/// Fills in the values of the answer that this one follows.
fn restore<V: Element>(context: &Context<'_>, number: u32, values: &mut [V]) -> Result<(), FilterError> {
    let follows = number.wrapping_sub(1);
    let missing = FilterError::Follows { follows };
    let Some((chain, name)) = context.pull else { return Err(missing) };
    let mut state = chain.state();
    let kept: Option<&mut [V]> = state.streams.kept(name, follows, values.len());
    values.copy_from_slice(kept.ok_or(missing)?);
    Ok(())
}

impl Chain {
    /// Keeps what the stream's next answer builds on, and counts what the filters saved.
    fn note_answer<V: Element>(
        &self,
        name: StreamName,
        descriptor: &Descriptor,
        coding: &Coding,
        packed_bytes: usize,
        frame: &Buffer,
        start: Instant,
    ) {
        let layout = &coding.layout;
        if descriptor.number > 0 && layout.parts == 1 {
            let mut state = self.state();
            if descriptor.number > state.streams.number(name) {
                let bytes = frame.bytes().get(layout.array(0)).unwrap_or(&[]);
                state.streams.keep::<V>(name, descriptor.number, bytemuck::cast_slice(bytes));
            }
        }
        let all_bytes = layout.parts * layout.array_bytes;
        let there_bytes = coding.bitmap_bytes + layout.parts * coding.values * size_of::<V>();
        let coded_bytes = coding.bitmap_bytes + layout.parts * coding.code_bytes;
        let rows = layout.array_bytes / size_of::<V>();
        let dropped = rows - coding.values;
        if let Some(counter) = self.counter(|filter| filter.stage() == Some(Stage::Rows)) {
            counter.add(all_bytes, there_bytes, dropped);
            counter.time(start);
        }
        if let Some(counter) = self.counter(|filter| filter.stage() == Some(Stage::Codes)) {
            counter.add(there_bytes, coded_bytes, 0);
            counter.time(start);
        }
        if let Some(counter) = self.counter(|filter| *filter == FilterSpec::Lz4) {
            counter.add(coding.plain_bytes, packed_bytes, 0);
            counter.time(start);
        }
    }
}
