//! `keyrange bench`: what rings, carriers, kernels, push and pull cost, each beside the limit of the machine.
//!
//! Limit and measurement take turns in one run, because machines drift; medians and the median of their ratios are
//! printed. Nothing is measured here that a job would do otherwise: the same links, the same servers.
//!
//! Read `options` (what can be asked), `limits` (what the machine can do), `turn` (what two sides do with a link), `peer`
//! (the second process), then `carrier` (`perftest` prints it in another manner), `push_pull` (with `growth` over its reports),
//! `kernels` and `filters`; `report` prints.

mod carrier;
mod filters;
mod growth;
mod kernels;
mod limits;
mod options;
mod peer;
mod perftest;
mod push_pull;
mod report;
mod turn;

use clap::{Args, Subcommand};

/// Arguments of `keyrange bench`.
#[derive(Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// The ring in shared memory between two processes: latency, message rate, bandwidth, CPU per message
    ///
    /// Sizes are bytes of payload; the carrier's word adds 8. `limit` is, for a round trip, the raw ping-pong of two cache
    /// lines between the same cores plus a copy of the message each way, and for a stream what two cores hand over
    /// through memory of the ring's size with one flag per quarter; `copy` is one core copying the same messages.
    Ring(carrier::RingArgs),
    /// A link as the engine uses it, over a carrier of choice; the limit of tcp is a bare pair of spinning sockets; verbs prints its
    /// figures also in the manner of ib_write_lat and ib_write_bw
    Carrier(carrier::CarrierArgs),
    /// A server process and one or more worker processes: pushes and pulls of keys, lists and ranges
    ///
    /// Prints latency, keys or bytes per second, CPU time per item on both sides and memory per key, each beside what a core
    /// does with the same values in plain memory.
    PushPull(push_pull::PushPullArgs),
    /// Reports of `push-pull --cases growth` side by side: cost per key by size of the table, servers and workers
    Growth(growth::GrowthArgs),
    /// The kernels by instruction set and size of the data, beside a copy (or a sum) of the same bytes
    Kernels(kernels::KernelsArgs),
    /// Filter chains on one core: how much smaller values become, and what coding and undoing cost beside a copy
    Filters(filters::FiltersArgs),
    /// The second process of a measurement
    #[command(hide = true)]
    Peer(peer::PeerArgs),
}

/// Measures what `args` ask for, prints a table and writes the JSON file if one is wanted.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    match args.what {
        What::Ring(args) => carrier::run_ring(&args),
        What::Carrier(args) => carrier::run_carrier(&args),
        What::PushPull(args) => push_pull::run(&args),
        What::Growth(args) => growth::run(&args),
        What::Kernels(args) => kernels::run(&args),
        What::Filters(args) => filters::run(&args),
        What::Peer(args) => peer::serve(&args),
    }
}
