//! One request at a time, waited for: percentiles beside the raw round trip, and what a second of waiting costs.

use std::io;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use keyrange::client::{Worker, WorkerError};
use keyrange::key_range::KeyRange;
use keyrange::table::{Aggregation, StoreKind, TableSpec};
use keyrange::worker::{Keys, Options, TableHandle};

use super::super::limits::{ping_pong_ns, socket_trips_seconds};
use super::super::options::LinkCarrier;
use super::super::report::{median, median_ratio};
use super::super::turn::latency_histogram;
use super::LIMIT;
use super::cases::Bench;
use super::figures::{Idle, Latency};
use super::load::table_spec;
use super::support::f32s;
use super::turns::{PARKED_AFTER, Taken};

/// Requests of one latency turn.
const LATENCY_REQUESTS: u64 = 20_000;

/// Keys that single requests go to.
pub const SINGLE_KEYS: u64 = 1000;

/// A frame of one key and one value: a header and a line of values.
pub const SINGLE_FRAME_BYTES: usize = 128;

/// An idle job is watched this long.
const IDLE: Duration = Duration::from_secs(4);

impl Bench<'_> {
    /// Push and pull of one key.
    pub fn latencies(&mut self, table: TableHandle) -> anyhow::Result<()> {
        self.latency("push of one key, waited for", |worker, round| {
            let task = worker.push_one(table, round % SINGLE_KEYS, &[1.0f32], LIMIT)?;
            worker.wait(task, LIMIT).map(drop)
        })?;
        let mut array = Vec::with_capacity(1);
        self.latency("pull of one key, waited for", |worker, round| {
            let key = Keys::Range(KeyRange::one(round % SINGLE_KEYS));
            let task = worker.pull::<f32>(table, key, std::mem::take(&mut array), Options::default())?;
            array = f32s(worker.wait(task, LIMIT)?.values);
            Ok(())
        })
    }

    fn latency(
        &mut self,
        request: &str,
        mut once: impl FnMut(&mut Worker, u64) -> Result<(), WorkerError>,
    ) -> anyhow::Result<()> {
        (0..LATENCY_REQUESTS).try_for_each(|round| once(&mut self.hands.worker, round))?;
        let (mut all, mut limits, mut medians) = (latency_histogram()?, Vec::new(), Vec::new());
        let (mut cpus, mut server_cpus) = (Vec::new(), Vec::new());
        for _ in 0..self.args.measure.rounds {
            std::thread::sleep(PARKED_AFTER);
            limits.push(self.latency_limit_ns()?);
            once(&mut self.hands.worker, 0)?;
            let mut times = Histogram::new_from(&all);
            let mut requests = |hands: &mut super::cluster::Hands, _: usize| {
                for round in 0..LATENCY_REQUESTS {
                    let began = Instant::now();
                    once(&mut hands.worker, round)?;
                    times.saturating_record(began.elapsed().as_nanos() as u64);
                }
                Ok(0.0)
            };
            let taken = Taken::by(&mut self.hands, &mut requests, 1)?;
            cpus.push(taken.cpu_ns / LATENCY_REQUESTS as f64);
            server_cpus.push(taken.server_cpu_ns / LATENCY_REQUESTS as f64);
            medians.push(times.value_at_quantile(0.5) as f64);
            all.add(&times)?;
        }
        let at = |quantile| all.value_at_quantile(quantile);
        self.figures.latencies.push(Latency {
            request: request.to_owned(),
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: all.max(),
            cpu_ns: median(&cpus),
            server_cpu_ns: median(&server_cpus),
            limit_ns: median(&limits),
            p50_over_limit: median_ratio(&medians, &limits),
        });
        Ok(())
    }

    fn latency_limit_ns(&self) -> io::Result<f64> {
        let (core, trips) = (self.other_core, 10_000);
        match self.args.carrier {
            LinkCarrier::Tcp => {
                let trips = trips / 10;
                Ok(socket_trips_seconds(core, SINGLE_FRAME_BYTES, trips)? * 1e9 / trips as f64)
            }
            _ => ping_pong_ns(core, trips),
        }
    }

    /// Waits for an update to which nobody contributes, and counts the CPU time of all sides meanwhile.
    pub fn idle(&mut self) -> anyhow::Result<()> {
        let range = KeyRange::new(0, 9)?;
        let store = StoreKind::Dense { first: 0, last: 9 };
        let spec = TableSpec { aggregation: Aggregation::AllWorkers, ..table_spec(self.new_table(), store) };
        let table = self.hands.worker.create_table(&spec, LIMIT)?;
        let ask = Options { after_time: true, ..Options::at(1) };
        let task = self.hands.worker.pull::<f32>(table, Keys::Range(range), Vec::new(), ask)?;
        let mut unfinished = true;
        let mut wait = |hands: &mut super::cluster::Hands, _: usize| {
            unfinished = hands.worker.wait(task, IDLE).is_err();
            Ok(0.0)
        };
        let taken = Taken::by(&mut self.hands, &mut wait, 1)?;
        ensure!(unfinished, "an update was finished that nobody contributed to");
        self.figures.idle = Some(Idle {
            seconds: taken.wall_ns / 1e9,
            here_of_a_core: taken.cpu_ns / taken.wall_ns,
            server_of_a_core: taken.server_cpu_ns / taken.wall_ns,
        });
        let worker = &mut self.hands.worker;
        worker.push(table, Keys::Range(range), vec![vec![1.0f32; 10]], Options::at(1))?;
        worker.wait(task, LIMIT)?;
        Ok(worker.drop_table(table, LIMIT)?)
    }
}
