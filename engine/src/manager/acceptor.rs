//! Takes connections and shows them through the handshake, each on a short-lived thread of its own, so that a
//! peer that dribbles holds nobody up.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};

use super::address::Address;
use super::bell::{Bell, poll_for, readable};
use super::stream::{Listener, Stream};

/// More strangers than this at a time wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;

/// How long to leave the queue alone when handshakes are at their limit or descriptors have run out.
const BREATHER: Duration = Duration::from_millis(20);

/// What becomes of a connection: runs on its own thread, must end within a deadline of its own.
pub type Welcome = Arc<dyn Fn(Stream) + Send + Sync>;

/// Sockets that listen already; connections wait in the kernel's queue until [`Bound::accept`].
#[derive(Debug)]
pub struct Bound {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
}

impl Bound {
    /// Listens at `addresses`.
    pub fn new(addresses: &[Address]) -> io::Result<Self> {
        let listeners = addresses.iter().map(Listener::bind).collect::<io::Result<Vec<_>>>()?;
        let addresses = listeners.iter().map(Listener::address).collect::<io::Result<Vec<_>>>()?;
        Ok(Bound { listeners, addresses })
    }

    /// Where it listens, with the ports that were found.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Hands each connection to `welcome` from now on.
    pub fn accept(self, welcome: Welcome) -> io::Result<Acceptor> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            bell: Bell::new()?,
            handshakes: AtomicUsize::new(0),
        });
        let thread = {
            let shared = shared.clone();
            let listeners = self.listeners;
            thread::Builder::new()
                .name("acceptor".into())
                .spawn(move || run(&listeners, &shared, &welcome))?
        };
        Ok(Acceptor { shared, thread: Some(thread) })
    }
}

/// Listening sockets with a thread that accepts. Dropping it stops the thread and closes the sockets.
pub struct Acceptor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    bell: Bell,
    handshakes: AtomicUsize,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.bell.ring();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(listeners: &[Listener], shared: &Arc<Shared>, welcome: &Welcome) {
    while !shared.stop.load(Ordering::Acquire) {
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(&shared.bell, PollFlags::IN)];
        let crowded = shared.handshakes.load(Ordering::Acquire) >= HANDSHAKES_MAX;
        if !crowded {
            fds.extend(
                listeners.iter().map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)),
            );
        }
        let limit = if crowded { BREATHER } else { Duration::from_secs(3600) };
        if let Err(error) = poll_for(&mut fds, limit) {
            tracing::error!(%error, "the acceptor cannot wait");
            return;
        }
        for (listener, _) in listeners.iter().zip(&fds[1..]).filter(|(_, fd)| readable(fd)) {
            accept_one(listener, shared, welcome);
        }
    }
}

fn accept_one(listener: &Listener, shared: &Arc<Shared>, welcome: &Welcome) {
    let stream = match listener.accept() {
        Ok(stream) => stream,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            return thread::sleep(BREATHER);
        }
    };
    shared.handshakes.fetch_add(1, Ordering::AcqRel);
    let (counted, welcome) = (shared.clone(), welcome.clone());
    let spawned = thread::Builder::new().name("handshake".into()).spawn(move || {
        welcome(stream);
        counted.handshakes.fetch_sub(1, Ordering::AcqRel);
    });
    if let Err(error) = spawned {
        shared.handshakes.fetch_sub(1, Ordering::AcqRel);
        tracing::warn!(%error, "cannot start a handshake");
    }
}
