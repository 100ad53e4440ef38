//! Whether histories are what was promised.
//!
//! Four rules, each on what the rows themselves say (their counts), not on what the program says of them:
//! *staleness*: a read at clock `c` holds every worker's increments at the clocks below `c - s`, and below the clock the row
//! was said to have; *read-my-writes*: it holds exactly the reader's own increments so far; *monotonicity*: a worker
//! never sees less of a row than it saw before; *exactly once*: at the end each row holds as many increments of each worker
//! as that made. Nobody ever sees increments that were not made.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use thiserror::Error;

use super::{Event, Header, History, HistoryError};
use crate::key_range::Key;

/// What is left when all is as promised.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Reads checked.
    pub reads: u64,
    /// Increments made.
    pub increments: u64,
    /// Clocks closed, over all workers.
    pub clocks: u64,
    /// Rows compared at the end.
    pub rows: u64,
    /// Reads by the newest clock they wholly held minus the reader's clock: -1 is the freshest that can be promised.
    pub staleness: BTreeMap<i64, u64>,
}

impl Summary {
    /// Mean of the staleness histogram; `None` without reads.
    pub fn mean(&self) -> Option<f64> {
        let sum: f64 = self.staleness.iter().map(|(&of, &count)| of as f64 * count as f64).sum();
        (self.reads > 0).then(|| sum / self.reads as f64)
    }

    /// Variance of the staleness histogram; `None` without reads.
    pub fn variance(&self) -> Option<f64> {
        let mean = self.mean()?;
        let square = |(&of, &count): (&i64, &u64)| (of as f64 - mean).powi(2) * count as f64;
        Some(self.staleness.iter().map(square).sum::<f64>() / self.reads as f64)
    }
}

/// The first thing that is not as promised, or cannot be read.
#[derive(Debug, Error)]
pub enum Violation {
    /// A promise was broken.
    #[error("worker {rank}, event {event}: {text}")]
    Broken {
        /// Whose history tells it.
        rank: u32,
        /// Which event of it, from 0.
        event: u64,
        /// What, in words.
        text: String,
    },
    /// An increment got lost on the way to the last word, or the last word is missing.
    #[error("at the end: {0}")]
    Lost(String),
    /// Cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
}

/// One worker's closed increments: by row, the clocks it added at and how often it had by then.
type Made = HashMap<Key, Vec<(u64, u32)>>;

/// Goes through the histories of all workers of a run.
///
/// # Errors
/// The first [`Violation`].
pub fn check(histories: &[&dyn History]) -> Result<Summary, Violation> {
    let workers = check_headers(histories)?;
    let mut summary = Summary::default();
    let mut made: Vec<Made> = (0..workers).map(|_| Made::new()).collect();
    let mut closed = vec![0; workers];
    for history in histories {
        let rank = history.header().rank as usize;
        gather(*history, &mut made[rank], &mut closed[rank])?;
    }
    let mut finals = HashMap::new();
    for history in histories {
        let mut reader = Reader::new(history.header(), &made, closed[history.header().rank as usize]);
        for (event, number) in history.events()?.zip(0..) {
            let event = event?;
            let broken = |text| Violation::Broken { rank: history.header().rank, event: number, text };
            if let Event::Final { key, counts } = &event {
                finals.insert(*key, counts.clone());
            }
            reader.follow(&event, &mut summary).map_err(broken)?;
        }
    }
    compare_end(&made, &finals)?;
    summary.clocks = closed.iter().sum();
    summary.rows = finals.len() as u64;
    Ok(summary)
}

fn check_headers(histories: &[&dyn History]) -> Result<usize, Violation> {
    let mixed = |text: String| Violation::from(HistoryError::Mixed(text));
    let first = histories.first().ok_or_else(|| mixed("there is none".to_owned()))?.header();
    let promise = |header: &Header| (header.workers, header.staleness, header.eager);
    if let Some(other) = histories.iter().map(|one| one.header()).find(|one| promise(one) != promise(first)) {
        return Err(mixed(format!("one is of {first:?}, another of {other:?}")));
    }
    let has = |rank: u32| histories.iter().any(|history| history.header().rank == rank);
    match (0..first.workers).find(|&rank| !has(rank)) {
        Some(rank) => Err(mixed(format!("that of worker {rank} of {} is missing", first.workers))),
        None => Ok(first.workers as usize),
    }
}

/// Collects what one incarnation of a worker added in the clocks it closed. `closed` are those known already; a
/// replacement must have done them alike.
fn gather(history: &dyn History, made: &mut Made, closed: &mut u64) -> Result<(), Violation> {
    let mut open: BTreeMap<Key, u32> = BTreeMap::new();
    let mut clock = 0;
    for (event, number) in history.events()?.zip(0..) {
        let broken = |text| Violation::Broken { rank: history.header().rank, event: number, text };
        match event? {
            Event::Inc { key, .. } => *open.entry(key).or_default() += 1,
            Event::Clock { clock: now } if now != clock + 1 => {
                return Err(broken(format!("its clock goes from {clock} to {now}")));
            }
            Event::Clock { clock: now } => {
                for (key, count) in std::mem::take(&mut open) {
                    let known = up_to(made.get(&key), now) - up_to(made.get(&key), clock);
                    if now <= *closed && known != count {
                        let text = format!(
                            "it added to row {key} {count} times at clock {clock}, its predecessor {known} times"
                        );
                        return Err(broken(text));
                    }
                    if now > *closed {
                        let row = made.entry(key).or_default();
                        let before = row.last().map_or(0, |&(_, count)| count);
                        row.push((clock, before + count));
                    }
                }
                clock = now;
                *closed = now.max(*closed);
            }
            _ => {}
        }
    }
    Ok(())
}

/// How often a worker had added to a row at the clocks below `clock`.
fn up_to(row: Option<&Vec<(u64, u32)>>, clock: u64) -> u32 {
    let Some(row) = row else { return 0 };
    let clocks = row.partition_point(|&(at, _)| at < clock);
    clocks.checked_sub(1).map_or(0, |last| row[last].1)
}

/// Follows one history.
struct Reader<'a> {
    header: &'a Header,
    made: &'a [Made],
    /// Clocks that incarnations of this worker have closed in all.
    closed: u64,
    clock: u64,
    own: HashMap<Key, u32>,
    seen: HashMap<Key, Vec<u32>>,
}

impl<'a> Reader<'a> {
    fn new(header: &'a Header, made: &'a [Made], closed: u64) -> Reader<'a> {
        Reader { header, made, closed, clock: 0, own: HashMap::new(), seen: HashMap::new() }
    }

    fn follow(&mut self, event: &Event, summary: &mut Summary) -> Result<(), String> {
        match event {
            Event::Inc { clock, .. } | Event::Read { clock, .. } if *clock != self.clock => {
                return Err(format!("it is at clock {}, the event at {clock}", self.clock));
            }
            Event::Inc { key, .. } => {
                summary.increments += 1;
                *self.own.entry(*key).or_default() += 1;
            }
            Event::Clock { clock } => self.clock = *clock,
            Event::Settled { norm, bound, .. } if norm > bound => {
                return Err(format!(
                    "it went on with increments under way of {norm}, the bound being {bound}"
                ));
            }
            Event::Settled { .. } | Event::Final { .. } => {}
            Event::Read { key, row_clock, counts, .. } => {
                self.read(*key, *row_clock, counts)?;
                summary.reads += 1;
                *summary.staleness.entry(*row_clock as i64 - 1 - self.clock as i64).or_default() += 1;
            }
        }
        Ok(())
    }

    fn read(&mut self, key: Key, row_clock: u64, counts: &[u32]) -> Result<(), String> {
        let (rank, clock) = (self.header.rank as usize, self.clock);
        let oldest = self.header.staleness.oldest_at(clock);
        let promise = || format!("staleness {}", self.header.staleness);
        if row_clock < oldest {
            return Err(format!(
                "row {key}, read at clock {clock}, is of clock {row_clock}: {} asks for {oldest}",
                promise()
            ));
        }
        let own = self.own.get(&key).copied().unwrap_or(0);
        for (of, &count) in counts.iter().enumerate() {
            let must = up_to(self.made[of].get(&key), row_clock.max(oldest));
            if count < must {
                return Err(format!(
                    "row {key}, read at clock {clock} and said to be of clock {row_clock} ({}), holds {count} \
                     increments of worker {of}, which had made {must} by then",
                    promise()
                ));
            }
            let all = up_to(self.made[of].get(&key), u64::MAX).max(if of == rank { own } else { 0 });
            if count > all {
                return Err(format!(
                    "row {key} holds {count} increments of worker {of}, which made only {all}"
                ));
            }
        }
        let got = counts.get(rank).copied().unwrap_or(0);
        // A replacement may find what its predecessor did in clocks it has not come to itself.
        let is_replay = self.header.incarnation > 0 && clock < self.closed;
        if got < own || (got != own && !is_replay) {
            return Err(format!(
                "row {key}, read at clock {clock}, holds {got} of this worker's own {own} increments so far"
            ));
        }
        let seen = self.seen.entry(key).or_default();
        if let Some((of, (before, now))) =
            seen.iter().zip(counts).enumerate().find(|(_, (before, now))| before > now)
        {
            return Err(format!(
                "row {key}, read at clock {clock}, holds {now} increments of worker {of}; it held {before} before"
            ));
        }
        *seen = counts.to_vec();
        Ok(())
    }
}

fn compare_end(made: &[Made], finals: &HashMap<Key, Vec<u32>>) -> Result<(), Violation> {
    if finals.is_empty() && made.iter().any(|made| !made.is_empty()) {
        let text = "no worker told the rows as they were when all were done, so whether each increment was applied \
                    once is not known";
        return Err(Violation::Lost(text.to_owned()));
    }
    for (worker, made) in made.iter().enumerate() {
        for (key, row) in made {
            let must = row.last().map_or(0, |&(_, count)| count);
            let got = finals.get(key).and_then(|counts| counts.get(worker)).copied().unwrap_or(0);
            if got != must {
                let text = format!("row {key} holds {got} increments of worker {worker}, which made {must}");
                return Err(Violation::Lost(text));
            }
        }
    }
    let stray = finals.iter().find_map(|(key, counts)| {
        let was_made = |of: usize| made.get(of).is_some_and(|made| made.contains_key(key));
        let unmade = counts.iter().enumerate().find(|&(of, &count)| count > 0 && !was_made(of));
        unmade.map(|(of, count)| (key, of, count))
    });
    match stray {
        Some((key, of, count)) => Err(Violation::Lost(format!(
            "row {key} holds {count} increments of worker {of}, which made none"
        ))),
        None => Ok(()),
    }
}
