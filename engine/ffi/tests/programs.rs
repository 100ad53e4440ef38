//! C programs against the header and the library: they compile without a warning in every language of the header's users, link
//! either way, and find everything as they expect. Skipped, with a line that says so, where there is no C compiler.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{first_compiler, install, installed, run};

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(name)
}

/// What a program is made of and how.
#[derive(Clone, Copy)]
struct Build<'a> {
    compiler: &'a str,
    standard: &'a str,
    is_static: bool,
    /// More options.
    options: &'a [&'a str],
}

impl<'a> Build<'a> {
    fn new(compiler: &'a str, standard: &'a str) -> Build<'a> {
        Build { compiler, standard, is_static: false, options: &[] }
    }

    /// Compiles and links `sources` against what is installed.
    fn program(self, sources: &[&str]) -> PathBuf {
        let Build { compiler, standard, is_static, options } = self;
        let place = install();
        let name = format!("{}-{compiler}-{standard}-{is_static}{}", sources[0], options.concat());
        let program = place.join(name.replace(['.', '+', '=', ','], "-"));
        let mut command = Command::new(compiler);
        command
            .arg(format!("-std={standard}"))
            .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1", "-g"])
            .args(options);
        if standard.contains("++") {
            command.args(["-x", "c++"]);
        }
        command.arg("-I").arg(place.join("include"));
        command.args(sources.iter().map(|name| source(name))).args(["-x", "none", "-o"]).arg(&program);
        let folder = place.join("lib");
        if is_static {
            command.arg(folder.join("libkeyrange.a")).args(["-lpthread", "-ldl", "-lm"]);
        } else {
            let path = format!("-Wl,-rpath,{}", folder.display());
            command.arg("-L").arg(&folder).args(["-lkeyrange", "-lpthread", "-ldl"]).arg(path);
        }
        run(&mut command);
        program
    }

    /// Builds a program and runs it; it prints that all is as expected, under the name of its first source.
    fn passes(self, sources: &[&str]) {
        let name = sources[0].split('.').next().unwrap_or_default();
        let said = run(&mut Command::new(self.program(sources)));
        assert_eq!(said, format!("{name}: all as expected\n"));
    }
}

#[test]
fn every_request_of_an_embedded_cluster() {
    let Some(compiler) = first_compiler() else { return };
    for is_static in [false, true] {
        Build { is_static, ..Build::new(compiler, "c99") }.passes(&["embedded.c", "twice.c"]);
    }
}

#[test]
fn misuse_is_told() {
    let Some(compiler) = first_compiler() else { return };
    Build::new(compiler, "c99").passes(&["misuse.c"]);
    Build::new(compiler, "c99").passes(&["jump.c"]);
}

#[test]
fn filters_of_the_callers_own() {
    let Some(compiler) = first_compiler() else { return };
    Build::new(compiler, "c99").passes(&["filters.c"]);
    let program = Build::new(compiler, "c99").program(&["filter_processes.c"]);
    for carrier in ["shm", "tcp"] {
        let told = run(Command::new(&program).arg(carrier));
        assert_eq!(told, format!("filter_processes over {carrier}: all as expected\n"));
    }
}

#[test]
fn clocked_tables() {
    let Some(compiler) = first_compiler() else { return };
    Build::new(compiler, "c99").passes(&["clocked.c"]);
    Build::new(compiler, "c99").passes(&["clocked_misuse.c"]);
}

#[test]
fn a_push_from_lent_memory_is_not_copied_by_its_sender() {
    let Some(compiler) = first_compiler() else { return };
    Build::new(compiler, "c99").passes(&["lent.c"]);
}

#[test]
fn two_copies_of_the_library_live_side_by_side() {
    let Some(compiler) = first_compiler() else { return };
    let other = install().join("lib/libother.so");
    std::fs::copy(install().join("lib/libkeyrange.so"), &other).unwrap();
    let program = Build::new(compiler, "c99").program(&["copies.c"]);
    assert_eq!(run(Command::new(program).arg(other)), "copies: all as expected\n");
}

#[test]
fn a_job_of_several_processes() {
    let Some(compiler) = first_compiler() else { return };
    let program = Build::new(compiler, "c99").program(&["processes.c"]);
    for carrier in ["auto", "shm", "tcp"] {
        let told = run(Command::new(&program).arg(carrier));
        assert_eq!(told, format!("processes over {carrier}: all as expected\n"));
    }
}

/// For packages: the files lie below DESTDIR, and name the prefix without it.
#[test]
fn an_installation_can_be_staged() {
    let stage = install().join("stage");
    let mut command = Command::new("sh");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"));
    command.arg("--from").arg(std::env::current_exe().unwrap().parent().unwrap());
    run(command.args(["--prefix", "/opt/keyrange", "--destdir"]).arg(&stage));
    let text = std::fs::read_to_string(stage.join("opt/keyrange/lib/pkgconfig/keyrange.pc")).unwrap();
    assert!(text.starts_with("prefix=/opt/keyrange\n"), "{text}");
    let shared = stage.join("opt/keyrange/lib/libkeyrange.so");
    assert!(std::fs::canonicalize(shared).unwrap().is_file());
    std::fs::remove_dir_all(stage).unwrap();
}

/// Nothing is read that was not written, nothing is used after its end, nothing is lost.
#[test]
fn valgrind_finds_nothing() {
    let Some(compiler) = first_compiler() else { return };
    let Some(valgrind) = installed(&["valgrind"]).pop() else { return };
    for name in ["embedded.c", "misuse.c", "filters.c", "clocked.c", "clocked_misuse.c"] {
        let program = Build::new(compiler, "c99").program(&[name]);
        let mut command = Command::new(valgrind);
        // It does not know AVX-512, and a forked child cannot free what its parent's threads hold.
        command.env("KEYRANGE_ISA", "avx2").env("TEST_WITHOUT_FORK", "1").args(["-q", "--error-exitcode=9"]);
        command.args(["--leak-check=full", "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]);
        run(command.arg(program));
    }
}

/// The programs with AddressSanitizer and UBSan in them, against the library as it is: what the library does with the
/// programs' memory goes through the sanitizer's allocator, and every copy by libc through its checks.
#[test]
fn sanitizers_find_nothing() {
    let options = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
    let programs = [
        ("gcc", "c99", &["embedded.c", "misuse.c", "filters.c", "clocked.c", "clocked_misuse.c"][..]),
        ("g++", "c++17", &["layer.cpp", "function.cpp", "filter.cpp", "clocked.cpp"]),
    ];
    for (compiler, standard, sources) in programs {
        if installed(&[compiler]).is_empty() {
            continue;
        }
        let build = Build { options: &options, ..Build::new(compiler, standard) };
        sources.iter().for_each(|&name| build.passes(&[name]));
    }
}

#[test]
fn the_cpp_layer_of_cpp17_and_later() {
    // Each program in both languages, by one compiler or the other.
    for (compiler, layer, function) in [("g++", "c++17", "c++20"), ("clang++", "c++20", "c++17")] {
        if !installed(&[compiler]).is_empty() {
            Build::new(compiler, layer).passes(&["layer.cpp"]);
            Build::new(compiler, function).passes(&["function.cpp"]);
            Build::new(compiler, function).passes(&["filter.cpp"]);
            Build::new(compiler, layer).passes(&["clocked.cpp"]);
        }
    }
    if let Some(&compiler) = installed(&["g++", "clang++"]).first() {
        let build = Build { options: &["-fno-exceptions"], ..Build::new(compiler, "c++17") };
        build.passes(&["no_exceptions.cpp"]);
    }
}

#[test]
fn the_header_is_good_c_and_good_cpp() {
    for compiler in installed(&["gcc", "clang"]) {
        for standard in ["c99", "c11", "c17"] {
            Build::new(compiler, standard).program(&["embedded.c", "twice.c"]);
            Build::new(compiler, standard).program(&["filters.c"]);
            Build::new(compiler, standard).program(&["clocked.c"]);
        }
    }
    for compiler in installed(&["g++", "clang++"]) {
        for standard in ["c++11", "c++14", "c++17", "c++20"] {
            Build::new(compiler, standard).program(&["embedded.c", "twice.c"]);
            Build::new(compiler, standard).program(&["filters.c"]);
            Build::new(compiler, standard).program(&["clocked.c"]);
        }
    }
}
