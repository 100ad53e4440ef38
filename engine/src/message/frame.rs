//! Reading a frame where it lies.

use keyrange_transport::region::LentRange;
use thiserror::Error;

use super::{
    Element, Flags, HEADER_BYTES, Header, Kind, Layout, PARTS_MAX, SIGNATURE_BYTES, VERB_BYTES_MAX, VERSION,
    WISH_BYTES_MAX, pad64,
};
use crate::key_range::{Key, KeyRange};

/// Why bytes are not a frame. The peer that sent them broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Fewer bytes than a header.
    #[error("a frame has at least {HEADER_BYTES} bytes, got {got}")]
    Short {
        /// Bytes there were.
        got: usize,
    },
    /// The frame does not start on a multiple of 8 bytes (the carrier's duty is 64).
    #[error("a frame starts on a multiple of 64 bytes, got address {address:#x}")]
    Misaligned {
        /// Where it started.
        address: usize,
    },
    /// The header was damaged.
    #[error("header checksum: expected {expected:#010x}, got {got:#010x}")]
    Checksum {
        /// Computed from the header.
        expected: u32,
        /// Found in the tag.
        got: u32,
    },
    /// Written by a program of another version.
    #[error("message version: expected {VERSION}, got {got}")]
    Version {
        /// Version found.
        got: u8,
    },
    /// No such kind, or not one for this direction.
    #[error("message kind {got} is not expected here")]
    Kind {
        /// Code found.
        got: u8,
    },
    /// Unknown bits, or bits that exclude each other or do not belong to this kind.
    #[error("flags {got:#06x} make no sense for message kind {kind}")]
    Flags {
        /// Bits found.
        got: u16,
        /// Kind they came with.
        kind: u8,
    },
    /// The range is backwards or does not hold `key_count` keys.
    #[error("key range {first}..={last} does not fit {key_count} keys")]
    Range {
        /// Smallest key.
        first: Key,
        /// Largest key.
        last: Key,
        /// Keys announced.
        key_count: u32,
    },
    /// More arrays than a frame may carry, or arrays of no type.
    #[error("{parts} value arrays of type {value_type} cannot be (at most {PARTS_MAX}, type 1 or 2)")]
    Parts {
        /// Arrays announced.
        parts: u8,
        /// Type announced.
        value_type: u8,
    },
    /// The length is not what the fields say.
    #[error("a frame with these fields has {expected} bytes, got {got}")]
    Length {
        /// Bytes the fields ask for.
        expected: usize,
        /// Bytes there were.
        got: usize,
    },
    /// A wish that is longer than the frame, or than a wish can be.
    #[error("a wish at the end of this frame has 2 to {max} bytes, got {got}")]
    Wish {
        /// Most bytes there can be.
        max: usize,
        /// Bytes announced.
        got: u16,
    },
    /// A verb that is too long or not UTF-8.
    #[error("a verb is at most {VERB_BYTES_MAX} bytes of UTF-8, got {got} bytes")]
    Verb {
        /// Bytes announced.
        got: u32,
    },
}

/// How a frame names its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyPart<'a> {
    /// The keys themselves, unchecked: copy them, then check the copy.
    List(&'a [Key]),
    /// The signature of a list sent before.
    Signature(u128),
    /// All keys of the header's range.
    Contiguous(KeyRange),
}

/// A decoded frame: a checked copy of the header and the bytes that follow it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The checked copy.
    pub header: Header,
    /// What the frame asks or answers.
    pub kind: Kind,
    /// Bytes of the wish at the end, read once.
    wish_bytes: u16,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks the header of `bytes` (carrier's word included) and that keys or verb lie inside. Values are checked
    /// by [`Frame::values`], because only the table knows their width. Never panics.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Result<Frame<'a>, DecodeError> {
        let raw = bytes.first_chunk::<HEADER_BYTES>().ok_or(DecodeError::Short { got: bytes.len() })?;
        let address = bytes.as_ptr() as usize;
        if !address.is_multiple_of(align_of::<Header>()) {
            return Err(DecodeError::Misaligned { address });
        }
        // One copy, checked from here on; what the peer does to the original no longer matters.
        let header = Header::from_bytes(raw);
        let expected = header.checksum();
        if expected != header.tag {
            return Err(DecodeError::Checksum { expected, got: header.tag });
        }
        if header.version != VERSION {
            return Err(DecodeError::Version { got: header.version });
        }
        let kind = Kind::from_code(header.kind).ok_or(DecodeError::Kind { got: header.kind })?;
        let mut frame = Frame { header, kind, wish_bytes: 0, bytes };
        if frame.has_wish() {
            frame.wish_bytes = frame.count_wish()?;
        }
        frame.check()?;
        Ok(frame)
    }

    fn count_wish(&self) -> Result<u16, DecodeError> {
        let max = (self.bytes.len() - HEADER_BYTES).min(WISH_BYTES_MAX);
        let got = self.bytes.last_chunk().map_or(0, |word| u16::from_le_bytes(*word));
        let fits = (size_of::<u16>()..=max).contains(&usize::from(got));
        if fits { Ok(got) } else { Err(DecodeError::Wish { max, got }) }
    }

    /// The frame without the wish at its end.
    #[inline]
    fn content(&self) -> &'a [u8] {
        &self.bytes[..self.bytes.len() - usize::from(self.wish_bytes)]
    }

    #[inline]
    fn check(&self) -> Result<(), DecodeError> {
        let header = &self.header;
        if self.kind.has_keys() {
            return self.check_keys();
        }
        if header.flags != 0 {
            return Err(DecodeError::Flags { got: header.flags, kind: header.kind });
        }
        match self.kind {
            Kind::Ack | Kind::NeedKeys | Kind::Clock if self.bytes.len() != HEADER_BYTES => {
                Err(DecodeError::Length { expected: HEADER_BYTES, got: self.bytes.len() })
            }
            Kind::Call if header.key_count as usize > VERB_BYTES_MAX => {
                Err(DecodeError::Verb { got: header.key_count })
            }
            Kind::Call if self.bytes.len() < HEADER_BYTES + pad64(header.key_count as usize) => {
                let expected = HEADER_BYTES + pad64(header.key_count as usize);
                Err(DecodeError::Length { expected, got: self.bytes.len() })
            }
            _ => Ok(()),
        }
    }

    fn check_keys(&self) -> Result<(), DecodeError> {
        let header = &self.header;
        let range_error =
            DecodeError::Range { first: header.first, last: header.last, key_count: header.key_count };
        let Some(distance) = header.last.checked_sub(header.first) else { return Err(range_error) };
        if !self.flags_fit() {
            return Err(DecodeError::Flags { got: header.flags, kind: header.kind });
        }
        let contiguous = header.flags & Flags::CONTIGUOUS != 0;
        if contiguous && distance.checked_add(1) != Some(u64::from(header.key_count)) {
            return Err(range_error);
        }
        let arrays = header.parts as usize;
        if arrays > PARTS_MAX || (arrays > 0 && super::value_bytes(header.value_type).is_none()) {
            return Err(DecodeError::Parts { parts: header.parts, value_type: header.value_type });
        }
        let expected = HEADER_BYTES + self.key_bytes();
        let got = self.content().len();
        if got < expected && !self.is_filtered() {
            return Err(DecodeError::Length { expected, got });
        }
        Ok(())
    }

    /// Whether the flags belong to a kind with keys and to each other.
    #[inline]
    fn flags_fit(&self) -> bool {
        use Flags as F;
        let flags = self.header.flags;
        let own = match self.kind {
            Kind::Push => F::LENT | F::FILTERED | F::EARLY | F::KEYS_CACHED | F::CONTIGUOUS,
            Kind::PushPull => F::LENT | F::FILTERED | F::WISH | F::KEYS_CACHED | F::CONTIGUOUS,
            Kind::Pull => F::ALL & !F::LENT,
            Kind::Values => F::EXISTING | F::FILTERED,
            _ => 0,
        };
        let both = |one: u16, other: u16| flags & one != 0 && flags & other != 0;
        flags & !own == 0
            && !both(F::KEYS_CACHED, F::CONTIGUOUS)
            && !both(F::EXISTING, F::KEYS_CACHED | F::CONTIGUOUS | F::SUBSCRIBE)
            && !both(F::LENT, F::FILTERED)
            && (!self.is_lent() || self.header.parts > 0)
            && (!self.is_early() || self.may_be_early())
    }

    /// Whether the body must go through [`crate::filter`] before keys and values can be read.
    #[inline]
    pub fn is_filtered(&self) -> bool {
        self.header.flags & Flags::FILTERED != 0
    }

    /// Whether it says what its answer is to go through.
    #[inline]
    pub fn has_wish(&self) -> bool {
        self.header.flags & Flags::WISH != 0
    }

    /// What the answer is to go through, unchecked.
    pub fn wish(&self) -> Option<&'a [u8]> {
        let wish = self.bytes.get(self.content().len()..).filter(|_| self.has_wish())?;
        wish.get(..wish.len() - size_of::<u16>())
    }

    /// Whether it is about increments of a clock that is not closed.
    #[inline]
    pub fn is_early(&self) -> bool {
        self.header.flags & Flags::EARLY != 0
    }

    fn may_be_early(&self) -> bool {
        let Header { flags, parts, aux, .. } = self.header;
        match self.kind {
            Kind::Push => parts > 0 && aux > 0,
            Kind::Pull => flags & Flags::EXISTING != 0 && !self.is_filtered() && !self.has_wish(),
            _ => false,
        }
    }

    /// Bytes of the key part (once undone, if the frame is filtered).
    #[inline]
    pub(crate) fn key_bytes(&self) -> usize {
        let flags = self.header.flags;
        let existing = flags & Flags::EXISTING != 0;
        // A pull of existing keys cannot name them; its answer must, and no other answer needs to.
        let bare = if self.kind == Kind::Values { !existing } else { existing };
        if bare || flags & Flags::CONTIGUOUS != 0 {
            0
        } else if flags & Flags::KEYS_CACHED != 0 {
            SIGNATURE_BYTES
        } else {
            self.header.key_count as usize * size_of::<Key>()
        }
    }

    /// The header's range (checked: first <= last). Meaningful for kinds with keys.
    #[inline]
    pub fn range(&self) -> KeyRange {
        KeyRange::new(self.header.first, self.header.last).unwrap_or(KeyRange::ALL)
    }

    /// The key part. Call it only on kinds with keys.
    #[inline]
    pub fn keys(&self) -> KeyPart<'a> {
        let part = self.content().get(HEADER_BYTES..HEADER_BYTES + self.key_bytes()).unwrap_or(&[]);
        if self.header.flags & Flags::CONTIGUOUS != 0 {
            return KeyPart::Contiguous(self.range());
        }
        if self.header.flags & Flags::KEYS_CACHED != 0 {
            return KeyPart::Signature(part.try_into().map_or(0, u128::from_le_bytes));
        }
        // Aligned because the frame is and the header has 64 bytes.
        KeyPart::List(bytemuck::try_cast_slice(part).unwrap_or(&[]))
    }

    /// Checks that the frame is exactly as long as `width` values of type `V` per key make it, and returns the bytes from
    /// the first value array to the end.
    #[inline]
    pub fn value_bytes<V: Element>(&self, width: usize) -> Result<&'a [u8], DecodeError> {
        if self.is_lent() || self.is_filtered() {
            return Err(DecodeError::Flags { got: self.header.flags, kind: self.header.kind });
        }
        self.check_type::<V>()?;
        let parts = self.header.parts as usize;
        let (content, array_bytes) = (self.content(), self.array_bytes::<V>(width));
        if parts > 0 && array_bytes > content.len() {
            return Err(DecodeError::Length { expected: array_bytes, got: content.len() });
        }
        let layout = Layout::new(self.key_bytes(), array_bytes, parts);
        if layout.frame_bytes != content.len() {
            return Err(DecodeError::Length { expected: layout.frame_bytes, got: content.len() });
        }
        Ok(content.get(layout.array(0).start..).unwrap_or(&[]))
    }

    /// Whether the values lie in memory the worker lent: then [`Frame::lent_ranges`] says where, and [`Frame::values`]
    /// is an error.
    #[inline]
    pub fn is_lent(&self) -> bool {
        self.header.flags & Flags::LENT != 0
    }

    /// Where the value arrays of a lent frame lie (the first `parts` entries), each exactly as long as `width` values of
    /// type `V` per key make it. Whether the worker lent any such bytes is for the link to say.
    pub fn lent_ranges<V: Element>(&self, width: usize) -> Result<[LentRange; PARTS_MAX], DecodeError> {
        self.check_type::<V>()?;
        let parts = self.header.parts as usize;
        let layout = Layout::new(self.key_bytes(), LentRange::WIRE_BYTES, parts);
        let got = self.content().len();
        if !self.is_lent() || layout.frame_bytes != got {
            return Err(DecodeError::Length { expected: layout.frame_bytes, got });
        }
        let expected = self.array_bytes::<V>(width);
        let mut ranges = [LentRange { slab: 0, offset: 0, bytes: 0 }; PARTS_MAX];
        for (part, range) in ranges.iter_mut().enumerate().take(parts) {
            let wire = self.content().get(layout.array(part)).and_then(<[u8]>::first_chunk);
            // Copied here, and only the copy is believed.
            *range = LentRange::from_bytes(wire.ok_or(DecodeError::Length { expected, got })?);
            if range.bytes != expected as u64 {
                let got = usize::try_from(range.bytes).unwrap_or(usize::MAX);
                return Err(DecodeError::Length { expected, got });
            }
        }
        Ok(ranges)
    }

    #[inline]
    fn check_type<V: Element>(&self) -> Result<(), DecodeError> {
        let (parts, value_type) = (self.header.parts, self.header.value_type);
        if parts > 0 && value_type != V::CODE {
            Err(DecodeError::Parts { parts, value_type })
        } else {
            Ok(())
        }
    }

    #[inline]
    fn array_bytes<V: Element>(&self, width: usize) -> usize {
        (self.header.key_count as usize).saturating_mul(width).saturating_mul(size_of::<V>())
    }

    /// Checks as [`Frame::value_bytes`] does and returns the value arrays (the first `parts` entries; the rest are
    /// empty).
    #[inline]
    pub fn values<V: Element>(&self, width: usize) -> Result<[&'a [V]; PARTS_MAX], DecodeError> {
        let bytes = self.value_bytes::<V>(width)?;
        Ok(Layout::arrays(bytes, self.array_bytes::<V>(width), self.header.parts as usize))
    }

    /// The whole frame, carrier's word included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// What follows the header (but no wish), for Control, Graph, Reply, Refused and frames to be undone.
    pub fn payload(&self) -> &'a [u8] {
        &self.content()[HEADER_BYTES..]
    }

    /// Verb and arguments of a Call.
    pub fn call(&self) -> Result<(&'a str, &'a [u8]), DecodeError> {
        let verb_bytes = self.header.key_count as usize;
        let wrong = DecodeError::Verb { got: self.header.key_count };
        let verb = self.payload().get(..verb_bytes).ok_or(wrong)?;
        let arguments = self.payload().get(pad64(verb_bytes)..).unwrap_or(&[]);
        Ok((std::str::from_utf8(verb).map_err(|_| wrong)?, arguments))
    }
}
