//! Follows a job to its end: events, child processes, signals.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use keyrange::manager::{Event, JobEnd};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::Launch;
use super::children::Children;
use super::progress::Progress;
use crate::failure::{BAD_INPUT, Failure, JOB_FAILED};

/// Children and signals are looked after this often.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// When a process died, the manager has this long to say what it saw, which tells more than an exit code.
const MANAGER_FIRST: Duration = Duration::from_millis(500);

/// An aborted job has this long to say so.
const ABORT_DEADLINE: Duration = Duration::from_secs(1);

/// Ctrl-C and SIGTERM, remembered.
pub struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// From now on these signals end the job instead of the process. A second one ends the process.
    pub fn new() -> anyhow::Result<Self> {
        let seen = Arc::new(AtomicUsize::new(0));
        for signal in [SIGINT, SIGTERM] {
            let again = Arc::new(std::sync::atomic::AtomicBool::new(false));
            signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&again))?;
            signal_hook::flag::register(signal, again)?;
            signal_hook::flag::register_usize(signal, Arc::clone(&seen), signal as usize)?;
        }
        Ok(Signals(seen))
    }

    fn seen(&self) -> Option<u8> {
        Some(self.0.load(Ordering::Relaxed)).filter(|signal| *signal != 0).map(|signal| signal as u8)
    }
}

/// A job under way.
pub struct Watch {
    launch: Launch,
    signals: Signals,
    children: Option<Children>,
    progress: Progress,
    /// A process that died, its exit code, and since when that is known.
    dead: Option<(u8, String, Instant)>,
    interrupted: Option<(u8, Instant)>,
}

impl Watch {
    /// Watches `children`, if there are any.
    pub fn new(launch: Launch, signals: Signals, children: Option<Children>) -> Self {
        let progress = Progress::new(&launch);
        Watch { launch, signals, children, progress, dead: None, interrupted: None }
    }

    /// Until the job's end. `abort` ends it early, with a reason.
    pub fn run(mut self, events: &Receiver<Event>, abort: &dyn Fn(&str)) -> anyhow::Result<()> {
        let end = loop {
            match events.recv_timeout(LOOK_EVERY) {
                Ok(Event::Ended(end)) => break end,
                Ok(event) => self.progress.show(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break lost("the manager ended"),
            }
            if let Some(end) = self.look(abort) {
                break end;
            }
        };
        self.progress.close();
        if let Some(children) = &mut self.children {
            children.end();
        }
        match (end, self.interrupted) {
            (_, Some((signal, _))) => {
                Err(Failure::with_code(128 + signal, format!("ended by signal {signal}; no process is left")))
            }
            (JobEnd::Finished, None) => self.progress.conclude(&self.launch),
            (JobEnd::Aborted { reason, .. }, None) => {
                Err(Failure::with_code(self.code(), self.explain(reason)))
            }
        }
    }

    /// Looks after signals and children; an end if the manager does not come to one.
    fn look(&mut self, abort: &dyn Fn(&str)) -> Option<JobEnd> {
        if let Some((_, since)) = self.interrupted {
            return (since.elapsed() > ABORT_DEADLINE).then(|| lost("interrupted"));
        }
        if let Some(signal) = self.signals.seen() {
            abort(&format!("the launcher got signal {signal}"));
            self.interrupted = Some((signal, Instant::now()));
        }
        if let Some((_, told, since)) = &self.dead {
            if since.elapsed() > MANAGER_FIRST + ABORT_DEADLINE {
                return Some(lost(told));
            }
            if since.elapsed() > MANAGER_FIRST {
                abort(told);
            }
        } else if let Some((code, told)) = self.children.as_mut().and_then(Children::newly_failed) {
            self.dead = Some((code, told, Instant::now()));
        }
        None
    }

    fn code(&self) -> u8 {
        let bad_input = self.children.as_ref().is_some_and(Children::found_bad_input);
        if bad_input { BAD_INPUT } else { JOB_FAILED }
    }

    /// The reason, with the fate of the process that died if that is not what it says.
    fn explain(&self, reason: String) -> String {
        match &self.dead {
            Some((JOB_FAILED, told, _)) if !reason.contains(told.as_str()) && told.contains("signal") => {
                format!("{reason} ({told})")
            }
            _ => reason,
        }
    }
}

fn lost(reason: &str) -> JobEnd {
    JobEnd::Aborted { culprit: None, reason: reason.to_owned() }
}
