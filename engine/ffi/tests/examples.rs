//! The projects in `examples/`: each builds from a copy, against an installed Keyrange, the way its README says, and does what that
//! promises. Skipped, with a line that says so, where a tool is not installed.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{install, installed, run};

/// A copy of an example, as a user would make it.
fn copy(example: &str) -> PathBuf {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let to = install().join(example);
    std::fs::create_dir(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        // What somebody built in the folder itself stays there.
        if file.file_name().to_string_lossy().contains('.') || file.file_name() == "Makefile" {
            std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
        }
    }
    to
}

/// Builds a copy with make; `None` without the tools.
fn make(example: &str) -> Option<PathBuf> {
    if [installed(&["cc", "c++"]), installed(&["make"]), installed(&["pkg-config"])].iter().any(Vec::is_empty)
    {
        return None;
    }
    let project = copy(example);
    run(Command::new("make").current_dir(&project).env("PKG_CONFIG_PATH", install().join("lib/pkgconfig")));
    Some(project)
}

/// Builds a copy with CMake; `None` without the tools.
fn cmake(example: &str) -> Option<PathBuf> {
    if installed(&["cc", "c++"]).is_empty() || installed(&["cmake"]).is_empty() {
        return None;
    }
    let project = copy(example);
    let prefix = format!("-DCMAKE_PREFIX_PATH={}", install().display());
    run(Command::new("cmake").current_dir(&project).args(["-S", ".", "-B", "build", &prefix]));
    run(Command::new("cmake").current_dir(&project).args(["--build", "build"]));
    Some(project.join("build"))
}

#[test]
fn consumer() {
    if let Some(build) = cmake("consumer") {
        for program in ["trainer", "trainer-static"] {
            assert_eq!(run(&mut Command::new(build.join(program))), "0.5 1 2\n");
        }
        std::fs::remove_dir_all(build.parent().unwrap()).unwrap();
    }
    if let Some(project) = make("consumer") {
        assert_eq!(run(&mut Command::new(project.join("trainer"))), "0.5 1 2\n");
    }
}

#[test]
fn c_trainer_embedded_and_in_processes() {
    let Some(project) = make("c-trainer") else { return };
    let alone = run(&mut Command::new(project.join("trainer")));
    let serve = Command::new(project.join("serve")).arg("tcp:127.0.0.1:0").stdout(Stdio::piped()).spawn();
    let mut serve = serve.unwrap();
    let mut address = String::new();
    BufReader::new(serve.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
    let joined = run(Command::new(project.join("trainer")).arg(address.trim()));
    assert!(serve.wait().unwrap().success());
    assert_eq!(alone, joined, "a run gives the same bits wherever its servers are");
}

#[test]
fn server_function() {
    let Some(project) = make("server-function") else { return };
    let said = run(&mut Command::new(project.join("trainer")));
    assert!(said.contains("value 3 of a gradient is not finite"), "{said}");
}

#[test]
fn clocked_regression() {
    let Some(project) = make("clocked-regression") else { return };
    for (staleness, eager) in [("0", "0"), ("2", "1"), ("unbounded", "1")] {
        let said = run(Command::new(project.join("trainer")).args([staleness, eager]));
        assert_eq!(said.matches("after 960 clocks").count(), 2, "{said}");
        assert!(staleness != "0" || said.matches("behind on average, 0 at most").count() == 2, "{said}");
    }
}

#[test]
fn own_filter() {
    let Some(project) = make("own-filter") else { return };
    let said = run(&mut Command::new(project.join("trainer")));
    assert!(said.contains("user:top:16") && said.contains("8 weights are not 0"), "{said}");
}

#[test]
fn lent_threads() {
    let Some(project) = make("lent-threads") else { return };
    let totals: Vec<String> = (0..2)
        .map(|_| run(Command::new(project.join("trainer")).arg("3")).lines().last().unwrap().to_owned())
        .collect();
    assert_eq!(totals[0], totals[1], "a run gives the same bits every time");
}

/// The trainer with its own gradient code and the program come to the same objective.
#[test]
fn logistic_regression_reaches_the_objective_of_the_program() {
    let Some(build) = cmake("logistic-regression") else { return };
    let (text, l1) = match real_rows() {
        Some(text) => (text, "44"),
        None => (made_up_rows(), "2"),
    };
    let file = build.join("rows.libsvm");
    std::fs::write(&file, text).unwrap();
    let said = run(Command::new(build.join("trainer")).arg(&file).args(["--l1", l1]));
    let reached = said.lines().last().and_then(|line| line.strip_prefix("objective ")?.split(' ').next());
    let reached: f64 = reached.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{said}"));

    let keyrange = std::env::current_exe().unwrap().parent().unwrap().with_file_name("keyrange");
    if !keyrange.exists() {
        eprintln!("skipped: no program {}: cargo build --release -p keyrange-cli", keyrange.display());
        return;
    }
    let report = build.join("report.json");
    let mut train = Command::new(keyrange);
    train.args(["train", "sparse-lr", "--embedded", "--tolerance", "1e-6", "--l1", l1, "--data"]);
    run(train.arg(&file).arg("--report").arg(&report));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let expected = report["objective"].as_f64().unwrap();
    assert!((reached / expected - 1.0).abs() < 1e-4, "reached {reached}, the program {expected}");
}

/// a9a, if this machine has it: in the folder that `KEYRANGE_DATA` names, or in `shared/data` beside the project.
fn real_rows() -> Option<Vec<u8>> {
    let folder = match std::env::var_os("KEYRANGE_DATA") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    };
    let Ok(packed) = std::fs::File::open(folder.join("lr/a9a.libsvm.zst")) else {
        eprintln!("skipped: a9a is not in {}: made-up rows instead", folder.display());
        return None;
    };
    let mut text = Vec::new();
    ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut text).unwrap();
    Some(text)
}

/// Two thousand rows of 20 features; the sign of the first decides, mostly.
fn made_up_rows() -> Vec<u8> {
    let (mut text, mut state) = (Vec::new(), 7u64);
    let mut number = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    for _ in 0..2000 {
        let values: Vec<f64> = (0..20).map(|_| number()).collect();
        let label = if values[0] + 0.5 * number() > 0.0 { "+1" } else { "-1" };
        write!(text, "{label}").unwrap();
        values.iter().enumerate().for_each(|(at, value)| write!(text, " {}:{value:.4}", at + 1).unwrap());
        writeln!(text).unwrap();
    }
    text
}
