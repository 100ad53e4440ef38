//! A worker's bootstrap: to the manager, then to every shard.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::dial::Dialer;
use super::error::NodeError;
use super::links::Links;
use super::meet::{register, wait_start};
use super::server::{pin, range_map};
use super::verbs::Verbs;
use crate::client::{Pump, Worker, WorkerConfig};
use crate::manager::message::ToManager;
use crate::manager::{HostFingerprint, NodeName, Role, Session, Start};
use crate::session::PeerId;
use crate::worker::{WorkerConfig as CoreConfig, WorkerCore};

/// Between two attempts: a server that turns everybody away should not be kept busy with it.
const DIAL_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks at the manager's news while connecting.
const DIAL_SLICE: Duration = Duration::from_millis(500);

/// Joins the job and connects to every shard. Pins the calling thread if the configuration says so.
pub fn connect_worker(config: &WorkerConfig) -> Result<Worker, NodeError> {
    let session = register(&config.membership, Role::Worker, 0, &[], None)?;
    let start = wait_start(&config.membership, &session)?;
    match link_up(config, &session, &start) {
        Ok(pump) => Ok(Worker::new(pump, session, start)),
        Err(error) => {
            session.fail(&error.to_string());
            Err(error)
        }
    }
}

fn link_up(config: &WorkerConfig, session: &Session, start: &Start) -> Result<Pump, NodeError> {
    let dialer = Dialer {
        me: NodeName::worker(start.rank),
        door: config.membership.door.clone(),
        wish: config.carrier,
        host: HostFingerprint::of_this_process(),
        verbs: Verbs::open(config.carrier, &config.verbs)?,
        ring_bytes: start.ring_bytes,
        servers: start.servers.clone(),
        fault: config.mending.fault,
        links_made: Cell::new(0),
    };
    let deadline = Instant::now() + config.membership.join_deadline;
    let notices = session.notices().clone();
    let mut links = Links::new(start.shards() as usize, start.busy_threads, &[notices.news()])
        .map_err(NodeError::os("making a waiter"))?;
    // After the waiter has counted the cores this thread may use.
    pin(config.core);
    let mut carriers = Vec::new();
    for shard in 0..start.shards() {
        let (link, carrier) = dial_watching(&dialer, shard, session, deadline)?;
        links.install(PeerId(shard), link).map_err(NodeError::os("watching a link"))?;
        carriers.push(carrier);
    }
    carriers.dedup();
    session.say(&ToManager::Ready { carriers })?;
    let names = (0..start.shards()).map(|shard| dialer.name_of(shard)).collect();
    let core = worker_core(start, &mut links, config.mending.resend_after())?;
    Ok(Pump::new(core, links, notices, Some(dialer), config.mending, names))
}

/// Dials until `deadline`; ends early when the manager says that the job is over.
fn dial_watching(
    dialer: &Dialer,
    shard: u32,
    session: &Session,
    deadline: Instant,
) -> Result<(Box<dyn keyrange_transport::link::Link>, String), NodeError> {
    loop {
        let slice = deadline.min(Instant::now() + DIAL_SLICE);
        match dialer.dial(shard, slice) {
            Err(error @ NodeError::Connect { .. }) => {
                if let Some(end) = session.notices().end() {
                    return Err(end.into());
                }
                if Instant::now() + DIAL_SLICE >= deadline {
                    return Err(error);
                }
                std::thread::sleep(DIAL_PAUSE);
            }
            result => return result,
        }
    }
}

/// The protocol's state for this worker over these links.
pub(crate) fn new_worker_core(start: &Start, links: &mut Links) -> Result<WorkerCore, NodeError> {
    worker_core(start, links, None)
}

/// The same over links that may lose frames: what is not answered for `retry_after` is sent again.
fn worker_core(
    start: &Start,
    links: &mut Links,
    retry_after: Option<Duration>,
) -> Result<WorkerCore, NodeError> {
    let map = Arc::new(range_map(start)?);
    let defaults = CoreConfig::new(start.rank);
    let frame_bytes_max = links.iter_mut().map(|(_, link)| link.frame_bytes_max()).min();
    let config = CoreConfig {
        window_requests: start.window_requests as usize,
        frame_bytes_max: frame_bytes_max.unwrap_or(defaults.frame_bytes_max),
        retain: links.any_can_break(),
        retry_after,
        ..defaults
    };
    Ok(WorkerCore::new(config, map))
}
