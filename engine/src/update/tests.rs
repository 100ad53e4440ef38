//! The built-in functions against their formulas, one value at a time.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::table::{Aggregation, Contribution, FunctionSpec, StoreKind, Table, TableError, TableSpec, Value};

fn table<V: Value>(store: StoreKind, name: &str, params: serde_json::Value) -> Result<Table<V>, TableError> {
    let spec = TableSpec {
        id: 0,
        name: "test".to_owned(),
        value_type: V::TYPE,
        width: 1,
        store,
        function: FunctionSpec { name: name.to_owned(), params },
        aggregation: Aggregation::AllWorkers,
    };
    Table::new(spec, &Registry::with_builtins())
}

/// One value's parameter and state, and the naive step on it.
#[derive(Clone, Copy, Default)]
struct Cell {
    w: f64,
    a: f64,
    b: f64,
    steps: i32,
}

type Naive = fn(Cell, &[f64]) -> Cell;

fn shrink(x: f64, threshold: f64) -> f64 {
    x.signum() * (x.abs() - threshold).max(0.0)
}

/// Each function with parameters, its initial value, and its formula for given parts.
fn cases() -> Vec<(&'static str, serde_json::Value, f64, Naive)> {
    vec![
        ("assign", json!(null), 0.0, |_, p| Cell { w: p[0], ..Cell::default() }),
        ("add", json!({}), 0.0, |c, p| Cell { w: c.w + p[0], ..c }),
        ("max", json!(null), f64::NEG_INFINITY, |c, p| Cell { w: c.w.max(p[0]), ..c }),
        ("min", json!(null), f64::INFINITY, |c, p| Cell { w: c.w.min(p[0]), ..c }),
        ("sgd", json!({"rate": 0.5}), 0.0, |c, p| Cell { w: c.w - 0.5 * p[0], ..c }),
        ("sgd", json!({"rate": 0.5, "momentum": 0.9, "decay": 0.01}), 0.0, |c, p| {
            let a = 0.9 * c.a + p[0] + 0.01 * c.w;
            Cell { w: c.w - 0.5 * a, a, ..c }
        }),
        ("adagrad", json!({"rate": 0.1}), 0.0, |c, p| {
            let a = c.a + p[0] * p[0];
            Cell { w: c.w - 0.1 * p[0] / (a.sqrt() + 1e-10), a, ..c }
        }),
        ("adam", json!(null), 0.0, |c, p| {
            let (a, b, steps) = (0.9 * c.a + 0.1 * p[0], 0.999 * c.b + 0.001 * p[0] * p[0], c.steps + 1);
            let (mean, square) = (a / (1.0 - 0.9f64.powi(steps)), b / (1.0 - 0.999f64.powi(steps)));
            Cell { w: c.w - 0.001 * mean / (square.sqrt() + 1e-8), a, b, steps }
        }),
        ("ftrl", json!({"alpha": 0.5, "l1": 0.3, "l2": 0.1}), 0.0, |c, p| {
            let b = c.b + p[0] * p[0];
            let a = c.a + p[0] - (b.sqrt() - c.b.sqrt()) / 0.5 * c.w;
            Cell { w: -shrink(a, 0.3) / ((1.0 + b.sqrt()) / 0.5 + 0.1), a, b, ..c }
        }),
        ("prox_l1", json!({"eta": 0.9, "lambda": 0.2}), 0.0, |c, p| {
            let step = if p[1] > 0.0 { 0.9 / p[1] } else { 0.0 };
            Cell { w: shrink(c.w - step * p[0], step * 0.2), ..c }
        }),
        ("elastic_net", json!({"rate": 0.5, "l1": 0.2, "l2": 0.4}), 0.0, |c, p| Cell {
            w: shrink(c.w - 0.5 * p[0], 0.1) / 1.2,
            ..c
        }),
    ]
}

/// What each of three workers pushes in each of four rounds: for key k and part p a number, or nothing.
type Rounds = Vec<Vec<Vec<Option<i8>>>>;

const KEYS: usize = 24;

fn rounds() -> impl Strategy<Value = Rounds> {
    let some = prop::collection::vec(prop::option::weighted(0.6, any::<i8>()), KEYS);
    let all = prop::collection::vec(any::<i8>().prop_map(Some), KEYS);
    let worker = prop_oneof![some, all];
    prop::collection::vec(prop::collection::vec(worker, 3), 4)
}

/// Gradients of either sign, curvatures of zero or more.
fn value(part: usize, number: i8) -> f64 {
    let value = f64::from(number) / 16.0;
    if part == 0 { value } else { value.abs() }
}

fn run_naive(initial: f64, parts: usize, each: bool, naive: Naive, rounds: &Rounds) -> Vec<f64> {
    let mut cells = vec![Cell { w: initial, ..Cell::default() }; KEYS];
    for workers in rounds {
        for (key, cell) in cells.iter_mut().enumerate() {
            let numbers: Vec<i8> = workers.iter().filter_map(|worker| worker[key]).collect();
            let of = |number: &i8| (0..parts).map(|part| value(part, *number)).collect::<Vec<_>>();
            if each {
                numbers.iter().for_each(|number| *cell = naive(*cell, &of(number)));
            } else if !numbers.is_empty() {
                let sums: Vec<f64> =
                    (0..parts).map(|part| numbers.iter().map(|n| value(part, *n)).sum()).collect();
                *cell = naive(*cell, &sums);
            }
        }
    }
    cells.iter().map(|cell| cell.w).collect()
}

fn run_table<V: Value>(table: &mut Table<V>, rounds: &Rounds) -> Vec<f64> {
    let parts = table.push_parts();
    for workers in rounds {
        let mut pushes = Vec::new();
        for worker in workers {
            let pushed: Vec<(u64, i8)> = worker
                .iter()
                .enumerate()
                .filter_map(|(key, number)| Some((key as u64 * 3, (*number)?)))
                .collect();
            let keys: Vec<u64> = pushed.iter().map(|(key, _)| *key).collect();
            let arrays: Vec<Vec<V>> = (0..parts)
                .map(|part| pushed.iter().map(|(_, number)| V::from_f64(value(part, *number))).collect())
                .collect();
            pushes.push((table.resolve(&keys, true).unwrap(), arrays));
        }
        let arrays: Vec<Vec<&[V]>> =
            pushes.iter().map(|(_, arrays)| arrays.iter().map(Vec::as_slice).collect()).collect();
        let contributions: Vec<_> =
            pushes.iter().zip(&arrays).map(|((at, _), parts)| Contribution { at, parts }).collect();
        table.apply_sum(&contributions).unwrap();
    }
    let keys: Vec<u64> = (0..KEYS as u64).map(|key| key * 3).collect();
    let at = table.resolve(&keys, false).unwrap();
    let mut out = vec![V::ZERO; KEYS];
    table.pull(&at, &mut out).unwrap();
    out.into_iter().map(|value| value.to_f64()).collect()
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    a == b || (a - b).abs() <= tolerance * (1.0 + a.abs().max(b.abs()))
}

const DENSE: StoreKind = StoreKind::Dense { first: 0, last: KEYS as u64 * 3 };

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn aggregated_updates_equal_the_formulas(rounds in rounds()) {
        for (name, params, initial, naive) in cases() {
            let each = ["assign", "max", "min"].contains(&name);
            let parts = if name == "prox_l1" { 2 } else { 1 };
            let expected = run_naive(initial, parts, each, naive, &rounds);
            for store in [StoreKind::Sparse, StoreKind::Frozen, DENSE] {
                let got = run_table(&mut table::<f64>(store, name, params.clone()).unwrap(), &rounds);
                for (key, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    prop_assert!(close(*got, *expected, 1e-12), "{name} key {key}: {got}, expected {expected}");
                }
                let got = run_table(&mut table::<f32>(store, name, params.clone()).unwrap(), &rounds);
                for (key, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    prop_assert!(close(*got, *expected, 1e-3), "{name} (f32) key {key}: {got}, expected {expected}");
                }
            }
        }
    }
}

/// A function without a fused form, otherwise `adagrad`.
struct Unfused(AdaGradFn);

impl ServerFn<f32> for Unfused {
    fn name(&self) -> &str {
        "unfused"
    }
    fn state_columns(&self) -> usize {
        1
    }
    fn update(&mut self, rows: &mut Rows<'_, f32>, parts: &[&[f32]]) -> Result<(), UpdateError> {
        self.0.update(rows, parts)
    }
}

#[test]
fn fused_and_unfused_updates_and_any_shape_of_rows_give_the_same_bits() {
    let count = 3000u64;
    let number = |key: u64, worker: u64| ((key * 37 + worker * 101) % 997) as f32 / 7.0 - 60.0;
    let values: Vec<Vec<f32>> =
        (0..3).map(|worker| (0..count).map(|key| number(key, worker)).collect()).collect();
    let mut results = Vec::new();
    for (fused, scattered) in [(true, false), (false, false), (true, true), (false, true)] {
        let spec = table::<f32>(StoreKind::Sparse, "adagrad", json!(null)).unwrap().spec().clone();
        let function = AdaGradFn::new(AdaGradParams::default()).unwrap();
        let function: BoxedFn<f32> = if fused { Box::new(function) } else { Box::new(Unfused(function)) };
        let mut table = Table::with_function(spec, function).unwrap();
        if scattered {
            // Odd keys first: then the rows of all keys are no run.
            table.resolve(&(0..count).filter(|key| key % 2 == 1).collect::<Vec<_>>(), true).unwrap();
        }
        let at = table.resolve(&(0..count).collect::<Vec<_>>(), true).unwrap();
        let arrays: Vec<[&[f32]; 1]> = values.iter().map(|values| [values.as_slice()]).collect();
        let contributions: Vec<_> = arrays.iter().map(|parts| Contribution { at: &at, parts }).collect();
        table.apply_sum(&contributions).unwrap();
        let mut out = vec![0.0; count as usize];
        table.pull(&at, &mut out).unwrap();
        results.push(out.into_iter().map(f32::to_bits).collect::<Vec<_>>());
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn parameters_outside_their_limits_are_refused_by_name() {
    let refused = |name: &str, params| table::<f32>(DENSE, name, params).err().unwrap().to_string();
    assert_eq!(
        refused("ftrl", json!({"alpha": 0})),
        "server function \"ftrl\": alpha: expected a finite number above 0, got 0"
    );
    assert!(
        refused("sgd", json!({"momentum": 1.0})).contains("momentum: expected a number from 0 to below 1")
    );
    assert!(refused("adam", json!({"betta1": 0.9})).contains("unknown field `betta1`"));
    assert!(refused("add", json!({"rate": 1})).contains("unknown field `rate`"));
    assert!(refused("prox_l1", json!({"lambda": -1})).contains("lambda: expected"));
    assert!(refused("sgd", json!("fast")).contains("expected struct SgdParams"));
}

/// A user's function: two parts, state, a verb, one registration for both types.
struct Count;

impl<V: Value> ServerFn<V> for Count {
    fn name(&self) -> &str {
        "count"
    }
    fn push_parts(&self) -> usize {
        2
    }
    fn state_columns(&self) -> usize {
        1
    }
    fn initial(&self, column: usize) -> V {
        if column == 1 { V::ONE } else { V::ZERO }
    }
    fn update(&mut self, rows: &mut Rows<'_, V>, parts: &[&[V]]) -> Result<(), UpdateError> {
        rows.apply(|[sum, count]| {
            for place in 0..sum.len() {
                sum[place] += parts[0][place] - parts[1][place];
                count[place] += V::ONE;
            }
        });
        Ok(())
    }
    fn call(
        &mut self,
        verb: &str,
        _args: &[u8],
        view: &mut CallView<'_, V>,
    ) -> Result<Vec<u8>, crate::table::CallError> {
        assert_eq!(verb, "counts");
        let (keys, at) = view.existing(0, 10);
        let mut counts = vec![V::ZERO; keys.len()];
        view.rows(&at)?.gather(1, &mut counts);
        Ok(format!("{keys:?} {counts:?}").into_bytes())
    }
}

#[test]
fn a_function_of_the_user_has_columns_parts_and_verbs() {
    let mut registry = Registry::empty();
    registry.register("count", |_: NoParams| Ok(Count));
    let spec = table::<f32>(StoreKind::Sparse, "add", json!(null)).unwrap().spec().clone();
    let spec = TableSpec { function: FunctionSpec::named("count"), ..spec };
    let mut table = Table::<f32>::new(spec, &registry).unwrap();
    for keys in [&[5, 9][..], &[2, 5, 40]] {
        let at = table.resolve(keys, true).unwrap();
        let (a, b) = (vec![3.0; keys.len()], vec![1.0; keys.len()]);
        table.push(&at, &[&a, &b]).unwrap();
    }
    let at = table.resolve(&[2, 3, 5], false).unwrap();
    let mut out = [0.0; 3];
    table.pull(&at, &mut out).unwrap();
    assert_eq!(out, [2.0, 0.0, 4.0]);
    assert_eq!(table.call("counts", b"").unwrap(), b"[2, 5, 9] [2.0, 3.0, 2.0]");
}
