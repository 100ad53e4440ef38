//! Runs a side over a connected stream socket, with a deadline.
//!
//! Works on blocking and non-blocking sockets alike (every call says "don't wait" and waits in `poll`), and
//! reads no byte beyond the handshake, so the socket can be handed to a carrier afterwards.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, getpeername, getsockname, recv, send, sockopt};

use super::wire::MESSAGE_BYTES_MAX;
use super::{Credentials, HandshakeError, Identity, Initiator, Nonce, Peer, Request, Responder, Side};
use crate::link::CarrierKind;

/// Runs the connecting side until `deadline`. On error hang up.
pub fn initiate(
    socket: impl AsFd,
    credentials: &Credentials,
    identity: &Identity,
    request: Request,
    deadline: Instant,
) -> Result<Peer, HandshakeError> {
    let socket = socket.as_fd();
    check_trust(socket, &credentials.secret)?;
    run(socket, Initiator::new(credentials.clone(), identity.clone(), request, fresh_nonce()?)?, deadline)
}

/// Runs the accepting side until `deadline`; `served` are the carriers that may be asked for on this socket.
/// On error hang up.
pub fn respond(
    socket: impl AsFd,
    credentials: &Credentials,
    identity: &Identity,
    served: &[CarrierKind],
    deadline: Instant,
) -> Result<Peer, HandshakeError> {
    let socket = socket.as_fd();
    check_trust(socket, &credentials.secret)?;
    run(socket, Responder::new(credentials.clone(), identity.clone(), served, fresh_nonce()?)?, deadline)
}

fn os(call: &'static str, error: impl ToString) -> HandshakeError {
    HandshakeError::Os { call, error: error.to_string() }
}

fn fresh_nonce() -> Result<Nonce, HandshakeError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|error| os("getrandom", error))?;
    Ok(nonce)
}

/// An empty secret proves nothing: then the operating system must vouch for the peer.
fn check_trust(socket: BorrowedFd<'_>, secret: &[u8]) -> Result<(), HandshakeError> {
    if !secret.is_empty() {
        return Ok(());
    }
    let local = getsockname(socket).map_err(|error| os("getsockname", error))?;
    if local.address_family() == AddressFamily::UNIX {
        let peer = sockopt::socket_peercred(socket).map_err(|error| os("getsockopt(SO_PEERCRED)", error))?;
        return if peer.uid == rustix::process::geteuid() {
            Ok(())
        } else {
            Err(HandshakeError::SecretRequired { peer: format!("a process of user {}", peer.uid.as_raw()) })
        };
    }
    let peer = getpeername(socket).map_err(|error| os("getpeername", error))?;
    let address = |any| SocketAddr::try_from(any).ok();
    match (address(local), peer.and_then(address)) {
        (Some(local), Some(peer)) if is_loopback(local.ip()) && is_loopback(peer.ip()) => Ok(()),
        (_, Some(peer)) => Err(HandshakeError::SecretRequired { peer: peer.to_string() }),
        _ => Err(HandshakeError::SecretRequired { peer: "a peer of unknown address".into() }),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

fn run(socket: BorrowedFd<'_>, mut side: impl Side, deadline: Instant) -> Result<Peer, HandshakeError> {
    let mut buffer = [0_u8; MESSAGE_BYTES_MAX];
    loop {
        let output = side.take_output();
        send_all(socket, &output, side.waiting_for(), deadline)?;
        if let Some(peer) = side.peer() {
            return Ok(peer.clone());
        }
        let wanted = side.wanted_bytes();
        let got = receive(socket, &mut buffer[..wanted], &side, deadline)?;
        if let Err(error) = side.feed(&buffer[..got]) {
            // The reason is a courtesy: it must not hide the error, whatever becomes of the socket.
            let refusal = side.take_output();
            let _ = send(socket, &refusal, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            return Err(error);
        }
    }
}

fn send_all(
    socket: BorrowedFd<'_>,
    mut bytes: &[u8],
    waiting_for: &'static str,
    deadline: Instant,
) -> Result<(), HandshakeError> {
    while !bytes.is_empty() {
        match send(socket, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                if !wait_until(socket, PollFlags::OUT, deadline)? {
                    return Err(HandshakeError::TimedOut { waiting_for });
                }
            }
            // A peer that refused us may have hung up already; its refusal still waits to be read.
            Err(Errno::PIPE | Errno::CONNRESET) => return Ok(()),
            Err(error) => return Err(os("send", error)),
        }
    }
    Ok(())
}

fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
    side: &impl Side,
    deadline: Instant,
) -> Result<usize, HandshakeError> {
    let (waiting_for, got, wanted) = (side.waiting_for(), side.received_bytes(), buffer.len());
    // Checked before each read too: a peer that sends a byte now and then must not keep us for ever.
    while Instant::now() < deadline {
        match recv(socket, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET | Errno::PIPE) => {
                return Err(HandshakeError::Closed { waiting_for });
            }
            Ok((bytes, _)) => return Ok(bytes),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                wait_until(socket, PollFlags::IN, deadline)?;
            }
            Err(error) => return Err(os("recv", error)),
        }
    }
    Err(match got {
        0 => HandshakeError::TimedOut { waiting_for },
        _ => HandshakeError::TooSlow { waiting_for, got, wanted: got + wanted },
    })
}

/// Waits for `events`; false when the deadline passed first.
fn wait_until(socket: BorrowedFd<'_>, events: PollFlags, deadline: Instant) -> Result<bool, HandshakeError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Ok(false);
    }
    let timeout = Timespec::try_from(left).map_err(|error| os("poll timeout", error))?;
    match poll(&mut [PollFd::from_borrowed_fd(socket, events)], Some(&timeout)) {
        Ok(_) | Err(Errno::INTR) => Ok(true),
        Err(error) => Err(os("poll", error)),
    }
}
