//! The manager's event loop: sockets, lines and the clock around [`ManagerCore`].

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keyrange_transport::tcp::HostWatch;
use rustix::event::{PollFd, PollFlags};
use thiserror::Error;

use super::acceptor::{Acceptor, Bound, Welcome};
use super::address::Address;
use super::bell::{Bell, poll_for, readable};
use super::core::{Connection, ManagerCore, Output};
use super::door::{Door, Purpose};
use super::line::{Filled, LineReader, LineWriter};
use super::message::ToManager;
use super::plan::{Event, JobEnd, JobPlan, PlanError};
use super::stream::Stream;

/// After the end, nodes have this long to take the last line.
const LINGER: Duration = Duration::from_secs(1);

/// A peer has this long to complete its handshake.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// What a manager is started with.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// Where to listen. Beyond loopback only if the caller says so here.
    pub listen: Vec<Address>,
    /// Job id and secret.
    pub door: Door,
    /// The job's size and deadlines.
    pub plan: JobPlan,
}

/// Why a manager did not start.
#[derive(Debug, Error)]
pub enum ManagerError {
    /// The operating system refused; the text names the address.
    #[error("the manager cannot start: {0}")]
    Os(#[from] io::Error),
    /// A plan that cannot be.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

enum Command {
    Accepted(Stream),
    Refused(String),
    Abort(String),
}

/// A running manager: one thread, plus one that accepts. Dropping it aborts a job that still runs.
pub struct Manager {
    addresses: Vec<Address>,
    commands: Commands,
    events: Receiver<Event>,
    thread: Option<JoinHandle<JobEnd>>,
}

#[derive(Clone)]
struct Commands {
    sender: Sender<Command>,
    bell: Arc<Bell>,
}

impl Commands {
    fn give(&self, command: Command) {
        // A loop that has ended takes no commands, and nobody needs it to.
        let _ = self.sender.send(command);
        self.bell.ring();
    }
}

impl Manager {
    /// Listens and begins the job's clock.
    pub fn start(config: ManagerConfig) -> Result<Self, ManagerError> {
        config.plan.check()?;
        let (sender, receiver) = mpsc::channel();
        let commands = Commands { sender, bell: Arc::new(Bell::new()?) };
        let bound = Bound::new(&config.listen)?;
        let addresses = bound.addresses().to_vec();
        let acceptor = bound.accept(welcome(config.door, commands.clone()))?;
        let (event_sender, events) = mpsc::channel();
        let began = Instant::now();
        let service = Service {
            core: ManagerCore::new(config.plan, began.elapsed()),
            began,
            connections: HashMap::new(),
            next: 0,
            commands: receiver,
            bell: commands.bell.clone(),
            events: event_sender,
        };
        let thread = thread::Builder::new().name("manager".into()).spawn(move || service.run(acceptor))?;
        Ok(Manager { addresses, commands, events, thread: Some(thread) })
    }

    /// Where nodes reach it, with the ports that were found.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What happens, in order; the last one is [`Event::Ended`]. Read them: unread ones are kept.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Ends the job; every node hears the reason.
    pub fn abort(&self, reason: &str) {
        self.commands.give(Command::Abort(reason.to_owned()));
    }

    /// A handle that can abort the job from another thread (a signal handler's, say).
    pub fn aborter(&self) -> impl Fn(&str) + Send + Sync + Clone + use<> {
        let commands = self.commands.clone();
        move |reason: &str| commands.give(Command::Abort(reason.to_owned()))
    }

    /// Waits for the job's end.
    pub fn join(mut self) -> JobEnd {
        self.reap()
    }

    fn reap(&mut self) -> JobEnd {
        let panicked = || JobEnd::Aborted { culprit: None, reason: "the manager itself panicked".into() };
        self.thread.take().map_or_else(panicked, |thread| thread.join().unwrap_or_else(|_| panicked()))
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.abort("the launcher has gone");
            self.reap();
        }
    }
}

/// The handshake of one stranger, on a thread of its own.
fn welcome(door: Door, commands: Commands) -> Welcome {
    Arc::new(move |stream: Stream| {
        let command = match door.admit(&stream, None, 0, false, Instant::now() + HANDSHAKE_DEADLINE) {
            Ok(visitor) if visitor.purpose == Purpose::Manager => Command::Accepted(stream),
            // It has learnt what it came for: that a manager answers here, and how fast.
            Ok(visitor) if visitor.purpose == Purpose::Examination => return,
            Ok(visitor) => Command::Refused(format!("{}: wants {:?}", stream.peer(), visitor.purpose)),
            Err(error) => Command::Refused(format!("{}: {error}", stream.peer())),
        };
        commands.give(command);
    })
}

struct Peer {
    stream: Stream,
    reader: LineReader,
    writer: LineWriter,
    host: Option<HostWatch>,
    /// Everything is said; what is still to be sent is sent, what comes is ignored.
    closing: bool,
}

struct Service {
    core: ManagerCore,
    began: Instant,
    connections: HashMap<Connection, Peer>,
    next: Connection,
    commands: Receiver<Command>,
    bell: Arc<Bell>,
    events: Sender<Event>,
}

impl Service {
    fn run(mut self, acceptor: Acceptor) -> JobEnd {
        while self.core.ended().is_none() {
            if let Err(error) = self.turn() {
                let mut out = Vec::new();
                self.core.abort(None, format!("the manager cannot wait for its nodes: {error}"), &mut out);
                self.perform(out);
            }
        }
        drop(acceptor);
        for peer in self.connections.values_mut() {
            close_gently(peer);
        }
        let until = Instant::now() + LINGER;
        while !self.connections.is_empty() && Instant::now() < until && self.turn().is_ok() {}
        self.core.ended().cloned().unwrap_or(JobEnd::Finished)
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        let now = self.began.elapsed();
        let mut limit = self.core.wake_at(now).saturating_sub(now);
        if self.core.ended().is_some() {
            limit = limit.min(LINGER / 10);
        }
        let ready = self.wait(limit)?;
        self.bell.drain();
        let mut out = Vec::new();
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Accepted(stream) => self.adopt(stream),
                Command::Refused(reason) => out.push(Output::Event(Event::Refused { reason })),
                Command::Abort(reason) => self.core.abort(None, reason, &mut out),
            }
        }
        for (connection, flags) in ready {
            self.serve(connection, flags, &mut out);
        }
        self.look_at_hosts(&mut out);
        self.core.tick(self.began.elapsed(), &mut out);
        self.perform(out);
        Ok(())
    }

    /// Nodes whose hosts have vanished are lost.
    fn look_at_hosts(&mut self, out: &mut Vec<Output>) {
        let mut gone = Vec::new();
        for (&connection, peer) in &mut self.connections {
            if let Some(host) = &mut peer.host
                && let Err(silence) = host.look(peer.stream.as_fd())
            {
                gone.push((connection, silence));
            }
        }
        for (connection, silence) in gone {
            self.connections.remove(&connection);
            self.core.lost(connection, &silence, out);
        }
    }

    /// The connections that are ready, and for what.
    fn wait(&self, limit: Duration) -> io::Result<Vec<(Connection, PollFlags)>> {
        let mut numbers = Vec::with_capacity(self.connections.len());
        let mut fds = vec![PollFd::new(&*self.bell, PollFlags::IN)];
        for (&connection, peer) in &self.connections {
            let write = if peer.writer.pending() { PollFlags::OUT } else { PollFlags::empty() };
            numbers.push(connection);
            fds.push(PollFd::from_borrowed_fd(peer.stream.as_fd(), PollFlags::IN | write));
        }
        poll_for(&mut fds, limit)?;
        let mut ready = Vec::new();
        for (connection, fd) in numbers.into_iter().zip(&fds[1..]) {
            let mut flags = fd.revents() & PollFlags::OUT;
            flags.set(PollFlags::IN, readable(fd));
            if !flags.is_empty() {
                ready.push((connection, flags));
            }
        }
        Ok(ready)
    }

    fn adopt(&mut self, stream: Stream) {
        // A socket that refuses these is closed already; a node that was to register over it comes again or is missed.
        let (Ok(()), Ok(host)) = (stream.set_nonblocking(true), stream.watch_host()) else { return };
        let (reader, writer) = (LineReader::default(), LineWriter::default());
        let peer = Peer { stream, reader, writer, host, closing: false };
        self.connections.insert(self.next, peer);
        self.next += 1;
    }

    fn serve(&mut self, connection: Connection, flags: PollFlags, out: &mut Vec<Output>) {
        let Some(peer) = self.connections.get_mut(&connection) else { return };
        let mut gone = None;
        if flags.contains(PollFlags::OUT) {
            gone = flush(peer).err();
        }
        if flags.contains(PollFlags::IN) {
            match peer.reader.fill(&mut peer.stream) {
                Ok(Filled::End) => gone = Some("its connection to the manager was closed".to_owned()),
                Ok(_) => {}
                Err(error) => gone = Some(format!("its connection to the manager broke: {error}")),
            }
        }
        loop {
            match peer.reader.next_message::<ToManager>() {
                Ok(Some(_)) if peer.closing => {}
                Ok(Some(message)) => self.core.handle(self.began.elapsed(), connection, message, out),
                Ok(None) => break,
                Err(error) => {
                    gone = Some(format!("it sent the manager {error}"));
                    break;
                }
            }
        }
        if let Some(why) = gone {
            self.connections.remove(&connection);
            self.core.lost(connection, &why, out);
        }
    }

    /// Does what the core asks for. A peer that cannot be written to is lost, which may ask for more.
    fn perform(&mut self, mut out: Vec<Output>) {
        while !out.is_empty() {
            let mut more = Vec::new();
            for output in out {
                match output {
                    // The launcher may have dropped its end; the job goes on without it.
                    Output::Event(event) => drop(self.events.send(event)),
                    Output::Send(connection, message) => {
                        let Some(peer) = self.connections.get_mut(&connection) else { continue };
                        let pushed = peer.writer.push(&message).map_err(|error| error.to_string());
                        if let Err(why) = pushed.and_then(|()| flush(peer)) {
                            self.connections.remove(&connection);
                            self.core.lost(connection, &why, &mut more);
                        }
                    }
                    Output::Close(connection) => {
                        self.connections.get_mut(&connection).into_iter().for_each(close_gently);
                    }
                }
            }
            out = more;
        }
    }
}

fn flush(peer: &mut Peer) -> Result<(), String> {
    peer.writer.flush(&mut peer.stream).map_err(|error| format!("its connection broke: {error}"))?;
    if peer.closing && !peer.writer.pending() {
        let _ = peer.stream.shutdown(Shutdown::Write);
    }
    Ok(())
}

/// No more lines after those queued; the peer sees the end after the last one.
fn close_gently(peer: &mut Peer) {
    peer.closing = true;
    let _ = flush(peer);
}
