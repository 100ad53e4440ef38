//! Where a new key goes.

use super::bucket::{BUCKET_KEYS, Bucket};
use super::{Seed, WALK_MAX, home_of};

/// What decides the home of a key.
#[derive(Clone, Copy)]
pub(super) struct Homes {
    pub seed: Seed,
    pub count: usize,
}

impl Homes {
    #[inline(always)]
    pub fn of(self, key: u64) -> usize {
        home_of(self.seed.hash(key), self.count)
    }
}

/// Puts a key that is not there yet into its place, moving others on. Returns false when a key came too far from
/// its home: then one key was put anywhere, and the whole must be rebuilt.
#[inline(always)]
pub(super) fn place(buckets: &mut [Bucket], homes: Homes, home: usize, key: u64, slot: u32) -> bool {
    if !buckets[home].is_full() {
        buckets[home].add(key, slot);
        return true;
    }
    place_beyond(buckets, homes, home, key, slot)
}

/// `place` for a key whose home is full.
#[inline(never)]
fn place_beyond(buckets: &mut [Bucket], homes: Homes, mut home: usize, mut key: u64, mut slot: u32) -> bool {
    let mut at = home;
    while at < home + WALK_MAX {
        if !buckets[at].is_full() {
            buckets[at].add(key, slot);
            extend_reach(&mut buckets[home], at - home);
            return true;
        }
        let (farthest, place) = farthest_home(&buckets[at], homes);
        if farthest > home {
            std::mem::swap(&mut buckets[at].keys[place], &mut key);
            std::mem::swap(&mut buckets[at].slots[place], &mut slot);
            extend_reach(&mut buckets[home], at - home);
            home = farthest;
        }
        at += 1;
    }
    let free = buckets.iter_mut().find(|bucket| !bucket.is_full());
    free.expect("the load is below one").add(key, slot);
    false
}

#[inline(always)]
fn extend_reach(home: &mut Bucket, distance: usize) {
    home.reach = home.reach.max(distance as u8);
}

/// The greatest home among the keys of a full bucket, and that key's place.
#[inline(always)]
fn farthest_home(bucket: &Bucket, homes: Homes) -> (usize, usize) {
    let mut farthest = (0, 0);
    for place in 0..BUCKET_KEYS {
        farthest = farthest.max((homes.of(bucket.keys[place]), place));
    }
    farthest
}
