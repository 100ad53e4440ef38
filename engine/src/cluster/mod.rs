//! The embedded cluster: a whole job as threads of one process, with the same handles and the same meaning.
//!
//! Links are the in-process carrier (the ring of shared memory without a second process), the manager is the same core
//! called directly. No socket listens. Read `hub.rs` (the manager), then [`Embedded`].

mod hub;

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use hub::Hub;
use keyrange_transport::in_process::pair;

use crate::client::{Mending, Pump, Worker};
use crate::manager::message::{Registration, ToManager};
use crate::manager::{Event, HostFingerprint, JobEnd, JobPlan, NodeName, Role, Session, Start};
use crate::node::NodeError;
use crate::node::inbox::Inbox;
use crate::node::links::Links;
use crate::node::open::ring_config;
use crate::node::server::new_shard_core;
use crate::node::shard_thread::{ShardNews, ShardThread};
use crate::node::worker::new_worker_core;
use crate::session::PeerId;
use crate::update::Registry;

/// Threads that form a job. Dropping it ends a job that still runs.
pub struct Embedded {
    hub: Arc<Hub>,
    events: Receiver<Event>,
    workers: Vec<Worker>,
    shards: Vec<JoinHandle<()>>,
}

impl Embedded {
    /// Starts the shards' threads (each server of the plan is one shard) and connects all workers.
    pub fn start(plan: &JobPlan, functions: &Arc<Registry>) -> Result<Self, NodeError> {
        plan.check()?;
        let (hub, events) = Hub::new(plan.clone());
        let mut cluster = Embedded { hub, events, workers: Vec::new(), shards: Vec::new() };
        let servers = cluster.join_all(Role::Server, plan.servers)?;
        let workers = cluster.join_all(Role::Worker, plan.workers)?;
        let end = |session: &Session| {
            let watched = [session.notices().news()];
            Links::new(servers.len(), plan.servers + plan.workers, &watched)
        };
        let ends: std::io::Result<Vec<Links>> = workers.iter().map(end).collect();
        let mut ends = ends.map_err(NodeError::os("making a waiter"))?;
        for session in servers {
            let inbox = Arc::new(Inbox::new().map_err(NodeError::os("making a doorbell"))?);
            let start = started(&session)?;
            for (worker, links) in (0..).zip(&mut ends) {
                let (near, far) = pair(ring_config(plan.ring_bytes)).map_err(|error| NodeError::Os {
                    what: "making a link",
                    error: std::io::Error::other(error),
                })?;
                links
                    .install(PeerId(start.rank), Box::new(near))
                    .map_err(NodeError::os("watching a link"))?;
                inbox.give(PeerId(worker), Box::new(far));
            }
            cluster.shards.push(serve(session, &start, inbox, functions)?);
        }
        for (session, links) in workers.into_iter().zip(ends) {
            cluster.workers.push(worker(session, links)?);
        }
        Ok(cluster)
    }

    /// The worker handles, by rank. The first call gets them; each may move to a thread of its own.
    pub fn take_workers(&mut self) -> Vec<Worker> {
        std::mem::take(&mut self.workers)
    }

    /// What happens, in order; the last one is [`Event::Ended`].
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Ends the job; every node hears the reason.
    pub fn abort(&self, reason: &str) {
        self.hub.abort(reason);
    }

    /// Waits for the shards' threads: until all workers have finished, or the job failed.
    pub fn join(mut self) -> JobEnd {
        self.workers.clear();
        self.reap()
    }

    fn reap(&mut self) -> JobEnd {
        for shard in self.shards.drain(..) {
            // A panic has ended the job already, by the drop of the thread's session.
            let _ = shard.join();
        }
        let unended = || JobEnd::Aborted { culprit: None, reason: "the shards ended before the job".into() };
        self.hub.ended().unwrap_or_else(unended)
    }

    fn join_all(&self, role: Role, count: u32) -> Result<Vec<Session>, NodeError> {
        let shards = u32::from(role == Role::Server);
        let join = |rank| {
            self.hub.join(Registration {
                role,
                rank: Some(rank),
                pid: std::process::id(),
                host: HostFingerprint::of_this_process(),
                shards,
                addresses: Vec::new(),
                verbs: None,
            })
        };
        (0..count).map(join).collect::<std::io::Result<_>>().map_err(NodeError::os("making a doorbell"))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if !self.shards.is_empty() {
            self.workers.clear();
            self.hub.abort("the embedded cluster was dropped");
            self.reap();
        }
    }
}

/// The start signal, which the hub gives as soon as the last node has joined.
fn started(session: &Session) -> Result<Start, NodeError> {
    Ok(session.notices().wait_start(Instant::now())?)
}

/// A server's one shard, on a thread of its own.
fn serve(
    session: Session,
    start: &Start,
    inbox: Arc<Inbox>,
    functions: &Arc<Registry>,
) -> Result<JoinHandle<()>, NodeError> {
    let (news, heard) = mpsc::channel();
    let thread = ShardThread {
        core: new_shard_core(start, start.rank, functions)?,
        inbox,
        notices: session.notices().clone(),
        busy_threads: start.busy_threads,
        news,
    };
    let ready = ToManager::Ready { carriers: vec!["in-process".into()] };
    session.say(&ready)?;
    let run = move || {
        thread.run();
        let ended = heard.try_iter().find_map(|news| match news {
            ShardNews::Ended(result) => Some(result),
            ShardNews::Linked { .. } => None,
        });
        match ended {
            Some(Err(error)) => session.fail(&error.to_string()),
            _ => session.finish(),
        }
    };
    let name = format!("shard {}", start.rank);
    thread::Builder::new().name(name).spawn(run).map_err(NodeError::os("starting a shard's thread"))
}

fn worker(session: Session, mut links: Links) -> Result<Worker, NodeError> {
    let start = started(&session)?;
    let core = new_worker_core(&start, &mut links)?;
    let notices = session.notices().clone();
    let names = (0..start.shards()).map(NodeName::server).collect();
    session.say(&ToManager::Ready { carriers: vec!["in-process".into()] })?;
    let pump = Pump::new(core, links, notices, None, Mending::default(), names);
    Ok(Worker::new(pump, session, start))
}
