//! A byte queue on a mirrored map: whatever is free and whatever is filled is always one slice.

use std::slice;

use crate::region::{MirroredMap, RegionError};

/// Bytes `start..end` of a stream, kept in private mirrored memory. Positions count from the stream's begin.
#[derive(Debug)]
pub(super) struct StreamBuffer {
    map: MirroredMap,
    /// The stream position that lies at the map's first byte (or a whole number of maps later).
    origin: u64,
    start: u64,
    end: u64,
}

impl StreamBuffer {
    pub fn new(bytes: usize) -> Result<Self, RegionError> {
        Ok(StreamBuffer { map: MirroredMap::new(bytes)?, origin: 0, start: 0, end: 0 })
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    pub fn end(&self) -> u64 {
        self.end
    }

    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Free bytes.
    pub fn room(&self) -> usize {
        self.map.bytes() - self.len()
    }

    /// The first `len` free bytes, contents unspecified. Panics if there are fewer.
    pub fn spare(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= self.room(), "{len} bytes of {} free ones", self.room());
        let offset = self.offset(self.end);
        // SAFETY: offset < map.bytes() and len <= map.bytes(), so the range lies in the two views mapped
        // (2 * map.bytes()); the memory is initialised (born zeroed) and private: the map's descriptor is never handed out, so only
        // this value reaches it, here through `&mut self`. Not longer than one view, the slice names no byte twice.
        unsafe { slice::from_raw_parts_mut(self.map.as_ptr().add(offset), len) }
    }

    /// Declares the first `len` free bytes filled.
    pub fn advance(&mut self, len: usize) {
        assert!(len <= self.room(), "{len} bytes of {} free ones", self.room());
        self.end += len as u64;
    }

    /// `len` filled bytes from `position`. Panics if they are not all here.
    pub fn bytes(&self, position: u64, len: usize) -> &[u8] {
        let end = position.checked_add(len as u64);
        let held = position >= self.start && end.is_some_and(|end| end <= self.end);
        assert!(held, "bytes {position}+{len} are not held ({}..{} are)", self.start, self.end);
        // SAFETY: as in `spare`: offset < map.bytes(), and len <= end - start <= map.bytes(), so the range is mapped;
        // the memory is initialised and private; `&self` keeps `spare` from handing it out meanwhile.
        unsafe { slice::from_raw_parts(self.map.as_ptr().add(self.offset(position)), len) }
    }

    /// All filled bytes.
    pub fn filled(&self) -> &[u8] {
        self.bytes(self.start, self.len())
    }

    /// Gives back everything before `position`.
    pub fn consume_to(&mut self, position: u64) {
        assert!(
            (self.start..=self.end).contains(&position),
            "{position} is not in {}..={}",
            self.start,
            self.end
        );
        self.start = position;
    }

    /// Lets an empty buffer pass over `len` bytes that went another way.
    pub fn skip(&mut self, len: usize) {
        assert!(self.is_empty());
        self.start += len as u64;
        self.end = self.start;
    }

    /// Starts an empty buffer at the map's first byte again, so that light traffic stays in the near caches.
    /// The position must be aligned as frames are.
    pub fn rewind(&mut self) {
        if self.is_empty() && self.end.is_multiple_of(crate::link::FRAME_ALIGN as u64) {
            self.origin = self.end;
        }
    }

    fn offset(&self, position: u64) -> usize {
        (position - self.origin) as usize & (self.map.bytes() - 1)
    }
}
