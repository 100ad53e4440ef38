//! The index against a hash map, on every instruction set of the machine.

use std::collections::HashMap;

use keyrange_kernels::isa;

use super::{HashIndex, NO_SLOT, ROWS_MAX, Seed, WALK_MAX};
use crate::table::TableError;

/// Key sets that are easy, hard, or hard for naive hashes.
fn key_sets(count: u64) -> Vec<(&'static str, Vec<u64>)> {
    let mixed = |key: u64| {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xd6e8_feb8_6659_fd93)
    };
    vec![
        ("consecutive", (0..count).collect()),
        ("top of the range", (0..count).map(|key| u64::MAX - key).collect()),
        ("low bits equal", (0..count).map(|key| key << 40).collect()),
        ("bit patterns", (0..count).map(|key| key | key << 32).collect()),
        ("random", (0..count).map(mixed).collect()),
    ]
}

fn check_against_map(name: &str, keys: &[u64]) {
    let mut index = HashIndex::new();
    let mut map = HashMap::new();
    for batch in keys.chunks(7_001) {
        // Half of each batch again, so that hits and misses mix.
        for keys in [batch, &batch[..batch.len() / 2]] {
            let mut slots = Vec::new();
            index.insert(keys, &mut slots).unwrap();
            for (&key, &slot) in keys.iter().zip(&slots) {
                let next = map.len() as u32;
                assert_eq!(*map.entry(key).or_insert(next), slot, "{name}: key {key}");
            }
        }
    }
    assert_eq!(index.len(), map.len());
    let asked: Vec<u64> = keys.iter().flat_map(|&key| [key, key ^ 1 << 63, key.wrapping_add(1)]).collect();
    let mut found = Vec::new();
    index.find(&asked, &mut found);
    let expected: Vec<u32> = asked.iter().map(|key| map.get(key).copied().unwrap_or(NO_SLOT)).collect();
    assert!(found == expected, "{name}: look-ups differ");
    let mut visited = HashMap::new();
    index.for_each(|key, slot| assert!(visited.insert(key, slot).is_none()));
    assert_eq!(visited, map);
}

#[test]
fn equals_a_hash_map_on_every_path() {
    for isa in isa::available() {
        for (name, keys) in key_sets(20_000) {
            isa::with(isa, || check_against_map(name, &keys));
        }
    }
}

#[test]
fn grows_over_several_blocks_and_walks_stay_short() {
    // 400,000 keys pass several doublings in which more than one block is moved.
    let (name, keys) = key_sets(400_000).pop().unwrap();
    check_against_map(name, &keys);
    let mut index = HashIndex::new();
    // As full as an index gets: one more key would make it grow.
    index.insert(&keys[..(1 << 16) * 4], &mut Vec::new()).unwrap();
    assert_eq!(index.homes, 1 << 16);
    let homes = index.homes();
    let mut longest = 0;
    for (at, bucket) in index.buckets.iter().enumerate() {
        bucket.entries().for_each(|(key, _)| longest = longest.max(at - homes.of(key).at));
    }
    assert!(longest < WALK_MAX, "{longest}");
    assert!(index.homeless.is_empty());
}

#[test]
fn colliding_keys_get_another_seed_instead_of_long_walks() {
    let mut index = HashIndex::new();
    // Under this seed every key hashes to zero.
    index.seed = Seed([0, 1, 0]);
    let keys: Vec<u64> = (0..5_000).collect();
    let mut slots = Vec::new();
    index.insert(&keys, &mut slots).unwrap();
    assert_eq!(slots, (0..5_000).collect::<Vec<u32>>());
    assert!(index.seed.hash(1) != index.seed.hash(2), "the seed was replaced");
    let mut found = Vec::new();
    index.find(&keys, &mut found);
    assert_eq!(found, slots);
    assert!(index.bytes() < 5_000 * 64, "it did not answer by growing");
}

#[test]
fn a_key_repeated_in_one_batch_has_one_slot() {
    let mut slots = Vec::new();
    HashIndex::new().insert(&[5, 5, 7, 5, 7], &mut slots).unwrap();
    assert_eq!(slots, [0, 0, 1, 0, 1]);
}

#[test]
fn more_keys_than_slots_are_refused_before_anything_happens() {
    let mut index = HashIndex::new();
    let result = index.make_room(ROWS_MAX as usize + 1);
    assert_eq!(result, Err(TableError::Full { rows: 0, limit: ROWS_MAX }));
    assert!(index.is_empty());
}
