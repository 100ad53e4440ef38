//! `keyrange worker`: one worker of a job.

use clap::Args;
use keyrange::client::WorkerConfig;
use keyrange::node::connect_worker;
use keyrange_apps::application;

use crate::failure::Failure;
use crate::launch::{spare_cores, under_supervision};
use crate::options::{FaultArgs, MemberArgs};

/// Options of `keyrange worker`.
#[derive(Args)]
pub struct WorkerArgs {
    #[command(flatten)]
    member: MemberArgs,

    #[command(flatten)]
    fault: FaultArgs,

    /// Core to pin the worker to; by default it is not pinned
    #[arg(long, value_name = "CORE")]
    core: Option<usize>,
}

/// Works until the job's end.
pub fn run(args: WorkerArgs) -> anyhow::Result<()> {
    under_supervision(args.member.supervised, || {
        spare_cores(args.core.as_slice())?;
        let config = WorkerConfig {
            membership: args.member.membership()?,
            carrier: args.member.carrier.into(),
            core: args.core,
            mending: args.fault.mending(),
        };
        let worker = connect_worker(&config).map_err(|error| Failure::job(error.to_string()))?;
        let rank = worker.rank();
        application::run_worker(worker)?;
        if !args.member.supervised {
            println!("worker {rank} has finished");
        }
        Ok(())
    })
}
