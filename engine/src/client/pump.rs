//! The loop under every call of a worker: links → core → links, and what to do while nothing comes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use keyrange_transport::fault::FaultPlan;
use keyrange_transport::link::{CarrierKind, LinkEnd};
use keyrange_transport::wait::Woken;

use crate::manager::{NodeName, Notices};
use crate::node::NodeError;
use crate::node::dial::Dialer;
use crate::node::links::Links;
use crate::session::PeerId;
use crate::worker::WorkerCore;

use super::error::WorkerError;

/// The clock is read at every so manieth round only; a round takes well under a microsecond.
const ROUNDS_PER_CLOCK: u32 = 32;

/// Over links with planned faults, requests that are unanswered for so long are sent again.
const RESEND_AFTER: Duration = Duration::from_millis(20);

/// One attempt to replace a link may take so long: connecting and the handshake are four round trips, on slow networks 100 ms.
const DIAL_PATIENCE: Duration = Duration::from_millis(200);

/// How a worker deals with links that break or lose frames.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mending {
    /// After a link broke, the manager has this long to say who died, and a TCP link this long to be replaced.
    pub give_up_after: Duration,
    /// Between two attempts to replace a link.
    pub retry_every: Duration,
    /// Faults that what this worker sends is to meet, to see that every push still counts once: dropped, doubled,
    /// late and reordered frames are made good by sending again, a killed TCP link by another; a killed link
    /// on shared memory ends the job with its name.
    pub fault: Option<FaultPlan>,
}

impl Mending {
    /// How long a request may be unanswered before it is sent again; never over links without planned faults, which
    /// lose nothing.
    pub(crate) fn resend_after(&self) -> Option<Duration> {
        self.fault.map(|_| RESEND_AFTER)
    }
}

impl Default for Mending {
    fn default() -> Self {
        Mending {
            give_up_after: Duration::from_millis(1500),
            retry_every: Duration::from_millis(50),
            fault: None,
        }
    }
}

/// A link that broke.
struct Broken {
    peer: PeerId,
    end: LinkEnd,
    since: Instant,
    next_try: Instant,
    can_mend: bool,
}

/// Core, links and clock of one worker.
pub(crate) struct Pump {
    pub(super) core: WorkerCore,
    pub(super) links: Links,
    notices: Arc<Notices>,
    began: Instant,
    now: Duration,
    rounds: u32,
    broken: Vec<Broken>,
    /// Connects again; none in an embedded cluster.
    dialer: Option<Dialer>,
    mending: Mending,
    server_of: Vec<NodeName>,
    /// Why this worker cannot go on, once that is so.
    fatal: Option<String>,
}

impl Pump {
    pub(crate) fn new(
        core: WorkerCore,
        links: Links,
        notices: Arc<Notices>,
        dialer: Option<Dialer>,
        mending: Mending,
        server_of: Vec<NodeName>,
    ) -> Self {
        let began = Instant::now();
        let (now, rounds, broken) = (Duration::ZERO, 0, Vec::new());
        Pump { core, links, notices, began, now, rounds, broken, dialer, mending, server_of, fatal: None }
    }

    /// The time on the core's clock.
    pub(super) fn clock(&self) -> Duration {
        self.began.elapsed()
    }

    /// Why this worker cannot go on, once that is so.
    pub(super) fn fatal(&self) -> Option<&str> {
        self.fatal.as_deref()
    }

    /// One round without waiting. True if frames came.
    pub(super) fn round(&mut self) -> Result<bool, WorkerError> {
        let result = self.try_round();
        if let Err(WorkerError::Node(error)) = &result {
            self.fatal.get_or_insert_with(|| error.to_string());
        }
        result
    }

    fn try_round(&mut self) -> Result<bool, WorkerError> {
        if let Some(end) = self.notices.end() {
            return Err(end.into());
        }
        if self.rounds.is_multiple_of(ROUNDS_PER_CLOCK) {
            self.now = self.began.elapsed();
        }
        self.rounds = self.rounds.wrapping_add(1);
        let core = &mut self.core;
        let mut frames = 0;
        for peer in 0..self.links.len() as u32 {
            frames += self.links.turn(PeerId(peer), &mut |from, frame, out| {
                core.handle(from, frame, out).map_err(|fault| fault.to_string())
            });
        }
        core.poll(self.now, &mut self.links);
        while let Some((peer, end)) = self.links.take_end().map_err(NodeError::os("waiting"))? {
            self.broke(peer, end)?;
        }
        if !self.broken.is_empty() {
            self.mend()?;
        }
        Ok(frames > 0)
    }

    /// Rounds until `done` answers, an error ends it, or `until` passes (`None` then).
    pub(super) fn run<R>(
        &mut self,
        until: Instant,
        done: &mut dyn FnMut(&mut Self) -> Option<R>,
    ) -> Result<Option<R>, WorkerError> {
        self.links.worked();
        loop {
            if let Some(result) = done(self) {
                return Ok(Some(result));
            }
            if self.round()? {
                self.links.worked();
                continue;
            }
            // Deadlines may have ended a task although no frame came.
            if let Some(result) = done(self) {
                return Ok(Some(result));
            }
            let wake = self.wake_at(until);
            match self.links.wait(wake).map_err(NodeError::os("waiting"))? {
                Woken::Poll => {}
                Woken::Ready => {
                    self.notices.drain_news();
                    self.rounds = 0;
                }
                Woken::TimedOut if Instant::now() >= until => return Ok(done(self)),
                Woken::TimedOut => self.rounds = 0,
            }
        }
    }

    /// Closes all links in good order and lets their last bytes leave.
    pub(super) fn close_links(&mut self, until: Instant) {
        self.links.close_all();
        while self.links.unsent_bytes() > 0 && Instant::now() < until {
            self.links.iter_mut().for_each(|(_, link)| drop(link.progress()));
            std::thread::yield_now();
        }
    }

    fn wake_at(&self, until: Instant) -> Instant {
        let core = self.core.next_wake().map(|at| self.began + at);
        let mend = self.broken.iter().map(|broken| broken.next_try).min();
        [core, mend].into_iter().flatten().fold(until, Instant::min)
    }

    fn broke(&mut self, peer: PeerId, end: LinkEnd) -> Result<(), WorkerError> {
        let name = self.server_of[peer.0 as usize];
        if let LinkEnd::Protocol(fault) = end {
            return Err(NodeError::Fault { peer: name, fault }.into());
        }
        tracing::debug!(peer = %name, %end, "a link ended");
        let now = Instant::now();
        let kind = self.dialer.as_ref().and_then(|dialer| dialer.kind_of(peer.0));
        let can_mend = matches!(kind, Some(CarrierKind::Tcp | CarrierKind::Verbs));
        self.broken.push(Broken { peer, end, since: now, next_try: now, can_mend });
        Ok(())
    }

    /// Replaces broken links of a network; gives up when the manager has not explained the break in time.
    fn mend(&mut self) -> Result<(), WorkerError> {
        let now = Instant::now();
        let mut place = 0;
        while place < self.broken.len() {
            let broken = &mut self.broken[place];
            if now - broken.since >= self.mending.give_up_after {
                let (peer, end) = (self.server_of[broken.peer.0 as usize], broken.end.clone());
                return Err(NodeError::Link { peer, end }.into());
            }
            if now < broken.next_try {
                place += 1;
                continue;
            }
            broken.next_try = now + self.mending.retry_every;
            let peer = broken.peer;
            let dialer = self.dialer.as_ref().filter(|_| broken.can_mend);
            match dialer.map(|dialer| dialer.dial(peer.0, now + DIAL_PATIENCE)) {
                Some(Ok((link, _))) => {
                    self.links.install(peer, link).map_err(NodeError::os("watching a link"))?;
                    self.core.resend(peer, &mut self.links);
                    self.broken.swap_remove(place);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "a link could not be replaced yet");
                    place += 1;
                }
                None => place += 1,
            }
        }
        Ok(())
    }
}
