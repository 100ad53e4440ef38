//! The manager of an embedded cluster: the same core as the real one, called directly.

use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::manager::core::{Connection, ManagerCore, Output};
use crate::manager::message::{Registration, ToManager};
use crate::manager::session::Voice;
use crate::manager::{Event, JobEnd, JobPlan, Notices, Session};

/// A manager without sockets, thread or clock ticks: threads of one process neither vanish nor fall silent
/// without the process.
pub(super) struct Hub {
    inner: Mutex<Inner>,
    began: Instant,
}

struct Inner {
    core: ManagerCore,
    nodes: Vec<Arc<Notices>>,
    events: Sender<Event>,
}

impl Hub {
    /// A job that begins now.
    pub(super) fn new(plan: JobPlan) -> (Arc<Self>, Receiver<Event>) {
        let plan = JobPlan { silent_after: Duration::MAX, ..plan };
        let (events, receiver) = mpsc::channel();
        let core = ManagerCore::new(plan, Duration::ZERO);
        let inner = Mutex::new(Inner { core, nodes: Vec::new(), events });
        (Arc::new(Hub { inner, began: Instant::now() }), receiver)
    }

    /// A node's session.
    pub(super) fn join(self: &Arc<Self>, registration: Registration) -> std::io::Result<Session> {
        let notices = Arc::new(Notices::new()?);
        let connection = {
            let mut inner = self.lock();
            inner.nodes.push(notices.clone());
            inner.nodes.len() as Connection - 1
        };
        let voice = HubVoice { hub: self.clone(), connection };
        // The hub listens for as long as the voice exists, so saying cannot fail.
        let _ = voice.say(&ToManager::Register(registration));
        Ok(Session::local(notices, Arc::new(voice)))
    }

    /// Ends the job; every node hears the reason.
    pub(super) fn abort(&self, reason: &str) {
        self.with_core(|core, _, out| core.abort(None, reason.to_owned(), out));
    }

    /// How the job ended, if it did.
    pub(super) fn ended(&self) -> Option<JobEnd> {
        self.lock().core.ended().cloned()
    }

    fn with_core(&self, act: impl FnOnce(&mut ManagerCore, Duration, &mut Vec<Output>)) {
        let mut inner = self.lock();
        let mut out = Vec::new();
        act(&mut inner.core, self.began.elapsed(), &mut out);
        for output in out {
            match output {
                Output::Send(connection, message) => inner.nodes[connection as usize].deliver(message),
                // The owner may not be interested in events.
                Output::Event(event) => drop(inner.events.send(event)),
                Output::Close(_) => {}
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct HubVoice {
    hub: Arc<Hub>,
    connection: Connection,
}

impl Voice for HubVoice {
    fn say(&self, message: &ToManager) -> Result<(), String> {
        self.hub.with_core(|core, now, out| {
            core.handle(now, self.connection, message.clone(), out);
            core.tick(now, out);
        });
        Ok(())
    }

    fn close(&self) {
        self.hub
            .with_core(|core, _, out| core.lost(self.connection, "its thread ended without a good-bye", out));
    }
}
