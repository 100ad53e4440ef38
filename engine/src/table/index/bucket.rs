//! One cache line of the index.

use bytemuck::Zeroable;

use super::WALK_MAX;

/// Keys of one bucket.
pub(super) const BUCKET_KEYS: usize = 5;

/// Five keys with their slots. The first `count` places are in use.
#[derive(Clone, Copy, Zeroable)]
#[repr(C, align(64))]
pub(super) struct Bucket {
    pub keys: [u64; BUCKET_KEYS],
    pub slots: [u32; BUCKET_KEYS],
    count: u16,
    /// The marks of the keys that found no room here although their home is here.
    passed: u16,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    /// Whether a key whose home is here, and which is not, may lie in a bucket after this one.
    #[inline(always)]
    pub fn may_have_passed(&self, mark: u16) -> bool {
        self.passed & mark != 0
    }

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

/// Where a key belongs.
#[derive(Clone, Copy, Default)]
pub(super) struct Home {
    /// The bucket to begin with.
    pub at: usize,
    /// One of 16 bits, by which a full bucket remembers who went on.
    pub mark: u16,
}

/// Puts a key that is not there yet into the first bucket with room, from its home on. Returns false when there is
/// none within [`WALK_MAX`]: then nothing has changed.
#[inline(always)]
pub(super) fn place(buckets: &mut [Bucket], home: Home, key: u64, slot: u32) -> bool {
    if !buckets[home.at].is_full() {
        buckets[home.at].add(key, slot);
        return true;
    }
    place_beyond(buckets, home, key, slot)
}

/// `place` for a key whose home is full.
#[inline(never)]
fn place_beyond(buckets: &mut [Bucket], home: Home, key: u64, slot: u32) -> bool {
    let walk = &mut buckets[home.at..home.at + WALK_MAX];
    let Some(distance) = walk.iter().position(|bucket| !bucket.is_full()) else { return false };
    walk[distance].add(key, slot);
    walk[0].passed |= home.mark;
    true
}
