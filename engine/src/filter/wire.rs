//! The body of a filtered frame, and the wish of a request: written here, the body undone in `undo.rs`. The byte tables are in
//! the module's documentation.

use super::code::Coded;
use super::spec::FilterSpecError;
use super::undo::FilterError;
use crate::message::{HEADER_BYTES, Header, WISH_BYTES_MAX, compose_header};
use crate::session::{Outbox, OutboxError, PeerId};

use keyrange_transport::link::WORD_BYTES;

/// Bytes of the descriptor.
pub(super) const DESCRIPTOR_BYTES: usize = 16;
/// Bytes of the wish beside its text and the word that says how long it is.
const WISH_BYTES: usize = 32;
/// Longest text of a chain that travels.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// Bytes that a filtered frame may have more than a plain one, its bitmap not counted.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;

const _: () = assert!(WISH_BYTES + TEXT_BYTES_MAX + size_of::<u16>() == WISH_BYTES_MAX);
const _: () = assert!(DESCRIPTOR_BYTES + WISH_BYTES_MAX + 4 * 64 <= FILTER_BYTES_MAX);

/// How large a plain frame may be so that it fits when filtered: one bit a row, of at least four bytes, is a 32nd.
pub(crate) fn plain_bytes_max(frame_bytes_max: usize) -> usize {
    frame_bytes_max.saturating_sub(FILTER_BYTES_MAX + frame_bytes_max / 32)
}

pub(super) const BITMAP: u8 = 1;
pub(super) const PACKED: u8 = 2;
pub(super) const DELTA: u8 = 4;
pub(super) const PARTIAL: u8 = 8;

/// What a request asks of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What is random in the answer follows from this and the request.
    pub seed: u64,
    /// What names the keys, for `significant`.
    pub stream: u128,
    /// Number of this pull within its stream; 0 if there is none.
    pub number: u32,
    /// Whether the answer must bring everything.
    pub whole: bool,
}

/// The first bytes of the body, checked.
pub(super) struct Descriptor {
    pub code: u8,
    pub flags: u8,
    pub rows: u32,
    pub plain_bytes: u32,
    pub number: u32,
}

/// A body ready to be sent: the descriptor, then keys and codes, or the block they became.
pub(crate) struct Parcel {
    descriptor: [u8; DESCRIPTOR_BYTES],
    body: ParcelBody,
}

enum ParcelBody {
    Coded(Coded),
    /// With the codes, unless values went into the block as they are.
    Packed(Vec<u8>, Option<Coded>),
}

impl Parcel {
    /// The descriptor before `coded`.
    pub fn coded(coded: Coded, keys: &[u8]) -> Parcel {
        Parcel {
            descriptor: describe(&coded, keys.len() + coded.body.len(), 0),
            body: ParcelBody::Coded(coded),
        }
    }

    /// The descriptor before the block that keys and codes became.
    pub fn packed(block: Vec<u8>, coded: Coded, keys: &[u8]) -> Parcel {
        let descriptor = describe(&coded, keys.len() + coded.body.len(), PACKED);
        Parcel { descriptor, body: ParcelBody::Packed(block, Some(coded)) }
    }

    /// The descriptor before the block that `plain_bytes` of keys and `rows` rows of values, as they are, became.
    pub fn packed_plain(block: Vec<u8>, rows: usize, plain_bytes: usize) -> Parcel {
        let descriptor = describe(&Coded::plain(rows), plain_bytes, PACKED);
        Parcel { descriptor, body: ParcelBody::Packed(block, None) }
    }

    /// Bytes behind the header; `keys` as given when it was made.
    pub fn bytes(&self, keys: &[u8]) -> usize {
        let rest = match &self.body {
            ParcelBody::Coded(coded) => keys.len() + coded.body.len(),
            ParcelBody::Packed(block, _) => block.len(),
        };
        DESCRIPTOR_BYTES + rest
    }

    /// Writes everything behind the header.
    pub fn write(&self, keys: &[u8], into: &mut [u8]) {
        let (descriptor, rest) = into.split_at_mut(DESCRIPTOR_BYTES);
        descriptor.copy_from_slice(&self.descriptor);
        match &self.body {
            ParcelBody::Packed(block, _) => rest.copy_from_slice(block),
            ParcelBody::Coded(coded) => {
                let (first, second) = rest.split_at_mut(keys.len());
                first.copy_from_slice(keys);
                second.copy_from_slice(&coded.body);
            }
        }
    }

    /// Sends it behind `header`, and `wish` behind it. Says how many bytes went.
    pub fn send(
        &self,
        out: &mut dyn Outbox,
        peer: PeerId,
        header: &Header,
        keys: &[u8],
        wish: &[u8],
    ) -> Result<usize, OutboxError> {
        let parcel_bytes = self.bytes(keys);
        let frame_bytes = HEADER_BYTES + parcel_bytes + wish.len();
        out.send(peer, frame_bytes, &mut |frame| {
            let (body, tail) = frame[HEADER_BYTES - WORD_BYTES..].split_at_mut(parcel_bytes);
            self.write(keys, body);
            tail.copy_from_slice(wish);
            compose_header(frame, header)
        })?;
        Ok(frame_bytes)
    }

    /// Gives what filters made of the values, to be sent again; nothing if they were left as they are.
    pub fn into_coded(self) -> Option<Coded> {
        match self.body {
            ParcelBody::Coded(coded) => Some(coded),
            ParcelBody::Packed(_, coded) => coded,
        }
    }
}

fn describe(coded: &Coded, plain_bytes: usize, packed: u8) -> [u8; DESCRIPTOR_BYTES] {
    let flag = |on: bool, bit: u8| if on { bit } else { 0 };
    let flags = flag(coded.has_bitmap, BITMAP)
        | flag(coded.is_delta, DELTA)
        | flag(coded.is_partial, PARTIAL)
        | packed;
    let mut descriptor = [0; DESCRIPTOR_BYTES];
    descriptor[..2].copy_from_slice(&[coded.code as u8, flags]);
    let words = [coded.rows, plain_bytes as u32, coded.number];
    for (place, word) in descriptor[4..].chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    descriptor
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.first_chunk().copied()
}

impl Wish {
    /// As it stands at the end of a frame, with the chain.
    pub fn to_bytes(self, chain: &str) -> Vec<u8> {
        let bytes = WISH_BYTES + chain.len() + size_of::<u16>();
        let mut into = Vec::with_capacity(bytes);
        into.extend_from_slice(&self.seed.to_le_bytes());
        into.extend_from_slice(&self.stream.to_le_bytes());
        into.extend_from_slice(&self.number.to_le_bytes());
        into.extend_from_slice(&u32::from(self.whole).to_le_bytes());
        into.extend_from_slice(chain.as_bytes());
        into.extend_from_slice(&(bytes as u16).to_le_bytes());
        into
    }

    /// Reads what [`Frame::wish`](crate::message::Frame::wish) gives: the wish, and the chain for [`chain_text`].
    ///
    /// # Errors
    /// Too short or too long.
    pub fn read(bytes: &[u8]) -> Result<(Wish, &[u8]), FilterError> {
        let got = bytes.len();
        let wrong =
            || FilterError::Length { what: "the chain wanted for the answer", expected: WISH_BYTES, got };
        if got > WISH_BYTES + TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let chain = bytes.get(WISH_BYTES..).ok_or_else(wrong)?;
        let wish = Wish {
            seed: u64::from_le_bytes(word(bytes, 0).ok_or_else(wrong)?),
            stream: u128::from_le_bytes(word(bytes, 8).ok_or_else(wrong)?),
            number: u32::from_le_bytes(word(bytes, 24).ok_or_else(wrong)?),
            whole: word::<4>(bytes, 28) != Some([0; 4]),
        };
        Ok((wish, chain))
    }
}

/// The chain of a wish.
///
/// # Errors
/// It is no text.
pub(crate) fn chain_text(bytes: &[u8]) -> Result<String, FilterError> {
    // A copy first: a peer on shared memory could change the original behind the check.
    String::from_utf8(bytes.to_vec()).map_err(|_| {
        let got = "bytes that are not UTF-8".to_owned();
        FilterError::Chain(FilterSpecError::Unknown { got, expected: "a chain of filters" })
    })
}

impl Descriptor {
    pub fn read(body: &[u8]) -> Result<Descriptor, FilterError> {
        let got = body.len();
        let bytes: [u8; DESCRIPTOR_BYTES] = word(body, 0).ok_or(FilterError::Length {
            what: "the descriptor",
            expected: DESCRIPTOR_BYTES,
            got,
        })?;
        let number = |at| word(&bytes, at).map_or(0, u32::from_le_bytes);
        Ok(Descriptor {
            code: bytes[0],
            flags: bytes[1],
            rows: number(4),
            plain_bytes: number(8),
            number: number(12),
        })
    }
}
