//! What is pushed and pulled, and the limit beside each.
//!
//! The limit of a list or a range that the server knows is the kernel alone: adding (push) or copying (pull) the same values in
//! plain memory on one core. The limit of new keys is adding to random cache lines, that of single pushes what two cores hand
//! over raw, and that of a latency the raw ping-pong (over tcp: a round trip of bare sockets).

use std::io;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;
use keyrange::client::{Worker, WorkerError};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::worker::{Keys, Options, TableHandle};
use keyrange_kernels::dense;

use super::super::limits::{
    hand_over_bytes_per_second, ping_pong_ns, random_lines_per_second, socket_stream_seconds,
    socket_trips_seconds, thread_cpu,
};
use super::super::options::LinkCarrier;
use super::super::report::{median, median_ratio, size};
use super::super::turn::latency_histogram;
use super::figures::{Figures, Latency, Memory, Rate};
use super::support::{Pipeline, PlainTable, Random, f32s, process_cpu_ns, resident_bytes, thousands};
use super::{Case, LIMIT, PushPullArgs};

/// Requests of one latency turn.
const LATENCY_REQUESTS: u64 = 20_000;

/// Keys that single requests go to.
const SINGLE_KEYS: u64 = 1000;

/// A frame of one key and one value: a header and a line of values.
const SINGLE_FRAME_BYTES: usize = 128;

const CYCLED_LISTS: usize = 40;
const SHORT_LIST_KEYS: usize = 100_000;

/// Lists of one turn that pushes new keys.
const NEW_LISTS: usize = 10;

/// A server that has done its work parks within this time; then its core is free for a limit.
const PARKED_AFTER: Duration = Duration::from_millis(5);

/// Messages of the bare sockets beside dense pushes and pulls: the frames these travel in, with rings of usual size.
const BARE_MESSAGE_BYTES: usize = 256 << 10;
const BARE_MESSAGES: u64 = 1000;
const BARE: &str = "a stream over bare sockets";

fn bare_bytes_per_second(other_core: usize) -> io::Result<f64> {
    let seconds = socket_stream_seconds(other_core, BARE_MESSAGE_BYTES, BARE_MESSAGES)?;
    Ok((BARE_MESSAGES * BARE_MESSAGE_BYTES as u64) as f64 / seconds)
}

/// What is rated: the words for the table, and how many items a call of the work does.
struct Subject {
    request: String,
    items: &'static str,
    per_call: usize,
    limit: &'static str,
}

/// The worker and what it has found out.
pub struct Bench<'a> {
    args: &'a PushPullArgs,
    worker: Worker,
    server: Option<u32>,
    figures: Figures,
    random: Random,
    tables: u16,
}

impl<'a> Bench<'a> {
    pub fn new(args: &'a PushPullArgs, worker: Worker, server: Option<u32>, cores: [usize; 2]) -> Self {
        let tcp = args.carrier == LinkCarrier::Tcp;
        let figures = Figures {
            carrier: keyrange_transport::link::CarrierKind::from(args.carrier).to_string(),
            cores,
            latency_limit: if tcp {
                "a round trip of bare sockets"
            } else {
                "the raw ping-pong of two cache lines"
            },
            latencies: Vec::new(),
            rates: Vec::new(),
            memory: None,
        };
        Bench { args, worker, server, figures, random: Random(7), tables: 0 }
    }

    /// Measures every case wanted and ends the worker's part of the job.
    pub fn run(mut self) -> anyhow::Result<Figures> {
        let args = self.args;
        if args.wants(Case::OneKey) {
            self.one_key()?;
        }
        if args.wants(Case::Lists) {
            for &keys in &args.list_keys {
                let list = self.random.list(keys as usize)?;
                self.lists(&format!("the same {} keys", thousands(keys as usize)), &[list])?;
            }
        }
        if args.wants(Case::Cycling) {
            let lists: anyhow::Result<Vec<_>> =
                (0..CYCLED_LISTS).map(|_| self.random.list(SHORT_LIST_KEYS)).collect();
            self.lists(&format!("{CYCLED_LISTS} lists of {}", thousands(SHORT_LIST_KEYS)), &lists?)?;
        }
        if args.wants(Case::NewKeys) {
            self.new_keys()?;
        }
        if args.wants(Case::Dense) {
            args.dense_bytes.iter().try_for_each(|&bytes| self.dense(bytes))?;
        }
        if args.wants(Case::Memory) {
            self.memory()?;
        }
        self.worker.finish(LIMIT)?;
        Ok(self.figures)
    }

    fn table(&mut self, store: StoreKind) -> anyhow::Result<TableHandle> {
        self.tables += 1;
        let spec = TableSpec {
            id: self.tables,
            name: format!("bench {}", self.tables),
            value_type: ValueType::F32,
            width: 1,
            store,
            function: FunctionSpec::named("add"),
            aggregation: Aggregation::Immediate,
        };
        Ok(self.worker.create_table(&spec, LIMIT)?)
    }

    /// CPU time of this thread and of the server, in nanoseconds. The kernel's count of another process is exact
    /// only while that one sleeps, so this lets it.
    fn cpu(&self) -> anyhow::Result<(f64, Option<f64>)> {
        let here = thread_cpu().as_nanos() as f64;
        std::thread::sleep(PARKED_AFTER);
        let server = self.server.map(process_cpu_ns).transpose().context("reading the server's CPU time")?;
        Ok((here, server))
    }

    fn one_key(&mut self) -> anyhow::Result<()> {
        let table = self.table(StoreKind::Sparse)?;
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
        })?;
        let (in_flight, batch) = (self.args.in_flight as usize, 64);
        let subject = Subject {
            request: format!("pushes of one key, {in_flight} in flight"),
            items: "pushes",
            per_call: batch,
            limit: "raw hand-over of such frames",
        };
        let push = |worker: &mut Worker, calls: usize| {
            for _ in 0..calls {
                worker.wait_open_below(in_flight - batch + 1, LIMIT)?;
                for key in 0..batch as u64 {
                    worker.push_one(table, key, &[1.0f32], LIMIT)?;
                }
            }
            Ok(worker.wait_idle(LIMIT)?)
        };
        let (core, ring_bytes) = (self.figures.cores[1], self.args.ring_bytes);
        self.rate(subject, push, || {
            Ok(hand_over_bytes_per_second(core, ring_bytes, 64 << 20)? / SINGLE_FRAME_BYTES as f64)
        })?;
        Ok(self.worker.drop_table(table, LIMIT)?)
    }

    fn latency(
        &mut self,
        request: &str,
        mut once: impl FnMut(&mut Worker, u64) -> Result<(), WorkerError>,
    ) -> anyhow::Result<()> {
        (0..LATENCY_REQUESTS).try_for_each(|round| once(&mut self.worker, round))?;
        let (mut all, mut limits, mut medians) = (latency_histogram()?, Vec::new(), Vec::new());
        let (mut cpus, mut server_cpus) = (Vec::new(), Vec::new());
        for _ in 0..self.args.measure.rounds {
            std::thread::sleep(PARKED_AFTER);
            limits.push(self.latency_limit_ns()?);
            once(&mut self.worker, 0)?;
            let mut taken = Histogram::new_from(&all);
            let (cpu, server_cpu) = self.cpu()?;
            for round in 0..LATENCY_REQUESTS {
                let began = Instant::now();
                once(&mut self.worker, round)?;
                taken.saturating_record(began.elapsed().as_nanos() as u64);
            }
            let (cpu_after, server_cpu_after) = self.cpu()?;
            cpus.push((cpu_after - cpu) / LATENCY_REQUESTS as f64);
            server_cpus.extend(
                server_cpu_after
                    .zip(server_cpu)
                    .map(|(after, before)| (after - before) / LATENCY_REQUESTS as f64),
            );
            medians.push(taken.value_at_quantile(0.5) as f64);
            all.add(&taken)?;
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
            server_cpu_ns: self.server.map(|_| median(&server_cpus)),
            limit_ns: median(&limits),
            p50_over_limit: median_ratio(&medians, &limits),
        });
        Ok(())
    }

    fn latency_limit_ns(&self) -> io::Result<f64> {
        let (core, trips) = (self.figures.cores[1], 10_000);
        match self.args.carrier {
            LinkCarrier::Tcp => {
                let trips = trips / 10;
                Ok(socket_trips_seconds(core, SINGLE_FRAME_BYTES, trips)? * 1e9 / trips as f64)
            }
            _ => ping_pong_ns(core, trips),
        }
    }

    /// Warms `work` up, then rates it in turns with its limit (items per second). `work` makes so many calls.
    fn rate(
        &mut self,
        subject: Subject,
        mut work: impl FnMut(&mut Worker, usize) -> anyhow::Result<()>,
        mut limit: impl FnMut() -> io::Result<f64>,
    ) -> anyhow::Result<()> {
        let mut calls = 1;
        loop {
            let began = Instant::now();
            work(&mut self.worker, calls)?;
            let taken = began.elapsed();
            let wanted = self.args.turn.as_secs_f64() * calls as f64 / taken.as_secs_f64();
            let enough = taken * 2 >= self.args.turn;
            // A first turn meets cold memory, so its rate is not trusted far.
            calls = (wanted as usize).clamp(1, calls * 16);
            if enough {
                break;
            }
        }
        let mut turns = Turns::default();
        for _ in 0..self.args.measure.rounds {
            std::thread::sleep(PARKED_AFTER);
            turns.limits.push(limit()?);
            let items = calls * subject.per_call;
            self.timed(&mut turns, items, &mut |worker| work(worker, calls))?;
        }
        self.figures.rates.push(turns.rated(subject));
        Ok(())
    }

    /// One turn that handles so many items.
    fn timed(
        &mut self,
        turns: &mut Turns,
        items: usize,
        work: &mut dyn FnMut(&mut Worker) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let (cpu, server_cpu) = self.cpu()?;
        let began = Instant::now();
        work(&mut self.worker)?;
        let seconds = began.elapsed().as_secs_f64();
        let (cpu_after, server_cpu_after) = self.cpu()?;
        turns.rates.push(items as f64 / seconds);
        turns.cpus.push((cpu_after - cpu) / items as f64);
        turns
            .server_cpus
            .extend(server_cpu_after.zip(server_cpu).map(|(after, before)| (after - before) / items as f64));
        Ok(())
    }

    fn lists(&mut self, what: &str, lists: &[KeyList]) -> anyhow::Result<()> {
        let table = self.table(StoreKind::Sparse)?;
        let keys = |round: usize| Keys::List(lists[round % lists.len()].clone());
        self.push_and_pull(what, "keys", lists[0].len(), lists.len(), table, keys)
    }

    fn dense(&mut self, bytes: usize) -> anyhow::Result<()> {
        let last = bytes as u64 / 4 - 1;
        let table = self.table(StoreKind::Dense { first: 0, last })?;
        let range = KeyRange::new(0, last)?;
        self.push_and_pull(&format!("dense {}", size(bytes)), "bytes", bytes / 4, 1, table, |_| {
            Keys::Range(range)
        })
    }

    /// Pushes to and pulls from `table` in turn. Each task is about `values` values; the limit walks over
    /// `parts` times as many rows, as the tasks do.
    fn push_and_pull(
        &mut self,
        what: &str,
        items: &'static str,
        values: usize,
        parts: usize,
        table: TableHandle,
        keys: impl Fn(usize) -> Keys,
    ) -> anyhow::Result<()> {
        let per_call = if items == "bytes" { values * 4 } else { values };
        let mut pipeline = Pipeline::new(values);
        let mut memory = PlainTable::new(values, parts);
        let subject =
            |verb: &str, limit| Subject { request: format!("{verb} {what}"), items, per_call, limit };
        // What moves whole arrays over tcp cannot be faster than sockets that move nothing else.
        let bare = items == "bytes" && self.args.carrier == LinkCarrier::Tcp;
        let core = self.figures.cores[1];
        let push = |worker: &mut Worker, round, array: Vec<f32>| {
            worker.push(table, keys(round), vec![array], Options::default())
        };
        self.rate(
            subject("push", if bare { BARE } else { "adding in memory" }),
            |worker, calls| pipeline.run(worker, calls, push),
            || match bare {
                true => bare_bytes_per_second(core),
                false => Ok(memory.walks_per_second(dense::add) * per_call as f64),
            },
        )?;
        let pull = |worker: &mut Worker, round, array: Vec<f32>| {
            worker.pull(table, keys(round), array, Options::default())
        };
        self.rate(
            subject("pull", if bare { BARE } else { "copying in memory" }),
            |worker, calls| pipeline.run(worker, calls, pull),
            || match bare {
                true => bare_bytes_per_second(core),
                false => Ok(memory.walks_per_second(|to, from| to.copy_from_slice(from)) * per_call as f64),
            },
        )?;
        Ok(self.worker.drop_table(table, LIMIT)?)
    }

    fn new_keys(&mut self) -> anyhow::Result<()> {
        let table = self.table(StoreKind::Sparse)?;
        let mut pipeline = Pipeline::new(SHORT_LIST_KEYS);
        let mut turns = Turns::default();
        for _ in 0..self.args.measure.rounds {
            let lists: anyhow::Result<Vec<_>> =
                (0..NEW_LISTS).map(|_| self.random.list(SHORT_LIST_KEYS)).collect();
            let lists = lists?;
            turns.limits.push(random_lines_per_second(NEW_LISTS * SHORT_LIST_KEYS));
            self.timed(&mut turns, NEW_LISTS * SHORT_LIST_KEYS, &mut |worker| {
                pipeline.run(worker, lists.len(), |worker, round, array| {
                    worker.push(table, Keys::List(lists[round].clone()), vec![array], Options::default())
                })
            })?;
        }
        let request = format!("push keys never sent before, lists of {}", thousands(SHORT_LIST_KEYS));
        let per_call = SHORT_LIST_KEYS;
        let subject = Subject { request, items: "keys", per_call, limit: "adding to random lines" };
        self.figures.rates.push(turns.rated(subject));
        Ok(self.worker.drop_table(table, LIMIT)?)
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        let Some(server) = self.server else {
            bail!("there is no server process whose memory could be counted")
        };
        let table = self.table(StoreKind::Sparse)?;
        let mut pipeline = Pipeline::new(SHORT_LIST_KEYS);
        let server_bytes_before = resident_bytes(server)?;
        let lists = self.args.memory_keys as usize / SHORT_LIST_KEYS;
        for _ in 0..lists {
            let list = self.random.list(SHORT_LIST_KEYS)?;
            pipeline.run(&mut self.worker, 1, |worker, _, array| {
                worker.push(table, Keys::List(list.clone()), vec![array], Options::default())
            })?;
        }
        let (keys, server_bytes_after) = (lists * SHORT_LIST_KEYS, resident_bytes(server)?);
        let server_bytes_per_key =
            server_bytes_after.saturating_sub(server_bytes_before) as f64 / keys as f64;
        let memory = Memory { keys, server_bytes_before, server_bytes_after, server_bytes_per_key };
        self.figures.memory = Some(memory);
        Ok(self.worker.drop_table(table, LIMIT)?)
    }
}

/// What repeated turns have shown.
#[derive(Default)]
struct Turns {
    rates: Vec<f64>,
    limits: Vec<f64>,
    cpus: Vec<f64>,
    server_cpus: Vec<f64>,
}

impl Turns {
    fn rated(&self, subject: Subject) -> Rate {
        Rate {
            request: subject.request,
            items: subject.items,
            per_second: median(&self.rates),
            cpu_ns: median(&self.cpus),
            server_cpu_ns: (!self.server_cpus.is_empty()).then(|| median(&self.server_cpus)),
            limit: subject.limit,
            limit_per_second: median(&self.limits),
            of_limit: median_ratio(&self.rates, &self.limits),
        }
    }
}
