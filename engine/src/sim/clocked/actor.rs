//! One worker: fetch, read, add, read again, close the clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::Stage;
use crate::clock::{ClockedConfig, ClockedCore, Staleness};
use crate::history::{Event, Header, HistoryError, Recorded, Recorder};
use crate::key_range::Key;
use crate::sim::SimConfig;
use crate::sim::network::Network;
use crate::worker::{TableHandle, WorkerConfig, WorkerCore};

/// Keeps events in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<Event>>>);

impl Recorder for Memory {
    fn note(&mut self, event: &Event) {
        self.0.lock().expect("nobody panics with it").push(event.clone());
    }

    fn finish(self: Box<Self>) -> Result<(), HistoryError> {
        Ok(())
    }
}

pub(super) struct Actor {
    rank: usize,
    pub core: WorkerCore,
    table: ClockedCore<f64>,
    memory: Memory,
    header: Header,
    /// Rows to read at this clock, once chosen.
    reads: Vec<Key>,
    /// Rows still to add to at this clock, the last first, once the first reads are done.
    adds: Option<Vec<Key>>,
    is_settling: bool,
    pub paused_until: u64,
}

impl Actor {
    pub fn new(rank: usize, epoch: u32, config: &SimConfig, stage: &Stage) -> Result<Actor, String> {
        let settings = WorkerConfig {
            epoch,
            window_requests: config.window_requests,
            frame_bytes_max: config.frame_bytes_max,
            tasks_max: 1000,
            retain: true,
            retry_after: Some(Duration::from_millis(50)),
            ..WorkerConfig::new(rank as u32)
        };
        let mut core = WorkerCore::new(settings, Arc::clone(&stage.map));
        let promised =
            config.staleness.map_or(Ok(Staleness::UNBOUNDED), |bound| Staleness::bounded(bound as i64));
        let promised = promised.map_err(|error| error.to_string())?;
        let bug = u64::from(config.planted_bug_staleness);
        let kept = config.staleness.map_or(Ok(promised), |bound| Staleness::bounded((bound + bug) as i64));
        let clocked = ClockedConfig {
            staleness: kept.map_err(|error| error.to_string())?,
            eager: config.eager,
            value_bound: config.value_bound.filter(|_| config.eager),
            audit: true,
            early: stage.early,
        };
        let workers = config.workers as u32;
        let table = ClockedCore::new(TableHandle::from(&stage.table), clocked, workers, &mut core);
        let mut table = table.map_err(|error| error.to_string())?;
        let memory = Memory::default();
        table.record(Box::new(memory.clone()));
        let header = Header {
            rank: rank as u32,
            incarnation: epoch,
            workers,
            staleness: promised,
            eager: config.eager,
        };
        let (reads, adds, is_settling, paused_until) = (Vec::new(), None, false, 0);
        Ok(Actor { rank, core, table, memory, header, reads, adds, is_settling, paused_until })
    }

    pub fn history(&self) -> Recorded {
        let events = self.memory.0.lock().expect("nobody panics with it").clone();
        Recorded { header: self.header.clone(), events }
    }

    #[cfg(test)]
    pub fn early(&self) -> crate::clock::EarlyTraffic {
        self.table.stats().early
    }

    pub fn is_done(&self, config: &SimConfig) -> bool {
        self.table.clock() == config.clocks && !self.is_settling && self.table.is_idle()
    }

    /// One turn: goes on as far as what has come allows.
    pub fn turn(&mut self, config: &SimConfig, stage: &Stage, network: &mut Network) -> Result<(), String> {
        let now = Duration::from_millis(network.now);
        if network.now < self.paused_until {
            return Ok(());
        }
        self.core.poll(now, &mut network.of_worker(self.rank));
        let rank = self.rank;
        self.go_on(config, stage, network, now).map_err(|text| format!("worker {rank}: {text}"))
    }

    fn go_on(
        &mut self,
        config: &SimConfig,
        stage: &Stage,
        network: &mut Network,
        now: Duration,
    ) -> Result<(), String> {
        let text = |error: crate::clock::ClockError| error.to_string();
        if self.is_settling {
            let out = &mut network.of_worker(self.rank);
            self.is_settling = !self.table.settled(&mut self.core, now, out).map_err(text)?;
        }
        if self.is_settling || self.table.clock() == config.clocks {
            return self.table.poll(&mut self.core, now, &mut network.of_worker(self.rank)).map_err(text);
        }
        if self.reads.is_empty() {
            let count = network.random.random_range(1..=4);
            self.reads = stage.rows.sample(&mut network.random, count).copied().collect();
        }
        let out = &mut network.of_worker(self.rank);
        if !self.table.fetch(&self.reads, &mut self.core, now, out).map_err(text)? {
            return Ok(());
        }
        let read = |table: &mut ClockedCore<f64>, core: &WorkerCore| {
            self.reads.iter().try_for_each(|&key| table.get(key, core).map(drop).map_err(text))
        };
        read(&mut self.table, &self.core)?;
        let mut left = self.adds.take().unwrap_or_else(|| {
            let mut adds = additions(&self.table, self.rank, config, stage);
            adds.reverse();
            adds
        });
        // Where increments leave early a clock takes several turns, with reads between.
        let count = if stage.early.is_some() { network.random.random_range(0..4) } else { left.len() };
        for key in left.split_off(left.len().saturating_sub(count)).into_iter().rev() {
            self.table.inc(key, &[1.0]).map_err(text)?;
        }
        let out = &mut network.of_worker(self.rank);
        read(&mut self.table, &self.core)?;
        if !left.is_empty() {
            self.adds = Some(left);
            return self.table.poll(&mut self.core, now, out).map_err(text);
        }
        self.reads.clear();
        self.table.close(&mut self.core, out).map_err(text)?;
        self.is_settling = true;
        Ok(())
    }
}

/// What a worker adds at its clock, the same whenever it comes to it; sometimes nothing.
fn additions(table: &ClockedCore<f64>, rank: usize, config: &SimConfig, stage: &Stage) -> Vec<Key> {
    let seed = config.seed ^ (table.clock() << 32) ^ ((rank as u64) << 56);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let count = random.random_range(0..=stage.rows.len() * 2 / 3);
    let mut keys: Vec<Key> = stage.rows.sample(&mut random, count).copied().collect();
    let again = keys.first().copied();
    keys.extend(again);
    keys
}
