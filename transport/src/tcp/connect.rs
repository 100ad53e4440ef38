//! How connected sockets come about: listening and connecting, with deadlines and errors that name the address.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::TcpError;

/// A listening socket. Nothing listens beyond the address asked for.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Listens on `address`; port 0 takes any free port, which [`Listener::address`] then tells.
    pub fn bind(address: SocketAddr) -> Result<Listener, TcpError> {
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::AddrInUse => TcpError::AddressInUse { address },
            _ => TcpError::Listen { address, error },
        };
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Listener { socket, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, if one waits.
    pub fn try_accept(&self) -> Result<Option<(TcpStream, SocketAddr)>, TcpError> {
        loop {
            match self.socket.accept() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                // Somebody who hung up before we came is nobody's error.
                Err(error)
                    if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                Err(error) => return Err(TcpError::Os { call: "accept", error }),
            }
        }
    }

    /// Waits for the next connection until `deadline`.
    pub fn accept(&self, deadline: Instant) -> Result<(TcpStream, SocketAddr), TcpError> {
        let began = Instant::now();
        loop {
            if let Some(accepted) = self.try_accept()? {
                return Ok(accepted);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(TcpError::AcceptTimedOut { address: self.address, waited: began.elapsed() });
            }
            let wait = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 3600, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(TcpError::Os { call: "poll", error: error.into() }),
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Connects to `address`, once, until `deadline`. A node that may not be up yet is the caller's to retry
/// ([`TcpError::Refused`] says that nobody listens there).
pub fn connect(address: SocketAddr, deadline: Instant) -> Result<TcpStream, TcpError> {
    let began = Instant::now();
    let left = deadline.saturating_duration_since(began);
    if left.is_zero() {
        return Err(TcpError::ConnectTimedOut { address, waited: left });
    }
    let socket = TcpStream::connect_timeout(&address, left).map_err(|error| match error.kind() {
        ErrorKind::ConnectionRefused => TcpError::Refused { address },
        ErrorKind::TimedOut => TcpError::ConnectTimedOut { address, waited: began.elapsed() },
        _ => TcpError::Connect { address, error },
    })?;
    // On one host a socket may get the very port it looks for as its own, and then it talks to itself.
    if socket.local_addr().is_ok_and(|own| own == address) {
        return Err(TcpError::Refused { address });
    }
    Ok(socket)
}
