//! One WRITE gathered from several places of this side's memory.

use super::ffi;

/// The most pieces of one request, where the device grants so many.
pub(super) const PIECES_MAX: usize = 8;
/// A record with anything lent in it needs so many: what is before, the lent bytes, what is behind.
pub(super) const PIECES_MIN: usize = 3;

/// The pieces of one record's body, in order. Whatever is not lent lies in the staged ring at the record's own place.
#[derive(Debug)]
pub(super) struct Pieces {
    pieces: [ffi::Sge; PIECES_MAX],
    count: usize,
    max: usize,
    /// Where the next byte would lie in the staged ring, and its key.
    staged: u64,
    staged_key: u32,
    last_is_staged: bool,
}

impl Pieces {
    /// For a body that is staged from address `staged` on, in at most `max` pieces.
    pub(super) fn new(staged: u64, staged_key: u32, max: usize) -> Self {
        let pieces = [ffi::Sge::default(); PIECES_MAX];
        Self { pieces, count: 0, max: max.clamp(1, PIECES_MAX), staged, staged_key, last_is_staged: false }
    }

    /// True if there is a place for lent bytes, and one more for staged ones behind them.
    pub(super) fn has_room(&self) -> bool {
        self.count + 2 <= self.max
    }

    /// The next `bytes` lie at `address`. Ask [`Pieces::has_room`] first.
    ///
    /// # Safety
    /// They are registered under `key` with the queue pair's domain, and stay mapped and registered as long as that lives.
    pub(super) unsafe fn push_lent(&mut self, address: u64, bytes: usize, key: u32) {
        debug_assert!(self.has_room());
        self.pieces[self.count] = ffi::Sge { addr: address, length: bytes as u32, lkey: key };
        (self.count, self.last_is_staged) = (self.count + 1, false);
        self.staged += bytes as u64;
    }

    /// The next `bytes` are staged.
    pub(super) fn push_staged(&mut self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        if self.last_is_staged {
            self.pieces[self.count - 1].length += bytes as u32;
        } else {
            self.pieces[self.count] =
                ffi::Sge { addr: self.staged, length: bytes as u32, lkey: self.staged_key };
            (self.count, self.last_is_staged) = (self.count + 1, true);
        }
        self.staged += bytes as u64;
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [ffi::Sge] {
        &mut self.pieces[..self.count]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_pieces_are_the_bytes_in_order(
            parts in prop::collection::vec((any::<bool>(), 0usize..5000), 0..12), max in PIECES_MIN..=PIECES_MAX,
        ) {
            // Addresses tell where a byte comes from: staged ones count from a million on.
            let mut pieces = Pieces::new(1_000_000, 1, max);
            let (mut expected, mut at) = (Vec::new(), 0);
            for (part, (lent, bytes)) in parts.into_iter().enumerate() {
                let lent = lent && bytes > 0 && pieces.has_room();
                let base = if lent { 10_000_000 * (part as u64 + 1) } else { 1_000_000 + at };
                match lent {
                    // SAFETY: nothing is ever sent.
                    true => unsafe { pieces.push_lent(base, bytes, 2) },
                    false => pieces.push_staged(bytes),
                }
                expected.extend((0..bytes as u64).map(|i| base + i));
                at += bytes as u64;
            }
            // There is always room for the end.
            pieces.push_staged(72);
            expected.extend((0..72).map(|i| 1_000_000 + at + i));
            let pieces = pieces.as_mut_slice();
            prop_assert!(pieces.len() <= max);
            let bytes = |piece: &ffi::Sge| (0..u64::from(piece.length)).map(|i| piece.addr + i).collect::<Vec<_>>();
            prop_assert_eq!(pieces.iter().flat_map(bytes).collect::<Vec<_>>(), expected);
            prop_assert!(pieces.iter().all(|piece| (piece.lkey == 1) == (piece.addr < 10_000_000)));
        }
    }
}
