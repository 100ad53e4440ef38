//! Programs written for ps-lite against the headers in `include/ps`: they compile without a warning in every C++ that ps-lite's users
//! have, and run as jobs of several processes over either carrier. Skipped, with a line that says so, without a C++ compiler.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn compiler() -> Option<&'static str> {
    let is_there =
        |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|run| run.status.success());
    let found = ["c++", "g++", "clang++"].into_iter().find(is_there);
    if found.is_none() {
        eprintln!("skipped: no C++ compiler is installed");
    }
    found
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?} {:?}:\n{text}", output.status);
}

/// The library and headers of this build, and programs compiled against them, in a folder of the test's own.
struct Place(TempDir);

impl Place {
    fn install() -> Place {
        let place = tempfile::tempdir().unwrap();
        // This very test is .../release/deps/ps_lite-0123; the libraries lie in deps too.
        let test = std::env::current_exe().unwrap();
        let mut command = Command::new("sh");
        command.arg(here("install.sh")).arg("--from").arg(test.parent().unwrap());
        run(command.arg("--prefix").arg(place.path()));
        Place(place)
    }

    fn command(&self, compiler: &str, standard: &str, program: &str) -> Command {
        let mut command = Command::new(compiler);
        command.arg(format!("-std={standard}")).args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g"]);
        command
            .arg("-I")
            .arg(self.0.path().join("include"))
            .arg(here("tests/ps").join(format!("{program}.cc")));
        command
    }

    fn build(&self, compiler: &str, standard: &str, program: &str) -> PathBuf {
        let (to, folder) = (self.0.path().join(program), self.0.path().join("lib"));
        let mut command = self.command(compiler, standard, program);
        command.arg("-o").arg(&to).arg("-L").arg(&folder).args(["-lkeyrange", "-lpthread"]);
        run(command.arg(format!("-Wl,-rpath,{}", folder.display())));
        to
    }
}

/// Free a moment ago; another program may take it meanwhile, but hardly does.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A job of ps-lite's kind.
#[derive(Clone, Copy)]
struct Job {
    servers: usize,
    workers: usize,
    /// Worker processes: fewer than workers where each starts several customers.
    processes: usize,
    carrier: &'static str,
}

impl Job {
    /// Starts `program` in every role.
    fn start(self, program: &Path) -> Vec<(&'static str, Child)> {
        let port = free_port();
        let roles = [("scheduler", 1), ("server", self.servers), ("worker", self.processes)];
        let roles = roles.into_iter().flat_map(|(role, count)| std::iter::repeat_n(role, count));
        roles.map(|role| (role, self.start_node(program, role, port))).collect()
    }

    fn start_node(self, program: &Path, role: &str, port: u16) -> Child {
        let mut command = Command::new(program);
        command
            .env("DMLC_ROLE", role)
            .env("DMLC_PS_ROOT_URI", "127.0.0.1")
            .env("DMLC_PS_ROOT_PORT", port.to_string())
            .env("DMLC_NUM_SERVER", self.servers.to_string())
            .env("DMLC_NUM_WORKER", self.workers.to_string());
        if self.carrier == "local" {
            command.env("DMLC_LOCAL", "1");
        } else {
            command.env("DMLC_PS_VAN_TYPE", self.carrier);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Expects each process of the job to end well.
    fn run(self, program: &Path) {
        for (role, node) in self.start(program) {
            let output = node.wait_with_output().unwrap();
            let text = String::from_utf8_lossy(&output.stderr);
            let Job { servers, workers, carrier, .. } = self;
            let job = format!("{} with {servers} x {workers} over {carrier}", program.display());
            assert!(output.status.success(), "{job}: the {role} {:?}:\n{text}", output.status);
        }
    }
}

/// Runs a program of `tests/ps` in jobs of several sizes over every carrier.
fn jobs(name: &str, workers_per_process: usize) {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    let program = place.build(compiler, "c++11", name);
    for (servers, processes) in [(1, 1), (2, 2), (3, 4)] {
        for carrier in ["shm", "tcp", "local"] {
            if carrier == "local" && servers > 1 {
                continue;
            }
            Job { servers, workers: processes * workers_per_process, processes, carrier }.run(&program);
        }
    }
}

#[test]
fn arrays_share_and_own_as_in_ps_lite() {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    run(&mut Command::new(place.build(compiler, "c++11", "arrays")));
}

#[test]
fn the_headers_are_good_cpp() {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    // The other tests build all programs as C++11.
    for (standard, program) in
        [("c++14", "handles"), ("c++17", "kv"), ("c++20", "handles"), ("c++20", "arrays")]
    {
        run(place.command(compiler, standard, program).arg("-fsyntax-only"));
    }
}

#[test]
fn the_default_handle_sums() {
    jobs("kv", 1);
}

#[test]
fn handles_of_the_programs_own_and_simple_app() {
    jobs("handles", 1);
}

#[test]
fn what_programs_rely_on() {
    jobs("behaviours", 1);
}

#[test]
fn how_frameworks_use_it() {
    jobs("frameworks", 1);
}

#[test]
fn a_program_moves_over_by_include_path_and_link_line() {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    let folder = here("examples/from-ps-lite");
    let program = place.0.path().join("regression");
    let mut make = Command::new("make");
    make.arg("-f").arg(folder.join("Makefile")).arg("-C").arg(place.0.path());
    make.arg(format!("VPATH={}", folder.display())).arg(format!("CXX={compiler}"));
    run(make.arg(format!("PREFIX={}", place.0.path().display())));
    let mut job = Command::new("sh");
    job.arg(folder.join("run.sh")).arg(program).env("DMLC_PS_ROOT_PORT", free_port().to_string());
    let output = job.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.starts_with("weights found"), "{told} {output:?}");
}

#[test]
fn two_customers_in_a_process() {
    jobs("two_customers", 2);
}

#[test]
fn a_missing_variable_is_named() {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    let program = place.build(compiler, "c++11", "kv");
    let output =
        Command::new(program).env("DMLC_ROLE", "worker").env("DMLC_NUM_SERVER", "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("DMLC_NUM_WORKER is not set"), "{text}");
}

#[test]
fn a_server_that_dies_is_told_by_wait() {
    let Some(compiler) = compiler() else { return };
    let place = Place::install();
    let program = place.build(compiler, "c++11", "lost");
    for carrier in ["shm", "tcp"] {
        let mut nodes = Job { servers: 1, workers: 1, processes: 1, carrier }.start(&program);
        let mut told = BufReader::new(nodes[2].1.stdout.take().unwrap()).lines();
        assert_eq!(told.next().unwrap().unwrap(), "pushing");
        nodes[1].1.kill().unwrap();
        let end = told.next().unwrap().unwrap();
        assert!(end.starts_with("lost: "), "{end}");
        for (role, mut node) in nodes {
            let status = node.wait().unwrap();
            assert!(status.success() || role == "server", "the {role} ended with {status}");
        }
    }
}
