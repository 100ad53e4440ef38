//! An actor's requests about the lossy table.

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::table::LOSSY;
use crate::key_list::KeyList;
use crate::key_range::{Key, KeyRange, RangeMap};
use crate::sim::actor::{Actor, Request, Stage};
use crate::sim::network::Network;
use crate::table::Aggregation;
use crate::worker::{Keys, Options, Outcome, SubmitError, TableHandle, TaskId};

/// What such a request was.
pub(in crate::sim) struct LossyRequest {
    /// Time of the push.
    push: Option<u64>,
    read: Option<Read>,
}

struct Read {
    chain: Option<usize>,
    time: u64,
    /// `None` for those that exist.
    keys: Option<Vec<Key>>,
    since: u64,
}

/// Keys of the lossy table: many in a row about the end of the first shard, so that lists are long enough to be named by
/// signature and ranges cross from one shard to the next, and some anywhere.
pub(in crate::sim) struct LossyKeys {
    run: KeyRange,
    lists: Vec<KeyList>,
}

impl LossyKeys {
    pub fn draw(map: &RangeMap, random: &mut Xoshiro256PlusPlus) -> Result<LossyKeys, String> {
        let middle = map.range_of(0).last().min(Key::MAX - 100);
        let run = KeyRange::new(middle - 39, middle + 40).map_err(|error| error.to_string())?;
        let mut keys: Vec<Key> = (0..15).map(|_| random.random()).chain([0, Key::MAX]).collect();
        keys.extend(run.first()..=run.last());
        keys.sort_unstable();
        keys.dedup();
        let list = |probability: f64| {
            let mut list: Vec<Key> =
                keys.iter().copied().filter(|_| random.random_bool(probability)).collect();
            if list.is_empty() {
                list.push(keys[0]);
            }
            KeyList::new(list).map_err(|error| error.to_string())
        };
        Ok(LossyKeys { run, lists: [0.9, 0.5, 0.1].into_iter().map(list).collect::<Result<_, _>>()? })
    }

    fn pick(&self, random: &mut Xoshiro256PlusPlus) -> Result<(Keys, Vec<Key>), String> {
        if random.random_bool(0.7) {
            let list = self.lists.choose(random).ok_or("no lists")?.clone();
            let keys = list.as_slice().to_vec();
            return Ok((Keys::List(list), keys));
        }
        let first = random.random_range(self.run.first()..=self.run.last());
        let last = random.random_range(first..=self.run.last());
        let range = KeyRange::new(first, last).map_err(|error| error.to_string())?;
        Ok((Keys::Range(range), (first..=last).collect()))
    }
}

/// Multiples of 1/8, often 0 or small whole numbers, so that rows come back to what they were.
fn draw_value(random: &mut Xoshiro256PlusPlus) -> f64 {
    match random.random_range(0..4) {
        0 => 0.0,
        1 | 2 => f64::from(random.random_range(-1..=1i32)),
        _ => f64::from(random.random_range(-48..=48i32)) / 8.0,
    }
}

fn handle(stage: &Stage) -> TableHandle {
    let width = stage.oracle.chains().width as u32;
    TableHandle { id: LOSSY, width, value_type: 2, aggregation: Aggregation::Immediate, not_adding: None }
}

/// Begins a request about the lossy table.
pub(in crate::sim) fn begin(
    actor: &mut Actor,
    stage: &mut Stage,
    network: &mut Network,
) -> Result<(TaskId, Request), String> {
    let failed = |error: SubmitError| error.to_string();
    let table = handle(stage);
    let kind = network.random.random_range(0..8);
    let (filters, picked) = actor.chains.lossy(&mut network.random, kind != 7);
    let (keys, list) = stage.lossy_keys.pick(&mut network.random)?;
    let (parts, width, since) =
        (stage.oracle.chains().parts, stage.oracle.chains().width, stage.oracle.moment());
    let pushes = kind < 5;
    actor.lossy_time += u64::from(pushes);
    let time = actor.lossy_time;
    let options = Options { filters, ..Options::at(time) };
    let mut arrays: Vec<Vec<f64>> = Vec::new();
    if pushes {
        let array = |_| (0..list.len() * width).map(|_| draw_value(&mut network.random)).collect();
        arrays = (0..parts).map(array).collect();
        stage.oracle.push(actor.who(), time, picked.push, &list, &arrays);
    }
    let out = &mut network.of_worker(actor.rank);
    let read = |keys| Some(Read { chain: picked.pull, time, keys, since });
    let (task, request) = match kind {
        0..3 => {
            let task = actor.core.push(table, keys, arrays, options, out);
            (task, LossyRequest { push: Some(time), read: None })
        }
        3..5 => {
            let task = actor.core.push_pull(table, keys, arrays, Vec::new(), options, out);
            (task, LossyRequest { push: Some(time), read: read(Some(list)) })
        }
        5..7 => {
            let task = actor.core.pull::<f64>(table, keys, Vec::new(), options, out);
            (task, LossyRequest { push: None, read: read(Some(list)) })
        }
        _ => {
            let keys = Keys::Existing(KeyRange::ALL);
            let task = actor.core.pull::<f64>(table, keys, Vec::new(), options, out);
            (task, LossyRequest { push: None, read: read(None) })
        }
    };
    Ok((task.map_err(failed)?, Request::Lossy(request)))
}

/// Pushes what is held back, once nothing is under way.
pub(in crate::sim) fn drain(
    actor: &mut Actor,
    stage: &mut Stage,
    network: &mut Network,
) -> Result<Vec<(TaskId, Request)>, String> {
    let (mut begun, table, who) = (Vec::new(), handle(stage), actor.who());
    for at in 0..actor.chains.pushes().len() {
        let (keys, arrays) = actor.chains.pushes()[at].take_held_back::<f64>(LOSSY);
        stage.oracle.check_held(who, at, &keys, &arrays)?;
        if keys.is_empty() {
            continue;
        }
        actor.lossy_time += 1;
        let time = actor.lossy_time;
        stage.oracle.push(who, time, None, &keys, &arrays);
        let keys = Keys::List(KeyList::new(keys).map_err(|error| error.to_string())?);
        let out = &mut network.of_worker(actor.rank);
        let task = actor.core.push(table, keys, arrays, Options::at(time), out);
        let request = Request::Lossy(LossyRequest { push: Some(time), read: None });
        begun.push((task.map_err(|error| error.to_string())?, request));
    }
    Ok(begun)
}

impl LossyRequest {
    pub fn judge(self, actor: &Actor, outcome: Outcome, stage: &Stage) -> Result<(), String> {
        let who = actor.who();
        if let Some(time) = self.push {
            stage.oracle.acknowledged(who, time)?;
        }
        let Some(read) = self.read else { return Ok(()) };
        let values: &[f64] = outcome.values.as_slice().unwrap_or(&[]);
        let keys = read.keys.as_ref().unwrap_or(&outcome.keys);
        if read.keys.is_none() {
            stage.oracle.check_found(keys, read.since)?;
        }
        let own = self.push.map(|time| (who, time));
        stage.oracle.check_read((read.chain, read.time), keys, values, read.since, own)
    }
}
