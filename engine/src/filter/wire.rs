//! The body of a filtered frame, and the wish of a request: written here, the body undone in `undo.rs`. The byte tables are in
//! the module's documentation.

use std::sync::Arc;

use super::code::Coded;
use super::pack::Sampler;
use super::spec::FilterSpecError;
use super::undo::FilterError;
use crate::message::WISH_BYTES_MAX;

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wish {
    /// What is random in the answer follows from this and the request.
    pub seed: u64,
    /// What names the keys, for `significant`.
    pub stream: u128,
    /// Number of this pull within its stream; 0 if there is none.
    pub number: u32,
    /// Whether the answer must bring everything.
    pub whole: bool,
    /// The chain.
    pub chain: Arc<str>,
}

/// The first bytes of the body, checked.
pub(super) struct Descriptor {
    pub code: u8,
    pub flags: u8,
    pub rows: u32,
    pub plain_bytes: u32,
    pub number: u32,
}

/// A body ready to be sent: the descriptor, then keys and codes (or the block they became).
pub(crate) struct Parcel {
    descriptor: [u8; DESCRIPTOR_BYTES],
    packed: Option<Vec<u8>>,
    coded: Coded,
}

impl Parcel {
    /// The descriptor before `coded`, keys and codes packed if a sampler is given and it pays (with whether it was asked
    /// already).
    pub fn new(coded: Coded, keys: &[u8], sampler: Option<(&mut Sampler, bool)>) -> Parcel {
        let packed = sampler.and_then(|(sampler, is_sampled)| pack(&coded, keys, sampler, is_sampled));
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(coded.has_bitmap, BITMAP)
            | flag(packed.is_some(), PACKED)
            | flag(coded.is_delta, DELTA)
            | flag(coded.is_partial, PARTIAL);
        let plain_bytes = (keys.len() + coded.body.len()) as u32;
        let mut descriptor = [0; DESCRIPTOR_BYTES];
        descriptor[..2].copy_from_slice(&[coded.code as u8, flags]);
        for (place, word) in descriptor[4..].chunks_exact_mut(4).zip([coded.rows, plain_bytes, coded.number])
        {
            place.copy_from_slice(&word.to_le_bytes());
        }
        Parcel { descriptor, packed, coded }
    }

    /// Bytes behind the header; `keys` as given to [`Parcel::new`].
    pub fn bytes(&self, keys: &[u8]) -> usize {
        DESCRIPTOR_BYTES + self.rest_bytes(keys)
    }

    /// Bytes behind the descriptor.
    pub fn rest_bytes(&self, keys: &[u8]) -> usize {
        self.packed.as_ref().map_or(keys.len() + self.coded.body.len(), Vec::len)
    }

    /// Writes everything behind the header.
    pub fn write(&self, keys: &[u8], into: &mut [u8]) {
        let (descriptor, rest) = into.split_at_mut(DESCRIPTOR_BYTES);
        descriptor.copy_from_slice(&self.descriptor);
        match &self.packed {
            Some(packed) => rest.copy_from_slice(packed),
            None => {
                let (first, second) = rest.split_at_mut(keys.len());
                first.copy_from_slice(keys);
                second.copy_from_slice(&self.coded.body);
            }
        }
    }

    /// Gives the values back, to be sent again.
    pub fn into_coded(self) -> Coded {
        self.coded
    }
}

fn pack(coded: &Coded, keys: &[u8], sampler: &mut Sampler, is_sampled: bool) -> Option<Vec<u8>> {
    let longer = if keys.len() > coded.body.len() { keys } else { &coded.body };
    if !is_sampled && !sampler.is_promising(longer) {
        return None;
    }
    if keys.is_empty() { sampler.pack(&coded.body) } else { sampler.pack(&[keys, &coded.body].concat()) }
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.first_chunk().copied()
}

impl Wish {
    /// As it stands at the end of a frame.
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = WISH_BYTES + self.chain.len() + size_of::<u16>();
        let mut into = Vec::with_capacity(bytes);
        into.extend_from_slice(&self.seed.to_le_bytes());
        into.extend_from_slice(&self.stream.to_le_bytes());
        into.extend_from_slice(&self.number.to_le_bytes());
        into.extend_from_slice(&u32::from(self.whole).to_le_bytes());
        into.extend_from_slice(self.chain.as_bytes());
        into.extend_from_slice(&(bytes as u16).to_le_bytes());
        into
    }

    /// Reads what [`Frame::wish`](crate::message::Frame::wish) gives.
    ///
    /// # Errors
    /// Too short, too long, or a chain that is no text.
    pub fn read(bytes: &[u8]) -> Result<Wish, FilterError> {
        let got = bytes.len();
        let wrong =
            || FilterError::Length { what: "the chain wanted for the answer", expected: WISH_BYTES, got };
        if got > WISH_BYTES + TEXT_BYTES_MAX {
            return Err(wrong());
        }
        // A copy first: a peer on shared memory could change the original behind the check.
        let text = String::from_utf8(bytes.get(WISH_BYTES..).ok_or_else(wrong)?.to_vec());
        let chain = text.map_err(|_| {
            let got = "bytes that are not UTF-8".to_owned();
            FilterError::Chain(FilterSpecError::Unknown { got, expected: "a chain of filters" })
        })?;
        Ok(Wish {
            seed: u64::from_le_bytes(word(bytes, 0).ok_or_else(wrong)?),
            stream: u128::from_le_bytes(word(bytes, 8).ok_or_else(wrong)?),
            number: u32::from_le_bytes(word(bytes, 24).ok_or_else(wrong)?),
            whole: word::<4>(bytes, 28) != Some([0; 4]),
            chain: chain.into(),
        })
    }
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
