//! LZ4 blocks, where they pay.
//!
//! Whether bytes shrink is asked of a sample first: four pieces of 1 KiB. After a refusal the next messages are not even
//! sampled, twice as many each time, so that data which never shrinks costs one sample in 64 messages.

use lz4_flex::block::{CompressTable, compress_into_with_table, get_maximum_output_size};

/// Smaller bodies go as they are: clearing the table alone takes as long as a 10 Gb/s link needs for this many bytes.
const PACKED_BYTES_MIN: usize = 128;
/// Bodies from here on are sampled before all of them is tried.
const SAMPLED_BYTES_MIN: usize = 16 << 10;
const SAMPLE_BYTES: usize = 1 << 10;
const SAMPLES: usize = 4;
/// Messages that go unsampled after many refusals.
const UNSAMPLED_MAX: u32 = 64;

/// Whether it is worth while to try; one per chain and direction.
#[derive(Default)]
pub(crate) struct Sampler {
    refusals: u32,
    unsampled: u32,
    packer: Packer,
}

/// What blocks are made with, used again and again.
#[derive(Default)]
struct Packer {
    table: Option<CompressTable>,
    block: Vec<u8>,
    /// Pieces put together.
    plain: Vec<u8>,
}

impl Packer {
    /// The LZ4 block of the pieces one after the other.
    fn pack(&mut self, pieces: &[&[u8]]) -> &[u8] {
        let plain = match pieces {
            [plain] => plain,
            pieces => {
                self.plain.clear();
                pieces.iter().for_each(|piece| self.plain.extend_from_slice(piece));
                self.plain.as_slice()
            }
        };
        let room = get_maximum_output_size(plain.len());
        if self.block.len() < room {
            self.block.resize(room, 0);
        }
        let table = self.table.get_or_insert_default();
        // There is room for any block.
        let bytes = compress_into_with_table(plain, &mut self.block, table).unwrap_or(room);
        &self.block[..bytes]
    }
}

/// A block must save an eighth, or undoing it is not worth it.
fn pays(packed: usize, plain: usize) -> bool {
    packed < plain - plain / 8
}

impl Sampler {
    /// Whether `plain` is worth a try, judged by a sample of it: asked before anything is copied.
    pub fn is_promising(&mut self, plain: &[u8]) -> bool {
        if plain.len() < PACKED_BYTES_MIN {
            return false;
        }
        if self.unsampled > 0 {
            self.unsampled -= 1;
            return false;
        }
        let promising = self.shrinks(plain);
        if !promising {
            self.refuse();
        }
        promising
    }

    /// The LZ4 block of the pieces one after the other, of which the longest [`Sampler::is_promising`]; `None` if it does
    /// not pay.
    pub fn pack(&mut self, pieces: &[&[u8]]) -> Option<Vec<u8>> {
        let packed = self.packer.pack(pieces);
        if !pays(packed.len(), pieces.iter().map(|piece| piece.len()).sum()) {
            self.refuse();
            return None;
        }
        self.refusals = 0;
        Some(packed.to_vec())
    }

    fn refuse(&mut self) {
        self.refusals = (self.refusals + 1).min(UNSAMPLED_MAX.ilog2());
        self.unsampled = (1 << self.refusals) - 1;
    }

    /// Whether a sample of `plain` shrinks; short bodies are not worth a sample.
    fn shrinks(&mut self, plain: &[u8]) -> bool {
        if plain.len() < SAMPLED_BYTES_MIN {
            return true;
        }
        let stride = (plain.len() - SAMPLE_BYTES) / (SAMPLES - 1);
        let packed = |at: usize| self.packer.pack(&[&plain[at * stride..][..SAMPLE_BYTES]]).len();
        let total: usize = (0..SAMPLES).map(packed).sum();
        pays(total, SAMPLES * SAMPLE_BYTES)
    }
}

/// Undoes a block into exactly `plain`.
///
/// # Errors
/// What is wrong with the block, in words.
pub(crate) fn unpack(packed: &[u8], plain: &mut [u8]) -> Result<(), String> {
    let expected = plain.len();
    match lz4_flex::block::decompress_into(packed, plain) {
        Ok(got) if got == expected => Ok(()),
        Ok(got) => Err(format!("lz4: expected {expected} bytes, the block holds {got}")),
        Err(error) => Err(format!("lz4: expected a block of {expected} bytes: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a17_blocks_come_back_and_random_bytes_are_soon_left_alone() {
        let mut sampler = Sampler::default();
        let mut random = vec![0u8; 100_000];
        let mut state = 1u64;
        random.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (state >> 56) as u8;
        });
        assert!((0..1000).all(|_| !sampler.is_promising(&random)));
        assert_eq!((sampler.refusals, UNSAMPLED_MAX), (6, 64));
        let text: Vec<u8> = (0..100_000u32).map(|at| (at / 100 % 7) as u8).collect();
        let at = (0..=UNSAMPLED_MAX).position(|_| sampler.is_promising(&text));
        assert!(at.is_some());
        let packed = sampler.pack(&[&text[..10], &text[10..]]).expect("it pays");
        assert!(packed.len() < 10_000, "{}", packed.len());
        let mut plain = vec![0; text.len()];
        unpack(&packed, &mut plain).unwrap();
        assert_eq!(plain, text);
        assert!(unpack(&packed, &mut plain[1..]).is_err());
        assert!(unpack(&packed[..50], &mut plain).is_err());
        assert!(unpack(&random[..500], &mut plain).is_err());
    }
}
