//! One worker's script: what it asks, and what it makes of the answers.

use std::sync::Arc;

use rand::RngExt;

use super::SimConfig;
use super::filters::{self, LossyKeys, LossyRequest, Oracle, Who, WorkerChains};
use super::graphs::Shipped;
use super::ledger::{Ledger, check, worth};
use super::network::Network;
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange, RangeMap};
use crate::table::Aggregation;
use crate::worker::{
    BoundedDelay, Keys, Options, Outcome, SubmitError, TableHandle, Target, TaskId, TaskState, WorkerConfig,
    WorkerCore,
};

/// The table pushes apply to at once.
pub(super) const SUMS: u16 = 1;
/// The table that aggregates over all workers.
pub(super) const UPDATES: u16 = 2;
/// The table whose function counts calls.
pub(super) const TALLY: u16 = 3;
/// Most requests of a script under way at once.
const UNDER_WAY_MAX: usize = 6;

/// What all workers know.
pub(super) struct Stage {
    pub map: Arc<RangeMap>,
    /// Lists that requests are drawn from.
    pub lists: Vec<KeyList>,
    /// The keys each worker contributes to aggregated updates.
    pub shares: Vec<KeyList>,
    /// The range of aggregated updates; workers need not have keys in all of it.
    pub range: KeyRange,
    pub ledger: Ledger,
    /// The books of the lossy table, and its keys.
    pub oracle: Oracle,
    pub lossy_keys: LossyKeys,
    pub calls_issued: u64,
    /// Per shard, what calls answered.
    pub calls_answered: Vec<Vec<u64>>,
}

impl Stage {
    /// Keeps what calls answered, for the audit.
    pub fn note_calls(&mut self, replies: Vec<(u32, Vec<u8>)>) -> Result<(), String> {
        for (shard, reply) in replies {
            let count = <[u8; 8]>::try_from(&reply[..]).map_err(|_| "a call answered rubbish")?;
            self.calls_answered[shard as usize].push(u64::from_le_bytes(count));
        }
        Ok(())
    }
}

/// A request under way.
pub(super) enum Request {
    Push(Vec<(Key, usize)>),
    Pull { list: Vec<Key>, since: u64 },
    PushPull { strokes: Vec<(Key, usize)>, list: Vec<Key>, since: u64 },
    Existing { since: u64 },
    Update(u64),
    After(u64),
    Call,
    Graph(Shipped),
    Lossy(LossyRequest),
}

pub(super) struct Actor {
    pub rank: usize,
    pub core: WorkerCore,
    pub chains: WorkerChains,
    /// Time of the last push to the lossy table.
    pub lossy_time: u64,
    pub paused_until: u64,
    under_way: Vec<(TaskId, Request)>,
    delay: BoundedDelay,
    next_time: u64,
    left: usize,
    /// What was held back is pushed.
    is_drained: bool,
}

pub(super) fn handle(id: u16, aggregation: Aggregation) -> TableHandle {
    TableHandle { id, width: 1, value_type: 2, aggregation, not_adding: None }
}

impl Actor {
    pub fn new(
        rank: usize,
        epoch: u32,
        left: usize,
        config: &SimConfig,
        stage: &Stage,
    ) -> Result<Actor, String> {
        let settings = WorkerConfig {
            epoch,
            window_requests: config.window_requests,
            frame_bytes_max: config.frame_bytes_max(),
            tasks_max: 1000,
            retain: true,
            retry_after: Some(std::time::Duration::from_millis(50)),
            ..WorkerConfig::new(rank as u32)
        };
        let core = WorkerCore::new(settings, Arc::clone(&stage.map));
        let delay = BoundedDelay::new(config.tau);
        let chains = WorkerChains::new(&config.chains, config.seed, config.planted_bug_bound)?;
        let (under_way, is_drained) = (Vec::new(), config.chains.is_empty());
        let (lossy_time, paused_until, next_time) = (0, 0, 0);
        Ok(Actor {
            rank,
            core,
            chains,
            lossy_time,
            paused_until,
            under_way,
            delay,
            next_time,
            left,
            is_drained,
        })
    }

    /// The same worker after a crash: a new core, nothing remembered but how much of the script is left. Aggregated
    /// updates begin again at the first.
    pub fn replacement(&self, config: &SimConfig, stage: &Stage) -> Result<Actor, String> {
        Actor::new(self.rank, self.core.config().epoch + 1, self.left, config, stage)
    }

    pub fn is_done(&self, config: &SimConfig) -> bool {
        self.left == 0 && self.next_time == config.times && self.is_drained && self.under_way.is_empty()
    }

    /// This worker in this incarnation.
    pub fn who(&self) -> Who {
        (self.rank, self.core.config().epoch)
    }

    /// One turn: what is finished is checked, what may begin begins.
    pub fn turn(
        &mut self,
        config: &SimConfig,
        stage: &mut Stage,
        network: &mut Network,
    ) -> Result<(), String> {
        if network.now < self.paused_until {
            return Ok(());
        }
        let now = std::time::Duration::from_millis(network.now);
        self.core.poll(now, &mut network.of_worker(self.rank));
        self.harvest(config, stage)?;
        if self.next_time < config.times && self.delay.ready(self.next_time) {
            self.contribute(config, stage, network)?;
        }
        while self.left > 0 && self.under_way.len() < UNDER_WAY_MAX {
            if !self.begin(stage, network)? {
                break;
            }
            self.left -= 1;
        }
        if self.left == 0 && self.under_way.is_empty() && !self.is_drained {
            let begun = filters::drain(self, stage, network)?;
            self.under_way.extend(begun);
            self.is_drained = true;
        }
        Ok(())
    }

    fn harvest(&mut self, config: &SimConfig, stage: &mut Stage) -> Result<(), String> {
        let mut index = 0;
        while index < self.under_way.len() {
            if self.core.state(self.under_way[index].0) != TaskState::Finished {
                index += 1;
                continue;
            }
            let (task, request) = self.under_way.swap_remove(index);
            let outcome = self.core.take(task).ok_or("a finished task has no end")?;
            let outcome = outcome.map_err(|error| format!("worker {}: {error}", self.rank))?;
            self.delay.finished(task);
            self.judge(request, outcome, config, stage)?;
        }
        Ok(())
    }

    fn judge(
        &self,
        request: Request,
        outcome: Outcome,
        config: &SimConfig,
        stage: &mut Stage,
    ) -> Result<(), String> {
        let values: &[f64] = outcome.values.as_slice().unwrap_or(&[]);
        match request {
            Request::Push(strokes) => acknowledge(stage, &strokes),
            Request::Pull { list, since } => check_pull(stage, &list, values, since)?,
            Request::PushPull { strokes, list, since } => {
                acknowledge(stage, &strokes);
                check_pull(stage, &list, values, since)?;
            }
            Request::Existing { since } => {
                if outcome.keys.len() != values.len() || !outcome.keys.is_sorted() {
                    return Err("existing keys came out of order or without values".to_owned());
                }
                check_pull(stage, &outcome.keys, values, since)?;
            }
            Request::Update(time) | Request::After(time) => {
                let share = stage.shares[self.rank].as_slice();
                for (&key, &value) in share.iter().zip(values) {
                    check_update(config, stage, key, value, time)?;
                }
            }
            Request::Call => stage.note_calls(outcome.replies)?,
            Request::Graph(shipped) => shipped.judge(outcome, stage)?,
            Request::Lossy(request) => request.judge(self, outcome, stage)?,
        }
        Ok(())
    }

    /// Contributes to the next aggregated update, and sometimes reads it with a pull that waits for it.
    fn contribute(&mut self, config: &SimConfig, stage: &Stage, network: &mut Network) -> Result<(), String> {
        let time = self.next_time;
        let share = &stage.shares[self.rank];
        let value = worth(time as usize * config.workers + self.rank);
        let keys = || Keys::ListIn(share.clone(), stage.range);
        let table = handle(UPDATES, Aggregation::AllWorkers);
        let (parts, into) = (vec![vec![value; share.len()]], Vec::new());
        let both = network.chance(0.7);
        let filters = self.chains.exact(&mut network.random, true);
        let options = || Options { filters: filters.clone(), ..Options::at(time) };
        let out = &mut network.of_worker(self.rank);
        let failed = |error: SubmitError| error.to_string();
        if both {
            let task = self.core.push_pull(table, keys(), parts, into, options(), out).map_err(failed)?;
            self.note_update(time, task, Request::Update(time));
        } else {
            let push = self.core.push(table, keys(), parts, options(), out).map_err(failed)?;
            let options = Options { after_time: true, after: vec![push], ..options() };
            let pull = self.core.pull(table, keys(), into, options, out).map_err(failed)?;
            self.under_way.push((push, Request::Push(Vec::new())));
            self.note_update(time, pull, Request::After(time));
        }
        self.next_time += 1;
        Ok(())
    }

    fn note_update(&mut self, time: u64, task: TaskId, request: Request) {
        self.delay.started(time, task);
        self.under_way.push((task, request));
    }

    /// Begins one request of the script; false if there is no room for it now.
    fn begin(&mut self, stage: &mut Stage, network: &mut Network) -> Result<bool, String> {
        if !stage.oracle.chains().is_empty() && network.chance(0.5) {
            let begun = filters::begin(self, stage, network)?;
            self.under_way.push(begun);
            return Ok(true);
        }
        let list = stage.lists[network.random.random_range(0..stage.lists.len())].clone();
        let table = handle(SUMS, Aggregation::Immediate);
        let since = stage.ledger.moment();
        let kind = network.random.random_range(0..7);
        if kind == 6
            && let Some(shipped) = self.ship(stage, network)?
        {
            self.under_way.push(shipped);
            return Ok(true);
        }
        let one = list.as_slice()[network.random.random_range(0..list.len())];
        let filters = self.chains.exact(&mut network.random, kind != 5);
        let plain = || Options { filters: filters.clone(), ..Options::default() };
        let out = &mut network.of_worker(self.rank);
        let keys = Keys::List(list.clone());
        let failed = |error: SubmitError| error.to_string();
        let list_has_room = list.as_slice().iter().all(|&key| stage.ledger.has_room(key));
        let (task, request) = match kind {
            0 | 1 if stage.ledger.has_room(one) => {
                let index = stage.ledger.stroke(one).unwrap_or(0);
                match self.core.push_one(table, one, &[worth(index)], u64::MAX, out) {
                    Err(SubmitError::Busy { .. }) => return Ok(false),
                    task => (task.map_err(failed)?, Request::Push(vec![(one, index)])),
                }
            }
            2 | 3 if list_has_room => {
                let (strokes, values) = strike(stage, &list);
                if kind == 2 {
                    let task = self.core.push(table, keys, vec![values], plain(), out).map_err(failed)?;
                    (task, Request::Push(strokes))
                } else {
                    let task = self.core.push_pull(table, keys, vec![values], Vec::new(), plain(), out);
                    let list = list.as_slice().to_vec();
                    (task.map_err(failed)?, Request::PushPull { strokes, list, since })
                }
            }
            4 => {
                stage.calls_issued += 1;
                let tally = handle(TALLY, Aggregation::Immediate);
                let task = self.core.call(tally, Target::All, "count", Vec::new(), plain(), out);
                (task.map_err(failed)?, Request::Call)
            }
            5 => {
                let keys = Keys::Existing(KeyRange::ALL);
                let task = self.core.pull::<f64>(table, keys, Vec::new(), plain(), out).map_err(failed)?;
                (task, Request::Existing { since })
            }
            _ => {
                let task = self.core.pull::<f64>(table, keys, Vec::new(), plain(), out).map_err(failed)?;
                (task, Request::Pull { list: list.as_slice().to_vec(), since })
            }
        };
        self.under_way.push((task, request));
        Ok(true)
    }
}

pub(super) fn strike(stage: &mut Stage, list: &KeyList) -> (Vec<(Key, usize)>, Vec<f64>) {
    let mut strokes = Vec::with_capacity(list.len());
    for &key in list.as_slice() {
        strokes.push((key, stage.ledger.stroke(key).unwrap_or(0)));
    }
    let values = strokes.iter().map(|&(_, index)| worth(index)).collect();
    (strokes, values)
}

pub(super) fn acknowledge(stage: &mut Stage, strokes: &[(Key, usize)]) {
    for &(key, index) in strokes {
        stage.ledger.acknowledge(key, index);
    }
}

pub(super) fn check_pull(stage: &Stage, keys: &[Key], values: &[f64], since: u64) -> Result<(), String> {
    if keys.len() != values.len() {
        return Err(format!("asked for {} values, got {}", keys.len(), values.len()));
    }
    keys.iter().zip(values).try_for_each(|(&key, &value)| stage.ledger.check(key, value, since))
}

/// An update's answer holds every worker's contribution to it and to all that had to be finished before it.
fn check_update(config: &SimConfig, stage: &Stage, key: Key, value: f64, time: u64) -> Result<(), String> {
    let workers = config.workers;
    let holds = |worker: usize| stage.shares[worker].as_slice().binary_search(&key).is_ok();
    let must = |index: usize| {
        let (of, worker) = ((index / workers) as u64, index % workers);
        let settled = of == time || of + config.tau < time;
        settled && holds(worker)
    };
    check(value, config.times as usize * workers, must)
        .map_err(|text| format!("update {time}, key {key}: {text}"))
}
