//! Asynchronous events of a device: what goes wrong beside the completions.
//!
//! A device has one descriptor for them and many links on many threads. Whoever sees it readable takes the events off and leaves
//! each at the watchers it concerns, whose descriptors wake their threads. Nobody waits for anybody.

use std::ffi::c_void;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::event::{EventfdFlags, eventfd};

use super::error::errno;
use super::library::Library;
use super::{VerbsError, ffi};

/// Why a link ends: whether the peer is to blame, and what happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cause {
    pub(super) is_peers: bool,
    pub(super) text: &'static str,
}

const fn ours(text: &'static str) -> Cause {
    Cause { is_peers: false, text }
}

const fn peers(text: &'static str) -> Cause {
    Cause { is_peers: true, text }
}

/// Whom an event concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// One queue pair, or one completion queue.
    Object,
    /// All links over one port.
    Port,
    /// All links of the device.
    Device,
}

/// The events that end links, by number (`enum ibv_event_type`). The others tell of changes that reliable connections survive.
const ENDING: [(u32, Scope, Cause); 6] = [
    (0, Scope::Object, ours("the completion queue failed")),
    (1, Scope::Object, ours("the queue pair failed")),
    (2, Scope::Object, peers("expected WRITEs into our ring, got an invalid request")),
    (3, Scope::Object, peers("expected WRITEs into our ring, got one outside of it")),
    (8, Scope::Device, ours("the device failed or was removed")),
    (10, Scope::Port, ours("the port went down")),
];

/// Who is told, and why its link ends, if it does.
#[derive(Debug)]
pub(super) struct Watcher {
    /// Addresses of the queue pair and its completion queue: names, never followed.
    objects: [usize; 2],
    port: u8,
    news: OwnedFd,
    end: Mutex<Option<Cause>>,
}

impl Watcher {
    /// Readable once there is an end.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.news.as_fd()
    }

    /// Why the link ends.
    pub(super) fn end(&self) -> Option<Cause> {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(&self, scope: Scope, element: u64) -> bool {
        match scope {
            Scope::Object => self.objects.contains(&(element as usize)),
            // A port's number is the first four bytes of the union.
            Scope::Port => u32::from(self.port) == element as u32,
            Scope::Device => true,
        }
    }

    fn tell(&self, end: Cause) {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(end);
        // The counter is far from full: it is written once for each event.
        let _ = rustix::io::write(&self.news, &1u64.to_ne_bytes());
    }
}

/// The watchers of one device.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Vec<Weak<Watcher>>>);

impl Watchers {
    /// A watcher for a queue pair and its completion queue on `port`, told of every event from now on.
    pub(super) fn watch(&self, objects: [*const c_void; 2], port: u8) -> Result<Arc<Watcher>, VerbsError> {
        let news = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(errno("eventfd"))?;
        let objects = objects.map(|object| object as usize);
        let watcher = Arc::new(Watcher { objects, port, news, end: Mutex::new(None) });
        let mut watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watchers.retain(|watcher| watcher.strong_count() > 0);
        watchers.push(Arc::downgrade(&watcher));
        Ok(watcher)
    }

    /// Leaves an event at the watchers it concerns.
    fn spread(&self, event_type: u32, element: u64) {
        let Some(&(_, scope, cause)) = ENDING.iter().find(|(number, ..)| *number == event_type) else {
            return;
        };
        let watchers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let concerned = watchers.iter().filter_map(Weak::upgrade).filter(|w| w.concerns(scope, element));
        concerned.for_each(|watcher| watcher.tell(cause));
    }

    /// Takes what there is off the device's descriptor, which must not block.
    ///
    /// # Safety
    /// `context` is open.
    pub(super) unsafe fn take(&self, library: &Library, context: *mut ffi::Context) {
        let mut event = ffi::AsyncEvent { element: 0, event_type: 0, _padding: 0 };
        // SAFETY: the context is open (the caller's promise), the event for the call to fill.
        while unsafe { (library.get_async_event)(context, &mut event) } == 0 {
            self.spread(event.event_type, event.element);
            // SAFETY: just taken, acknowledged once; what it names is not used any more.
            unsafe { (library.ack_async_event)(&mut event) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reaches_whom_it_concerns_once_and_for_all() {
        let watchers = Watchers::default();
        let watch = |objects: [usize; 2], port| watchers.watch(objects.map(|o| o as *const c_void), port);
        let (a, b) = (watch([0x10, 0x20], 1).unwrap(), watch([0x30, 0x40], 2).unwrap());
        let ends = || [a.end(), b.end()].map(|end| end.is_some());
        // Communication established, port active, a queue pair of somebody else, an event of tomorrow.
        for (event_type, element) in [(4, 0x10), (9, 1), (1, 0x50), (10, 3), (99, 0x10)] {
            watchers.spread(event_type, element);
            assert_eq!(ends(), [false, false]);
        }
        // The upper half of the union is unspecified for a port.
        watchers.spread(10, 0xdead_beef_0000_0002);
        assert_eq!(ends(), [false, true]);
        watchers.spread(0, 0x20);
        assert_eq!(ends(), [true, true]);
        watchers.spread(8, 0);
        assert!(a.end().unwrap().text.contains("completion queue") && b.end().unwrap().text.contains("port"));
        let mut count = [0; 8];
        assert_eq!(rustix::io::read(a.fd(), &mut count), Ok(8));
    }
}
