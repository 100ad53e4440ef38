//! `keyrange train`: servers and workers as processes (or threads) of this machine.

use clap::{Args, Subcommand};

use keyrange_transport::verbs::{Device, Selection};

use super::factor::{self, FactorArgs};
use crate::failure::Failure;
use crate::launch::{self, Launch};
use crate::options::{Carrier, FaultArgs, SizeArgs, SparseLrArgs};

/// What to train.
#[derive(Subcommand)]
pub enum Train {
    /// L1-regularised logistic regression on sparse data, to its optimum
    SparseLr(Box<TrainArgs>),
    /// Factors of users and items that predict ratings, by stochastic gradient descent on clocked tables
    MatrixFactorization(Box<FactorArgs>),
}

/// Options of `keyrange train sparse-lr`.
#[derive(Args)]
pub struct TrainArgs {
    #[command(flatten)]
    job: SparseLrArgs,

    #[command(flatten)]
    size: SizeArgs,

    /// How frames travel between the processes
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    carrier: Carrier,

    /// Servers and workers as threads of this process instead of processes
    #[arg(long, env = "KEYRANGE_EMBEDDED")]
    embedded: bool,

    #[command(flatten)]
    fault: FaultArgs,

    /// Leave out the progress lines
    #[arg(long, short, env = "KEYRANGE_QUIET")]
    quiet: bool,
}

/// Trains.
pub fn run(train: Train) -> anyhow::Result<()> {
    match train {
        Train::SparseLr(args) => sparse_lr(*args),
        Train::MatrixFactorization(args) => factor::run(*args),
    }
}

/// Refuses ways to talk that threads, or this machine, do not have.
pub fn check_carrier(embedded: bool, carrier: Carrier, fault: FaultArgs) -> anyhow::Result<()> {
    if embedded && matches!(carrier, Carrier::Tcp | Carrier::Verbs) {
        return Err(Failure::input(
            "--embedded threads share memory: expected --carrier auto or shm, got tcp or verbs",
        ));
    }
    if carrier == Carrier::Verbs {
        // Servers and workers open the device themselves; here its absence is told before anything is started.
        Device::open(&Selection::default())
            .map_err(|error| Failure::input(format!("--carrier verbs: {error}")))?;
    }
    if embedded && fault.fault.is_some() {
        return Err(Failure::input("--fault is for links between processes: expected no --embedded with it"));
    }
    Ok(())
}

fn sparse_lr(args: TrainArgs) -> anyhow::Result<()> {
    check_carrier(args.embedded, args.carrier, args.fault)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / args.size.workers as usize).max(1);
    let launch = Launch {
        job: args.job.job(threads)?.into(),
        size: args.size,
        carrier: args.carrier,
        fault: args.fault,
        report: args.job.report,
        quiet: args.quiet,
    };
    if args.embedded { launch::embedded(launch) } else { launch::processes(launch) }
}
