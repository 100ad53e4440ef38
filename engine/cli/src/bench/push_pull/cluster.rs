//! The processes of `bench push-pull`: a server of this program's, and the worker and the manager in this process.

use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use keyrange::client::{Mending, Worker, WorkerConfig};
use keyrange::cluster::Embedded;
use keyrange::manager::{Address, Door, JobEnd, JobPlan, Manager, ManagerConfig};
use keyrange::node::carrier::CarrierWish;
use keyrange::node::{Membership, ServerConfig, connect_worker, run_server};
use keyrange::update::Registry;

use super::super::limits::pin;
use super::super::options::LinkCarrier;
use super::super::peer::{this_program, wait};

const JOB: [u8; 16] = *b"keyrange-bench-1";
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// A server whose worker has finished ends within this time.
const EXIT_PATIENCE: Duration = Duration::from_secs(15);

/// The secret reaches the server by this variable, because others can read a process's arguments.
const SECRET_VARIABLE: &str = "KEYRANGE_BENCH_SECRET";

/// Arguments of the hidden `bench peer server`.
#[derive(Args)]
pub struct ServerRole {
    #[arg(long)]
    manager: Address,
    #[arg(long)]
    carrier: CarrierWish,
    #[arg(long)]
    core: usize,
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true)]
    secret: String,
}

/// The server process: serves until the job ends.
pub fn serve(role: &ServerRole) -> anyhow::Result<()> {
    let config = ServerConfig {
        membership: membership(&role.manager, &role.secret),
        shards: 1,
        listen: vec!["127.0.0.1:0".parse()?],
        carrier: role.carrier,
        cores: vec![role.core],
        functions: Arc::new(Registry::with_builtins()),
    };
    run_server(config).context("the server of the measurement")?;
    Ok(())
}

fn membership(manager: &Address, secret: &str) -> Membership {
    let door = Door::new(JOB, secret);
    Membership { manager: manager.clone(), door, rank: None, join_deadline: JOIN_DEADLINE }
}

/// A job of one server and one worker. Dropped early, it ends the server.
pub enum Cluster {
    Processes { manager: Option<Manager>, server: Child },
    Threads(Option<Embedded>),
}

impl Cluster {
    /// Starts it; this thread is the worker's and is pinned to the first core.
    pub fn start(
        carrier: LinkCarrier,
        ring_bytes: usize,
        cores: [usize; 2],
    ) -> anyhow::Result<(Cluster, Worker)> {
        let ring_bytes = u32::try_from(ring_bytes).unwrap_or(u32::MAX);
        let plan = JobPlan { ring_bytes, ..JobPlan::new(1, 1) };
        plan.check()?;
        let wish = match carrier {
            LinkCarrier::InProcess => return Cluster::threads(&plan, cores),
            LinkCarrier::Shm => CarrierWish::Shm,
            LinkCarrier::Tcp => CarrierWish::Tcp,
            LinkCarrier::Verbs => CarrierWish::Verbs,
        };
        let secret = Address::unique_unix("secret").context("drawing a secret")?.to_string();
        let listen = vec![Address::unique_unix("bench").context("drawing a name")?];
        let manager = Manager::start(ManagerConfig { listen, door: Door::new(JOB, secret.as_str()), plan })?;
        let place = manager.addresses()[0].clone();
        let server = this_program()?
            .args(["peer", "server", "--manager", &place.to_string(), "--carrier", &wish.to_string()])
            .args(["--core", &cores[1].to_string()])
            .env(SECRET_VARIABLE, &secret)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the server process")?;
        let cluster = Cluster::Processes { manager: Some(manager), server };
        let worker = connect_worker(&WorkerConfig {
            membership: membership(&place, &secret),
            carrier: wish,
            core: Some(cores[0]),
            mending: Mending::default(),
        })?;
        Ok((cluster, worker))
    }

    fn threads(plan: &JobPlan, cores: [usize; 2]) -> anyhow::Result<(Cluster, Worker)> {
        // A thread inherits its starter's core: the shard's comes from here.
        pin(cores[1])?;
        let mut cluster = Embedded::start(plan, &Arc::new(Registry::with_builtins()))?;
        pin(cores[0])?;
        let worker = cluster.take_workers().pop().context("the cluster has no worker")?;
        Ok((Cluster::Threads(Some(cluster)), worker))
    }

    /// Process id of the server, if it has a process of its own.
    pub fn server(&self) -> Option<u32> {
        match self {
            Cluster::Processes { server, .. } => Some(server.id()),
            Cluster::Threads(_) => None,
        }
    }

    /// Waits for the end of the job, whose worker has finished.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let end = match self {
            Cluster::Processes { manager, server } => {
                wait(server, EXIT_PATIENCE)?;
                manager.take().map(Manager::join)
            }
            Cluster::Threads(cluster) => cluster.take().map(Embedded::join),
        };
        ensure!(end.is_none_or(|end| end == JobEnd::Finished), "the job of the measurement failed");
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Cluster::Processes { server, .. } = self {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}
