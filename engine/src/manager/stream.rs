//! Connected sockets and listeners, Unix or TCP, under one type.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use keyrange_transport::tcp::HostWatch;

use super::address::Address;

/// A host that has not answered for this long is gone. A stopped process is not: its host answers for it.
pub const HOST_PATIENCE: Duration = Duration::from_secs(4);

/// Between two attempts to reach somebody who does not listen yet.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Of this host.
    Unix(UnixStream),
    /// Of any host.
    Tcp(TcpStream),
}

/// Applies one method to whichever socket it is.
macro_rules! either {
    ($self:expr, $socket:ident => $body:expr) => {
        match $self {
            Self::Unix($socket) => $body,
            Self::Tcp($socket) => $body,
        }
    };
}

impl Stream {
    /// Connects, trying again until `deadline` while nobody listens there yet.
    pub fn connect(address: &Address, deadline: Instant) -> io::Result<Self> {
        loop {
            match Self::connect_once(address, deadline) {
                Err(error) if worth_retrying(&error) && Instant::now() + RETRY_EVERY < deadline => {
                    thread::sleep(RETRY_EVERY);
                }
                result => return result,
            }
        }
    }

    fn connect_once(address: &Address, deadline: Instant) -> io::Result<Self> {
        match address {
            Address::Unix(name) => {
                let place = UnixAddress::from_abstract_name(name.as_bytes())?;
                UnixStream::connect_addr(&place).map(Stream::Unix)
            }
            Address::Tcp(place) => {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                let stream = TcpStream::connect_timeout(place, left)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// Begins to watch over the peer's host, if it is another's: a Unix socket needs no watch.
    pub fn watch_host(&self) -> io::Result<Option<HostWatch>> {
        match self {
            Stream::Unix(_) => Ok(None),
            Stream::Tcp(socket) => HostWatch::new(socket.as_fd(), HOST_PATIENCE).map(Some),
        }
    }

    /// The same socket once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Stream::Unix(socket) => Stream::Unix(socket.try_clone()?),
            Stream::Tcp(socket) => Stream::Tcp(socket.try_clone()?),
        })
    }

    /// See [`TcpStream::set_nonblocking`].
    pub fn set_nonblocking(&self, yes: bool) -> io::Result<()> {
        either!(self, socket => socket.set_nonblocking(yes))
    }

    /// A write that blocks for longer fails.
    pub fn set_write_timeout(&self, limit: Duration) -> io::Result<()> {
        either!(self, socket => socket.set_write_timeout(Some(limit)))
    }

    /// See [`TcpStream::shutdown`].
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        either!(self, socket => socket.shutdown(how))
    }

    /// Who is at the other end, for people.
    pub fn peer(&self) -> String {
        match self {
            Stream::Unix(socket) => match rustix::net::sockopt::socket_peercred(socket) {
                Ok(cred) => format!("process {} of this host", cred.pid),
                Err(_) => "a process of this host".into(),
            },
            Stream::Tcp(socket) => match socket.peer_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "a peer that is gone".into(),
            },
        }
    }
}

fn worth_retrying(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, ConnectionRefused, Interrupted, NotFound, WouldBlock};
    matches!(error.kind(), ConnectionRefused | NotFound | WouldBlock | Interrupted | AddrNotAvailable)
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, socket => socket.as_fd())
    }
}

impl From<Stream> for OwnedFd {
    fn from(stream: Stream) -> OwnedFd {
        match stream {
            Stream::Unix(socket) => socket.into(),
            Stream::Tcp(socket) => socket.into(),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        either!(self, socket => socket.read(buffer))
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(self, socket => socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// In the abstract Unix namespace.
    Unix(UnixListener, String),
    /// On an internet address.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens at `address` (TCP port 0: any free port). The error names the address.
    pub fn bind(address: &Address) -> io::Result<Self> {
        let explain = |error: io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => " (somebody listens there already: choose another, or port 0)",
                _ => "",
            };
            io::Error::new(error.kind(), format!("cannot listen at {address}: {error}{hint}"))
        };
        let bound = match address {
            Address::Unix(name) => UnixAddress::from_abstract_name(name.as_bytes())
                .and_then(|place| UnixListener::bind_addr(&place))
                .map(|socket| Listener::Unix(socket, name.clone())),
            Address::Tcp(place) => TcpListener::bind(place).map(Listener::Tcp),
        };
        let listener = bound.map_err(explain)?;
        match &listener {
            Listener::Unix(socket, _) => socket.set_nonblocking(true)?,
            Listener::Tcp(socket) => socket.set_nonblocking(true)?,
        }
        Ok(listener)
    }

    /// Where it listens, with the port that was found.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Listener::Unix(_, name) => Ok(Address::Unix(name.clone())),
            Listener::Tcp(socket) => socket.local_addr().map(Address::Tcp),
        }
    }

    /// The next connection; `WouldBlock` when there is none. The stream is a blocking one.
    pub fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Unix(socket, _) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(false)?;
                Ok(Stream::Unix(stream))
            }
            Listener::Tcp(socket) => {
                let (stream, _) = socket.accept()?;
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Unix(socket, _) => socket.as_fd(),
            Listener::Tcp(socket) => socket.as_fd(),
        }
    }
}
