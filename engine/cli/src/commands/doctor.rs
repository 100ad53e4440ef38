//! `keyrange doctor`: what this machine can do, and what to type to mend it.

use std::time::Duration;

use clap::Args;
use keyrange::manager::Address;
use keyrange::manager::stream::Listener;
use serde_json::json;

use crate::doctor::{Finding, Severity, examine, peer};
use crate::failure::Failure;
use crate::options::{Carrier, DoorArgs, duration};

/// How long a call may take to be answered, and how long to wait for one, if nothing was said.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
const LISTEN_PATIENCE: Duration = Duration::from_secs(600);

/// Options of `keyrange doctor`.
#[derive(Args)]
pub struct DoctorArgs {
    /// The carrier a job shall use: what it lacks is a problem then
    #[arg(long, env = "KEYRANGE_CARRIER", value_enum, default_value_t = Carrier::Auto)]
    carrier: Carrier,

    /// The manager's address: unix:NAME or tcp:HOST:PORT
    #[arg(long, env = "KEYRANGE_MANAGER", value_name = "ADDRESS")]
    manager: Option<String>,

    /// Another machine, where `keyrange doctor --listen` waits (or a job's manager runs): whether it can be reached, how fast it
    /// is, which carrier the two would choose and why; where both have RDMA, a link over verbs is tried
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "listen")]
    peer: Option<String>,

    /// Wait at this address for the doctor of another machine, once; tcp:0.0.0.0:7071 lets other hosts in, who need the secret
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Address>,

    /// How long to wait for the other machine: 5s by default, 10m with --listen
    #[arg(long, value_parser = duration, value_name = "TIME")]
    wait: Option<Duration>,

    #[command(flatten)]
    door: DoorArgs,

    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Looks and tells. Exit code 0: fine, 3: warnings, 4: problems.
pub fn run(args: &DoctorArgs) -> anyhow::Result<()> {
    // Whoever calls meanwhile waits in the kernel's queue.
    let listener =
        args.listen.as_ref().map(Listener::bind).transpose().map_err(|e| Failure::input(e.to_string()))?;
    let mut findings = examine(args.carrier, args.manager.as_deref());
    let carrier = args.carrier.into();
    if let Some(listener) = &listener {
        eprintln!("waiting for another machine's doctor at {}", listener.address()?);
        let wait = args.wait.unwrap_or(LISTEN_PATIENCE);
        findings.extend(peer::await_visitor(carrier, listener, &args.door.door()?, wait));
    }
    if let Some(peer) = &args.peer {
        let wait = args.wait.unwrap_or(CALL_PATIENCE);
        findings.extend(peer::examine(carrier, peer, &args.door.door()?, wait));
    }
    let worst = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine);
    if args.json {
        println!("{}", serde_json::to_string_pretty(&json!({ "severity": worst, "findings": findings }))?);
    } else {
        findings.iter().for_each(print);
    }
    match worst {
        Severity::Fine => Ok(()),
        worst => Err(Failure::silent(worst.exit_code())),
    }
}

fn print(finding: &Finding) {
    println!("{:<8} {:<14} {}", finding.severity.to_string(), finding.area, finding.found);
    if let Some(mend) = &finding.mend {
        println!("{:<8} {:<14} -> {mend}", "", "");
    }
}
