//! Where the parts of a frame lie.

/// Bytes of the header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a key list's signature.
pub const SIGNATURE_BYTES: usize = 16;
/// The largest number of value arrays in one frame.
pub const PARTS_MAX: usize = 4;
/// The longest name of a server function's verb.
pub const VERB_BYTES_MAX: usize = 64;
/// The longest wish, the word that says how long it is included.
pub const WISH_BYTES_MAX: usize = 546;

/// `bytes` rounded up to the next multiple of 64.
#[inline]
pub const fn pad64(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

/// Byte positions of a frame with keys and values. The last part is not padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of the key part, which starts at [`HEADER_BYTES`].
    pub key_bytes: usize,
    /// Bytes of one value array.
    pub array_bytes: usize,
    /// Number of value arrays.
    pub parts: usize,
    /// Length of the frame.
    pub frame_bytes: usize,
}

impl Layout {
    /// The layout for these sizes.
    #[inline]
    pub fn new(key_bytes: usize, array_bytes: usize, parts: usize) -> Layout {
        let keys_end = HEADER_BYTES + key_bytes;
        let frame_bytes = if parts == 0 || array_bytes == 0 {
            keys_end
        } else {
            pad64(keys_end) + (parts - 1) * pad64(array_bytes) + array_bytes
        };
        Layout { key_bytes, array_bytes, parts, frame_bytes }
    }

    /// Where value array `part` lies; an empty range at the end if arrays are empty.
    #[inline]
    pub fn array(&self, part: usize) -> std::ops::Range<usize> {
        if self.array_bytes == 0 {
            return self.frame_bytes..self.frame_bytes;
        }
        let start = pad64(HEADER_BYTES + self.key_bytes) + part * pad64(self.array_bytes);
        start..start + self.array_bytes
    }

    /// Splits the value arrays of a frame, given from the first array's start on. Arrays that are not wholly there, or not
    /// aligned, come out empty.
    #[inline]
    pub fn arrays<V: super::Element>(bytes: &[u8], array_bytes: usize, parts: usize) -> [&[V]; PARTS_MAX] {
        let mut arrays: [&[V]; PARTS_MAX] = [&[]; PARTS_MAX];
        for (part, array) in arrays.iter_mut().enumerate().take(parts) {
            let start = part * pad64(array_bytes);
            let array_part = bytes.get(start..start + array_bytes).unwrap_or(&[]);
            *array = bytemuck::try_cast_slice(array_part).unwrap_or(&[]);
        }
        arrays
    }

    /// How many keys fit into a frame of `frame_bytes_max` with `parts` arrays of `row_bytes` per key, keys
    /// included; at least 1, a multiple of 16 where more fit (so that chunks keep vectors whole).
    pub fn keys_max(frame_bytes_max: usize, parts: usize, row_bytes: usize) -> usize {
        let padding = HEADER_BYTES + 64 * (parts + 1);
        let keys = frame_bytes_max.saturating_sub(padding) / (size_of::<u64>() + parts * row_bytes);
        if keys > 16 { keys / 16 * 16 } else { keys.max(1) }
    }
}
