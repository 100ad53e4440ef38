//! What the server's part of the solver does to weights.

use keyrange::table::Table;
use keyrange::update::Registry;
use proptest::prelude::*;

use super::protocol::*;
use super::server::*;

fn table(penalty: &Penalty, keys: &[u64]) -> Table<f64> {
    let mut registry = Registry::empty();
    register(&mut registry);
    let mut table = Table::new(weights_table(penalty), &registry).unwrap();
    let at = table.resolve(keys, true).unwrap();
    let zeros = vec![0.0; keys.len()];
    table.push(&at, &[&zeros, &zeros]).unwrap();
    table.freeze().unwrap();
    table
}

fn begin(table: &mut Table<f64>, begin: Begin) {
    table.call("begin", &serde_json::to_vec(&begin).unwrap()).unwrap();
}

fn end(table: &mut Table<f64>, number: u64) -> PhaseStats {
    serde_json::from_slice(&table.call("end", number.to_string().as_bytes()).unwrap()).unwrap()
}

fn weights(table: &mut Table<f64>, keys: &[u64]) -> Vec<f64> {
    let at = table.resolve(keys, false).unwrap();
    let mut out = vec![0.0; keys.len()];
    table.pull(&at, &mut out).unwrap();
    out
}

/// The proximal operator by its definition, on a fine grid: argmin_y g (y - w) + u/2 (y - w)^2 + l1 |y| + l2/2 y^2.
fn prox_by_search(w: f64, g: f64, u: f64, penalty: &Penalty, radius: f64) -> f64 {
    let value =
        |y: f64| g * (y - w) + 0.5 * u * (y - w) * (y - w) + penalty.l1 * y.abs() + 0.5 * penalty.l2 * y * y;
    let grid = (-40_000..=40_000).map(|i| w + radius * f64::from(i) / 40_000.0);
    grid.chain([0.0].into_iter().filter(|y| (y - w).abs() <= radius))
        .min_by(|a, b| value(*a).total_cmp(&value(*b)))
        .unwrap()
}

const UPDATE: Begin = Begin {
    number: 1,
    phase: Phase::Update,
    kkt_threshold: f64::MAX,
    reset: false,
    damping: 1.0,
    partial: false,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_step_is_the_proximal_operator_within_the_radius(
        w in prop_oneof![Just(0.0), -0.9..0.9f64], g in -5.0..5.0f64, u in 0.5..4.0f64,
        l1 in 0.0..3.0f64, l2 in prop_oneof![Just(0.0), 0.0..1.0f64],
    ) {
        let penalty = Penalty { l1, l2, ..Penalty::default() };
        let mut table = table(&penalty, &[7]);
        begin(&mut table, Begin { phase: Phase::Assign, ..UPDATE });
        let at = table.resolve(&[7], false).unwrap();
        table.push(&at, &[&[w], &[0.0]]).unwrap();
        begin(&mut table, Begin { number: 2, ..UPDATE });
        table.push(&at, &[&[g], &[u]]).unwrap();
        let want = prox_by_search(w, g, u, &penalty, penalty.radius_after(w));
        prop_assert!((weights(&mut table, &[7])[0] - want).abs() < 2e-4);
    }
}

#[test]
fn the_filter_sets_interior_zeros_aside_until_a_reset() {
    let penalty = Penalty { l1: 1.0, ..Penalty::default() };
    let mut table = table(&penalty, &[1, 2, 3]);
    begin(&mut table, Begin { kkt_threshold: 0.2, ..UPDATE });
    let at = table.resolve(&[1, 2, 3], false).unwrap();
    // |g| below l1 - threshold, between that and l1, above l1.
    table.push(&at, &[&[0.7, 0.9, -1.5], &[1.0; 3]]).unwrap();
    let now = weights(&mut table, &[1, 2, 3]);
    assert!(now[0].is_nan());
    assert_eq!(now[1], 0.0);
    assert!((now[2] - 0.5).abs() < 1e-9);
    let stats = end(&mut table, 1);
    assert_eq!((stats.active, stats.nonzeros, stats.features), (2, 1, 3));
    assert!((stats.violation - 0.5).abs() < 1e-12 && (stats.penalty - now[2]).abs() < 1e-12);

    // A gradient that would move it does nothing while it is set aside, and does after the reset.
    table.push(&at, &[&[-3.0, 0.0, 0.0], &[1.0; 3]]).unwrap();
    assert!(weights(&mut table, &[1])[0].is_nan());
    begin(&mut table, Begin { number: 2, reset: true, ..UPDATE });
    assert_eq!(weights(&mut table, &[1]), [0.0]);
    table.push(&at, &[&[-3.0, 0.0, 0.0], &[1.0; 3]]).unwrap();
    assert!(weights(&mut table, &[1])[0] > 0.9);
}

#[test]
fn measuring_changes_nothing_and_ends_alike_for_late_askers() {
    let penalty = Penalty { l1: 1.0, l2: 0.5, ..Penalty::default() };
    let mut table = table(&penalty, &[1, 2]);
    begin(&mut table, Begin { phase: Phase::Measure, ..UPDATE });
    let at = table.resolve(&[1, 2], false).unwrap();
    table.push(&at, &[&[0.5, -1.75], &[0.0; 2]]).unwrap();
    assert_eq!(weights(&mut table, &[1, 2]), [0.0, 0.0]);
    let first = end(&mut table, 1);
    assert_eq!((first.kkt_violation, first.gradient_max, first.excess_squares), (0.75, 1.75, 0.5625));
    assert_eq!(end(&mut table, 1), first);
    assert!(table.call("end", b"9").unwrap_err().to_string().contains("phase 9"));
    assert!(table.call("begin", b"{}").is_err());
}

#[test]
fn impossible_penalties_are_refused() {
    for (l1, l2) in [(-1.0, 0.0), (f64::NAN, 0.0), (1.0, f64::INFINITY)] {
        assert!(BlockProx::new(Penalty { l1, l2, ..Penalty::default() }).is_err());
    }
}

#[test]
fn a_feature_of_which_nothing_arrived_keeps_its_weight_when_filters_leave_rows_out() {
    let penalty = Penalty { l1: 1.0, ..Penalty::default() };
    let mut table = table(&penalty, &[5, 6]);
    begin(&mut table, Begin { phase: Phase::Assign, ..UPDATE });
    let at = table.resolve(&[5, 6], false).unwrap();
    table.push(&at, &[&[2.0, 0.0], &[0.0, 0.0]]).unwrap();
    begin(&mut table, Begin { number: 2, partial: true, kkt_threshold: 0.0, ..UPDATE });
    table.push(&at, &[&[0.0, 0.0], &[0.0, 0.0]]).unwrap();
    assert_eq!(weights(&mut table, &[5, 6]), [2.0, 0.0]);
}
