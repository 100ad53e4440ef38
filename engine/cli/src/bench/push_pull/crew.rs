//! The other workers: each does the same work as the measuring one at the same time, told over a socket of its own.
//!
//! An order is one line of JSON, and one comes back when it is done. Orders come between turns, so they cost a turn one
//! wake-up.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, bail};
use keyrange::client::Worker;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::limits::thread_cpu;
use super::super::peer::CONTROL_PATIENCE;
use super::LIMIT;
use super::load::{Load, Prepared, Verb};

/// What a mate is to do.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Prepare(Load),
    Turn { verb: Verb, calls: usize },
    Finish,
}

/// The end of an order.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    /// CPU time of the worker's thread meanwhile.
    cpu_ns: f64,
    failure: Option<String>,
}

/// One end of a control socket.
struct Wire(BufReader<UnixStream>);

impl Wire {
    fn say(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line).context("writing to another worker's control socket")
    }

    /// Nothing if the other end closed.
    fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("reading from a control socket")? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }
}

/// Does what it is told until the job is finished or the control socket closes.
pub fn obey(worker: Worker, control: UnixStream) -> anyhow::Result<()> {
    let mut wire = Wire(BufReader::new(control));
    let (mut worker, mut prepared) = (worker, None);
    while let Some(order) = wire.hear()? {
        if matches!(order, Order::Finish) {
            return Ok(worker.finish(LIMIT)?);
        }
        let before = thread_cpu();
        let result = follow(order, &mut worker, &mut prepared);
        let cpu_ns = (thread_cpu() - before).as_nanos() as f64;
        wire.say(&Done { cpu_ns, failure: result.err().map(|error| format!("{error:#}")) })?;
    }
    bail!("the measuring worker is gone")
}

fn follow(order: Order, worker: &mut Worker, prepared: &mut Option<Prepared>) -> anyhow::Result<()> {
    match (order, prepared) {
        (Order::Prepare(load), place) => *place = Some(load.prepare(worker)?),
        (Order::Turn { verb, calls }, Some(prepared)) => prepared.run(worker, verb, calls)?,
        (Order::Turn { .. } | Order::Finish, _) => bail!("nothing was prepared"),
    }
    Ok(())
}

/// All mates, as the measuring worker sees them.
#[derive(Default)]
pub struct Crew(Vec<Wire>);

impl Crew {
    /// Adds a mate that obeys the other end of `control`.
    pub fn add(&mut self, control: UnixStream) -> anyhow::Result<()> {
        control.set_read_timeout(Some(CONTROL_PATIENCE))?;
        self.0.push(Wire(BufReader::new(control)));
        Ok(())
    }

    /// Makes all prepare the same load.
    pub fn prepare(&mut self, load: &Load) -> anyhow::Result<()> {
        self.tell(&Order::Prepare(load.clone()))?;
        self.hear().map(drop)
    }

    /// Makes all begin; [`Crew::hear`] waits for their end.
    pub fn begin(&mut self, verb: Verb, calls: usize) -> anyhow::Result<()> {
        self.tell(&Order::Turn { verb, calls })
    }

    /// Waits until all have done what they were told; the CPU time of all their threads.
    pub fn hear(&mut self) -> anyhow::Result<f64> {
        let mut cpu_ns = 0.0;
        for wire in &mut self.0 {
            let done: Done = wire.hear()?.context("another worker ended in the middle of a measurement")?;
            if let Some(failure) = done.failure {
                bail!("another worker: {failure}");
            }
            cpu_ns += done.cpu_ns;
        }
        Ok(cpu_ns)
    }

    /// Makes all finish their part of the job.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        self.tell(&Order::Finish)
    }

    fn tell(&mut self, order: &Order) -> anyhow::Result<()> {
        self.0.iter_mut().try_for_each(|wire| wire.say(order))
    }
}
