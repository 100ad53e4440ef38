//! The link itself: both halves on one socket, and how it ends.

use std::io::IoSlice;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::ioctl::{Getter, ioctl};
use rustix::net::{RecvFlags, recv, sockopt};

use super::buffer::StreamBuffer;
use super::host::HostWatch;
use super::receiver::{Next, Receiver, gone};
use super::sender::Sender;
use super::{TcpConfig, TcpError};
use crate::link::{CarrierKind, Frame, Link, LinkEnd, LinkStats, SendError, WORD_BYTES};

/// A quarter of a ring bounds a frame, so that a few always fit.
const FRAMES_PER_RING_MIN: usize = 4;

/// Between two looks at the clock while polling; a poll that reads nothing takes a quarter of a microsecond.
const READS_PER_LOOK: u32 = 4096;

/// Inside one host nothing is congested. BBR, a common choice for hosts of a wide network, measures the loopback as if it were one and paces: a
/// stream of writes just above one segment (65,483 bytes) then moves 2 GB/s where this one moves 7. Every Linux has it.
const LOOPBACK_CONGESTION: &str = "reno";

/// One end of a link over a TCP connection. Made on both ends of a connected socket after the handshake.
#[derive(Debug)]
pub struct TcpLink {
    socket: TcpStream,
    sender: Sender,
    receiver: Receiver,
    host: HostWatch,
    /// Reads that brought nothing, so far.
    fruitless_reads: u32,
    frame_bytes_max: usize,
    linger: Duration,
    /// What every call reports from now on.
    end: Option<LinkEnd>,
    /// The socket takes no more; frames that came before are still delivered, then this is the end.
    send_end: Option<LinkEnd>,
    /// Staged bytes at the last "full", while the caller has not been told about room since.
    refused_at: Option<usize>,
    stats: LinkStats,
}

impl TcpLink {
    /// Takes over a connected socket on which nothing but the handshake was said.
    pub fn new(socket: TcpStream, config: &TcpConfig) -> Result<TcpLink, TcpError> {
        check(config)?;
        tune(&socket)?;
        let host = HostWatch::new(socket.as_fd(), config.peer_timeout)
            .map_err(|error| TcpError::Os { call: "setsockopt(SO_KEEPALIVE)", error })?;
        let receiver =
            Receiver::new(StreamBuffer::new(config.ring_bytes)?, config.ring_bytes / FRAMES_PER_RING_MIN);
        let frame_bytes_max = config.peer_ring_bytes / FRAMES_PER_RING_MIN;
        // Room for two of the largest frames, so that one can be claimed while another leaves.
        let staged = StreamBuffer::new((2 * frame_bytes_max).max(rustix::param::page_size()))?;
        Ok(TcpLink {
            socket,
            sender: Sender::new(staged),
            receiver,
            host,
            fruitless_reads: 0,
            frame_bytes_max,
            linger: config.linger,
            end: None,
            send_end: None,
            refused_at: None,
            stats: LinkStats::default(),
        })
    }

    /// The socket, to ask it for addresses.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    fn check_sendable(&self, frame_bytes: usize) -> Result<(), SendError> {
        if let Some(end) = self.end.as_ref().or(self.send_end.as_ref()) {
            return Err(end.clone().into());
        }
        if frame_bytes > self.frame_bytes_max {
            return Err(SendError::TooLarge { got: frame_bytes, max: self.frame_bytes_max });
        }
        Ok(())
    }

    fn full(&mut self) -> SendError {
        self.stats.full += 1;
        self.refused_at = Some(self.sender.staged_bytes());
        SendError::Full
    }

    /// The socket takes no more bytes. Whatever the peer had sent is read first, as far as there is room,
    /// because a close among it says that the peer is not lost but done.
    #[cold]
    fn broken(&mut self, error: Errno) -> LinkEnd {
        self.sender.discard();
        // Bounded by the ring: each round reads something or is the last.
        let mut before = None;
        while before != Some(self.receiver.received()) {
            before = Some(self.receiver.received());
            if !self.receiver.fill(self.socket.as_fd()).unwrap_or(false) {
                break;
            }
        }
        let end = match gone(error) {
            _ if self.receiver.saw_close() => LinkEnd::ClosedByPeer,
            Some(text) => LinkEnd::PeerGone(text),
            None => LinkEnd::Os(format!("send: {error}")),
        };
        self.send_end.get_or_insert(end).clone()
    }

    /// The link ends here and now; the peer notices by the connection's end.
    fn finish(&mut self, end: LinkEnd) -> LinkEnd {
        self.sender.discard();
        // The socket may be dead already, and then there is nobody to tell.
        let _ = self.socket.shutdown(Shutdown::Both);
        self.end.get_or_insert(end).clone()
    }

    /// The next frame if complete, or the end if that is what comes next.
    fn next_frame(&mut self) -> Result<Option<Frame>, LinkEnd> {
        match self.receiver.peek() {
            Ok(Next::Frame(frame)) => Ok(Some(frame)),
            Ok(Next::Close) => Err(self.finish(LinkEnd::ClosedByPeer)),
            Ok(Next::Partial) => match self.receiver.end() {
                Some(cut) => {
                    let end = self.send_end.clone().unwrap_or(cut);
                    Err(self.finish(end))
                }
                None => Ok(None),
            },
            Err(broken) => Err(self.finish(broken)),
        }
    }

    #[cold]
    fn look_at_host(&mut self) -> Result<(), LinkEnd> {
        self.host.look(self.socket.as_fd()).map_err(|silence| self.finish(LinkEnd::PeerGone(silence)))
    }

    fn flush(&mut self) {
        if self.send_end.is_none()
            && let Err(error) = self.sender.flush(self.socket.as_fd())
        {
            self.broken(error);
        }
        // After our close record nothing follows: the peer should see the stream's end behind it.
        if self.end == Some(LinkEnd::ClosedHere) && self.sender.staged_bytes() == 0 {
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    /// After a close: waits, at most `linger`, until the peer's host has acknowledged our last bytes. What
    /// comes in meanwhile is read and dropped, for a socket closed with unread bytes resets the connection,
    /// which would destroy what is still on its way.
    fn drain(&mut self) {
        let deadline = Instant::now() + self.linger;
        let mut scrap = [0; 4096];
        while self.send_end.is_none() && Instant::now() < deadline {
            self.flush();
            let mut got = recv(&self.socket, &mut scrap, RecvFlags::DONTWAIT);
            while matches!(got, Ok((1.., _))) && Instant::now() < deadline {
                got = recv(&self.socket, &mut scrap, RecvFlags::DONTWAIT);
            }
            // A connection that was reset acknowledges nothing more: shutting it down again is an error.
            let reset = matches!(got, Err(error) if gone(error).is_some())
                || self.sender.staged_bytes() == 0 && self.socket.shutdown(Shutdown::Write).is_err();
            // The stream's end counts as one byte; its acknowledgement is often delayed and nobody needs it.
            let arrived = self.sender.staged_bytes() == 0
                && matches!(unacknowledged_bytes(self.socket.as_fd()), Ok(..=1));
            if reset || arrived {
                return;
            }
            // Acknowledgements raise no event, hence the short wait; POLLOUT is there only while bytes are staged.
            let events = if self.wants_writable() { PollFlags::OUT } else { PollFlags::empty() };
            let wait = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            let _ = poll(&mut [PollFd::new(&self.socket, events)], Some(&wait));
        }
    }
}

fn check(config: &TcpConfig) -> Result<(), TcpError> {
    let page = rustix::param::page_size();
    for (field, bytes) in [("ring_bytes", config.ring_bytes), ("peer_ring_bytes", config.peer_ring_bytes)] {
        if !bytes.is_power_of_two() || bytes < page || bytes > 1 << 31 {
            let expected = "a power of two, at least a page, at most 2 GiB";
            return Err(TcpError::Config { field, expected, got: bytes.to_string() });
        }
    }
    if config.peer_timeout < Duration::from_secs(1) || config.peer_timeout > Duration::from_secs(86_400) {
        let got = format!("{:?}", config.peer_timeout);
        return Err(TcpError::Config { field: "peer_timeout", expected: "1 s to a day", got });
    }
    Ok(())
}

/// No Nagle delay, and no pacing inside one host.
fn tune(socket: &TcpStream) -> Result<(), TcpError> {
    if over_loopback(socket) {
        // Only a matter of speed, and the administrator may have forbidden it.
        let _ = sockopt::set_tcp_congestion(socket, LOOPBACK_CONGESTION);
    }
    let os = |error: Errno| TcpError::Os { call: "setsockopt(TCP_NODELAY)", error: error.into() };
    sockopt::set_tcp_nodelay(socket, true).map_err(os)
}

fn over_loopback(socket: &TcpStream) -> bool {
    let loopback =
        |address: std::io::Result<SocketAddr>| address.is_ok_and(|it| it.ip().to_canonical().is_loopback());
    loopback(socket.peer_addr()) && loopback(socket.local_addr())
}

/// Bytes given to the socket that the peer's host has not acknowledged.
fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> Result<i32, Errno> {
    /// `SIOCOUTQ` of `linux/sockios.h`, the same number as `TIOCOUTQ`.
    const SIOCOUTQ: rustix::ioctl::Opcode = 0x5411;
    // SAFETY: on a TCP socket SIOCOUTQ writes one C int through its argument (tcp(7)) and nothing else; Getter passes a pointer to
    // exactly one.
    unsafe { ioctl(socket, Getter::<SIOCOUTQ, i32>::new()) }
}

impl Link for TcpLink {
    fn kind(&self) -> CarrierKind {
        CarrierKind::Tcp
    }

    fn frame_bytes_max(&self) -> usize {
        self.frame_bytes_max
    }

    fn try_claim(&mut self, frame_bytes: usize) -> Result<&mut [u8], SendError> {
        assert!(
            frame_bytes >= WORD_BYTES,
            "a frame has at least the carrier's word, got {frame_bytes} bytes"
        );
        self.check_sendable(frame_bytes)?;
        match self.sender.claim(self.socket.as_fd(), frame_bytes) {
            Ok(true) => {}
            Ok(false) => return Err(self.full()),
            Err(error) => return Err(self.broken(error).into()),
        }
        self.refused_at = None;
        Ok(&mut self.sender.claimed()[WORD_BYTES..])
    }

    fn commit(&mut self, tag: u32) {
        if self.end.is_some() || self.send_end.is_some() {
            // The peer went away between claim and commit: the next call says so.
            return self.sender.abort();
        }
        match self.sender.commit(self.socket.as_fd(), tag) {
            Ok(bytes) => {
                self.stats.sent_frames += 1;
                self.stats.sent_bytes += bytes as u64;
            }
            Err(error) => {
                self.broken(error);
            }
        }
    }

    fn abort(&mut self) {
        self.sender.abort();
    }

    fn try_send(&mut self, tag: u32, parts: &[IoSlice<'_>]) -> Result<(), SendError> {
        let frame_bytes = parts.iter().fold(WORD_BYTES, |sum, part| sum.saturating_add(part.len()));
        self.check_sendable(frame_bytes)?;
        match self.sender.send(self.socket.as_fd(), tag, parts, frame_bytes) {
            Ok(true) => {
                self.refused_at = None;
                self.stats.sent_frames += 1;
                self.stats.sent_bytes += super::sender::padded(frame_bytes) as u64;
                Ok(())
            }
            Ok(false) => Err(self.full()),
            Err(error) => Err(self.broken(error).into()),
        }
    }

    fn progress(&mut self) -> Result<(), LinkEnd> {
        self.flush();
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        // While a frame waits to be taken there is no need to ask the kernel for more.
        if self.next_frame()?.is_none() {
            let before = self.receiver.received();
            if let Err(error) = self.receiver.fill(self.socket.as_fd()) {
                return Err(self.finish(error));
            }
            if self.next_frame()?.is_none() && self.receiver.received() == before {
                self.fruitless_reads = self.fruitless_reads.wrapping_add(1);
                if self.fruitless_reads.is_multiple_of(READS_PER_LOOK) {
                    self.look_at_host()?;
                }
            }
        }
        Ok(())
    }

    fn unsent_bytes(&self) -> usize {
        self.sender.staged_bytes()
    }

    fn try_recv(&mut self) -> Result<Option<Frame>, LinkEnd> {
        if let Some(end) = &self.end {
            return Err(end.clone());
        }
        let next = self.next_frame()?;
        if let Some(frame) = &next {
            self.receiver.take(frame);
            self.stats.received_frames += 1;
            self.stats.received_bytes += super::sender::padded(frame.len() as usize) as u64;
        }
        Ok(next)
    }

    fn bytes(&self, frame: &Frame) -> &[u8] {
        self.receiver.bytes(frame)
    }

    fn release(&mut self, frame: Frame) {
        self.receiver.release(&frame);
    }

    fn prepare_park(&mut self) -> bool {
        // An end and a frame are both something to do.
        if self.progress().is_err() || !matches!(self.next_frame(), Ok(None)) || self.look_at_host().is_err()
        {
            return false;
        }
        if self.refused_at.is_some_and(|bytes| self.sender.staged_bytes() < bytes) {
            self.refused_at = None;
            return false;
        }
        true
    }

    fn finish_park(&mut self) {}

    fn park_fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.socket.as_fd(), self.socket.as_fd()]
    }

    fn wants_writable(&self) -> bool {
        self.sender.staged_bytes() > 0
    }

    fn look_every(&self) -> Option<Duration> {
        Some(self.host.look_every())
    }

    fn close(&mut self) {
        if self.end.is_some() {
            return;
        }
        if self.send_end.is_none() {
            self.sender.stage_close();
        }
        self.end = Some(LinkEnd::ClosedHere);
        self.flush();
    }

    fn stats(&self) -> LinkStats {
        LinkStats { wakes: self.sender.writes, ..self.stats }
    }
}

impl Drop for TcpLink {
    fn drop(&mut self) {
        if self.end == Some(LinkEnd::ClosedHere) {
            self.drain();
        }
    }
}
