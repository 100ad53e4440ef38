//! CPU time of the server, exact at the moment of asking.
//!
//! The kernel's count of a running thread is brought up to date only when its core switches (or ticks), so a look from
//! another core is milliseconds stale. The server's process therefore has a thread that visits every core, which takes the
//! shards' threads off for a moment, and then reads the clock of the process.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use rustix::thread::{sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use super::super::limits::pin;
use super::super::peer::CONTROL_PATIENCE;

/// Whom to ask.
pub enum ServerClock {
    /// The server's process, over a socket: a byte goes there, nanoseconds come back.
    Process(UnixStream),
    /// This process, on these cores: what it used besides its workers.
    Here(Vec<usize>),
}

impl ServerClock {
    /// The clock of a process that [`answer`]s at the other end.
    pub fn process(control: UnixStream) -> anyhow::Result<ServerClock> {
        control.set_read_timeout(Some(CONTROL_PATIENCE))?;
        Ok(ServerClock::Process(control))
    }

    /// Nanoseconds that the server has used (with workers' threads in the same process: and they).
    pub fn read_ns(&mut self) -> anyhow::Result<f64> {
        match self {
            ServerClock::Here(cores) => Ok(process_cpu_ns(cores)? as f64),
            ServerClock::Process(control) => {
                let mut ns = [0; 8];
                control
                    .write_all(&[1])
                    .and_then(|()| control.read_exact(&mut ns))
                    .context("asking the server's CPU time")?;
                Ok(u64::from_le_bytes(ns) as f64)
            }
        }
    }

    /// Whether what it reads contains the workers.
    pub fn counts_workers(&self) -> bool {
        matches!(self, ServerClock::Here(_))
    }
}

/// Answers until the other end closes.
pub fn answer(mut control: UnixStream, cores: &[usize]) -> io::Result<()> {
    let mut byte = [0];
    while control.read(&mut byte)? == 1 {
        control.write_all(&process_cpu_ns(cores)?.to_le_bytes())?;
    }
    Ok(())
}

fn process_cpu_ns(cores: &[usize]) -> io::Result<u64> {
    let mine = sched_getaffinity(None)?;
    cores.iter().try_for_each(|&core| pin(core))?;
    let used = clock_gettime(ClockId::ProcessCPUTime);
    sched_setaffinity(None, &mine)?;
    Ok(used.tv_sec.unsigned_abs() * 1_000_000_000 + used.tv_nsec.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_answers_has_used_time() {
        let (here, there) = UnixStream::pair().unwrap();
        let cores = super::super::super::limits::usable_cores().unwrap();
        std::thread::scope(|scope| {
            let answers = scope.spawn(|| answer(there, &cores));
            let mut clock = ServerClock::process(here).unwrap();
            let first = clock.read_ns().unwrap();
            assert!(first > 0.0 && clock.read_ns().unwrap() >= first);
            drop(clock);
            answers.join().unwrap().unwrap();
        });
    }
}
