//! C programs against the header and the library: they compile without a warning in every language of the header's users, link
//! either way, and find everything as they expect. Skipped, with a line that says so, where there is no C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// The library and header of this build, installed into a folder of the test's own.
fn install() -> TempDir {
    // This very test is .../release/deps/programs-0123; the libraries lie in deps too.
    let test = std::env::current_exe().unwrap();
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"));
    command.arg("--from").arg(test.parent().unwrap()).arg("--prefix").arg(place.path());
    run(&mut command);
    place
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

fn installed(names: &[&'static str]) -> Vec<&'static str> {
    let there =
        |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success());
    let found: Vec<_> = names.iter().filter(there).copied().collect();
    if found.is_empty() {
        eprintln!("skipped: none of {names:?} is installed");
    }
    found
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {:?}:\n{text}", output.status);
    text
}

/// Compiles and links `sources` against what is installed.
fn build(place: &TempDir, compiler: &str, standard: &str, sources: &[&str], is_static: bool) -> PathBuf {
    let program =
        place.path().join(format!("{}-{standard}-{is_static}", sources[0]).replace(['.', '+'], "-"));
    let folder = place.path().join("lib");
    let mut command = Command::new(compiler);
    command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"]);
    if standard.contains("++") {
        command.args(["-x", "c++"]);
    }
    command.arg("-I").arg(place.path().join("include"));
    command.args(sources.iter().map(|name| source(name))).args(["-x", "none", "-o"]).arg(&program);
    if is_static {
        command.arg(folder.join("libkeyrange.a")).args(["-lpthread", "-ldl", "-lm"]);
    } else {
        command
            .arg("-L")
            .arg(&folder)
            .args(["-lkeyrange", "-lpthread"])
            .arg(format!("-Wl,-rpath,{}", folder.display()));
    }
    run(&mut command);
    program
}

fn first_compiler() -> Option<&'static str> {
    installed(&["cc", "gcc", "clang"]).first().copied()
}

#[test]
fn every_request_of_an_embedded_cluster() {
    let Some(compiler) = first_compiler() else { return };
    let place = install();
    for is_static in [false, true] {
        let program = build(&place, compiler, "c99", &["embedded.c", "twice.c"], is_static);
        assert_eq!(run(&mut Command::new(program)), "embedded: all as expected\n");
    }
}

#[test]
fn misuse_is_told() {
    let Some(compiler) = first_compiler() else { return };
    let place = install();
    let program = build(&place, compiler, "c99", &["misuse.c"], false);
    assert_eq!(run(&mut Command::new(program)), "misuse: all told\n");
}

#[test]
fn a_job_of_several_processes() {
    let Some(compiler) = first_compiler() else { return };
    let place = install();
    let program = build(&place, compiler, "c99", &["processes.c"], false);
    for carrier in ["auto", "shm", "tcp"] {
        let told = run(Command::new(&program).arg(carrier));
        assert_eq!(told, format!("processes over {carrier}: all as expected\n"));
    }
}

/// A project of its own finds what install.sh left, by CMake and by pkg-config.
#[test]
fn a_consumer_project_builds() {
    let place = install();
    let project = place.path().join("consumer");
    std::fs::create_dir(&project).unwrap();
    for file in ["trainer.c", "CMakeLists.txt", "Makefile"] {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/consumer").join(file);
        std::fs::copy(from, project.join(file)).unwrap();
    }
    if first_compiler().is_none() {
        return;
    }
    if !installed(&["cmake"]).is_empty() {
        let mut prefix = std::ffi::OsString::from("-DCMAKE_PREFIX_PATH=");
        prefix.push(place.path());
        run(Command::new("cmake").current_dir(&project).args(["-S", ".", "-B", "build"]).arg(prefix));
        run(Command::new("cmake").current_dir(&project).args(["--build", "build"]));
        for program in ["build/trainer", "build/trainer-static"] {
            assert_eq!(run(&mut Command::new(project.join(program))), "0.5 1 2\n");
        }
    }
    if !installed(&["make"]).is_empty() && !installed(&["pkg-config"]).is_empty() {
        let paths = place.path().join("lib/pkgconfig");
        run(Command::new("make").current_dir(&project).env("PKG_CONFIG_PATH", paths));
        assert_eq!(run(&mut Command::new(project.join("trainer"))), "0.5 1 2\n");
    }
}

/// Nothing is read that was not written, nothing is used after its end, nothing is lost.
#[test]
fn valgrind_finds_nothing() {
    let Some(compiler) = first_compiler() else { return };
    let Some(valgrind) = installed(&["valgrind"]).pop() else { return };
    let place = install();
    for name in ["embedded.c", "misuse.c"] {
        let program = build(&place, compiler, "c99", &[name], false);
        let mut command = Command::new(valgrind);
        // It does not know AVX-512, and a forked child cannot free what its parent's threads hold.
        command.env("KEYRANGE_ISA", "avx2").env("TEST_WITHOUT_FORK", "1").args(["-q", "--error-exitcode=9"]);
        command.args(["--leak-check=full", "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
        run(command.arg(program));
    }
}

#[test]
fn the_cpp_layer_of_cpp17_and_later() {
    let place = install();
    for compiler in installed(&["g++", "clang++"]) {
        for standard in ["c++17", "c++20"] {
            for name in ["layer", "function"] {
                let program = build(&place, compiler, standard, &[&format!("{name}.cpp")], false);
                assert_eq!(run(&mut Command::new(program)), format!("{name}: all as expected\n"));
            }
        }
    }
}

#[test]
fn the_header_is_good_c_and_good_cpp() {
    let place = install();
    for compiler in installed(&["gcc", "clang"]) {
        for standard in ["c99", "c11", "c17"] {
            build(&place, compiler, standard, &["embedded.c", "twice.c"], false);
        }
    }
    for compiler in installed(&["g++", "clang++"]) {
        for standard in ["c++11", "c++14", "c++17", "c++20"] {
            build(&place, compiler, standard, &["embedded.c", "twice.c"], false);
        }
    }
}
