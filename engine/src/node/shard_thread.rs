//! The loop of one shard: poll links → core → release → answer → wait.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use keyrange_transport::link::{LinkEnd, LinkStats};
use keyrange_transport::wait::Woken;

use super::error::NodeError;
use super::inbox::Inbox;
use super::links::Links;
use crate::manager::{NodeName, Notices, SessionEnd};
use crate::session::PeerId;
use crate::shard::{ShardCore, ShardStats};

/// Nothing has to be done at any particular time but what goes early; this only bounds a sleep.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Workers are not replaced yet, so each is its own first incarnation.
const EPOCH: u32 = 0;

/// What a shard did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSummary {
    /// Traffic over the links that were up at the end.
    pub traffic: LinkStats,
    /// Requests and updates.
    pub core: ShardStats,
    /// Memory of its tables and key lists.
    pub bytes: usize,
}

/// What a shard's thread tells the thread that started it.
pub(crate) enum ShardNews {
    /// A worker's first link is up.
    Linked {
        /// The worker's rank.
        worker: u32,
        /// Its carrier.
        carrier: String,
    },
    /// The loop ended.
    Ended(Result<ShardSummary, NodeError>),
}

/// Everything one shard's thread owns.
pub(crate) struct ShardThread {
    pub(crate) core: ShardCore,
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) busy_threads: u32,
    pub(crate) news: Sender<ShardNews>,
}

impl ShardThread {
    /// Serves until the job is over for this node.
    pub(crate) fn run(mut self) {
        let result = self.serve();
        // The starter may be gone already when a whole process comes down.
        let _ = self.news.send(ShardNews::Ended(result));
    }

    fn serve(&mut self) -> Result<ShardSummary, NodeError> {
        let workers = self.core.config().workers as usize;
        let watched = [self.inbox.as_fd(), self.notices.news()];
        let mut links =
            Links::new(workers, self.busy_threads, &watched).map_err(NodeError::os("making a waiter"))?;
        let mut met = vec![false; workers];
        let began = Instant::now();
        loop {
            match self.notices.end() {
                None => {}
                Some(SessionEnd::Stopped) => break,
                Some(end) => return Err(end.into()),
            }
            self.welcome(&mut links, &mut met)?;
            if self.turn(&mut links, began)? > 0 {
                links.worked();
                continue;
            }
            let idle = Instant::now() + IDLE_FOR;
            let until = self.core.next_wake().map_or(idle, |at| idle.min(began + at));
            if links.wait(until).map_err(NodeError::os("waiting"))? != Woken::Poll {
                self.notices.drain_news();
            }
        }
        let summary =
            ShardSummary { traffic: links.stats(), core: self.core.stats(), bytes: self.core.bytes() };
        links.close_all();
        Ok(summary)
    }

    /// Installs links that came about meanwhile.
    fn welcome(&mut self, links: &mut Links, met: &mut [bool]) -> Result<(), NodeError> {
        for (worker, link) in self.inbox.take() {
            if worker.0 as usize >= links.len() {
                tracing::warn!(
                    worker = worker.0,
                    workers = links.len(),
                    "a link of a worker that does not exist"
                );
                continue;
            }
            if let Err(error) = self.core.connect(worker.0, EPOCH) {
                tracing::warn!(%error, "a link was turned away");
                continue;
            }
            let carrier = link.kind().to_string();
            links.install(worker, link).map_err(NodeError::os("watching a link"))?;
            if !std::mem::replace(&mut met[worker.0 as usize], true) {
                let _ = self.news.send(ShardNews::Linked { worker: worker.0, carrier });
            }
        }
        Ok(())
    }

    /// One round over all links. Returns how many frames came.
    fn turn(&mut self, links: &mut Links, began: Instant) -> Result<usize, NodeError> {
        let core = &mut self.core;
        let mut frames = 0;
        for peer in 0..links.len() as u32 {
            frames += links.turn(PeerId(peer), &mut |from, frame, out| {
                core.handle(from, frame, out).map_err(|fault| fault.to_string())
            });
        }
        if core.next_wake().is_some() {
            core.poll(began.elapsed(), links);
        }
        core.flush(links);
        while let Some((peer, end)) = links.take_end().map_err(NodeError::os("waiting"))? {
            let worker = NodeName::worker(peer.0);
            match end {
                LinkEnd::Protocol(fault) => return Err(NodeError::Fault { peer: worker, fault }),
                // A worker that left, or whose link broke: it may come back with a new link, and if it died
                // the manager knows and says so.
                end => tracing::debug!(%worker, %end, "a link ended"),
            }
        }
        Ok(frames)
    }
}
