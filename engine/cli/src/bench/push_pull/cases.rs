//! What is pushed and pulled, and the limit beside each.
//!
//! The limit of a list or a range that the server knows is the kernel alone: adding (push) or copying (pull) the same values in
//! plain memory on one core, to the same rows where rows are scattered. The limit of new keys is adding to random cache lines,
//! that of single pushes what two cores hand over raw, and that of a latency the raw ping-pong (over tcp: a round trip of bare
//! sockets).

use std::hint::black_box;
use std::io;
use std::time::Instant;

use anyhow::bail;
use keyrange::table::StoreKind;
use keyrange::worker::{Keys, Options};
use keyrange_kernels::slots::SlotList;
use keyrange_kernels::{dense, sparse};

use super::super::limits::{
    Array, hand_over_bytes_per_second, random_lines_per_second, socket_stream_seconds,
};
use super::super::options::{LinkCarrier, Places};
use super::super::report::size;
use super::cluster::{Cluster, Hands};
use super::figures::{Figures, Memory};
use super::latency::SINGLE_FRAME_BYTES;
use super::load::{Load, Prepared, Rows, Verb, scattered_slots, table_spec};
use super::support::{Pipeline, PlainTable, list, resident_bytes, thousands};
use super::turns::{Subject, Taken, Turns, rate};
use super::{Case, LIMIT, PushPullArgs};

const CYCLED_LISTS: usize = 40;
const SHORT_LIST_KEYS: usize = 100_000;

/// Lists of one turn that pushes new keys, or new lists.
const NEW_LISTS: usize = 10;

/// Messages of the bare sockets beside dense pushes and pulls: the frames these travel in, with rings of usual size.
const BARE_MESSAGE_BYTES: usize = 256 << 10;
const BARE_MESSAGES: u64 = 1000;

fn bare_bytes_per_second(other_core: usize) -> io::Result<f64> {
    let seconds = socket_stream_seconds(other_core, BARE_MESSAGE_BYTES, BARE_MESSAGES)?;
    Ok((BARE_MESSAGES * BARE_MESSAGE_BYTES as u64) as f64 / seconds)
}

/// The measuring worker and what it has found out.
pub struct Bench<'a> {
    pub args: &'a PushPullArgs,
    pub hands: Hands,
    pub figures: Figures,
    /// For the other side of a limit.
    pub other_core: usize,
    server: Option<u32>,
    /// Draws of the random sequence used up by new keys.
    drawn: u64,
    tables: u16,
}

impl<'a> Bench<'a> {
    pub fn new(args: &'a PushPullArgs, cluster: &Cluster, hands: Hands, places: &Places) -> Self {
        let tcp = args.carrier == LinkCarrier::Tcp;
        let figures = Figures {
            carrier: keyrange_transport::link::CarrierKind::from(args.carrier).to_string(),
            cores: places.workers[0].zip(places.servers[0]).map(|(worker, server)| [worker, server]),
            servers: places.servers.len(),
            workers: places.workers.len(),
            latency_limit: if tcp {
                "a round trip of bare sockets"
            } else {
                "the raw ping-pong of two cache lines"
            },
            latencies: Vec::new(),
            rates: Vec::new(),
            idle: None,
            memory: None,
        };
        let (other_core, server) = (places.other_core, cluster.server);
        Bench { args, hands, figures, other_core, server, drawn: 0, tables: 0 }
    }

    /// Measures every case wanted and ends the workers' part of the job.
    pub fn run(mut self) -> anyhow::Result<Figures> {
        let args = self.args;
        let sizes = || args.list_keys.iter().map(|&keys| keys as usize);
        if args.wants(Case::OneKey) {
            self.one_key()?;
        }
        if args.wants(Case::Lists) {
            sizes()
                .try_for_each(|keys| self.lists(&format!("the same {} keys", thousands(keys)), keys, 1))?;
        }
        if args.wants(Case::Scattered) {
            sizes().try_for_each(|keys| self.scattered(keys))?;
        }
        if args.wants(Case::Cycling) {
            let what = format!("{CYCLED_LISTS} lists of {}", thousands(SHORT_LIST_KEYS));
            self.lists(&what, SHORT_LIST_KEYS, CYCLED_LISTS)?;
        }
        if args.wants(Case::NewKeys) {
            self.new_keys()?;
        }
        if args.wants(Case::Growth) {
            self.growth(u64::from(args.table_keys))?;
        }
        if args.wants(Case::Dense) {
            args.dense_bytes.iter().try_for_each(|&bytes| self.dense(bytes))?;
        }
        if args.wants(Case::Idle) {
            self.idle()?;
        }
        if args.wants(Case::Memory) {
            self.memory()?;
        }
        self.hands.crew.finish()?;
        self.hands.worker.finish(LIMIT)?;
        Ok(self.figures)
    }

    pub fn new_table(&mut self) -> u16 {
        self.tables += 1;
        self.tables
    }

    fn rate(
        &mut self,
        subject: Subject,
        work: &mut super::turns::Work<'_>,
        limit: &mut dyn FnMut() -> io::Result<f64>,
    ) -> anyhow::Result<()> {
        let turns = (self.args.measure.rounds, self.args.turn);
        let rated = rate(&mut self.hands, turns, subject, work, limit)?;
        self.figures.rates.push(rated);
        Ok(())
    }

    fn one_key(&mut self) -> anyhow::Result<()> {
        let spec = table_spec(self.new_table(), StoreKind::Sparse);
        let table = self.hands.worker.create_table(&spec, LIMIT)?;
        self.latencies(table)?;
        let (in_flight, batch) = (self.args.in_flight as usize, 64);
        let subject = Subject {
            request: format!("pushes of one key, {in_flight} in flight"),
            items: "pushes",
            per_call: batch,
            limit: "raw hand-over of such frames",
        };
        let mut push = |hands: &mut Hands, calls: usize| {
            for _ in 0..calls {
                hands.worker.wait_open_below(in_flight - batch + 1, LIMIT)?;
                for key in 0..batch as u64 {
                    hands.worker.push_one(table, key, &[1.0f32], LIMIT)?;
                }
            }
            hands.worker.wait_idle(LIMIT)?;
            Ok(0.0)
        };
        let (core, ring_bytes) = (self.other_core, self.args.ring_bytes);
        self.rate(subject, &mut push, &mut || {
            Ok(hand_over_bytes_per_second(core, ring_bytes, 64 << 20)? / SINGLE_FRAME_BYTES as f64)
        })?;
        Ok(self.hands.worker.drop_table(table, LIMIT)?)
    }

    fn lists(&mut self, what: &str, keys: usize, lists: usize) -> anyhow::Result<()> {
        let load = Load { table: self.new_table(), rows: Rows::Lists { first: self.drawn, keys, lists } };
        self.drawn += (keys * lists) as u64;
        self.contiguous(what, "keys", &load, lists)
    }

    fn dense(&mut self, bytes: usize) -> anyhow::Result<()> {
        let load = Load { table: self.new_table(), rows: Rows::Dense { values: bytes / 4 } };
        self.contiguous(&format!("dense {}", size(bytes)), "bytes", &load, 1)
    }

    /// Pushes and pulls rows that lie together; the limit walks over `parts` times as many rows as a call has, as the
    /// calls do.
    fn contiguous(
        &mut self,
        what: &str,
        items: &'static str,
        load: &Load,
        parts: usize,
    ) -> anyhow::Result<()> {
        let memory = &mut PlainTable::new(load.values(), parts);
        let per_call = if items == "bytes" { load.values() * 4 } else { load.values() };
        let mut prepared = self.prepare(load)?;
        let subject = |what: String, limit| Subject { request: what, items, per_call, limit };
        if items == "bytes" && self.args.carrier == LinkCarrier::Tcp {
            // What moves whole arrays over tcp cannot be faster than sockets that move nothing else.
            for (name, verb) in [("push", Verb::Push), ("pull", Verb::Pull)] {
                let core = self.other_core;
                let subject = subject(format!("{name} {what}"), "a stream over bare sockets");
                self.together(subject, &mut prepared, verb, &mut || {
                    bare_bytes_per_second(core).map_or(0.0, |bytes| bytes / per_call as f64)
                })?;
            }
            return Ok(self.hands.worker.drop_table(prepared.table, LIMIT)?);
        }
        let push = subject(format!("push {what}"), "adding in memory");
        self.together(push, &mut prepared, Verb::Push, &mut || memory.walks_per_second(dense::add))?;
        if items == "bytes" && self.args.carrier == LinkCarrier::Shm {
            let push = subject(format!("push {what}, lent"), "adding in memory");
            self.together(push, &mut prepared, Verb::PushLent, &mut || memory.walks_per_second(dense::add))?;
        }
        let pull = subject(format!("pull {what}"), "copying in memory");
        self.together(pull, &mut prepared, Verb::Pull, &mut || {
            memory.walks_per_second(|to, from| to.copy_from_slice(from))
        })?;
        Ok(self.hands.worker.drop_table(prepared.table, LIMIT)?)
    }

    fn scattered(&mut self, keys: usize) -> anyhow::Result<()> {
        let rows = Rows::Scattered { table_keys: keys as u64, keys, from: 0, lists: 1 };
        let load = Load { table: self.new_table(), rows };
        load.insert(&mut self.hands.worker)?;
        let mut prepared = self.prepare(&load)?;
        self.known_lists(
            &format!("the same {} keys, rows scattered", thousands(keys)),
            &load,
            &mut prepared,
        )?;
        Ok(self.hands.worker.drop_table(prepared.table, LIMIT)?)
    }

    /// A table of so many keys: filling it, lists of its keys that the server knows, and lists that it has never seen.
    fn growth(&mut self, table_keys: u64) -> anyhow::Result<()> {
        let keys = SHORT_LIST_KEYS.min(table_keys as usize / 2);
        let lists = (table_keys as usize / keys).min(CYCLED_LISTS);
        let table = self.new_table();
        let of = |from, lists| Load { table, rows: Rows::Scattered { table_keys, keys, from, lists } };
        let name = thousands(table_keys as usize);
        let mut filling = Turns::default();
        filling.limits.push(random_lines_per_second(1 << 20));
        let inserted = Taken::by(
            &mut self.hands,
            &mut |hands, _| {
                of(0, 0).insert(&mut hands.worker)?;
                Ok(0.0)
            },
            1,
        )?;
        filling.add(&inserted, table_keys as usize);
        let subject = |request: String| Subject {
            request,
            items: "keys",
            per_call: keys,
            limit: "adding to random lines",
        };
        self.figures.rates.push(filling.rated(subject(format!("fill a table of {name} keys"))));
        let load = of(0, lists);
        let mut prepared = self.prepare(&load)?;
        self.known_lists(&format!("known lists of {name} keys"), &load, &mut prepared)?;
        let mut turns = Turns::default();
        for round in 0..u64::from(self.args.measure.rounds) {
            let from = lists as u64 + round * NEW_LISTS as u64;
            let mut unknown = of(from, NEW_LISTS).prepare(&mut self.hands.worker)?;
            turns.limits.push(random_lines_per_second(NEW_LISTS * keys));
            let push = &mut |hands: &mut Hands, calls| {
                unknown.run(&mut hands.worker, Verb::Push, calls)?;
                Ok(0.0)
            };
            turns.add(&Taken::by(&mut self.hands, push, NEW_LISTS)?, NEW_LISTS * keys);
        }
        self.figures.rates.push(turns.rated(subject(format!("push new lists of {name} keys"))));
        Ok(self.hands.worker.drop_table(prepared.table, LIMIT)?)
    }

    /// Pushes and pulls lists of a scattered table, whose limit is the same on the same rows in plain memory.
    fn known_lists(&mut self, what: &str, load: &Load, prepared: &mut Prepared) -> anyhow::Result<()> {
        let Rows::Scattered { table_keys, keys, lists, .. } = load.rows else { return Ok(()) };
        let slots: Vec<SlotList> = scattered_slots(load).into_iter().map(SlotList::new).collect();
        let mut rows = Array::new(table_keys as usize, 1.0f32);
        let mut values = vec![1.0f32; keys];
        // As many walks as there are lists, so that none finds its rows in a cache that the table does not fit in.
        let walks = lists.max((1 << 20) / keys);
        let per_second = |walk: &mut dyn FnMut(&SlotList)| {
            let began = Instant::now();
            slots.iter().cycle().take(walks).for_each(|slots| walk(black_box(slots)));
            walks as f64 / began.elapsed().as_secs_f64()
        };
        let subject = |verb: &str, limit| Subject {
            request: format!("{verb} {what}"),
            items: "keys",
            per_call: keys,
            limit,
        };
        self.together(subject("push", "adding to these rows"), prepared, Verb::Push, &mut || {
            per_second(&mut |slots| sparse::scatter_add(&mut rows, slots, 1, &values))
        })?;
        self.together(subject("pull", "gathering these rows"), prepared, Verb::Pull, &mut || {
            per_second(&mut |slots| sparse::gather(&mut values, &rows, slots, 1))
        })
    }

    /// Makes all workers ready for `load`.
    fn prepare(&mut self, load: &Load) -> anyhow::Result<Prepared> {
        let prepared = load.prepare(&mut self.hands.worker)?;
        self.hands.crew.prepare(load)?;
        Ok(prepared)
    }

    /// Rates what all workers do at the same time; `limit` says how many calls' worth one core does in a second.
    fn together(
        &mut self,
        subject: Subject,
        prepared: &mut Prepared,
        verb: Verb,
        limit: &mut dyn FnMut() -> f64,
    ) -> anyhow::Result<()> {
        let per_call = subject.per_call as f64;
        let mut work = |hands: &mut Hands, calls: usize| {
            hands.crew.begin(verb, calls)?;
            prepared.run(&mut hands.worker, verb, calls)?;
            hands.crew.hear()
        };
        self.rate(subject, &mut work, &mut || Ok(limit() * per_call))
    }

    fn new_keys(&mut self) -> anyhow::Result<()> {
        let table = self.new_table();
        let mut turns = Turns::default();
        for _ in 0..self.args.measure.rounds {
            let rows = Rows::Lists { first: self.drawn, keys: SHORT_LIST_KEYS, lists: NEW_LISTS };
            let mut prepared = Load { table, rows }.prepare(&mut self.hands.worker)?;
            self.drawn += (SHORT_LIST_KEYS * NEW_LISTS) as u64;
            turns.limits.push(random_lines_per_second(NEW_LISTS * SHORT_LIST_KEYS));
            let push = &mut |hands: &mut Hands, calls| {
                prepared.run(&mut hands.worker, Verb::Push, calls)?;
                Ok(0.0)
            };
            turns.add(&Taken::by(&mut self.hands, push, NEW_LISTS)?, NEW_LISTS * SHORT_LIST_KEYS);
        }
        let request = format!("push keys never sent before, lists of {}", thousands(SHORT_LIST_KEYS));
        let limit = "adding to random lines";
        self.figures.rates.push(turns.rated(Subject { request, items: "keys", per_call: 0, limit }));
        let handle = (&table_spec(table, StoreKind::Sparse)).into();
        Ok(self.hands.worker.drop_table(handle, LIMIT)?)
    }

    fn memory(&mut self) -> anyhow::Result<()> {
        let Some(server) = self.server else {
            bail!("there is no server process whose memory could be counted")
        };
        let spec = table_spec(self.new_table(), StoreKind::Sparse);
        let table = self.hands.worker.create_table(&spec, LIMIT)?;
        let mut pipeline = Pipeline::new(SHORT_LIST_KEYS);
        let server_bytes_before = resident_bytes(server)?;
        let lists = self.args.memory_keys as usize / SHORT_LIST_KEYS;
        for _ in 0..lists {
            let keys = list(self.drawn..self.drawn + SHORT_LIST_KEYS as u64)?;
            self.drawn += SHORT_LIST_KEYS as u64;
            pipeline.run(&mut self.hands.worker, 1, |worker, _, array| {
                worker.push(table, Keys::List(keys.clone()), vec![array], Options::default())
            })?;
        }
        let (keys, server_bytes_after) = (lists * SHORT_LIST_KEYS, resident_bytes(server)?);
        let server_bytes_per_key =
            server_bytes_after.saturating_sub(server_bytes_before) as f64 / keys as f64;
        let memory = Memory { keys, server_bytes_before, server_bytes_after, server_bytes_per_key };
        self.figures.memory = Some(memory);
        Ok(self.hands.worker.drop_table(table, LIMIT)?)
    }
}
