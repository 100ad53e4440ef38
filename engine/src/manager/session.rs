//! A node's side of its connection with the manager.
//!
//! One thread listens and sends heartbeats; everybody else looks at [`Notices`]: a flag that costs one load,
//! and a descriptor to sleep on. After the end the descriptor stays readable, so that no sleeper misses it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use thiserror::Error;

use super::bell::{Bell, poll_for, readable};
use super::line::{self, Filled, LineReader};
use super::message::{FromManager, NodeName, Start, ToManager};
use super::stream::Stream;

/// How often a node says that it lives.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);

/// A manager that reads nothing for this long counts as gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why a node's part in the job is over.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SessionEnd {
    /// Every worker finished: the good end, for servers.
    #[error("the job has finished")]
    Stopped,
    /// The job failed.
    #[error("the job was aborted: {reason}")]
    Aborted {
        /// Who caused it, if a node did.
        culprit: Option<NodeName>,
        /// Why, naming the culprit.
        reason: String,
    },
    /// The manager did not want this node.
    #[error("the manager refused this node: {reason}")]
    Refused {
        /// Expected, got, what to do.
        reason: String,
    },
    /// The manager's process or host went away.
    #[error("the manager is gone: {reason}")]
    ManagerGone {
        /// What was seen.
        reason: String,
    },
    /// This node said good-bye itself.
    #[error("this node has left the job")]
    Left,
}

#[derive(Debug, Default)]
struct State {
    start: Option<Start>,
    end: Option<SessionEnd>,
    barrier_done: Option<String>,
    barrier_missing: Vec<NodeName>,
    silent: BTreeMap<NodeName, u64>,
}

/// What the manager has told this node so far. Shared by the node's threads.
#[derive(Debug)]
pub struct Notices {
    over: AtomicBool,
    bell: Bell,
    state: Mutex<State>,
    changed: Condvar,
}

impl Notices {
    /// Nothing said yet.
    pub fn new() -> std::io::Result<Self> {
        Ok(Notices {
            over: AtomicBool::new(false),
            bell: Bell::new()?,
            state: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    /// True once this node's part is over. One load; ask it as often as you like.
    pub fn over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// Why it is over, if it is.
    pub fn end(&self) -> Option<SessionEnd> {
        if self.over() { self.lock().end.clone() } else { None }
    }

    /// Readable when there is news, and for ever once it is over.
    pub fn news(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// Forgets that there was news (not the end).
    pub fn drain_news(&self) {
        if !self.over() {
            self.bell.drain();
            // The end may have come between the check and the drain.
            if self.over() {
                self.bell.ring();
            }
        }
    }

    /// Waits for the manager's start signal.
    pub fn wait_start(&self, deadline: Instant) -> Result<Start, SessionEnd> {
        let mut state = self.lock();
        loop {
            if let Some(end) = &state.end {
                return Err(end.clone());
            }
            if let Some(start) = &state.start {
                return Ok(start.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let reason = "it gave no start signal within the deadline".to_owned();
                return Err(SessionEnd::ManagerGone { reason });
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Takes the news that the barrier `name` is done.
    pub fn take_barrier(&self, name: &str) -> bool {
        let mut state = self.lock();
        let done = state.barrier_done.as_deref() == Some(name);
        if done {
            state.barrier_done = None;
            state.barrier_missing.clear();
        }
        done
    }

    /// Who has not arrived at the barrier this node waits at, as far as known.
    pub fn barrier_missing(&self) -> Vec<NodeName> {
        self.lock().barrier_missing.clone()
    }

    /// Nodes that say nothing at present, with how long for (ms) when that was noticed.
    pub fn silent(&self) -> Vec<(NodeName, u64)> {
        self.lock().silent.iter().map(|(&node, &silent_ms)| (node, silent_ms)).collect()
    }

    /// A line came.
    pub fn deliver(&self, message: FromManager) {
        let mut state = self.lock();
        match message {
            FromManager::Start(start) => state.start = Some(*start),
            FromManager::BarrierDone { name } => state.barrier_done = Some(name),
            FromManager::BarrierMissing { missing, .. } => state.barrier_missing = missing,
            FromManager::Silent { node, silent_ms } => drop(state.silent.insert(node, silent_ms)),
            FromManager::Back { node } => drop(state.silent.remove(&node)),
            FromManager::Stop => return self.end_with(state, SessionEnd::Stopped),
            FromManager::Refused { reason } => return self.end_with(state, SessionEnd::Refused { reason }),
            FromManager::Abort { culprit, reason } => {
                return self.end_with(state, SessionEnd::Aborted { culprit, reason });
            }
        }
        drop(state);
        self.changed.notify_all();
        self.bell.ring();
    }

    /// It is over; only the first reason counts.
    pub fn finish(&self, end: SessionEnd) {
        self.end_with(self.lock(), end);
    }

    fn end_with(&self, mut state: MutexGuard<'_, State>, end: SessionEnd) {
        state.end.get_or_insert(end);
        drop(state);
        self.over.store(true, Ordering::Release);
        self.changed.notify_all();
        self.bell.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not make it wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries a node's lines to its manager.
pub trait Voice: Send + Sync {
    /// Says `message`; the error is for people.
    fn say(&self, message: &ToManager) -> Result<(), String>;

    /// Ends the connection.
    fn close(&self);
}

/// A node's connection with the manager. Dropping it closes the connection.
pub struct Session {
    notices: Arc<Notices>,
    voice: Arc<dyn Voice>,
    listener: Option<JoinHandle<()>>,
}

impl Session {
    /// Over a connected socket whose handshake is done: registers, and begins to listen.
    pub fn over_socket(stream: Stream, first: &ToManager) -> std::io::Result<Self> {
        stream.set_write_timeout(WRITE_TIMEOUT)?;
        let notices = Arc::new(Notices::new()?);
        let voice = Arc::new(SocketVoice { stream: Mutex::new(stream.try_clone()?) });
        voice.say(first).map_err(std::io::Error::other)?;
        let listener = {
            let (notices, voice) = (notices.clone(), voice.clone());
            thread::Builder::new()
                .name("manager-link".into())
                .spawn(move || listen(stream, &notices, &voice))?
        };
        Ok(Session { notices, voice, listener: Some(listener) })
    }

    /// With a manager in the same process: `notices` are filled by it.
    pub fn local(notices: Arc<Notices>, voice: Arc<dyn Voice>) -> Self {
        Session { notices, voice, listener: None }
    }

    /// What the manager said.
    pub fn notices(&self) -> &Arc<Notices> {
        &self.notices
    }

    /// Says something; fails with the reason why the session is over.
    pub fn say(&self, message: &ToManager) -> Result<(), SessionEnd> {
        if let Some(end) = self.notices.end() {
            return Err(end);
        }
        self.voice
            .say(message)
            .map_err(|reason| self.notices.end().unwrap_or(SessionEnd::ManagerGone { reason }))
    }

    /// Says good-bye in good order, whatever has happened before (an aborted job needs none).
    pub fn finish(&self) {
        let _ = self.voice.say(&ToManager::Finish);
        self.notices.finish(SessionEnd::Left);
    }

    /// Says that this node cannot go on.
    pub fn fail(&self, reason: &str) {
        if !self.notices.over() {
            let _ = self.voice.say(&ToManager::Failed { reason: reason.to_owned() });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.voice.close();
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
    }
}

struct SocketVoice {
    stream: Mutex<Stream>,
}

impl Voice for SocketVoice {
    fn say(&self, message: &ToManager) -> Result<(), String> {
        let line = line::encode(message).map_err(|error| error.to_string())?;
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.write_all(&line).map_err(|error| error.to_string())
    }

    fn close(&self) {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        // Our last lines are delivered; the listening thread sees the end and returns.
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// The listening thread: lines to `notices`, heartbeats to the manager, until either side ends.
fn listen(mut stream: Stream, notices: &Notices, voice: &SocketVoice) {
    let reason = match listen_until_end(&mut stream, notices, voice) {
        Ok(()) => "it closed the connection".to_owned(),
        Err(reason) => reason,
    };
    notices.finish(SessionEnd::ManagerGone { reason });
    let _ = stream.shutdown(Shutdown::Both);
}

fn listen_until_end(stream: &mut Stream, notices: &Notices, voice: &SocketVoice) -> Result<(), String> {
    let mut reader = LineReader::default();
    let mut host = stream.watch_host().map_err(|error| error.to_string())?;
    let mut heartbeat_at = Instant::now();
    loop {
        // The heartbeats are there to be acknowledged, so a host that vanished shows here.
        host.as_mut().map_or(Ok(()), |host| host.look(stream.as_fd()))?;
        let now = Instant::now();
        if now >= heartbeat_at {
            voice.say(&ToManager::Heartbeat)?;
            heartbeat_at = now + HEARTBEAT_EVERY;
        }
        let ready = {
            let mut fds = [PollFd::new(&*stream, PollFlags::IN)];
            poll_for(&mut fds, heartbeat_at - now).map_err(|error| error.to_string())?;
            readable(&fds[0])
        };
        if !ready {
            continue;
        }
        if reader.fill(stream).map_err(|error| error.to_string())? == Filled::End {
            return Ok(());
        }
        while let Some(message) = reader.next_message::<FromManager>().map_err(|error| error.to_string())? {
            notices.deliver(message);
        }
    }
}
