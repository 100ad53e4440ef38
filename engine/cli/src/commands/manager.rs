//! `keyrange manager`: the meeting point of a job whose servers and workers are started by hand or by a batch system.

use clap::{Args, Subcommand};
use keyrange::manager::Address;

use super::factor::FactorArgs;
use super::sparse_lr::SparseLrArgs;
use crate::launch::{self, Launch};
use crate::options::{Carrier, DoorArgs, FaultArgs, JobArgs, SizeArgs};
use crate::verbs_options::VerbsArgs;

/// The job to manage.
#[derive(Subcommand)]
pub enum Manager {
    /// L1-regularised logistic regression on sparse data; file names are those the workers see
    SparseLr(Box<ManagerArgs<SparseLrArgs>>),
    /// Factors of users and items that predict ratings; file names are those the workers see
    MatrixFactorization(Box<ManagerArgs<FactorArgs>>),
}

/// Options of `keyrange manager` with the application `J`.
#[derive(Args)]
pub struct ManagerArgs<J: JobArgs> {
    /// Where to listen: tcp:HOST:PORT or unix:NAME; several are possible. Beyond loopback only if you say so here
    #[arg(long, env = "KEYRANGE_LISTEN", default_value = "tcp:127.0.0.1:7070", num_args = 1.., value_name = "ADDRESS")]
    listen: Vec<Address>,

    #[command(flatten)]
    door: DoorArgs,

    #[command(flatten)]
    job: J,

    #[command(flatten)]
    size: SizeArgs,

    /// Leave out the progress lines
    #[arg(long, short, env = "KEYRANGE_QUIET")]
    quiet: bool,
}

/// Manages the job to its end.
pub fn run(application: Manager) -> anyhow::Result<()> {
    match application {
        Manager::SparseLr(args) => manage(*args),
        Manager::MatrixFactorization(args) => manage(*args),
    }
}

fn manage<J: JobArgs>(args: ManagerArgs<J>) -> anyhow::Result<()> {
    let launch = Launch {
        report: args.job.writable_report()?,
        job: args.job.job(&args.size, 1)?,
        size: args.size,
        carrier: Carrier::Auto,
        verbs: VerbsArgs::default(),
        fault: FaultArgs::default(),
        quiet: args.quiet,
    };
    launch::manager_only(launch, args.listen, args.door.door()?)
}
