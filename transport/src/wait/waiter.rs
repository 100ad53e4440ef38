//! `Waiter`: one thread's way to wait, with its epoll set.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::budget::{Budget, Step};
use crate::link::Link;

/// Events taken from the epoll set at once; more wait for the next call.
const EVENTS_MAX: usize = 32;

/// What the creator of a [`Waiter`] knows about its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitConfig {
    /// Busy threads that share the cores this thread may run on, itself included (all processes of the job). Only
    /// the first guess: the waiter then goes by how long its yields take.
    pub threads: usize,
}

/// Why [`Waiter::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Woken {
    /// Poll again: it spun or yielded, something came before it could sleep, or a link wants a look.
    Poll,
    /// It slept and was woken; [`Waiter::ready`] says by what.
    Ready,
    /// The deadline passed.
    TimedOut,
}

/// The links one thread waits for. Implemented for a link and for lists of boxed links; implement it for the structure
/// that holds yours.
pub trait LinkSet {
    /// Calls `visit` with every link.
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link));
}

impl<L: Link> LinkSet for L {
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link)) {
        visit(self);
    }
}

impl LinkSet for [Box<dyn Link>] {
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link)) {
        self.iter_mut().for_each(|link| visit(link.as_mut()));
    }
}

impl LinkSet for Vec<Box<dyn Link>> {
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link)) {
        self.as_mut_slice().each_link(visit);
    }
}

impl LinkSet for Box<dyn Link> {
    fn each_link(&mut self, visit: &mut dyn FnMut(&mut dyn Link)) {
        visit(self.as_mut());
    }
}

/// One thread's way to wait for its links and other descriptors. Never waits past the deadline given.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
    budget: Budget,
    /// When work was last found, as far as the clock was looked at.
    idle_since: Option<Instant>,
    /// Sockets registered for links that may want writability: descriptor, token, whether it is being asked for.
    sockets: Vec<(RawFd, u64, bool)>,
    ready: Vec<u64>,
    parks: u64,
}

impl Waiter {
    /// A waiter for the calling thread.
    pub fn new(config: WaitConfig) -> io::Result<Self> {
        let cores = rustix::thread::sched_getaffinity(None)?.count() as usize;
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            budget: Budget::new(config.threads > cores),
            idle_since: None,
            sockets: Vec::new(),
            ready: Vec::with_capacity(EVENTS_MAX),
            parks: 0,
        })
    }

    /// Watches a link's descriptors. The link must also be in the set given to [`Waiter::wait`], and must be
    /// removed before it is dropped.
    pub fn add_link(&mut self, token: u64, link: &dyn Link) -> io::Result<()> {
        let [doorbell, life] = link.park_fds();
        let both = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        epoll::add(&self.epoll, doorbell, epoll::EventData::new_u64(token), both)?;
        if life.as_raw_fd() == doorbell.as_raw_fd() {
            self.sockets.push((doorbell.as_raw_fd(), token, false));
        } else {
            // Only the hang-up: what a peer may write there must not keep us awake.
            epoll::add(&self.epoll, life, epoll::EventData::new_u64(token), epoll::EventFlags::RDHUP)?;
        }
        Ok(())
    }

    /// Stops watching a link's descriptors.
    pub fn remove_link(&mut self, link: &dyn Link) -> io::Result<()> {
        let [doorbell, life] = link.park_fds();
        epoll::delete(&self.epoll, doorbell)?;
        if life.as_raw_fd() == doorbell.as_raw_fd() {
            self.sockets.retain(|&(fd, ..)| fd != doorbell.as_raw_fd());
            return Ok(());
        }
        Ok(epoll::delete(&self.epoll, life)?)
    }

    /// Watches another descriptor (a manager's socket, a signal's pipe) for readability while parked. It is
    /// looked at only then: poll it yourself as often as it matters while links are busy.
    pub fn add_fd(&mut self, token: u64, fd: BorrowedFd<'_>) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), flags)?)
    }

    /// Stops watching it.
    pub fn remove_fd(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Says that the last poll found work, so that patience starts anew. Cheap.
    #[inline]
    pub fn worked(&mut self) {
        self.idle_since = None;
        self.budget.reset();
    }

    /// Call when a poll of all links found nothing. Spins, yields or parks, as the budget has it, and returns when it
    /// is worth polling again, or at the deadline.
    #[inline]
    pub fn wait<S: LinkSet + ?Sized>(&mut self, links: &mut S, deadline: Instant) -> io::Result<Woken> {
        if !self.budget.next_round() {
            return Ok(Woken::Poll);
        }
        self.look(links, deadline)
    }

    /// Tokens that woke the last park.
    pub fn ready(&self) -> &[u64] {
        &self.ready
    }

    /// How often this thread slept, so far.
    pub fn parks(&self) -> u64 {
        self.parks
    }

    /// True while other threads seem to want this thread's core.
    pub fn is_crowded(&self) -> bool {
        self.budget.crowded()
    }

    /// A round that looks at the clock.
    fn look<S: LinkSet + ?Sized>(&mut self, links: &mut S, deadline: Instant) -> io::Result<Woken> {
        self.ready.clear();
        let now = Instant::now();
        if now >= deadline {
            return Ok(Woken::TimedOut);
        }
        let since = *self.idle_since.get_or_insert(now);
        match self.budget.step(now - since) {
            Step::Spin => Ok(Woken::Poll),
            Step::Yield => {
                rustix::thread::sched_yield();
                self.budget.yielded(now.elapsed());
                Ok(Woken::Poll)
            }
            Step::Park => self.park(links, deadline),
        }
    }

    /// Sleeps until a link or descriptor wakes it, unless a link has something to do.
    fn park<S: LinkSet + ?Sized>(&mut self, links: &mut S, deadline: Instant) -> io::Result<Woken> {
        let mut prepared = 0usize;
        let mut sleep = true;
        let mut failure = None;
        let mut look_every: Option<Duration> = None;
        links.each_link(&mut |link| {
            if sleep {
                sleep = link.prepare_park();
                prepared += usize::from(sleep);
                look_every = look_every.into_iter().chain(link.look_every()).min();
                if let Err(error) = self.follow_writability(link) {
                    failure = Some(error);
                }
            }
        });
        let look = look_every.map(|pause| Instant::now() + pause).filter(|&look| look < deadline);
        let slept =
            if failure.is_none() && sleep { self.sleep(look.unwrap_or(deadline)) } else { Ok(Woken::Poll) };
        links.each_link(&mut |link| {
            if prepared > 0 {
                prepared -= 1;
                link.finish_park();
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        // A park that timed out found nothing to be patient for: the next wait parks at once.
        match slept? {
            Woken::TimedOut => Ok(if look.is_some() { Woken::Poll } else { Woken::TimedOut }),
            woken => {
                self.worked();
                Ok(woken)
            }
        }
    }

    /// Asks epoll for writability of a socket exactly while its link has unsent bytes.
    fn follow_writability(&mut self, link: &dyn Link) -> io::Result<()> {
        let [fd, _] = link.park_fds();
        let wanted = link.wants_writable();
        let Some(entry) = self.sockets.iter_mut().find(|(raw, ..)| *raw == fd.as_raw_fd()) else {
            return Ok(());
        };
        if entry.2 != wanted {
            let mut flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP;
            flags.set(epoll::EventFlags::OUT, wanted);
            epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(entry.1), flags)?;
            entry.2 = wanted;
        }
        Ok(())
    }

    fn sleep(&mut self, deadline: Instant) -> io::Result<Woken> {
        self.parks += 1;
        let left = deadline.saturating_duration_since(Instant::now()).min(Duration::from_secs(1 << 30));
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut space = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_MAX];
        let events = match epoll::wait(&self.epoll, &mut space, Some(&timeout)) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(Woken::Poll),
            Err(error) => return Err(error.into()),
        };
        self.ready.extend(events.iter().map(|event| event.data.u64()));
        Ok(if self.ready.is_empty() { Woken::TimedOut } else { Woken::Ready })
    }
}
