//! Seeded schedules of the cores under faults.

use std::collections::BTreeSet;

use keyrange::sim::{SimChains, SimConfig, run, run_clocked};

#[test]
fn schedules_with_faults_apply_everything_exactly_once() {
    for seed in 0..400 {
        if let Err(violation) = run(&SimConfig::seeded(seed)) {
            panic!("{violation}");
        }
    }
}

#[test]
fn a_seed_always_plays_the_same_schedule() {
    for seed in 0..10 {
        assert_eq!(run(&SimConfig::seeded(seed)), run(&SimConfig::seeded(seed)));
    }
}

#[test]
fn faults_do_happen() {
    let mut total = keyrange::sim::SimReport::default();
    for seed in 0..200 {
        let report = run(&SimConfig::seeded(seed)).unwrap();
        total.resets += report.resets;
        total.crashes += report.crashes;
        total.repeated += report.repeated;
        total.key_misses += report.key_misses;
        total.filtered += report.filtered;
        total.held_back += report.held_back;
        total.restarts += report.restarts;
    }
    assert!(total.resets > 0 && total.crashes > 0 && total.repeated > 0 && total.key_misses > 0, "{total:?}");
    assert!(total.filtered > 1000 && total.held_back > 1000 && total.restarts > 100, "{total:?}");
}

#[test]
fn a_bug_planted_on_purpose_is_found() {
    let found = (0..50).find_map(|seed| {
        let config = SimConfig { planted_bug: true, ..SimConfig::seeded(seed) };
        run(&config).err()
    });
    let violation = found.expect("switching duplicate rejection off must be noticed");
    assert!(violation.text.contains("applied 2 times"), "{violation}");
    let replayed = run(&SimConfig { planted_bug: true, ..SimConfig::seeded(violation.seed) });
    assert_eq!(replayed.unwrap_err(), violation);
}

#[test]
fn filtered_answers_that_come_twice_or_leave_rows_out_mislead_nobody() {
    // In these a pull was answered twice under one number of its stream, or the second time without its filters; or a row
    // that had become zero, or that a filter had dropped, was taken for one that had not moved.
    for seed in [46, 69, 135, 731] {
        if let Err(violation) = run(&SimConfig::seeded(seed)) {
            panic!("{violation}");
        }
    }
}

#[test]
fn a_bound_of_significant_that_is_not_kept_is_found() {
    let found = (0..100).find_map(|seed| {
        let config = SimConfig { planted_bug_bound: true, ..SimConfig::seeded(seed) };
        run(&config).err()
    });
    let violation = found.expect("twice the bound must be noticed");
    assert!(violation.text.contains("significant"), "{violation}");
    assert!(violation.to_string().ends_with("--planted-bound"), "{violation}");
}

#[test]
fn chains_are_drawn_from_the_seed_and_are_many() {
    let chains: Vec<SimChains> = (0..300).map(|seed| SimConfig::seeded(seed).chains).collect();
    let lossy = |chains: &SimChains| [chains.lossy.push.clone(), chains.lossy.pull.clone()].concat();
    let filters: BTreeSet<String> = chains
        .iter()
        .flat_map(lossy)
        .flat_map(|chain| chain.filters)
        .map(|filter| filter.to_string().split(':').next().unwrap_or_default().to_owned())
        .collect();
    let all = [
        "bf16",
        "bloom",
        "f16",
        "fixed",
        "frequency",
        "key-cache",
        "lz4",
        "noise",
        "q2.13",
        "significant",
        "skip",
        "user",
        "zeros",
    ];
    assert_eq!(filters.iter().map(String::as_str).collect::<Vec<_>>(), all);
    let without = chains.iter().filter(|chains| chains.is_empty()).count();
    assert!((60..180).contains(&without), "{without}");
}

#[test]
fn clocked_tables_keep_their_promises_under_faults() {
    let mut total = keyrange::sim::SimReport::default();
    for seed in 0..400 {
        match run_clocked(&SimConfig::seeded(seed)) {
            Err(violation) => panic!("{violation}"),
            Ok(report) => {
                total.reads += report.reads;
                total.crashes += report.crashes;
            }
        }
    }
    assert!(total.reads > 10_000 && total.crashes > 0, "{total:?}");
}

#[test]
fn rows_that_come_late_do_not_replace_what_a_fresher_shard_answered() {
    // Here a pull is answered by shards that are at different clocks, and a row of the freshest comes unasked later, older
    // than what was pulled.
    for seed in [153_948, 624_115] {
        if let Err(violation) = run_clocked(&SimConfig::seeded(seed)) {
            panic!("{violation}");
        }
    }
}

#[test]
fn rows_a_clock_too_old_are_found_by_the_checker() {
    let found = (0..100).find_map(|seed| {
        let config = SimConfig { planted_bug_staleness: true, ..SimConfig::seeded(seed) };
        run_clocked(&config).err()
    });
    let violation = found.expect("a bound that is off by one must be noticed");
    assert!(violation.to_string().contains("staleness"), "{violation}");
    assert!(violation.to_string().contains("--clocked --planted-bug"), "{violation}");
}

#[test]
fn early_parts_applied_twice_are_found_by_the_checker() {
    // Clocks refuse what comes again by themselves. Early parts advance none: without duplicate rejection they count twice.
    let violations: Vec<_> = (0..200)
        .filter_map(|seed| run_clocked(&SimConfig { planted_bug: true, ..SimConfig::seeded(seed) }).err())
        .collect();
    assert!(violations.iter().any(|violation| violation.text.contains("increments of")), "{violations:?}");
    assert!(violations.iter().all(|violation| violation.seed % 3 == 2), "{violations:?}");
}
