//! `keyrange train`: servers and workers as processes (or threads) of this machine.

use clap::{Args, Subcommand};

use keyrange_transport::verbs::Device;

use super::factor::FactorArgs;
use super::sparse_lr::SparseLrArgs;
use crate::failure::Failure;
use crate::launch::{self, Launch};
use crate::options::{Carrier, FaultArgs, JobArgs, SizeArgs};
use crate::verbs_options::VerbsArgs;

/// What to train.
#[derive(Subcommand)]
pub enum Train {
    /// L1-regularised logistic regression on sparse data, to its optimum
    SparseLr(Box<TrainArgs<SparseLrArgs>>),
    /// Factors of users and items that predict ratings, by stochastic gradient descent on clocked tables
    MatrixFactorization(Box<TrainArgs<FactorArgs>>),
}

/// Options of `keyrange train` with the application `J`.
#[derive(Args)]
pub struct TrainArgs<J: JobArgs> {
    #[command(flatten)]
    job: J,

    #[command(flatten)]
    size: SizeArgs,

    /// How frames travel between the processes
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    carrier: Carrier,

    #[command(flatten)]
    verbs: VerbsArgs,

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
pub fn run(application: Train) -> anyhow::Result<()> {
    match application {
        Train::SparseLr(args) => train(*args),
        Train::MatrixFactorization(args) => train(*args),
    }
}

/// Refuses ways to talk that threads, or this machine, do not have.
fn check_carrier(
    embedded: bool,
    carrier: Carrier,
    verbs: &VerbsArgs,
    fault: FaultArgs,
) -> anyhow::Result<()> {
    if embedded && matches!(carrier, Carrier::Tcp | Carrier::Verbs) {
        return Err(Failure::input(
            "--embedded threads share memory: expected --carrier auto or shm, got tcp or verbs",
        ));
    }
    let selected = *verbs != VerbsArgs::default();
    if carrier == Carrier::Verbs || (carrier == Carrier::Auto && selected && !embedded) {
        // Servers and workers open the device themselves; here its absence is told before anything is started.
        Device::open(&verbs.selection())
            .map_err(|error| Failure::input(format!("--carrier verbs: {error}")))?;
    }
    if embedded && fault.fault.is_some() {
        return Err(Failure::input("--fault is for links between processes: expected no --embedded with it"));
    }
    Ok(())
}

fn train<J: JobArgs>(args: TrainArgs<J>) -> anyhow::Result<()> {
    check_carrier(args.embedded, args.carrier, &args.verbs, args.fault)?;
    args.job.check_files()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = (cores / args.size.workers as usize).max(1);
    let launch = Launch {
        report: args.job.writable_report()?,
        job: args.job.job(&args.size, threads)?,
        size: args.size,
        carrier: args.carrier,
        verbs: args.verbs,
        fault: args.fault,
        quiet: args.quiet,
    };
    if args.embedded { launch::embedded(launch) } else { launch::processes(launch) }
}
