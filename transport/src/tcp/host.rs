//! Whether the peer's host still answers.
//!
//! The death of a process closes its sockets and shows at once. A host that vanishes (power, cable, partition) sends
//! nothing, and TCP by itself waits a quarter of an hour. `TCP_USER_TIMEOUT` would shorten that, but Linux applies it also to a peer
//! whose window has been shut for so long, and a stopped process is not a dead one: its kernel goes on to answer. So the question is asked
//! directly: something of ours waits for an acknowledgement, be it data or a probe of a shut window, and no
//! acknowledgement of anything has come for the whole patience. A connection on which nothing is under way is probed by the
//! kernel (keepalive), which then reports the end by itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// Looks in one patience: each may come so much late.
const LOOKS: u32 = 10;

/// Unanswered keepalive probes that end an idle connection; the first comes after as long as lies between them.
const PROBES: u32 = 4;

/// The longest pause between two attempts to reach the peer. Without it the pauses double up to two minutes, and a host that vanishes
/// while its window is shut is noticed only at the next attempt. Linux 6.15 and later.
const RETRY_MS_MAX: libc::c_int = 1000;

/// `TCP_RTO_MAX_MS` of `linux/tcp.h`.
const TCP_RTO_MAX_MS: libc::c_int = 44;

/// Watches over one TCP connection. Whoever owns the socket calls [`HostWatch::look`], more often than every
/// [`HostWatch::look_every`].
#[derive(Debug)]
pub struct HostWatch {
    patience: Duration,
    looked: Instant,
    /// Since when, as far as looked at, something waits for an acknowledgement and none comes.
    unanswered_since: Option<Instant>,
}

impl HostWatch {
    /// Begins to watch `socket`, whose peer's host may be silent for `patience`. Idle connections are probed in whole
    /// seconds, so there a patience below 5 s counts as 5 s.
    pub fn new(socket: BorrowedFd<'_>, patience: Duration) -> io::Result<HostWatch> {
        let pause = Duration::from_secs(patience.as_secs().div_ceil(u64::from(PROBES) + 1).max(1));
        sockopt::set_tcp_keepidle(socket, pause)?;
        sockopt::set_tcp_keepintvl(socket, pause)?;
        sockopt::set_tcp_keepcnt(socket, PROBES)?;
        sockopt::set_socket_keepalive(socket, true)?;
        limit_retry_pauses(socket);
        Ok(HostWatch { patience, looked: Instant::now(), unanswered_since: None })
    }

    /// How often to look.
    pub fn look_every(&self) -> Duration {
        self.patience / LOOKS
    }

    /// Looks, unless the last look was just before. The error is for people: the host is gone.
    pub fn look(&mut self, socket: BorrowedFd<'_>) -> Result<(), String> {
        let now = Instant::now();
        let passed = now - self.looked;
        if passed < self.look_every() / 2 {
            return Ok(());
        }
        // A socket that cannot be asked tells the rest itself, at the next read.
        let Ok(state) = acknowledgements(socket) else { return Ok(()) };
        self.looked = now;
        if !state.awaited || state.last < passed {
            self.unanswered_since = None;
            return Ok(());
        }
        let silent = now - *self.unanswered_since.get_or_insert(now);
        if silent < self.patience {
            Ok(())
        } else {
            Err(format!("its host has not answered for {:?}", self.patience))
        }
    }
}

/// What the kernel knows of the peer's acknowledgements.
struct Acknowledgements {
    /// Data is under way, or a probe of a shut window has not been answered.
    awaited: bool,
    /// How long ago the last one came.
    last: Duration,
}

fn acknowledgements(socket: BorrowedFd<'_>) -> io::Result<Acknowledgements> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut bytes = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so open; TCP_INFO writes at most `bytes` bytes to `info`, which has as many, and the
    // number of them to `bytes`. Both live on this stack beyond the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the struct is integers only and was zeroed, so it is initialised whatever part of it the kernel wrote.
    let info = unsafe { info.assume_init() };
    Ok(Acknowledgements {
        awaited: info.tcpi_unacked > 0 || info.tcpi_probes > 0,
        last: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
}

/// Older kernels know no such option, and then the pauses double as ever.
fn limit_retry_pauses(socket: BorrowedFd<'_>) {
    let pause_ms = RETRY_MS_MAX;
    // SAFETY: the descriptor is borrowed, so open; the kernel reads one C int, which lives beyond the call.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const pause_ms).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}
