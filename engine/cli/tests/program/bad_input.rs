//! What is not as it should be: exit code 2, a message that names the place, and nothing written.

use std::net::TcpListener;

use crate::program::{Outcome, Place};

/// `got` must be a refusal of bad input that holds all of `words`.
fn check_refused(got: &Outcome, words: &[&str]) {
    check_failed(got, 2, words);
}

fn check_failed(got: &Outcome, code: i32, words: &[&str]) {
    assert_eq!(got.code, Some(code), "{got:?}");
    assert!(got.stderr.contains("error: "), "{got:?}");
    assert!(!got.stderr.contains("panicked"), "{got:?}");
    for word in words {
        assert!(got.stderr.contains(word), "expected {word:?} in {:?}", got.stderr);
    }
}

/// Trains on the file `name` of `place`, in processes and in threads, which must refuse it and write nothing.
fn check_data(place: &Place, name: &str, words: &[&str]) {
    let before = place.names();
    for how in ["", "--embedded"] {
        let words_of_train =
            format!("train sparse-lr -q --data {name} --model model --report report.json {how}");
        check_refused(&place.keyrange(&words_of_train).run(), words);
        assert_eq!(place.names(), before, "{name} {how}");
        assert!(place.temporary().is_empty(), "{name} {how}: {:?}", place.temporary());
    }
}

#[test]
fn malformed_lines_are_named() {
    let cases: [(&str, &[u8], &[&str]); 11] = [
        ("number", b"1 3:1\n-1 7:x\n", &["number:2:", "\"x\""]),
        ("unsorted", b"1 3:1\n-1 7:1 2:1\n", &["unsorted:2:", "increasing"]),
        ("repeated", b"1 3:1 3:2\n", &["repeated:1:", "repeated"]),
        ("nan", b"1 3:nan\n", &["nan:1:", "finite"]),
        ("infinite", b"1 3:1\n0 4:inf\n", &["infinite:2:", "finite"]),
        ("label", b"1 3:1\n2 3:1\n", &["label:2:", "label"]),
        ("labels", b"1 1:1\n0 1:1\n-1 2:1\n", &["labels:3:", "labels"]),
        ("negative", b"1 -3:1\n", &["negative:1:", "feature id"]),
        ("huge", b"1 99999999999999999999999:1\n", &["huge:1:", "feature id"]),
        ("empty", b"", &["empty", "at least one example"]),
        ("binary", b"\x7fELF\x02\x01\x01\x00\x00\xb3\xa2\xff\xfe\n\x00\x01", &["binary:1:"]),
    ];
    let place = Place::new();
    for (name, bytes, words) in cases {
        place.write(name, bytes);
        check_data(&place, name, words);
    }
}

#[test]
fn truncated_archives_are_named() {
    let place = Place::new();
    for ending in ["gz", "bz2", "xz", "zst"] {
        let whole = format!("whole.{ending}");
        place.keyrange(&format!("gen sparse-lr --rows 2000 -o {whole}")).succeed();
        let bytes = std::fs::read(place.path(&whole)).unwrap();
        let cut = format!("cut.{ending}");
        place.write(&cut, &bytes[..bytes.len() / 3]);
        check_data(&place, &cut, &[&cut, "archive"]);
    }
    place.write("no.gz", "1 1:1\n0 x\n");
    check_data(&place, "no.gz", &["no.gz:2"]);
}

#[test]
fn bad_test_data_leaves_no_model_behind() {
    let place = Place::new();
    place.write("good", "1 1:1\n0 2:1\n");
    place.write("bad", "1 1:1\n0 2:z\n");
    check_data(&place, "good --test bad", &["bad:2:", "\"z\""]);
}

#[test]
fn options_are_checked_before_anything_starts() {
    let place = Place::new();
    place.write("good", "1 1:1\n0 2:1\n");
    let cases: [(&str, &[&str]); 19] = [
        ("--data good --l3 1", &["--l3"]),
        ("--data good --l1=-1", &["--l1", "-1"]),
        ("--data good --l1 nan", &["--l1", "nan"]),
        ("--data good --l1 0", &["--l1"]),
        ("--data good --l2=-0.5", &["--l2", "-0.5"]),
        ("--data good --tolerance 0", &["--tolerance"]),
        ("--data good --workers 0", &["--workers", "0"]),
        ("--data good --servers 0", &["--servers", "0"]),
        ("--data good --servers many", &["--servers", "many"]),
        ("--data good --max-passes 0", &["--max-passes"]),
        ("--data good --ring-bytes 5000", &["ring", "5000", "power of two"]),
        ("--data good --join-deadline soon", &["--join-deadline", "soon"]),
        ("--data good --carrier pigeon", &["--carrier", "pigeon", "shm"]),
        ("--data good --carrier tcp --embedded", &["--embedded", "tcp"]),
        ("--data good --generate", &["--data", "--generate"]),
        ("--data good --generate-rows 5", &["--generate"]),
        ("--data missing", &["missing", "no such file"]),
        ("--data good --test missing", &["missing", "no such file"]),
        ("", &["--data"]),
    ];
    for (options, words) in cases {
        let got = place.keyrange("train sparse-lr --model model --report report.json").words(options).run();
        check_refused(&got, words);
        assert_eq!(place.names(), ["good"], "{options}");
    }
    check_refused(&place.keyrange("trail sparse-lr").run(), &["trail"]);
    check_refused(&place.keyrange("train dense-lr").run(), &["dense-lr"]);
    check_refused(
        &place.keyrange("train sparse-lr --generate").variable("KEYRANGE_L1", "much").run(),
        &["much"],
    );
    check_refused(&place.keyrange("worker --manager nowhere").run(), &["--manager", "nowhere"]);
    check_refused(&place.keyrange("gen sparse-lr -o file --fields 0").run(), &["fields", "0"]);
    check_refused(&place.keyrange("--log loud=very train sparse-lr --generate").run(), &["--log"]);
}

#[test]
fn configuration_files_are_checked() {
    let place = Place::new();
    let cases: [(&str, &str, &[&str]); 5] = [
        ("key.toml", "[train.sparse-lr]\nl3 = 1\n", &["key.toml", "l3"]),
        ("table.toml", "[trail]\nl1 = 1\n", &["table.toml", "trail"]),
        ("syntax.toml", "[train.sparse-lr\n", &["syntax.toml", "line 1"]),
        ("value.toml", "[train.sparse-lr]\nl1 = 'much'\n", &["l1", "much"]),
        ("date.toml", "[train.sparse-lr]\nl1 = 1979-05-27\n", &["date.toml", "l1"]),
    ];
    for (name, text, words) in cases {
        place.write(name, text);
        let got =
            place.keyrange("train sparse-lr --generate --generate-rows 100").option("--config", name).run();
        check_refused(&got, words);
    }
    let got = place.keyrange("--config missing.toml train sparse-lr --generate").run();
    check_refused(&got, &["missing.toml"]);
}

#[test]
fn models_are_checked() {
    let place = Place::new();
    place.write("data", "1 1:1\n0 2:1\n");
    place.write("rubbish", [0xe1, 0xbf, 0x00, 0x28, 0xff]);
    std::fs::create_dir(place.path("hollow")).unwrap();
    for model in ["missing", "rubbish", "hollow"] {
        let got = place.keyrange("eval sparse-lr --data data").option("--model", model).run();
        check_refused(&got, &[model]);
    }
    place.keyrange("train sparse-lr -q --embedded --generate --generate-rows 500 --model model").succeed();
    let weights = std::fs::read(place.path("model/weights.bin")).unwrap();
    place.write("model/weights.bin", &weights[..weights.len() - 3]);
    check_refused(&place.keyrange("eval sparse-lr --data data --model model").run(), &["weights.bin"]);
}

#[test]
fn a_report_that_cannot_be_written_is_named() {
    let place = Place::new();
    let got = place
        .keyrange("train sparse-lr -q --generate --generate-rows 500 --report no/such/report.json")
        .run();
    assert!(got.code.is_some_and(|code| code != 0), "{got:?}");
    assert!(got.stderr.contains("no/such"), "{got:?}");
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let place = Place::new();
    let got =
        place.keyrange("manager sparse-lr --generate").option("--listen", format!("tcp:{address}")).run();
    check_failed(&got, 1, &[&address, "in use"]);
}

#[test]
fn an_absent_manager_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let place = Place::new();
    for role in ["server", "worker"] {
        for address in [format!("tcp:{free}"), "unix:keyrange-nobody-listens".to_owned()] {
            let words = format!("{role} --join-deadline 500ms --manager {address}");
            check_failed(&place.keyrange(&words).run(), 1, &[&address, "manager"]);
        }
    }
}

#[test]
fn a_manager_without_nodes_names_who_is_missing() {
    let place = Place::new();
    let words =
        "manager sparse-lr --generate --listen tcp:127.0.0.1:0 --join-deadline 500ms --servers 1 --workers 2";
    check_failed(&place.keyrange(words).run(), 1, &["server 0", "worker 0", "worker 1"]);
}

#[test]
fn a_wrong_secret_is_refused_and_the_job_goes_on() {
    let place = Place::new();
    place.write("right", "the secret of this job\n");
    place.write("wrong", "another\n");
    let words =
        "manager sparse-lr --generate --generate-rows 1000 --servers 1 --workers 1 --report report.json";
    let mut manager = place.keyrange(words).words("--listen tcp:127.0.0.1:0 --secret-file right").start();
    let address = manager.await_stdout("listening at ");
    let node = |role: &str, secret: &str| {
        place.keyrange(role).option("--manager", &address).option("--secret-file", secret)
    };
    for role in ["server", "worker"] {
        check_failed(&node(role, "wrong").run(), 1, &["secret"]);
    }
    let server = node("server", "right").start();
    node("worker", "right").succeed();
    for ended in [server.end(), manager.end()] {
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    assert_eq!(place.report().number("/examples"), 1000.0);
}
