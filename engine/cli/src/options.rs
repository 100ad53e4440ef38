//! Options that several subcommands share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use keyrange::client::Mending;
use keyrange::manager::{Address, Door};
use keyrange::node::Membership;
use keyrange::node::carrier::CarrierWish;
use keyrange_transport::fault::FaultPlan;

use crate::failure::Failure;
use crate::launch::Job;
use crate::verbs_options::VerbsArgs;

/// How nodes exchange frames.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Carrier {
    /// Shared memory on one host, else RDMA verbs where both hosts have it, else TCP
    Auto,
    /// Shared memory or nothing
    Shm,
    /// TCP, also on one host
    Tcp,
    /// RDMA verbs, also on one host
    Verbs,
}

impl From<Carrier> for CarrierWish {
    fn from(carrier: Carrier) -> Self {
        match carrier {
            Carrier::Auto => CarrierWish::Auto,
            Carrier::Shm => CarrierWish::Shm,
            Carrier::Tcp => CarrierWish::Tcp,
            Carrier::Verbs => CarrierWish::Verbs,
        }
    }
}

/// A finite number that is at least 0.
pub fn non_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a finite number, 0 or more".into()),
    }
}

/// A finite number above 0.
pub fn positive(text: &str) -> Result<f64, String> {
    non_negative(text).ok().filter(|value| *value > 0.0).ok_or_else(|| "expected a number above 0".into())
}

/// A duration like 500ms or 20s.
pub fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| format!("expected a duration like 20s: {error}"))
}

/// The size of a job.
#[derive(Args)]
pub struct SizeArgs {
    /// Server threads, each owning a range of the keys
    #[arg(long, env = "KEYRANGE_SERVERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub servers: u32,

    /// Workers, each with a share of the rows
    #[arg(long, env = "KEYRANGE_WORKERS", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub workers: u32,

    /// Every node must have joined this long after the start
    #[arg(long, env = "KEYRANGE_JOIN_DEADLINE", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub join_deadline: Duration,

    /// Receive ring of each link in bytes, a power of two from 4096; a frame is at most a quarter of it
    #[arg(long, env = "KEYRANGE_RING_BYTES", default_value_t = 1 << 20, value_name = "BYTES")]
    pub ring_bytes: u32,
}

/// An application on the command line: its options, and the job they ask for.
pub trait JobArgs: Args {
    /// The job for nodes of this `size`, whose workers read data with `read_threads` threads unless the options say otherwise.
    fn job(&self, size: &SizeArgs, read_threads: usize) -> anyhow::Result<Job>;

    /// The files that the workers read.
    fn files(&self) -> Vec<&Path>;

    /// Where the report goes.
    fn report(&self) -> Option<&Path>;

    /// Refuses files that are not there, for workers of this machine.
    fn check_files(&self) -> anyhow::Result<()> {
        match self.files().into_iter().find(|file| !file.exists()) {
            Some(file) => Err(Failure::input(format!("{}: no such file", file.display()))),
            None => Ok(()),
        }
    }

    /// Where the report goes, refused where it could not be written in the end.
    fn writable_report(&self) -> anyhow::Result<Option<PathBuf>> {
        match self.report().and_then(Path::parent) {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                Err(Failure::input(format!("--report: {} is no directory", folder.display())))
            }
            _ => Ok(self.report().map(Path::to_path_buf)),
        }
    }
}

/// Which job it is and what proves that a node belongs to it.
#[derive(Args)]
pub struct DoorArgs {
    /// Name of the job, the same on all its nodes
    #[arg(long, env = "KEYRANGE_JOB", default_value = "keyrange", value_name = "NAME")]
    pub job: String,

    /// File with the job's secret, the same on all its nodes. Also KEYRANGE_SECRET holds one. Needed beyond loopback
    #[arg(long, env = "KEYRANGE_SECRET_FILE", value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
}

/// The variable that holds the secret of a job, for processes started by others.
pub const SECRET_VARIABLE: &str = "KEYRANGE_SECRET";

impl DoorArgs {
    /// Job id and secret.
    pub fn door(&self) -> anyhow::Result<Door> {
        let secret = match &self.secret_file {
            Some(file) => std::fs::read(file)
                .map_err(|error| Failure::input(format!("{}: cannot read: {error}", file.display())))?,
            None => std::env::var(SECRET_VARIABLE).unwrap_or_default().into_bytes(),
        };
        Ok(Door::named(&self.job, secret.trim_ascii()))
    }
}

/// Faults on purpose.
#[derive(Args, Clone, Copy, Default)]
pub struct FaultArgs {
    /// What the workers send meets these faults, seeded, and must still count exactly once; for trying it.
    /// Like seed=7,drop=0.01,dup=0.01,delay=0.02,reorder=0.01,kill=5000 (kill: a TCP link, after so many frames)
    #[arg(long, env = "KEYRANGE_FAULT", value_name = "PLAN")]
    pub fault: Option<FaultPlan>,
}

impl FaultArgs {
    /// How a worker is to deal with links that break.
    pub fn mending(self) -> Mending {
        Mending { fault: self.fault, ..Mending::default() }
    }
}

/// How a server or worker finds its job.
#[derive(Args)]
pub struct MemberArgs {
    /// Where the manager listens: tcp:HOST:PORT or unix:NAME
    #[arg(long, env = "KEYRANGE_MANAGER", value_name = "ADDRESS")]
    pub manager: Address,

    #[command(flatten)]
    pub door: DoorArgs,

    /// The rank to have; without one, the lowest free
    #[arg(long, value_name = "N")]
    pub rank: Option<u32>,

    /// How long to look for the manager and to wait for the other nodes
    #[arg(long, env = "KEYRANGE_JOIN_DEADLINE", default_value = "20s", value_parser = duration, value_name = "TIME")]
    pub join_deadline: Duration,

    /// How frames travel
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    pub carrier: Carrier,

    #[command(flatten)]
    pub verbs: VerbsArgs,

    /// End when the process that started this one ends, and leave messages to it
    #[arg(long, hide = true)]
    pub supervised: bool,
}

impl MemberArgs {
    /// What a node must know to join.
    pub fn membership(&self) -> anyhow::Result<Membership> {
        Ok(Membership {
            manager: self.manager.clone(),
            door: self.door.door()?,
            rank: self.rank,
            join_deadline: self.join_deadline,
        })
    }
}
