//! The processes of `bench push-pull`: a server and further workers of this program's, and the measuring worker and the
//! manager in this process.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Args;
use keyrange::client::{Mending, Worker, WorkerConfig};
use keyrange::cluster::Embedded;
use keyrange::manager::{Address, Door, JobEnd, JobPlan, Manager, ManagerConfig};
use keyrange::node::carrier::CarrierWish;
use keyrange::node::{Membership, ServerConfig, connect_worker, run_server};
use keyrange::update::Registry;

use super::super::limits::{pin, usable_cores};
use super::super::options::{LinkCarrier, Places};
use super::super::peer::{this_program, wait};
use super::crew::{Crew, obey};
use super::server_clock::{ServerClock, answer};
use crate::verbs_options::VerbsArgs;

const JOB: [u8; 16] = *b"keyrange-bench-1";
const JOIN_DEADLINE: Duration = Duration::from_secs(10);

/// A server whose worker has finished ends within this time.
const EXIT_PATIENCE: Duration = Duration::from_secs(15);

/// The secret reaches the processes by this variable, because others can read a process's arguments.
const SECRET_VARIABLE: &str = "KEYRANGE_BENCH_SECRET";

/// Arguments of the hidden `bench peer server` and `bench peer worker`.
#[derive(Args)]
pub struct NodeRole {
    #[arg(long)]
    manager: Address,
    #[arg(long)]
    carrier: CarrierWish,
    #[command(flatten)]
    verbs: VerbsArgs,
    /// None: no thread is pinned.
    #[arg(long, value_delimiter = ',')]
    cores: Vec<usize>,
    /// Shard threads of a server.
    #[arg(long, default_value_t = 1)]
    shards: u32,
    #[arg(long, env = SECRET_VARIABLE, hide_env_values = true)]
    secret: String,
}

impl NodeRole {
    fn membership(&self) -> Membership {
        membership(&self.manager, &self.secret)
    }
}

/// The control socket, which a process of the measurement gets as its standard input.
fn control_socket() -> anyhow::Result<UnixStream> {
    let control = std::io::stdin().as_fd().try_clone_to_owned().context("taking over the control socket")?;
    Ok(control.into())
}

/// The server process: serves until the job ends, and tells its CPU time.
pub fn serve(role: &NodeRole) -> anyhow::Result<()> {
    let (control, cores) = (control_socket()?, usable_cores()?);
    std::thread::spawn(move || answer(control, &cores));
    let config = ServerConfig {
        membership: role.membership(),
        shards: role.shards,
        listen: vec!["127.0.0.1:0".parse()?],
        carrier: role.carrier,
        verbs: role.verbs.selection(),
        cores: role.cores.clone(),
        functions: Arc::new(Registry::with_builtins()),
    };
    run_server(config).context("the server of the measurement")?;
    Ok(())
}

/// A further worker's process: does as the measuring worker tells it.
pub fn work(role: &NodeRole) -> anyhow::Result<()> {
    let worker = connect_worker(&WorkerConfig {
        membership: role.membership(),
        carrier: role.carrier,
        verbs: role.verbs.selection(),
        core: role.cores.first().copied(),
        mending: Mending::default(),
    })?;
    obey(worker, control_socket()?)
}

fn membership(manager: &Address, secret: &str) -> Membership {
    let door = Door::new(JOB, secret);
    Membership { manager: manager.clone(), door, rank: None, join_deadline: JOIN_DEADLINE }
}

/// A job of some shards and workers. Dropped early, it ends its processes.
pub struct Cluster {
    runs: Runs,
    /// Process id of the server, if it has a process of its own.
    pub server: Option<u32>,
}

enum Runs {
    Processes { manager: Option<Manager>, children: Vec<Child> },
    Threads { cluster: Option<Embedded>, mates: Vec<JoinHandle<anyhow::Result<()>>> },
}

/// What the measuring worker has at hand.
pub struct Hands {
    pub worker: Worker,
    pub crew: Crew,
    pub clock: ServerClock,
}

impl Cluster {
    /// Starts it; this thread is the measuring worker's and is pinned if threads are.
    pub fn start(
        carrier: LinkCarrier,
        verbs: &VerbsArgs,
        ring_bytes: usize,
        places: &Places,
    ) -> anyhow::Result<(Cluster, Hands)> {
        let ring_bytes = u32::try_from(ring_bytes).unwrap_or(u32::MAX);
        let (shards, workers) = (places.servers.len() as u32, places.workers.len() as u32);
        let wish = match carrier {
            LinkCarrier::InProcess => {
                return threads(&JobPlan { ring_bytes, ..JobPlan::new(shards, workers) }, places);
            }
            LinkCarrier::Shm => CarrierWish::Shm,
            LinkCarrier::Tcp => CarrierWish::Tcp,
            LinkCarrier::Verbs => CarrierWish::Verbs,
        };
        processes(JobPlan { ring_bytes, ..JobPlan::new(1, workers) }, wish, verbs, places)
    }

    fn adopt(&mut self, child: Child) {
        if let Runs::Processes { children, .. } = &mut self.runs {
            children.push(child);
        }
    }

    /// Waits for the end of the job, whose workers have finished.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        let end = match &mut self.runs {
            Runs::Processes { manager, children } => {
                children.iter_mut().try_for_each(|child| wait(child, EXIT_PATIENCE))?;
                manager.take().map(Manager::join)
            }
            Runs::Threads { cluster, mates } => {
                for mate in mates.drain(..) {
                    mate.join().unwrap_or_else(|_| bail!("a worker's thread panicked"))?;
                }
                cluster.take().map(Embedded::join)
            }
        };
        ensure!(end.is_none_or(|end| end == JobEnd::Finished), "the job of the measurement failed");
        Ok(())
    }
}

fn threads(plan: &JobPlan, places: &Places) -> anyhow::Result<(Cluster, Hands)> {
    plan.check()?;
    let cores = usable_cores()?;
    // A thread inherits its starter's core: the shards' comes from here, if there is one core for all of them.
    if let &[Some(core)] = places.servers.as_slice() {
        pin(core)?;
    }
    let mut cluster = Embedded::start(plan, &Arc::new(Registry::with_builtins()))?;
    if let Some(core) = places.workers[0] {
        pin(core)?;
    }
    let mut workers = cluster.take_workers().into_iter();
    let worker = workers.next().context("the cluster has no worker")?;
    let (mut crew, mut mates) = (Crew::default(), Vec::new());
    for (mate, &core) in workers.zip(&places.workers[1..]) {
        let (control, theirs) = UnixStream::pair().context("making a control socket")?;
        crew.add(control)?;
        mates.push(std::thread::spawn(move || {
            core.map_or(Ok(()), pin)?;
            obey(mate, theirs)
        }));
    }
    let cluster = Cluster { runs: Runs::Threads { cluster: Some(cluster), mates }, server: None };
    Ok((cluster, Hands { worker, crew, clock: ServerClock::Here(cores) }))
}

fn processes(
    plan: JobPlan,
    wish: CarrierWish,
    verbs: &VerbsArgs,
    places: &Places,
) -> anyhow::Result<(Cluster, Hands)> {
    plan.check()?;
    let secret = Address::unique_unix("secret").context("drawing a secret")?.to_string();
    let listen = vec![Address::unique_unix("bench").context("drawing a name")?];
    let manager = Manager::start(ManagerConfig { listen, door: Door::new(JOB, secret.as_str()), plan })?;
    let place = manager.addresses()[0].clone();
    let command = |role: &str, cores: &[Option<usize>]| -> anyhow::Result<Command> {
        let mut command = this_program()?;
        command.args(["peer", role, "--manager", &place.to_string(), "--carrier", &wish.to_string()]);
        command.args(verbs.arguments());
        for core in cores.iter().flatten() {
            command.args(["--cores", &core.to_string()]);
        }
        command.env(SECRET_VARIABLE, &secret);
        Ok(command)
    };
    let mut serve = command("server", &places.servers)?;
    let (server, control) = start(serve.args(["--shards", &places.servers.len().to_string()]))?;
    let mut cluster = Cluster {
        server: Some(server.id()),
        runs: Runs::Processes { manager: Some(manager), children: vec![server] },
    };
    let mut crew = Crew::default();
    for &core in &places.workers[1..] {
        let (child, control) = start(&mut command("worker", &[core])?)?;
        cluster.adopt(child);
        crew.add(control)?;
    }
    let worker = connect_worker(&WorkerConfig {
        membership: membership(&place, &secret),
        carrier: wish,
        verbs: verbs.selection(),
        core: places.workers[0],
        mending: Mending::default(),
    })?;
    Ok((cluster, Hands { worker, crew, clock: ServerClock::process(control)? }))
}

/// Starts a process with one end of a control socket; the other end.
fn start(command: &mut Command) -> anyhow::Result<(Child, UnixStream)> {
    let (control, theirs) = UnixStream::pair().context("making a control socket")?;
    let child = command
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .context("starting a process of the measurement")?;
    Ok((child, control))
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Runs::Processes { children, .. } = &mut self.runs {
            for child in children {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
