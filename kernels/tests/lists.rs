//! Key lists, slots and scattered rows against sets, maps and plain loops, on every path.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Seeded, bits};
use keyrange_kernels::isa;
use keyrange_kernels::keys::{self, NO_SLOT};
use keyrange_kernels::slots::{Run, SlotList, as_single_run, runs};
use keyrange_kernels::sparse;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn naive_intersect(a: &[u64], b: &[u64]) -> Vec<(u32, u32)> {
    let places: BTreeMap<u64, u32> = b.iter().zip(0..).map(|(&k, j)| (k, j)).collect();
    a.iter().zip(0..).filter_map(|(k, i)| places.get(k).map(|&j| (i, j))).collect()
}

fn check_pair(a: &[u64], b: &[u64]) {
    let expected = naive_intersect(a, b);
    for path in isa::available() {
        let (mut pairs, mut slots) = (vec![(9, 9)], vec![5]);
        let missing = isa::with(path, || {
            keys::intersect(a, b, &mut pairs);
            keys::positions(a, b, &mut slots)
        });
        assert_eq!(pairs[0], (9, 9), "pairs are appended");
        assert_eq!(pairs[1..], expected, "intersect on {path}");
        assert_eq!(missing, a.len() - expected.len());
        assert_eq!(slots.len(), a.len());
        let found = slots.iter().zip(0..).filter(|&(&s, _)| s != NO_SLOT).map(|(&s, i)| (i, s));
        assert_eq!(found.collect::<Vec<(u32, u32)>>(), expected, "positions on {path}");
    }
}

fn sorted(keys: &BTreeSet<u64>) -> Vec<u64> {
    keys.iter().copied().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn intersections_equal_those_of_sets(
        a in btree_set(0u64..300, 0..120),
        b in btree_set(0u64..300, 0..120),
        far in btree_set(any::<u64>(), 0..40),
    ) {
        let (a, b, far) = (sorted(&a), sorted(&b), sorted(&far));
        check_pair(&a, &b);
        check_pair(&a, &a);
        check_pair(&far, &b);
        let mixed: BTreeSet<u64> = a.iter().chain(&far).copied().collect();
        check_pair(&sorted(&mixed), &far);
        check_pair(&far, &sorted(&mixed));
    }

    #[test]
    fn order_and_bounds_equal_naive_ones(mut list in vec(0u64..200, 0..200), key in 0u64..200) {
        let naive = (1..list.len()).find(|&i| list[i - 1] >= list[i]);
        for path in isa::available() {
            prop_assert_eq!(isa::with(path, || keys::first_unsorted(&list)), naive);
        }
        list.sort_unstable();
        prop_assert_eq!(keys::lower_bound(&list, key), list.iter().filter(|&&k| k < key).count());
        list.dedup();
        prop_assert!(keys::is_sorted_unique(&list));
    }

    #[test]
    fn runs_spell_the_list(slots in vec(0u32..12, 0..40)) {
        let found = runs(&slots);
        let spelt: Vec<u32> = found.iter().flat_map(|r| r.start..r.start + r.len).collect();
        prop_assert_eq!(&spelt, &slots);
        prop_assert!(found.windows(2).all(|r| r[0].start + r[0].len != r[1].start));
        let single = if found.len() == 1 { Some(found[0]) } else { None };
        prop_assert_eq!(as_single_run(&slots), single);
    }
}

#[test]
fn a_short_list_is_found_in_a_long_one_at_every_distance() {
    let mut seeded = Seeded(1);
    for (short, gap) in [(1, 3), (7, 40), (100, 64), (100, 300), (30, 5000)] {
        let long = seeded.keys(20_000, 7);
        let mut picked: BTreeSet<u64> = seeded.keys(short, gap * 4).into_iter().collect();
        picked.extend([long[0], long[long.len() - 1], u64::MAX]);
        picked.extend((0..short).map(|_| long[seeded.below(long.len())]));
        check_pair(&sorted(&picked), &long);
        check_pair(&long, &sorted(&picked));
    }
}

#[test]
fn disorder_is_found_at_every_place() {
    let sorted: Vec<u64> = (0..300).map(|k| k * 2).collect();
    for path in isa::available() {
        for at in 1..sorted.len() {
            let mut list = sorted.clone();
            list[at] = list[at - 1];
            assert_eq!(isa::with(path, || keys::first_unsorted(&list)), Some(at));
        }
    }
}

/// Not only a prefix: a signature that ignored later keys once mixed up two key lists.
#[test]
fn the_signature_covers_the_whole_list() {
    let list: Vec<u64> = (0..1000).map(|k| k * 3).collect();
    let whole = keys::signature(&list);
    assert_eq!(whole, keys::signature(&list.clone()));
    assert_eq!(
        keys::signature(&[]),
        0x99aa_06d3_0147_98d8_6001_c324_468d_497f,
        "xxh3-128 of nothing, seed 0"
    );
    for at in [0, 255, 256, 257, 999] {
        let mut other = list.clone();
        other[at] ^= 1 << 40;
        assert_ne!(whole, keys::signature(&other), "key {at} changed");
    }
    assert_ne!(whole, keys::signature(&list[..999]));
}

#[test]
fn scattered_rows_equal_plain_loops() {
    for path in isa::available() {
        for (rows, width, n) in [(50, 1, 0), (50, 1, 37), (40, 3, 25), (300_000, 1, 5000), (90_000, 4, 3000)]
        {
            let mut seeded = Seeded(n as u64);
            let list: Vec<u32> = (0..n).map(|_| seeded.below(rows) as u32).collect();
            let slots = SlotList::new(list.clone());
            let (table, values) = (seeded.numbers::<f32>(rows * width), seeded.numbers::<f32>(n * width));
            let (mut sum, mut set, mut out) = (table.clone(), table.clone(), vec![0.0; n * width]);
            isa::with(path, || {
                sparse::scatter_add(&mut sum, &slots, width, &values);
                sparse::scatter_assign(&mut set, &slots, width, &values);
                sparse::gather(&mut out, &table, &slots, width);
            });
            let (mut sum2, mut set2, mut sum3, mut set3) =
                (table.clone(), table.clone(), table.clone(), table.clone());
            let mut out3 = vec![0.0; n * width];
            for (k, &slot) in list.iter().enumerate() {
                for c in 0..width {
                    let (t, v) = (slot as usize * width + c, k * width + c);
                    sum2[t] += values[v];
                    set2[t] = values[v];
                    assert_eq!(bits(&[out[v]]), bits(&[table[t]]));
                }
            }
            isa::with(path, || {
                sparse::add_runs(&mut sum3, &runs(&list), width, &values);
                sparse::assign_runs(&mut set3, &runs(&list), width, &values);
                sparse::gather_runs(&mut out3, &table, &runs(&list), width);
            });
            assert_eq!([bits(&sum), bits(&set)], [bits(&sum2), bits(&set2)], "{rows} x {width} on {path}");
            assert_eq!([bits(&sum3), bits(&set3), bits(&out3)], [bits(&sum2), bits(&set2), bits(&out)]);
        }
    }
}

#[test]
#[should_panic(expected = "slot 10 is beyond the table's 10 rows")]
fn a_slot_beyond_the_table_is_refused() {
    sparse::scatter_add(&mut [0.0f32; 20], &SlotList::new(vec![3, 10]), 2, &[1.0; 4]);
}

#[test]
#[should_panic(expected = "values must be slots x width long")]
fn values_of_another_length_are_refused() {
    sparse::gather(&mut [0.0f64; 3], &[0.0; 20], &SlotList::new(vec![3, 4]), 2);
}

#[test]
fn the_last_slots_of_the_number_range_are_handled() {
    let list = [u32::MAX - 1, u32::MAX];
    assert_eq!(as_single_run(&list), Some(Run { start: u32::MAX - 1, len: 2 }));
    assert_eq!(runs(&list).len(), 1);
    assert_eq!(SlotList::new(list.to_vec()).end(), 1 << 32);
    assert_eq!(as_single_run(&[]), None);
}

#[test]
fn names_of_instruction_sets_are_checked() {
    use keyrange_kernels::isa::{Isa, IsaError};
    for path in isa::available() {
        assert_eq!(path.to_string().parse(), Ok(path));
        assert_eq!(isa::with(path, isa::current), path);
    }
    assert_eq!("sse9".parse::<Isa>(), Err(IsaError::Unknown("sse9".into())));
}
