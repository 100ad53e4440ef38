//! The processes of a job: started, named, and never left behind.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use keyrange::manager::Address;
use rustix::process::{Pid, Signal};

use super::Launch;
use crate::failure::{BAD_INPUT, Failure};
use crate::options::{Carrier, SECRET_VARIABLE};

/// Who started this process; a child that finds another parent has lost its own.
const PARENT_VARIABLE: &str = "KEYRANGE_PARENT";

/// Processes have this long to end by themselves, and again after SIGTERM.
const GRACE: Duration = Duration::from_millis(700);

/// The running processes.
pub struct Children {
    running: Vec<Node>,
}

struct Node {
    name: String,
    process: Child,
    ended: Option<ExitStatus>,
}

impl Children {
    /// Starts the servers and workers of `launch`, which will join the manager at `address`. Call it from the thread that
    /// outlives them: they end with it.
    pub fn start(launch: &Launch, address: &Address, secret: &str) -> anyhow::Result<Self> {
        let program = std::env::current_exe()
            .map_err(|error| Failure::job(format!("cannot find the path of this program: {error}")))?;
        let mut children = Children { running: Vec::new() };
        let nodes = [("server", launch.size.servers), ("worker", launch.size.workers)];
        for (role, rank) in nodes.iter().flat_map(|&(role, count)| (0..count).map(move |rank| (role, rank))) {
            let mut command = Command::new(&program);
            command
                .args([role, "--supervised", "--carrier", carrier_name(launch.carrier)])
                .args(["--manager", &address.to_string(), "--job", "train", "--rank", &rank.to_string()])
                .args(["--join-deadline", &humantime::format_duration(launch.size.join_deadline).to_string()])
                .args(launch.verbs.arguments())
                .env(SECRET_VARIABLE, secret)
                .env(PARENT_VARIABLE, std::process::id().to_string())
                .env_remove("KEYRANGE_SECRET_FILE")
                .env_remove("KEYRANGE_CONFIG")
                .env_remove("KEYRANGE_SERVER_LISTEN")
                .env_remove("KEYRANGE_CORES")
                .env_remove("KEYRANGE_SERVER_THREADS")
                // Ctrl-C in a terminal goes to a whole group; the launcher alone shall get it and end the job.
                .process_group(0)
                .stdin(Stdio::null());
            if let (Some(plan), "worker") = (launch.fault.fault, role) {
                command.args(["--fault", &plan.to_string()]);
            }
            let name = format!("{role} {rank}");
            // What has been started so far ends when `children` is dropped.
            let process =
                command.spawn().map_err(|error| Failure::job(format!("cannot start {name}: {error}")))?;
            children.running.push(Node { name, process, ended: None });
        }
        Ok(children)
    }

    /// A process that ended badly since the last call, with its exit code and what happened to it.
    pub fn newly_failed(&mut self) -> Option<(u8, String)> {
        for node in self.running.iter_mut().filter(|node| node.ended.is_none()) {
            let Ok(Some(status)) = node.process.try_wait() else { continue };
            node.ended = Some(status);
            if !status.success() {
                return Some((
                    code_of(status),
                    format!("{} (process {}) {}", node.name, node.process.id(), told(status)),
                ));
            }
        }
        None
    }

    /// Whether a process found its input bad.
    pub fn found_bad_input(&self) -> bool {
        self.running.iter().any(|node| node.ended.is_some_and(|status| code_of(status) == BAD_INPUT))
    }

    /// Waits for all of them: first as they are, then asked to end, then killed.
    pub fn end(&mut self) {
        for signal in [None, Some(Signal::TERM), Some(Signal::KILL)] {
            for node in self.running.iter().filter(|node| node.ended.is_none()) {
                if let (Some(signal), Some(pid)) = (signal, Pid::from_raw(node.process.id() as i32)) {
                    // It may have ended this moment; it is not reaped yet, so the number is still its own.
                    let _ = rustix::process::kill_process(pid, signal);
                }
            }
            let until = Instant::now() + GRACE;
            while self.running.iter().any(|node| node.ended.is_none()) && Instant::now() < until {
                while self.newly_failed().is_some() {}
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for node in self.running.iter_mut().filter(|node| node.ended.is_none()) {
            let _ = node.process.kill();
            let _ = node.process.wait();
        }
    }
}

fn carrier_name(carrier: Carrier) -> &'static str {
    match carrier {
        Carrier::Auto => "auto",
        Carrier::Shm => "shm",
        Carrier::Tcp => "tcp",
        Carrier::Verbs => "verbs",
    }
}

fn code_of(status: ExitStatus) -> u8 {
    status.code().map_or(1, |code| code as u8)
}

fn told(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

/// A secret that only this process and its children know.
pub fn fresh_secret() -> anyhow::Result<String> {
    let mut bytes = [0u8; 32];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled != bytes.len() {
        return Err(Failure::job("the system has no randomness for the job's secret"));
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Runs a node; as somebody's child it ends with its parent and leaves messages to it.
pub fn under_supervision(supervised: bool, node: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if supervised {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
        if parent != std::env::var(PARENT_VARIABLE).ok() {
            return Err(Failure::hushed(&Failure::job("the process that started this one is gone")));
        }
    }
    match node() {
        Err(error) if supervised => {
            tracing::info!("{error:#}");
            Err(Failure::hushed(&error))
        }
        result => result,
    }
}
