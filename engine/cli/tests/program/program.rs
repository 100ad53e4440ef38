//! Starts the program and looks at what it leaves. Every wait has a deadline, and no process outlives its test.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes long; a machine busy with other things may.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Looks until `look` finds something; `what` it awaits is told when the deadline passes.
pub fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what}: nothing after {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder of its own to run the program in.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tmp")).unwrap();
        Place(folder)
    }

    /// The path of `name` in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file in it.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// What lies in it, but for the logs of these tests and temporary files.
    pub fn names(&self) -> Vec<String> {
        names(self.0.path()).into_iter().filter(|name| !matches!(&name[..], "tmp" | "out" | "err")).collect()
    }

    /// What the program left among temporary files.
    pub fn temporary(&self) -> Vec<String> {
        names(&self.path("tmp"))
    }

    /// The program with `words` as arguments.
    pub fn keyrange(&self, words: &str) -> Invocation {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keyrange"));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("KEYRANGE_")) {
                command.env_remove(name);
            }
        }
        command.current_dir(self.0.path()).env("TMPDIR", self.path("tmp")).args(words.split_whitespace());
        let logs = tempfile::Builder::new().prefix("keyrange-test-").tempdir().unwrap();
        Invocation { command, logs }
    }

    /// The report `report.json`.
    pub fn report(&self) -> Report {
        Report(fs::read_to_string(self.path("report.json")).expect("a report"))
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Names in /dev/shm that could be this program's.
pub fn shared_memory_names() -> Vec<String> {
    if !Path::new("/dev/shm").is_dir() {
        return Vec::new();
    }
    names(Path::new("/dev/shm")).into_iter().filter(|name| name.contains("keyrange")).collect()
}

/// The program about to run.
pub struct Invocation {
    command: Command,
    logs: TempDir,
}

impl Invocation {
    pub fn option(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.arg(name).arg(value);
        self
    }

    /// More arguments.
    pub fn words(mut self, words: &str) -> Self {
        self.command.args(words.split_whitespace());
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let file = |name: &str| File::create(self.logs.path().join(name)).unwrap();
        self.command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        Running { child: self.command.spawn().unwrap(), logs: self.logs }
    }

    /// Runs it to its end.
    pub fn run(self) -> Outcome {
        self.start().end()
    }

    /// Runs it to its end, which must be a good one.
    pub fn succeed(self) -> Outcome {
        let outcome = self.run();
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        outcome
    }
}

/// The program under way; dropping it kills it, and its children end with it.
pub struct Running {
    child: Child,
    logs: TempDir,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// None after a signal.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A process of a job.
#[derive(Debug, Clone)]
pub struct Node {
    pub pid: u32,
    /// `server 0`, `worker 1`.
    pub name: String,
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn log(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.logs.path().join(name)).unwrap()).into_owned()
    }

    /// Waits until standard error holds `text`; gives the rest of that line.
    pub fn await_stderr(&mut self, text: &str) -> String {
        self.await_log("err", text)
    }

    /// Waits until standard output holds `text`; gives the rest of that line.
    pub fn await_stdout(&mut self, text: &str) -> String {
        self.await_log("out", text)
    }

    fn await_log(&mut self, name: &str, text: &str) -> String {
        await_some(text, || {
            let log = self.log(name);
            let ended = self.child.try_wait().unwrap();
            let found = log.find(text).and_then(|at| log[at + text.len()..].split_once('\n'));
            assert!(found.is_some() || ended.is_none(), "ended without {text:?}: {log}{}", self.log("err"));
            found.map(|(line, _)| line.trim().to_owned())
        })
    }

    /// Waits for its end.
    pub fn end(mut self) -> Outcome {
        let status = await_some("the end of the program", || self.child.try_wait().unwrap());
        Outcome { code: status.code(), stdout: self.log("out"), stderr: self.log("err") }
    }

    /// The processes it started.
    pub fn nodes(&self) -> Vec<Node> {
        let parent = self.pid().to_string();
        let processes =
            fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        processes.filter(|&pid| stat(pid).is_some_and(|stat| stat[1] == parent)).filter_map(node).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail harmlessly if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn node(pid: u32) -> Option<Node> {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
    let words: Vec<&str> = line.split('\0').collect();
    let rank = words.iter().position(|word| *word == "--rank")? + 1;
    Some(Node { pid, name: format!("{} {}", words.get(1)?, words.get(rank)?) })
}

/// The fields of /proc/PID/stat from the state on.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}

/// Whether a process runs (one that has ended but whose parent does not ask does not).
pub fn runs(pid: u32) -> bool {
    stat(pid).is_some_and(|stat| !matches!(&stat[0][..], "Z" | "X"))
}

/// Time a process has spent on processors.
pub fn cpu_seconds(pid: u32) -> f64 {
    let stat = stat(pid).expect("a running process");
    let ticks = stat[11].parse::<f64>().unwrap() + stat[12].parse::<f64>().unwrap();
    ticks / rustix::param::clock_ticks_per_second() as f64
}

/// Sends a signal.
pub fn send(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// A report as text: numbers are compared as they are written, which is exact.
pub struct Report(String);

impl Report {
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.0).unwrap()
    }

    pub fn number(&self, field: &str) -> f64 {
        self.value()
            .pointer(field)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{field}: no number in {}", self.0))
    }

    /// The objective, every digit of it: the shortest text that gives the same bits.
    pub fn objective_digits(&self) -> String {
        let line = self.0.lines().find(|line| line.starts_with("  \"objective\"")).expect("an objective");
        line.trim().to_owned()
    }
}
