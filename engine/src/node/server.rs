//! A server: shard threads, the listening sockets that feed them links, and the session with the manager.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use keyrange_transport::link::CarrierKind;
use keyrange_transport::ring::frame_bytes_max;
use keyrange_transport::verbs::Selection;

use super::carrier::CarrierWish;
use super::error::NodeError;
use super::inbox::Inbox;
use super::meet::{Membership, register, wait_start};
use super::open::open;
use super::shard_thread::{ShardNews, ShardSummary, ShardThread};
use super::verbs::Verbs;
use crate::key_range::{KeyRange, RangeMap};
use crate::manager::acceptor::{Bound, Welcome};
use crate::manager::door::{Purpose, Visitor};
use crate::manager::message::{SHARDS_MAX, ToManager};
use crate::manager::stream::Stream;
use crate::manager::{Address, Door, NodeName, Role, Session, SessionEnd, Start};
use crate::session::PeerId;
use crate::shard::{ShardConfig, ShardCore};
use crate::update::Registry;

/// A worker has this long to complete the handshake of a data link.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// What a server is started with.
#[derive(Clone)]
pub struct ServerConfig {
    /// The job, and where its manager is.
    pub membership: Membership,
    /// Shard threads, at least 1.
    pub shards: u32,
    /// Where to listen for workers of other hosts (and for `tcp` on this one). A Unix name is added by itself
    /// unless `carrier` is tcp.
    pub listen: Vec<Address>,
    /// Which carriers to offer.
    pub carrier: CarrierWish,
    /// Which RDMA port to use, where the carrier may be verbs.
    pub verbs: Selection,
    /// The cores to pin shard threads to, in order. Empty: none is pinned.
    pub cores: Vec<usize>,
    /// The server functions tables may use.
    pub functions: Arc<Registry>,
}

/// What a server did.
#[derive(Debug, Clone, Default)]
pub struct ServerSummary {
    /// This server's name.
    pub rank: u32,
    /// What each shard did, in the order in which they ended.
    pub shards: Vec<ShardSummary>,
}

/// Runs a server until the job's end. An aborted job is an error that names the culprit.
pub fn run_server(config: ServerConfig) -> Result<ServerSummary, NodeError> {
    if !(1..=SHARDS_MAX).contains(&config.shards) {
        let (expected, got) = (format!("1..={SHARDS_MAX}"), config.shards.to_string());
        return Err(NodeError::Config { what: "shards of a server", expected, got });
    }
    let inboxes = (0..config.shards)
        .map(|_| Inbox::new().map(Arc::new))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(NodeError::os("making a doorbell"))?;
    let bound = Bound::new(&listen_addresses(&config)?).map_err(NodeError::os("listening"))?;
    let verbs = Verbs::open(config.carrier, &config.verbs)?;
    let session =
        register(&config.membership, Role::Server, config.shards, bound.addresses(), verbs.link_layer())?;
    let start = wait_start(&config.membership, &session)?;
    let me = NodeName::server(start.rank);
    let welcome = welcome(config.membership.door.clone(), me, start.ring_bytes, verbs, inboxes.clone());
    let _acceptor = bound.accept(welcome).map_err(NodeError::os("accepting"))?;
    let summary = serve(&config, &session, &start, &inboxes)?;
    session.finish();
    Ok(summary)
}

fn listen_addresses(config: &ServerConfig) -> Result<Vec<Address>, NodeError> {
    let mut addresses = Vec::new();
    if config.carrier != CarrierWish::Tcp {
        let name = Address::unique_unix("server").map_err(|error| NodeError::Os {
            what: "drawing a random name",
            error: std::io::Error::other(error.to_string()),
        })?;
        addresses.push(name);
    }
    if config.carrier != CarrierWish::Shm {
        addresses.extend_from_slice(&config.listen);
    }
    if addresses.is_empty() {
        let (expected, got) = ("an address to listen at for carrier tcp".into(), "none".into());
        return Err(NodeError::Config { what: "listen", expected, got });
    }
    Ok(addresses)
}

/// Turns a stranger into a link in the right inbox.
fn welcome(door: Door, me: NodeName, ring_bytes: u32, verbs: Verbs, inboxes: Vec<Arc<Inbox>>) -> Welcome {
    Arc::new(move |stream: Stream| {
        let peer = stream.peer();
        let device = verbs.device();
        let deadline = Instant::now() + HANDSHAKE_DEADLINE;
        let admitted = door.admit(&stream, Some(me), ring_bytes, device.is_some(), deadline);
        let result = match admitted {
            Ok(Visitor {
                name: Some(NodeName { role: Role::Worker, rank }),
                purpose: Purpose::Shard(local),
                ring_bytes: peer_ring_bytes,
                carrier,
            }) => match inboxes.get(local as usize) {
                Some(inbox) => {
                    let device = device.filter(|_| carrier == CarrierKind::Verbs);
                    open(stream, device, ring_bytes, peer_ring_bytes, None)
                        .map(|link| inbox.give(PeerId(rank), link))
                        .map_err(|error| error.to_string())
                }
                None => Err(format!("wants shard {local} of {}", inboxes.len())),
            },
            Ok(visitor) => Err(format!("expected a worker's data link, got {visitor:?}")),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = result {
            tracing::warn!(%peer, %error, "a connection was turned away");
        }
    })
}

/// The key ranges of a job, the same on every node.
pub(crate) fn range_map(start: &Start) -> Result<RangeMap, NodeError> {
    let (first, last) = start.keys;
    let span = KeyRange::new(first, last).map_err(|error| NodeError::Config {
        what: "the job's keys",
        expected: "first <= last".into(),
        got: error.to_string(),
    })?;
    Ok(RangeMap::even(1, span, start.shards() as usize)?)
}

/// The core of shard `shard` (a global number).
pub(crate) fn new_shard_core(
    start: &Start,
    shard: u32,
    functions: &Arc<Registry>,
) -> Result<ShardCore, NodeError> {
    let owned = range_map(start)?.range_of(shard as usize);
    let config = ShardConfig {
        window_requests: start.window_requests as usize,
        frame_bytes_max: frame_bytes_max(u64::from(start.ring_bytes)) as usize,
        ..ShardConfig::new(shard, owned, start.workers)
    };
    Ok(ShardCore::new(config, functions.clone()))
}

fn serve(
    config: &ServerConfig,
    session: &Session,
    start: &Start,
    inboxes: &[Arc<Inbox>],
) -> Result<ServerSummary, NodeError> {
    let shard_first = start.servers.get(start.rank as usize).map_or(0, |server| server.shard_first);
    let (sender, news) = mpsc::channel();
    let mut threads = Vec::new();
    for (local, inbox) in inboxes.iter().enumerate() {
        let shard = shard_first + local as u32;
        let thread = ShardThread {
            core: new_shard_core(start, shard, &config.functions)?,
            inbox: inbox.clone(),
            notices: session.notices().clone(),
            busy_threads: start.busy_threads,
            news: sender.clone(),
        };
        let core = config.cores.get(local).copied();
        let spawned = thread::Builder::new().name(format!("shard {shard}")).spawn(move || {
            pin(core);
            thread.run();
        });
        threads.push(spawned.map_err(NodeError::os("starting a shard's thread"))?);
    }
    drop(sender);
    let result = supervise(session, start, inboxes.len(), &news);
    if let Err(error) = &result {
        session.fail(&error.to_string());
        // The other shards' threads look at the session's end.
        session.notices().finish(SessionEnd::Left);
    }
    for thread in threads {
        thread.join().map_err(|_| NodeError::Panicked)?;
    }
    result
}

fn supervise(
    session: &Session,
    start: &Start,
    shards: usize,
    news: &Receiver<ShardNews>,
) -> Result<ServerSummary, NodeError> {
    let mut carriers = Vec::new();
    let mut summary = ServerSummary { rank: start.rank, shards: Vec::new() };
    while summary.shards.len() < shards {
        // Every sender lives in a shard's thread, so an error means that one of them panicked.
        match news.recv().map_err(|_| NodeError::Panicked)? {
            ShardNews::Linked { worker, carrier } => {
                carriers.push(format!("worker {worker}: {carrier}"));
                if carriers.len() == shards * start.workers as usize {
                    session.say(&ToManager::Ready { carriers: std::mem::take(&mut carriers) })?;
                }
            }
            ShardNews::Ended(stats) => summary.shards.push(stats?),
        }
    }
    Ok(summary)
}

/// Pins the calling thread; a core that cannot be had is no reason to fail.
pub(crate) fn pin(core: Option<usize>) {
    if let Some(id) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id })
    {
        tracing::warn!(core = id, "cannot pin a thread to this core");
    }
}
