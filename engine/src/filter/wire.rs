//! The body of a filtered frame: written here, undone in `undo.rs`. The byte table is in the module's documentation.

use super::code::Coded;
use super::pack::Sampler;
use super::spec::FilterSpecError;
use super::undo::FilterError;

/// Bytes of the descriptor.
pub(super) const DESCRIPTOR_BYTES: usize = 16;
/// Bytes of the wish before its text.
const WISH_BYTES: usize = 32;
/// Longest text of a chain that travels.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// Bytes that a filtered frame may have more than a plain one, its bitmap not counted.
pub(crate) const FILTER_BYTES_MAX: usize = 1024;

const _: () = assert!(DESCRIPTOR_BYTES + WISH_BYTES + TEXT_BYTES_MAX + 4 * 64 <= FILTER_BYTES_MAX);

/// How large a plain frame may be so that it fits when filtered: one bit a row, of at least four bytes, is a 32nd.
pub(crate) fn plain_bytes_max(frame_bytes_max: usize) -> usize {
    frame_bytes_max.saturating_sub(FILTER_BYTES_MAX + frame_bytes_max / 32)
}

pub(super) const BITMAP: u8 = 1;
pub(super) const PACKED: u8 = 2;
pub(super) const DELTA: u8 = 4;
pub(super) const WISH: u8 = 8;
pub(super) const PARTIAL: u8 = 16;

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
    pub chain: String,
}

/// The first bytes of the body, checked.
pub(super) struct Descriptor {
    pub code: u8,
    pub flags: u8,
    pub wish_bytes: usize,
    pub rows: u32,
    pub plain_bytes: u32,
    pub number: u32,
}

/// A body ready to be sent: what lies in front, then keys and codes (or the block they became).
pub(crate) struct Parcel {
    front: Vec<u8>,
    packed: Option<Vec<u8>>,
    coded: Coded,
}

impl Parcel {
    /// Descriptor and wish around `coded`, keys and codes packed if a sampler is given and it pays
    /// (with whether it was asked already).
    pub fn new(
        coded: Coded,
        keys: &[u8],
        wish: Option<&Wish>,
        sampler: Option<(&mut Sampler, bool)>,
    ) -> Parcel {
        let packed = sampler.and_then(|(sampler, is_sampled)| pack(&coded, keys, sampler, is_sampled));
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let flags = flag(coded.has_bitmap, BITMAP)
            | flag(packed.is_some(), PACKED)
            | flag(coded.is_delta, DELTA)
            | flag(wish.is_some(), WISH)
            | flag(coded.is_partial, PARTIAL);
        let wish_bytes = wish.map_or(0, |wish| WISH_BYTES + wish.chain.len());
        let plain_bytes = (keys.len() + coded.body.len()) as u32;
        let mut front = Vec::with_capacity(DESCRIPTOR_BYTES + wish_bytes);
        front.extend_from_slice(&[coded.code as u8, flags]);
        front.extend_from_slice(&(wish_bytes as u16).to_le_bytes());
        for word in [coded.rows, plain_bytes, coded.number] {
            front.extend_from_slice(&word.to_le_bytes());
        }
        if let Some(wish) = wish {
            wish.write(&mut front);
        }
        Parcel { front, packed, coded }
    }

    /// Bytes behind the header; `keys` as given to [`Parcel::new`].
    pub fn bytes(&self, keys: &[u8]) -> usize {
        self.front.len() + self.rest_bytes(keys)
    }

    /// Bytes behind descriptor and wish.
    pub fn rest_bytes(&self, keys: &[u8]) -> usize {
        self.packed.as_ref().map_or(keys.len() + self.coded.body.len(), Vec::len)
    }

    /// Writes everything behind the header.
    pub fn write(&self, keys: &[u8], into: &mut [u8]) {
        let (front, rest) = into.split_at_mut(self.front.len());
        front.copy_from_slice(&self.front);
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
    let mut packed = Vec::new();
    let paid = if keys.is_empty() {
        sampler.pack(&coded.body, &mut packed)
    } else {
        sampler.pack(&[keys, &coded.body].concat(), &mut packed)
    };
    paid.then_some(packed)
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.first_chunk().copied()
}

impl Wish {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.seed.to_le_bytes());
        into.extend_from_slice(&self.stream.to_le_bytes());
        into.extend_from_slice(&self.number.to_le_bytes());
        into.extend_from_slice(&u32::from(self.whole).to_le_bytes());
        into.extend_from_slice(self.chain.as_bytes());
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Wish, FilterError> {
        let got = bytes.len();
        let wrong =
            || FilterError::Length { what: "the chain wanted for the answer", expected: WISH_BYTES, got };
        if got > WISH_BYTES + TEXT_BYTES_MAX {
            return Err(wrong());
        }
        let text = std::str::from_utf8(bytes.get(WISH_BYTES..).ok_or_else(wrong)?);
        let chain = text.map_err(|_| {
            let got = "bytes that are not UTF-8".to_owned();
            FilterError::Chain(FilterSpecError::Unknown { got, expected: "a chain of filters" })
        })?;
        Ok(Wish {
            seed: u64::from_le_bytes(word(bytes, 0).ok_or_else(wrong)?),
            stream: u128::from_le_bytes(word(bytes, 8).ok_or_else(wrong)?),
            number: u32::from_le_bytes(word(bytes, 24).ok_or_else(wrong)?),
            whole: word::<4>(bytes, 28) != Some([0; 4]),
            chain: chain.to_owned(),
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
            wish_bytes: usize::from(u16::from_le_bytes([bytes[2], bytes[3]])),
            rows: number(4),
            plain_bytes: number(8),
            number: number(12),
        })
    }
}
