//! Range maps and key lists against naive ones.

use keyrange::key_list::{KeyList, KeyListError};
use keyrange::key_range::{Key, KeyRange, RangeMap, RangeMapError, SHARDS_MAX};
use proptest::prelude::*;

fn keys() -> impl Strategy<Value = Vec<Key>> {
    let key = prop_oneof![any::<Key>(), Just(0), Just(Key::MAX), 0..50u64];
    prop::collection::btree_set(key, 0..200).prop_map(|set| set.into_iter().collect())
}

fn maps() -> impl Strategy<Value = RangeMap> {
    let lasts = prop::collection::btree_set(prop_oneof![any::<Key>(), 0..60u64], 0..40);
    let random = lasts.prop_map(|mut lasts| {
        lasts.insert(Key::MAX);
        RangeMap::new(3, lasts.into_iter().collect()).unwrap()
    });
    let even = (1..=SHARDS_MAX, any::<Key>(), any::<Key>()).prop_map(|(shards, a, b)| {
        let span = KeyRange::new(a.min(b), a.max(b)).unwrap();
        RangeMap::even(1, span, shards).or_else(|_| RangeMap::even(1, KeyRange::ALL, shards)).unwrap()
    });
    prop_oneof![random, even]
}

/// The owner by definition: the first shard whose last key is not below the key.
fn naive_shard(map: &RangeMap, key: Key) -> usize {
    (0..map.shards()).find(|&shard| map.range_of(shard).contains(key)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn ranges_are_disjoint_and_cover_every_key(map in maps()) {
        prop_assert_eq!(map.range_of(0).first(), 0);
        prop_assert_eq!(map.range_of(map.shards() - 1).last(), Key::MAX);
        for shard in 1..map.shards() {
            prop_assert_eq!(map.range_of(shard).first(), map.range_of(shard - 1).last() + 1);
        }
    }

    #[test]
    fn a_key_list_is_sliced_by_owner(map in maps(), keys in keys(), keys_max in 1..40usize) {
        let mut expected = vec![Vec::new(); map.shards()];
        for &key in &keys {
            expected[naive_shard(&map, key)].push(key);
        }
        let mut got = vec![Vec::new(); map.shards()];
        for (shard, slice) in map.slices_of_keys(&keys) {
            got[shard].extend_from_slice(&keys[slice]);
        }
        prop_assert_eq!(&got, &expected);
        let list = KeyList::new(keys.clone()).unwrap();
        let cut = list.cut(&map, keys_max);
        for (shard, expected) in expected.iter().enumerate() {
            let slices = cut.of_shard(shard as u32);
            let joined: Vec<Key> = slices.iter().flat_map(|slice| keys[slice.at.clone()].to_vec()).collect();
            prop_assert_eq!(&joined, expected);
            for slice in slices {
                prop_assert!(!slice.at.is_empty() && slice.at.len() <= keys_max);
                prop_assert_eq!(slice.signature, keyrange_kernels::keys::signature(&keys[slice.at.clone()]));
            }
        }
    }

    #[test]
    fn a_range_is_sliced_by_owner(map in maps(), a in any::<Key>(), b in any::<Key>()) {
        let range = KeyRange::new(a.min(b), a.max(b)).unwrap();
        let slices: Vec<_> = map.slices_of_range(range).collect();
        prop_assert_eq!(slices.iter().map(|(_, slice)| slice.count()).sum::<u128>(), range.count());
        for (shard, slice) in slices {
            prop_assert_eq!(naive_shard(&map, slice.first()), shard);
            prop_assert_eq!(naive_shard(&map, slice.last()), shard);
        }
    }

    #[test]
    fn chunks_are_the_range_in_order(first in any::<Key>(), len in 0..1000u64, keys_max in 1..300u64) {
        let range = KeyRange::new(first, first.saturating_add(len)).unwrap();
        let mut next = u128::from(range.first());
        for chunk in range.chunks(keys_max) {
            prop_assert_eq!(u128::from(chunk.first()), next);
            prop_assert!(chunk.count() <= u128::from(keys_max));
            next = u128::from(chunk.last()) + 1;
        }
        prop_assert_eq!(next, u128::from(range.last()) + 1);
    }

    #[test]
    fn even_shards_differ_by_one_key_at_most(shards in 1..=SHARDS_MAX) {
        let map = RangeMap::even(1, KeyRange::ALL, shards).unwrap();
        let counts = (0..shards).map(|shard| map.range_of(shard).count());
        let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
        prop_assert!(most - least <= 1);
    }
}

#[test]
fn the_topmost_key_has_an_owner_whatever_the_span() {
    let span = KeyRange::new(10, 19).unwrap();
    let map = RangeMap::even(1, span, 5).unwrap();
    assert_eq!(map.shard_of(Key::MAX), 4);
    assert_eq!(map.shard_of(0), 0);
    assert_eq!((10..20).map(|key| map.shard_of(key)).collect::<Vec<_>>(), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
}

#[test]
fn a_map_travels_as_json_and_is_checked_on_arrival() {
    let map = RangeMap::even(7, KeyRange::ALL, 3).unwrap();
    let json = serde_json::to_string(&map).unwrap();
    assert_eq!(serde_json::from_str::<RangeMap>(&json).unwrap(), map);
    assert!(serde_json::from_str::<RangeMap>(r#"{"version":1,"lasts":[5,5,18446744073709551615]}"#).is_err());
    assert!(serde_json::from_str::<RangeMap>(r#"{"version":1,"lasts":[5]}"#).is_err());
    assert!(serde_json::from_str::<KeyRange>("[2,1]").is_err());
}

#[test]
fn impossible_maps_are_refused_with_a_reason() {
    let narrow = KeyRange::new(1, 3).unwrap();
    assert_eq!(RangeMap::even(1, KeyRange::ALL, 0), Err(RangeMapError::ShardCount { got: 0 }));
    assert_eq!(RangeMap::even(1, narrow, 4), Err(RangeMapError::TooNarrow { span: narrow, shards: 4 }));
    let many = SHARDS_MAX + 1;
    assert_eq!(RangeMap::even(1, KeyRange::ALL, many), Err(RangeMapError::ShardCount { got: many }));
}

#[test]
fn an_unsorted_or_repeated_key_is_named() {
    let refused = KeyList::new(vec![1, 5, 5, 9]).unwrap_err();
    assert_eq!(refused, KeyListError { index: 2, key: 5, before: 5 });
    let mut long: Vec<Key> = (0..1000).collect();
    long[700] = 3;
    assert_eq!(KeyList::new(long).unwrap_err(), KeyListError { index: 700, key: 3, before: 699 });
}
