//! One cache line of the index.

use bytemuck::Zeroable;

/// Keys of one bucket.
pub(crate) const BUCKET_KEYS: usize = 5;

/// Five keys with their slots. The first `count` places are in use.
#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub keys: [u64; BUCKET_KEYS],
    pub slots: [u32; BUCKET_KEYS],
    pub count: u8,
    /// How many buckets beyond this one a key whose home is here may lie.
    pub reach: u8,
    padding: [u8; 2],
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// The places in use, as a bit mask.
    #[inline(always)]
    pub fn occupied(&self) -> u32 {
        (1 << self.count) - 1
    }

    /// Adds a key; the caller has seen that there is room.
    #[inline(always)]
    pub fn add(&mut self, key: u64, slot: u32) {
        let place = usize::from(self.count);
        self.keys[place] = key;
        self.slots[place] = slot;
        self.count += 1;
    }

    #[inline(always)]
    pub fn is_full(&self) -> bool {
        usize::from(self.count) >= BUCKET_KEYS
    }

    pub fn entries(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        self.keys.iter().copied().zip(self.slots).take(usize::from(self.count))
    }
}
