//! `keyrange server`: one server of a job.

use std::sync::Arc;

use clap::Args;
use keyrange::manager::Address;
use keyrange::node::{ServerConfig, run_server};

use crate::failure::Failure;
use crate::launch::{functions, spare_cores, under_supervision};
use crate::options::MemberArgs;

/// Options of `keyrange server`.
#[derive(Args)]
pub struct ServerArgs {
    #[command(flatten)]
    member: MemberArgs,

    /// Threads, each owning a range of the keys
    #[arg(long, env = "KEYRANGE_SERVER_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "N")]
    threads: u32,

    /// Where to listen for workers over TCP; port 0 takes a free one. Beyond loopback only if you say so here
    #[arg(long, env = "KEYRANGE_SERVER_LISTEN", default_value = "tcp:127.0.0.1:0", num_args = 1.., value_name = "ADDRESS")]
    listen: Vec<Address>,

    /// Cores to pin the threads to, in order; by default none is pinned
    #[arg(long, env = "KEYRANGE_CORES", num_args = 1.., value_delimiter = ',', value_name = "CORE")]
    cores: Vec<usize>,
}

/// Serves until the job's end.
pub fn run(args: ServerArgs) -> anyhow::Result<()> {
    let supervised = args.member.supervised;
    under_supervision(supervised, || {
        spare_cores(&args.cores)?;
        let config = ServerConfig {
            membership: args.member.membership()?,
            shards: args.threads,
            listen: args.listen,
            carrier: args.member.carrier.into(),
            verbs: args.member.verbs.selection(),
            cores: args.cores,
            functions: Arc::new(functions()),
        };
        let summary = run_server(config).map_err(|error| Failure::job(error.to_string()))?;
        if !supervised {
            println!("server {} has finished", summary.rank);
        }
        Ok(())
    })
}
