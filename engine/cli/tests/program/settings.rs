//! Options, configuration, made-up data, reports and models keep their word.

use std::fs;

use serde_json::Value;

use crate::program::{Place, Report};

const SMALL: &str =
    "train sparse-lr -q --embedded --generate --generate-rows 2000 --l1 4 --report report.json";

fn objective(place: &Place, words: &str) -> f64 {
    place.keyrange(words).succeed();
    place.report().number("/objective")
}

fn assert_near(found: f64, expected: f64, relative: f64) {
    assert!((found / expected - 1.0).abs() < relative, "{found}, expected {expected}");
}

#[test]
fn the_report_has_its_fields() {
    let place = Place::new();
    place
        .keyrange("train sparse-lr -q --generate --generate-rows 2000 --servers 3 --report report.json")
        .succeed();
    let report = place.report();
    for field in ["objective", "l1", "kkt_violation", "seconds", "test/auc", "test/logloss", "test/accuracy"]
    {
        assert!(report.number(&format!("/{field}")).is_finite(), "{field}");
    }
    let value = report.value();
    for field in
        ["nonzeros", "passes", "examples", "features", "data_nonzeros", "bytes_pushed", "bytes_pulled"]
    {
        assert!(value[field].as_u64().is_some_and(|count| count > 0), "{field}: {}", value[field]);
    }
    assert_eq!((&value["servers"], &value["workers"]), (&Value::from(3), &Value::from(2)));
    assert_eq!((&value["carrier"], &value["examples"]), (&Value::from("shm"), &Value::from(2000)));
    check_history(&report);
}

fn check_history(report: &Report) {
    let value = report.value();
    let history = value["history"].as_array().expect("a history");
    assert_eq!(Some(history.len() as u64), value["passes"].as_u64());
    let mut seconds = 0.0;
    for pass in history {
        assert!(pass["objective"].as_f64().is_some_and(f64::is_finite), "{pass}");
        assert!(pass["nonzeros"].is_u64(), "{pass}");
        let now = pass["seconds"].as_f64().expect("seconds");
        assert!(now >= seconds, "{pass}");
        seconds = now;
    }
    assert!(report.number("/seconds") >= seconds);
}

#[test]
fn a_saved_model_evaluates_to_the_reported_figures() {
    let place = Place::new();
    place.keyrange("gen sparse-lr -o train.libsvm --rows 3000").succeed();
    place.keyrange("gen sparse-lr -o test.libsvm.zst --rows 1000 --first-row 3000").succeed();
    let files = "--data train.libsvm --test test.libsvm.zst --model model";
    place.keyrange(&format!("train sparse-lr -q --l1 4 --report report.json {files}")).succeed();
    let report = place.report();
    for model in ["model", "model/weights.bin", "model/weights.tsv"] {
        let eval = place
            .keyrange(&format!("eval sparse-lr --json --data test.libsvm.zst --model {model}"))
            .succeed();
        let found: Value = serde_json::from_str(&eval.stdout).unwrap();
        for field in ["auc", "logloss", "accuracy"] {
            assert_near(found[field].as_f64().unwrap(), report.number(&format!("/test/{field}")), 1e-12);
        }
    }
    let lines = fs::read_to_string(place.path("model/weights.tsv")).unwrap().lines().count();
    assert_eq!(lines as f64, report.number("/nonzeros"));
    assert_eq!(place.names(), ["model", "report.json", "test.libsvm.zst", "train.libsvm"]);
    assert!(place.temporary().is_empty(), "{:?}", place.temporary());
}

#[test]
fn a_model_is_replaced_as_a_whole() {
    let place = Place::new();
    place.keyrange(&format!("{SMALL} --model model")).succeed();
    let first = fs::read(place.path("model/weights.tsv")).unwrap();
    place.keyrange(&format!("{SMALL} --l2 3 --model model")).succeed();
    assert_ne!(fs::read(place.path("model/weights.tsv")).unwrap(), first);
    assert_eq!(place.names(), ["model", "report.json"]);
}

#[test]
fn made_up_data_is_the_same_in_files_and_in_memory() {
    let place = Place::new();
    let direct = objective(&place, &format!("{SMALL} --tolerance 1e-7"));
    for name in ["data.libsvm", "data.gz", "data.bz2", "data.xz", "data.zst"] {
        place.keyrange(&format!("gen sparse-lr --rows 2000 -o {name}")).succeed();
        let from_file = objective(
            &place,
            &format!("train sparse-lr -q --l1 4 --tolerance 1e-7 --report report.json --data {name}"),
        );
        assert_near(from_file, direct, 1e-6);
        assert_eq!(place.report().number("/data_nonzeros"), 40_000.0);
    }
}

#[test]
fn several_files_and_a_cache_change_nothing() {
    let place = Place::new();
    place.keyrange("gen sparse-lr -o all --rows 3000").succeed();
    place.keyrange("gen sparse-lr -o a --rows 1000").succeed();
    place.keyrange("gen sparse-lr -o b.gz --rows 2000 --first-row 1000").succeed();
    let train = "train sparse-lr -q --l1 4 --tolerance 1e-7 --report report.json";
    let whole = objective(&place, &format!("{train} --data all"));
    assert_near(objective(&place, &format!("{train} --data a b.gz")), whole, 1e-6);
    for _ in 0..2 {
        assert_near(objective(&place, &format!("{train} --data a,b.gz --cache cache")), whole, 1e-6);
    }
}

#[test]
fn a_flag_beats_the_environment_and_the_environment_the_file() {
    let place = Place::new();
    place.write("options.toml", "[train.sparse-lr]\nl1 = 8\ngenerate-rows = 500\nseed = 7\nworkers = 3\n");
    let words = "--config options.toml train sparse-lr -q --embedded --generate --report report.json";
    let l1 = |found: f64| {
        let report = place.report();
        assert_eq!(
            (report.number("/l1"), report.number("/examples"), report.number("/workers")),
            (found, 500.0, 3.0)
        );
    };
    place.keyrange(words).succeed();
    l1(8.0);
    place.keyrange(words).variable("KEYRANGE_L1", "6").succeed();
    l1(6.0);
    place.keyrange(words).variable("KEYRANGE_L1", "6").option("--l1", "4").succeed();
    l1(4.0);
}

#[test]
fn a_file_alone_describes_a_job() {
    let place = Place::new();
    let options =
        "generate = true\ngenerate-rows = 500\nembedded = true\nquiet = true\nreport = 'report.json'\n";
    place.write("options.toml", format!("[train.sparse-lr]\n{options}"));
    place.keyrange("train sparse-lr").variable("KEYRANGE_CONFIG", "options.toml").succeed();
    assert_eq!(place.report().number("/examples"), 500.0);
}

#[test]
fn prior_features_lead_to_the_same_optimum() {
    let place = Place::new();
    let without = objective(&place, SMALL);
    let with = objective(&place, &format!("{SMALL} --prior 1 2 3 --prior-rounds 2"));
    assert_near(with, without, 1e-4);
}

#[test]
fn an_l2_weight_costs_and_shrinks() {
    let place = Place::new();
    let without = objective(&place, SMALL);
    assert!(objective(&place, &format!("{SMALL} --l2 5")) > without);
}

#[test]
fn delay_zero_repeats_itself_to_the_last_bit() {
    let place = Place::new();
    let mut digits = Vec::new();
    for carrier in ["--carrier shm", "--carrier tcp", "--embedded", "--embedded"] {
        let words =
            "train sparse-lr -q --generate --generate-rows 3000 --l1 2 --servers 3 --workers 3 --delay 0";
        place.keyrange(&format!("{words} --report report.json {carrier}")).succeed();
        digits.push(place.report().objective_digits());
    }
    digits.dedup();
    assert_eq!(digits.len(), 1, "{digits:?}");
}

#[test]
fn completions_know_the_options() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.keyrange(&format!("completions {shell}")).succeed().stdout;
        assert!(script.contains("sparse-lr") && script.contains("max-passes"), "{shell}");
    }
}

#[test]
fn help_names_every_subcommand() {
    let place = Place::new();
    let help = place.keyrange("--help").succeed().stdout;
    for command in ["train", "eval", "gen", "manager", "server", "worker", "bench", "completions"] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        place.keyrange(&format!("{command} --help")).succeed();
    }
}
