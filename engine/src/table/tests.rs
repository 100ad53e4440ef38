//! Tables against a map of rows, under random sequences of operations; and what is refused.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::update::Registry;

fn spec(store: StoreKind, width: u32, function: &str) -> TableSpec {
    TableSpec {
        id: 3,
        name: "weights".to_owned(),
        value_type: ValueType::F64,
        width,
        store,
        function: FunctionSpec::named(function),
        aggregation: Aggregation::Immediate,
    }
}

fn table(store: StoreKind, width: u32, function: &str) -> Table<f64> {
    Table::new(spec(store, width, function), &Registry::with_builtins()).unwrap()
}

const DENSE: StoreKind = StoreKind::Dense { first: 100, last: 399 };

#[derive(Clone, Debug)]
enum Step {
    Push(BTreeSet<u64>),
    PushRange(u64, u64),
    PushAgain(usize),
    Aggregate(Vec<BTreeSet<u64>>),
    Pull(BTreeSet<u64>),
    PullAgain(usize),
    Existing(u64, u64),
    Freeze,
}

/// Mostly keys of a small interval, sometimes those at the ends of the key space.
fn key() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 100u64..400, 1 => 0u64..3, 1 => (u64::MAX - 2)..=u64::MAX]
}

fn keys() -> impl Strategy<Value = BTreeSet<u64>> {
    prop_oneof![
        3 => prop::collection::btree_set(key(), 0..40),
        1 => (100u64..350, 1u64..50).prop_map(|(first, len)| (first..first + len).collect()),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => keys().prop_map(Step::Push),
        2 => (100u64..390, 0u64..10).prop_map(|(first, more)| Step::PushRange(first, first + more)),
        2 => (0usize..8).prop_map(Step::PushAgain),
        3 => prop::collection::vec(keys(), 1..4).prop_map(Step::Aggregate),
        3 => keys().prop_map(Step::Pull),
        2 => (0usize..8).prop_map(Step::PullAgain),
        2 => (key(), key()).prop_map(|(first, last)| Step::Existing(first, last)),
        1 => Just(Step::Freeze),
    ]
}

/// The table under test beside a map from keys to rows.
struct Pair {
    table: Table<f64>,
    map: BTreeMap<u64, Vec<f64>>,
    /// Lists resolved earlier, to be used again.
    cached: Vec<(Vec<u64>, Resolved)>,
    width: usize,
    store: StoreKind,
    frozen: bool,
    ticks: u64,
}

impl Pair {
    fn new(store: StoreKind, width: u32) -> Self {
        let width_values = width as usize;
        let map = match store {
            StoreKind::Dense { first, last } => {
                (first..=last).map(|key| (key, vec![0.0; width_values])).collect()
            }
            _ => BTreeMap::new(),
        };
        let table = table(store, width, "add");
        Self { table, map, cached: Vec::new(), width: width_values, store, frozen: false, ticks: 0 }
    }

    fn fixed(&self) -> bool {
        self.frozen || matches!(self.store, StoreKind::Dense { .. })
    }

    /// Whole numbers, so that sums are exact in any order.
    fn values(&mut self, keys: usize) -> Vec<f64> {
        self.ticks += 1;
        (0..keys * self.width).map(|place| ((self.ticks * 31 + place as u64) % 1000) as f64).collect()
    }

    fn add(&mut self, keys: &[u64], values: &[f64]) {
        for (key, values) in keys.iter().zip(values.chunks(self.width)) {
            let row = self.map.entry(*key).or_insert_with(|| vec![0.0; values.len()]);
            row.iter_mut().zip(values).for_each(|(row, value)| *row += value);
        }
    }

    /// Resolves for a push, or sees that a fixed key set refuses.
    fn resolve(&mut self, keys: &[u64]) -> Option<Resolved> {
        let lacking = keys.iter().find(|key| !self.map.contains_key(key));
        match self.table.resolve(keys, true) {
            Ok(at) => {
                assert!(!self.fixed() || lacking.is_none());
                Some(at)
            }
            Err(TableError::NoSuchKey { key, index, .. }) => {
                assert!(self.fixed() && Some(&key) == lacking && keys[index] == key);
                None
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn push(&mut self, keys: Vec<u64>, at: Resolved) {
        let values = self.values(keys.len());
        self.table.push(&at, &[&values]).unwrap();
        self.add(&keys, &values);
        self.cached.push((keys, at));
    }

    fn pull(&mut self, keys: &[u64], at: &Resolved) {
        let mut out = vec![f64::NAN; keys.len() * self.width];
        self.table.pull(at, &mut out).unwrap();
        let blank = vec![0.0; self.width];
        let expected: Vec<f64> =
            keys.iter().flat_map(|key| self.map.get(key).unwrap_or(&blank)).copied().collect();
        assert_eq!(out, expected);
        assert_eq!(at.missing(), keys.iter().filter(|key| !self.map.contains_key(key)).count());
    }

    fn again(&mut self, which: usize) -> Option<(Vec<u64>, Resolved)> {
        let (keys, at) = self.cached.get(which)?.clone();
        if self.table.is_current(&at) {
            return Some((keys, at));
        }
        let mut out = vec![0.0; keys.len() * self.width];
        assert_eq!(self.table.pull(&at, &mut out), Err(TableError::Stale));
        let values = self.values(keys.len());
        assert_eq!(self.table.push(&at, &[&values]), Err(TableError::Stale));
        let at = self.table.resolve(&keys, false).unwrap();
        Some((keys, at))
    }

    fn aggregate(&mut self, sets: Vec<BTreeSet<u64>>) {
        let lists: Vec<Vec<u64>> = sets.into_iter().map(|set| set.into_iter().collect()).collect();
        let mut taken = Vec::new();
        for keys in &lists {
            if let Some(at) = self.resolve(keys) {
                // Refused lists insert nothing; accepted ones make rows at once.
                self.add(keys, &vec![0.0; keys.len() * self.width]);
                taken.push((keys, at, self.values(keys.len())));
            }
        }
        let parts: Vec<[&[f64]; 1]> = taken.iter().map(|(_, _, values)| [values.as_slice()]).collect();
        let contributions: Vec<_> =
            taken.iter().zip(&parts).map(|((_, at, _), parts)| Contribution { at, parts }).collect();
        self.table.apply_sum(&contributions).unwrap();
        for (keys, _, values) in &taken {
            self.add(keys, values);
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Push(keys) => {
                let keys: Vec<u64> = keys.into_iter().collect();
                if let Some(at) = self.resolve(&keys) {
                    self.push(keys, at);
                }
            }
            Step::PushRange(first, last) => {
                let keys: Vec<u64> = (first..=last).collect();
                if let Ok(at) = self.table.resolve_range(first, last, true) {
                    self.push(keys, at);
                } else {
                    assert!(self.fixed() && keys.iter().any(|key| !self.map.contains_key(key)));
                }
            }
            Step::PushAgain(which) => {
                if let Some((keys, at)) = self.again(which).filter(|(_, at)| at.missing() == 0) {
                    self.push(keys, at);
                }
            }
            Step::Aggregate(sets) => self.aggregate(sets),
            Step::Pull(keys) => {
                let mut keys: Vec<u64> = keys.into_iter().collect();
                if let StoreKind::Dense { first, last } = self.store {
                    keys.retain(|key| (first..=last).contains(key));
                }
                let at = self.table.resolve(&keys, false).unwrap();
                self.pull(&keys, &at);
                self.cached.push((keys, at));
            }
            Step::PullAgain(which) => {
                if let Some((keys, at)) = self.again(which) {
                    self.pull(&keys, &at);
                }
            }
            Step::Existing(first, last) => {
                let (keys, at) = self.table.existing(first, last);
                let expected: Vec<u64> =
                    self.map.keys().copied().filter(|key| (first..=last).contains(key)).collect();
                assert_eq!(keys, expected);
                self.pull(&keys, &at);
                let (some, _) = self.table.existing_up_to(first, last, 5);
                assert_eq!(some, expected[..expected.len().min(5)]);
            }
            Step::Freeze => {
                let may = self.store == StoreKind::Frozen && !self.frozen;
                assert_eq!(self.table.freeze().is_ok(), may);
                self.frozen |= may;
            }
        }
        assert_eq!(self.table.len(), self.map.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_equal_a_map_of_rows(
        store in prop_oneof![Just(DENSE), Just(StoreKind::Sparse), Just(StoreKind::Frozen)],
        width in 1u32..5,
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut pair = Pair::new(store, width);
        for step in steps {
            pair.run(step);
        }
    }
}

#[test]
fn the_order_survives_many_insertions_between_range_operations() {
    let mut table = table(StoreKind::Sparse, 1, "add");
    let mut all = BTreeSet::new();
    for round in 0..40u64 {
        let keys: BTreeSet<u64> = (0..700).map(|key: u64| (key * 7919 + round * 104_729) % 50_000).collect();
        table.resolve(&keys.iter().copied().collect::<Vec<_>>(), true).unwrap();
        all.extend(keys);
        assert!(table.existing(0, u64::MAX).0.iter().eq(&all));
    }
}

#[test]
fn new_keys_get_consecutive_rows_and_frozen_ranges_are_runs() {
    let mut table = table(StoreKind::Frozen, 2, "add");
    let keys: Vec<u64> = (0..1000).map(|key| key * 17).collect();
    for list in [&keys[500..], &keys[..500]] {
        let at = table.resolve(list, true).unwrap();
        assert!(matches!(at.slots(), Slots::Run { len: 500, .. }));
    }
    table.freeze().unwrap();
    let at = table.resolve(&keys[10..700], true).unwrap();
    assert!(matches!(at.slots(), Slots::Run { start: 10, len: 690 }));
    let (found, at) = table.existing(170, 340);
    assert_eq!(found, keys[10..=20]);
    assert!(matches!(at.slots(), Slots::Run { start: 10, len: 11 }));
}

#[test]
fn what_does_not_fit_is_refused_with_expected_and_got() {
    let mut table = table(DENSE, 2, "add");
    assert_eq!(table.resolve(&[101, 101], true).unwrap_err(), TableError::Unsorted { index: 1 });
    assert_eq!(table.resolve(&[100, 102, 101], false).unwrap_err(), TableError::Unsorted { index: 2 });
    assert!(matches!(table.resolve(&[99], false), Err(TableError::NoSuchKey { key: 99, index: 0, .. })));
    assert!(matches!(table.resolve_range(398, 400, false), Err(TableError::NoSuchKey { key: 400, .. })));
    assert!(matches!(table.resolve_range(200, 100, true), Err(TableError::Range { .. })));
    let at = table.resolve(&[100, 200], true).unwrap();
    let short = [1.0; 3];
    let wrong = Err(TableError::Values { part: 0, expected: 4, got: 3 });
    assert_eq!(table.push(&at, &[&short]), wrong);
    assert_eq!(table.pull(&at, &mut [0.0; 3]), wrong);
    let parts = Err(TableError::Parts { function: "add".to_owned(), expected: 1, got: 2 });
    assert_eq!(table.push(&at, &[&[0.0; 4], &[0.0; 4]]), parts);
    assert!(matches!(table.call("shake", b""), Err(CallError::UnknownVerb { .. })));
}

#[test]
fn a_huge_range_of_a_sparse_table_is_refused_instead_of_eating_the_memory() {
    let mut table = table(StoreKind::Sparse, 1, "add");
    assert!(matches!(table.resolve_range(0, u64::MAX, true), Err(TableError::Range { .. })));
    assert_eq!(
        table.resolve_range(7, 7 + RANGE_KEYS_MAX, false).unwrap_err(),
        TableError::Range { first: 7, last: 7 + RANGE_KEYS_MAX, limit: RANGE_KEYS_MAX }
    );
}

#[test]
fn slots_of_another_table_never_reach_beyond_this_one() {
    let mut small = table(StoreKind::Sparse, 1, "add");
    let mut large = table(DENSE, 1, "add");
    let at = large.resolve(&[390], true).unwrap();
    assert_eq!(small.push(&at, &[&[1.0]]), Err(TableError::Stale));
    small.resolve(&[1], true).unwrap();
    assert_eq!(small.pull(&at, &mut [0.0]), Err(TableError::Stale));
}

#[test]
fn senseless_descriptions_are_refused() {
    let registry = Registry::with_builtins();
    let good = spec(DENSE, 1, "add");
    let bad = [
        TableSpec { width: 0, ..good.clone() },
        TableSpec { width: WIDTH_MAX + 1, ..good.clone() },
        TableSpec { name: String::new(), ..good.clone() },
        TableSpec { store: StoreKind::Dense { first: 2, last: 1 }, ..good.clone() },
        TableSpec { store: StoreKind::Dense { first: 0, last: u64::MAX }, ..good.clone() },
        TableSpec { value_type: ValueType::F32, ..good.clone() },
    ];
    for spec in bad {
        assert!(matches!(Table::<f64>::new(spec, &registry), Err(TableError::Spec { table: 3, .. })));
    }
    let unknown = Table::<f64>::new(spec(DENSE, 1, "sgdd"), &registry).err().unwrap();
    assert!(unknown.to_string().contains("adagrad, adam, add"), "{unknown}");
}

#[test]
fn descriptions_travel_as_json() {
    let text = r#"{"id":3,"name":"weights","value_type":"f64","width":1,
        "store":{"dense":{"first":100,"last":399}},"function":{"name":"add"}}"#;
    let parsed: TableSpec = serde_json::from_str(text).unwrap();
    assert_eq!(parsed, spec(DENSE, 1, "add"));
    let again: TableSpec = serde_json::from_str(&serde_json::to_string(&parsed).unwrap()).unwrap();
    assert_eq!(again, parsed);
    assert_eq!(AnyTable::new(parsed, &Registry::default()).unwrap().len(), 300);
}
