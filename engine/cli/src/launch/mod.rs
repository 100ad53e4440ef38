//! A job on this machine: its manager, its processes or threads, its progress and its end.
//!
//! [`job`] is what is trained, [`children`] are the processes, [`watch`] follows a job's events to its end, [`progress`] is what people see.

mod children;
mod job;
mod progress;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use keyrange::cluster::Embedded;
use keyrange::manager::{Address, Door, JobPlan, Manager, ManagerConfig};
use keyrange::update::Registry;
use keyrange_apps::application;
use keyrange_apps::sparse_lr::server;

use self::children::Children;
use self::watch::{Signals, Watch};
use crate::failure::Failure;
use crate::options::{Carrier, FaultArgs, SizeArgs};

pub use self::children::under_supervision;
pub use self::job::Job;

/// A job to be run.
pub struct Launch {
    /// What to train on and how.
    pub job: Job,
    /// How many nodes.
    pub size: SizeArgs,
    /// How they talk.
    pub carrier: Carrier,
    /// What the frames of the workers meet.
    pub fault: FaultArgs,
    /// Where the report goes.
    pub report: Option<PathBuf>,
    /// Whether to leave out progress.
    pub quiet: bool,
}

impl Launch {
    fn plan(&self) -> anyhow::Result<JobPlan> {
        let plan = JobPlan {
            join_deadline: self.size.join_deadline,
            ring_bytes: self.size.ring_bytes,
            parameters: self.job.parameters()?,
            ..JobPlan::new(self.size.servers, self.size.workers)
        };
        plan.check().map_err(|error| Failure::input(error.to_string()))?;
        Ok(plan)
    }
}

/// The server functions of this program.
pub fn functions() -> Registry {
    let mut registry = Registry::with_builtins();
    server::register(&mut registry);
    registry
}

/// Refuses cores that this process may not use.
pub fn spare_cores(cores: &[usize]) -> anyhow::Result<()> {
    let allowed = rustix::thread::sched_getaffinity(None)?;
    for &core in cores {
        if core >= rustix::thread::CpuSet::MAX_CPU || !allowed.is_set(core) {
            return Err(Failure::input(format!(
                "core {core} is not among the {} this process may use",
                allowed.count()
            )));
        }
    }
    Ok(())
}

/// Servers and workers as child processes.
pub fn processes(launch: Launch) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    let secret = children::fresh_secret()?;
    let address = Address::unique_unix("manager").map_err(|error| Failure::job(error.to_string()))?;
    let config = ManagerConfig {
        listen: vec![address.clone()],
        door: Door::named("train", secret.as_bytes()),
        plan: launch.plan()?,
    };
    let manager = Manager::start(config).map_err(|error| Failure::job(error.to_string()))?;
    let children = Children::start(&launch, &address, &secret)?;
    let aborter = manager.aborter();
    let watch = Watch::new(launch, signals, Some(children));
    watch.run(manager.events(), &aborter)
}

/// The manager alone; nodes join from anywhere.
pub fn manager_only(launch: Launch, listen: Vec<Address>, door: Door) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    let config = ManagerConfig { listen, door, plan: launch.plan()? };
    let manager = Manager::start(config).map_err(|error| Failure::job(error.to_string()))?;
    for address in manager.addresses() {
        println!("listening at {address}");
    }
    let aborter = manager.aborter();
    Watch::new(launch, signals, None).run(manager.events(), &aborter)
}

/// Servers and workers as threads of this process.
pub fn embedded(launch: Launch) -> anyhow::Result<()> {
    let signals = Signals::new()?;
    let mut cluster = Embedded::start(&launch.plan()?, &Arc::new(functions()))
        .map_err(|error| Failure::job(error.to_string()))?;
    let workers: Vec<_> = cluster
        .take_workers()
        .into_iter()
        .map(|worker| std::thread::spawn(move || application::run_worker(worker)))
        .collect();
    let result = Watch::new(launch, signals, None).run(cluster.events(), &|reason| cluster.abort(reason));
    // The job's end already has every reason; what matters here is whose fault it was.
    let bad_input =
        workers.into_iter().filter_map(|worker| worker.join().ok()?.err()).map(anyhow::Error::from);
    let worst = bad_input.map(|error| crate::failure::exit_code(&error).0).max();
    match (result, worst) {
        (Err(error), Some(code)) if crate::failure::exit_code(&error).0 < code => {
            Err(Failure::with_code(code, format!("{error:#}")))
        }
        (result, _) => result,
    }
}
