//! Real data: the true optimum, whatever the number of nodes, the carrier and the delay.

use crate::program::{Place, Report};
use crate::reference::{Optimum, optima};

const SIZES: [(u32, u32); 3] = [(1, 1), (2, 2), (3, 4)];
const CARRIERS: [&str; 3] = ["--carrier shm", "--carrier tcp", "--embedded"];

fn train(optimum: &Optimum, options: &str) -> Report {
    let place = Place::new();
    place
        .keyrange("train sparse-lr -q --report report.json")
        .option("--data", &optimum.train)
        .option("--test", &optimum.test)
        .option("--l1", optimum.l1.to_string())
        .words(options)
        .succeed();
    place.report()
}

fn check_excess(optimum: &Optimum, report: &Report, limit: f64, options: &str) {
    let excess = optimum.excess(report.number("/objective"));
    let set = optimum.train.display();
    assert!(excess < limit, "{set}, l1 {}, {options}: {excess:.1e} above the optimum", optimum.l1);
    assert!(excess > -limit.min(1e-6), "{set}, l1 {}, {options}: {excess:.1e} below the optimum", optimum.l1);
}

/// Default accuracy at every size, carrier and delay; without delay every carrier gives the same bits.
fn check_everywhere(set: &str, l1: &[f64]) {
    for optimum in optima(set, l1) {
        for (servers, workers) in SIZES {
            for delay in [0, 4] {
                let mut digits = Vec::new();
                for carrier in CARRIERS {
                    let options =
                        format!("--servers {servers} --workers {workers} --delay {delay} {carrier}");
                    let report = train(&optimum, &options);
                    check_excess(&optimum, &report, 1e-4, &options);
                    check_figures(&optimum, &report, &options);
                    digits.push(report.objective_digits());
                }
                if delay == 0 {
                    digits.dedup();
                    assert_eq!(
                        digits.len(),
                        1,
                        "{set}, l1 {}, {servers} x {workers}: {digits:?}",
                        optimum.l1
                    );
                }
            }
        }
    }
}

fn check_figures(optimum: &Optimum, report: &Report, options: &str) {
    let Some((auc, logloss)) = optimum.figures else { return };
    for (field, expected) in [("/test/auc", auc), ("/test/logloss", logloss)] {
        let found = report.number(field);
        let set = optimum.train.display();
        assert!((found - expected).abs() < 1e-3, "{set}, {options}: {field} {found}, expected {expected}");
    }
}

#[test]
fn a9a_reaches_its_optima_everywhere() {
    check_everywhere("a9a", &[]);
}

#[test]
fn agaricus_reaches_its_optima_everywhere() {
    check_everywhere("agaricus", &[]);
}

#[test]
fn avazu_reaches_its_optimum_everywhere() {
    check_everywhere("avazu", &[2.9]);
}

const SOME: [&str; 2] =
    ["--servers 2 --workers 2 --carrier shm", "--servers 1 --workers 2 --delay 4 --carrier tcp"];

#[test]
fn imdb_reaches_its_optimum() {
    for optimum in optima("imdb", &[10.0]) {
        for options in SOME {
            let report = train(&optimum, options);
            check_excess(&optimum, &report, 1e-4, options);
            check_figures(&optimum, &report, options);
        }
    }
}

/// Seven features are in every training row of this set, so the optimum leaves open how they share their weight, but
/// not in every test row: only the order of the margins is determined there, not the log-loss.
#[test]
fn ipinyou_reaches_its_optimum() {
    for optimum in optima("ipinyou", &[0.67]) {
        for options in SOME {
            let report = train(&optimum, options);
            check_excess(&optimum, &report, 1e-4, options);
            let (auc, _) = optimum.figures.expect("test figures");
            assert!(
                (report.number("/test/auc") - auc).abs() < 1e-3,
                "{options}: {}",
                report.number("/test/auc")
            );
        }
    }
}

#[test]
fn a_tighter_tolerance_comes_closer() {
    for (set, l1) in [("a9a", &[][..]), ("agaricus", &[]), ("avazu", &[2.9])] {
        for optimum in optima(set, l1) {
            for options in ["--tolerance 1e-6 --delay 0", "--tolerance 1e-6 --delay 4 --servers 1"] {
                check_excess(&optimum, &train(&optimum, options), 1e-6, options);
            }
        }
    }
}
