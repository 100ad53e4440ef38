//! `keyrange manager`: the meeting point of a job whose servers and workers are started by hand or by a batch system.

use clap::{Args, Subcommand};
use keyrange::manager::Address;

use crate::launch::{self, Launch};
use crate::options::{Carrier, DoorArgs, FaultArgs, SizeArgs, SparseLrArgs};

/// The job to manage.
#[derive(Subcommand)]
pub enum Manager {
    /// L1-regularised logistic regression on sparse data; file names are those the workers see
    SparseLr(ManagerArgs),
}

/// Options of `keyrange manager sparse-lr`.
#[derive(Args)]
pub struct ManagerArgs {
    /// Where to listen: tcp:HOST:PORT or unix:NAME; several are possible. Beyond loopback only if you say so here
    #[arg(long, env = "KEYRANGE_LISTEN", default_value = "tcp:127.0.0.1:7070", num_args = 1.., value_name = "ADDRESS")]
    listen: Vec<Address>,

    #[command(flatten)]
    door: DoorArgs,

    #[command(flatten)]
    job: SparseLrArgs,

    #[command(flatten)]
    size: SizeArgs,

    /// Threads of each worker for reading data
    #[arg(long, env = "KEYRANGE_READ_THREADS", default_value_t = 1, value_name = "N")]
    read_threads: usize,

    /// Leave out the progress lines
    #[arg(long, short, env = "KEYRANGE_QUIET")]
    quiet: bool,
}

/// Manages the job to its end.
pub fn run(Manager::SparseLr(args): Manager) -> anyhow::Result<()> {
    let launch = Launch {
        job: args.job.job(args.read_threads.max(1))?.into(),
        size: args.size,
        carrier: Carrier::Auto,
        fault: FaultArgs::default(),
        report: args.job.report,
        quiet: args.quiet,
    };
    launch::manager_only(launch, args.listen, args.door.door()?)
}
