//! What the tests that build C and C++ programs share.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The library and headers of this build, installed once for all tests of this process, in a folder of their own.
pub fn install() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        // This very test is .../release/deps/programs-0123; the libraries lie in deps too.
        let test = std::env::current_exe().unwrap();
        let name = test.file_name().unwrap_or_default().to_string_lossy().replace('-', "_");
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if place.exists() {
            std::fs::remove_dir_all(&place).unwrap();
        }
        let mut command = Command::new("sh");
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"));
        command.arg("--from").arg(test.parent().unwrap()).arg("--prefix").arg(&place);
        run(&mut command);
        place
    })
}

/// Those of the programs that are on this machine; a line says so if there are none.
pub fn installed(names: &[&'static str]) -> Vec<&'static str> {
    let there =
        |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success());
    let found: Vec<_> = names.iter().filter(there).copied().collect();
    if found.is_empty() {
        eprintln!("skipped: none of {names:?} is installed");
    }
    found
}

/// A C compiler.
pub fn first_compiler() -> Option<&'static str> {
    installed(&["cc", "gcc", "clang"]).first().copied()
}

/// Runs to a good end; what it printed.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {:?}:\n{text}", output.status);
    text
}
