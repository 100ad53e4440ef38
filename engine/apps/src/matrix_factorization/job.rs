//! A job as one worker sees it: load, train, tell.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use keyrange::client::{Worker, WorkerError};
use keyrange::clock::{ClockError, ClockedConfig, ClockedTable, EarlyConfig, Staleness};
use keyrange::history::{Event, FileRecorder, Header, HistoryError};
use keyrange::key_list::KeyList;
use keyrange::key_range::{Key, KeyRange};
use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::worker::{Keys, Options, TableHandle, TaskId};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::factors::{Descent, Factors, key_of, predict};
use super::ratings::{Rating, Ratings};
use super::report::{FactorReport, Point, moments};
use crate::data::DataError;

const ITEMS: u16 = 1;
const SUMS: u16 = 2;
/// Entries of the staleness histogram that workers add up; the last one counts all beyond.
const BINS: usize = 64;
/// What has come is looked at every so manieth rating; looking takes about as long as two ratings.
const RATINGS_PER_POLL: usize = 64;
/// How long a worker waits for its last requests when the job is done.
const FINISH_LIMIT: Duration = Duration::from_secs(30);

/// What to factorise and how, the same for all workers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FactorJob {
    /// Ratings: comma-separated text, packed or not.
    pub data: PathBuf,
    /// Factors per user and item.
    pub rank: usize,
    /// Passes over the ratings.
    pub epochs: u64,
    /// Clocks per epoch.
    pub clocks: u64,
    /// How far a step goes.
    pub rate: f32,
    /// How strongly parameters are drawn to 0.
    pub regularisation: f32,
    /// How many clocks a read may be behind.
    pub staleness: Staleness,
    /// Changed rows come unasked.
    pub eager: bool,
    /// Bound of the increments under way, times the root of the clock.
    pub value_bound: Option<f64>,
    /// What may leave before its clock.
    pub early: Option<EarlyConfig>,
    /// Folder for the history of all reads.
    pub history: Option<PathBuf>,
    /// Of the beginning and of the order of ratings.
    pub seed: u64,
    /// A worker waits this long for the others before it gives up.
    pub patience_s: f64,
}

/// Why a worker gave up.
#[derive(Debug, Error)]
pub enum FactorError {
    /// The data is not what it should be.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A clock could not go on.
    #[error(transparent)]
    Clock(#[from] ClockError),
    /// The history could not be written.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The servers could not be reached, or another node failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The descent left the numbers.
    #[error("the prediction of a rating is not finite at clock {clock}: expected a smaller rate than {rate}")]
    Diverged {
        /// The clock.
        clock: u64,
        /// The rate.
        rate: f32,
    },
    /// The job's description does not parse (a launcher of another version, most likely).
    #[error("the job's parameters: {0}")]
    Parameters(#[from] serde_json::Error),
}

/// Runs a worker's part from its connection to its good-bye. On failure every other node hears the reason.
///
/// # Errors
/// As told to the others.
pub fn run_worker(mut worker: Worker) -> Result<(), FactorError> {
    let parameters = worker.parameters()["matrix_factorization"].clone();
    let result = serde_json::from_value(parameters)
        .map_err(FactorError::from)
        .and_then(|job: FactorJob| Training::begin(&mut worker, &job)?.run());
    match result {
        Ok(()) => Ok(worker.finish(FINISH_LIMIT)?),
        Err(error) => {
            worker.fail(&error.to_string());
            Err(error)
        }
    }
}

/// The items as they were at the end of an epoch, on their way, and the users then.
struct Snapshot {
    seconds: f64,
    items: TaskId,
    users: Factors,
}

struct Training<'a> {
    worker: &'a mut Worker,
    job: &'a FactorJob,
    patience: Duration,
    ratings: Ratings,
    /// This worker's.
    train: Vec<Rating>,
    test: Vec<Rating>,
    keys: Vec<Key>,
    /// Keys of the items in `test`.
    test_keys: KeyList,
    users: Factors,
    first_items: Factors,
    table: ClockedTable<f32>,
    items: TableHandle,
    snapshots: Vec<Snapshot>,
    began: Instant,
}

impl<'a> Training<'a> {
    fn begin(worker: &'a mut Worker, job: &'a FactorJob) -> Result<Training<'a>, FactorError> {
        let patience = Duration::from_secs_f64(job.patience_s);
        let ratings = Ratings::read(&job.data)?;
        let (rank, workers) = (worker.rank(), worker.workers());
        let owners = ratings.owners(workers as usize);
        let mine = |all: &[Rating]| -> Vec<Rating> {
            all.iter().copied().filter(|rating| owners[rating.user as usize] == rank).collect()
        };
        let (train, test) = (mine(&ratings.train), mine(&ratings.test));
        let keys: Vec<Key> = ratings.items.iter().map(|&id| key_of(id)).collect();
        let mut test_keys: Vec<Key> = test.iter().map(|rating| keys[rating.item as usize]).collect();
        test_keys.sort_unstable();
        test_keys.dedup();
        let audit = job.history.is_some();
        let width = job.rank as u32 + 1 + if audit { workers } else { 0 };
        let items = worker.create_table(&items_spec(width), patience)?;
        let &FactorJob { staleness, eager, value_bound, early, .. } = job;
        let config = ClockedConfig { staleness, eager, value_bound, audit, early };
        let mut table = ClockedTable::new(worker, items, config)?;
        if let Some(folder) = &job.history {
            let header = Header { rank, incarnation: 0, workers, staleness, eager };
            table.record(Box::new(FileRecorder::create(folder, &header)?));
        }
        let users = Factors::initial(ratings.users.len(), job.rank, job.seed);
        let first_items = Factors::initial(ratings.items.len(), job.rank, job.seed ^ 0x17e5);
        let test_keys = KeyList::new(test_keys).expect("sorted just before");
        worker.barrier("loaded", patience)?;
        let (snapshots, began) = (Vec::new(), Instant::now());
        Ok(Training {
            worker,
            job,
            patience,
            ratings,
            train,
            test,
            keys,
            test_keys,
            users,
            first_items,
            table,
            items,
            snapshots,
            began,
        })
    }

    fn run(mut self) -> Result<(), FactorError> {
        let seed = self.job.seed ^ (u64::from(self.worker.rank()) << 32);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut train = std::mem::take(&mut self.train);
        for epoch in 1..=self.job.epochs {
            train.shuffle(&mut random);
            let mut squares = 0.0;
            for clock in 0..self.job.clocks {
                let cut = |clock| train.len() * clock as usize / self.job.clocks as usize;
                squares += self.clock(&train[cut(clock)..cut(clock + 1)])?;
            }
            self.snapshot()?;
            if self.worker.rank() == 0 {
                let train_rmse = (squares / train.len().max(1) as f64).sqrt();
                let seconds = self.began.elapsed().as_secs_f64();
                let body =
                    serde_json::json!({ "epoch": epoch, "seconds": seconds, "train_rmse": train_rmse });
                // A launcher that is gone ends the job by itself.
                let _ = self.worker.report_progress(body);
            }
        }
        self.table.flush(self.worker, self.patience)?;
        let seconds = self.began.elapsed().as_secs_f64();
        self.worker.barrier("trained", self.patience)?;
        self.finish_history()?;
        self.conclude(seconds)
    }

    /// Works through the ratings of one clock; returns the sum of squared errors.
    fn clock(&mut self, ratings: &[Rating]) -> Result<f64, FactorError> {
        let mut wanted: Vec<Key> = ratings.iter().map(|rating| self.keys[rating.item as usize]).collect();
        wanted.sort_unstable();
        wanted.dedup();
        self.table.fetch(self.worker, &wanted, self.patience)?;
        let descent = Descent { rate: self.job.rate, regularisation: self.job.regularisation };
        let width = self.job.rank + 1;
        let (mut item, mut delta, mut squares) = (vec![0.0; width], vec![0.0; width], 0.0);
        for (number, rating) in (1..).zip(ratings) {
            if number % RATINGS_PER_POLL == 0 {
                self.table.poll(self.worker)?;
            }
            let key = self.keys[rating.item as usize];
            item.copy_from_slice(self.first_items.row(rating.item));
            item.iter_mut().zip(self.table.get(self.worker, key)?).for_each(|(item, change)| *item += change);
            let user = self.users.row_mut(rating.user);
            let error = rating.value - (self.ratings.mean + predict(user, &item));
            squares += f64::from(error).powi(2);
            descent.step(error, user, &item, &mut delta);
            self.table.inc(key, &delta)?;
        }
        if !squares.is_finite() {
            return Err(FactorError::Diverged { clock: self.table.clock(), rate: self.job.rate });
        }
        self.table.close(self.worker, self.patience)?;
        Ok(squares)
    }

    /// Keeps the users and asks for the items as they are now, without waiting: what they are worth is found out when the
    /// training is over.
    fn snapshot(&mut self) -> Result<(), FactorError> {
        let keys = Keys::List(self.test_keys.clone());
        let items = self.worker.pull(self.items, keys, Vec::<f32>::new(), Options::default())?;
        let seconds = self.began.elapsed().as_secs_f64();
        self.snapshots.push(Snapshot { seconds, items, users: self.users.clone() });
        Ok(())
    }

    /// Sum of the squared errors on this worker's test ratings.
    fn test_squares(&mut self, snapshot: &Snapshot) -> Result<f64, FactorError> {
        let values: Vec<f32> = self.worker.wait(snapshot.items, self.patience)?.values.into_vec();
        let (width, (low, high)) = (self.items.width as usize, self.ratings.scale);
        let mut squares = 0.0;
        for rating in &self.test {
            let key = self.keys[rating.item as usize];
            let place = self.test_keys.as_slice().binary_search(&key).expect("a key of the test");
            let change = &values[place * width..];
            let first = self.first_items.row(rating.item);
            let item: Vec<f32> = first.iter().zip(change).map(|(first, change)| first + change).collect();
            let predicted = self.ratings.mean + predict(snapshot.users.row(rating.user), &item);
            squares += f64::from(predicted.clamp(low, high) - rating.value).powi(2);
        }
        Ok(squares)
    }

    /// Worker 0 adds the rows as they are in the end; all files are completed.
    fn finish_history(&mut self) -> Result<(), FactorError> {
        let Some(mut recorder) = self.table.finish_recording() else { return Ok(()) };
        if self.worker.rank() == 0 {
            let all = Keys::Existing(KeyRange::ALL);
            let task = self.worker.pull(self.items, all, Vec::<f32>::new(), Options::default())?;
            let outcome = self.worker.wait(task, self.patience)?;
            let (values, width): (Vec<f32>, _) = (outcome.values.into_vec(), self.items.width as usize);
            for (&key, row) in outcome.keys.iter().zip(values.chunks_exact(width)) {
                let counts = row[self.job.rank + 1..].iter().map(|&count| count as u32).collect();
                recorder.note(&Event::Final { key, counts });
            }
        }
        Ok(recorder.finish()?)
    }

    /// Adds up what all workers know; worker 0 reports it.
    fn conclude(mut self, seconds: f64) -> Result<(), FactorError> {
        self.snapshot()?;
        let mut snapshots = std::mem::take(&mut self.snapshots);
        let (rank, workers) = (self.worker.rank() as usize, self.worker.workers() as usize);
        let points = snapshots.len();
        let mut sums = Vec::new();
        for snapshot in &snapshots {
            sums.push(self.test_squares(snapshot)?);
        }
        // A maximum over workers is found in a sum of parts, one part per worker.
        snapshots[points - 1].seconds = seconds;
        sums.resize(points * (1 + workers), 0.0);
        for (place, snapshot) in snapshots.iter().enumerate() {
            sums[points * (1 + rank) + place] = snapshot.seconds;
        }
        let stats = self.table.stats();
        let bins = |bin: usize| match stats.reads_behind.get(bin..) {
            Some(rest) if bin == BINS - 1 => rest.iter().sum(),
            rest => rest.and_then(|rest| rest.first()).copied().unwrap_or(0),
        };
        sums.extend((0..BINS).map(|bin| bins(bin) as f64));
        let traffic = self.worker.link_stats();
        sums.extend([stats.rows_pulled, stats.rows_pushed].map(|rows| rows as f64));
        sums.extend([traffic.sent_bytes, traffic.received_bytes].map(|bytes| bytes as f64));
        sums.extend([self.table.waited().as_secs_f64(), seconds]);
        let early = stats.early;
        let early = [early.rows_sent, early.bytes_sent, early.rows_received, early.bytes_received];
        sums.extend(early.map(|count| count as f64));
        let sums = self.sum(sums)?;
        if rank == 0 {
            let report = self.report(points, workers, &sums);
            self.worker.report(serde_json::to_value(report).expect("a report is plain numbers"))?;
        }
        Ok(())
    }

    fn sum(&mut self, values: Vec<f64>) -> Result<Vec<f64>, FactorError> {
        let table = self.worker.create_table(&sums_spec(), self.patience)?;
        let range = KeyRange::new(0, values.len() as u64 - 1).expect("there are values");
        let options = Options::at(1);
        let task = self.worker.push_pull(table, Keys::Range(range), vec![values], Vec::new(), options)?;
        Ok(self.worker.wait(task, self.patience)?.values.into_vec())
    }

    fn report(&self, points: usize, workers: usize, sums: &[f64]) -> FactorReport {
        let tests = self.ratings.test.len() as f64;
        let seconds_of =
            |point: usize| (0..workers).map(|worker| sums[points * (1 + worker) + point]).fold(0.0, f64::max);
        let rmse_of = |point: usize| (sums[point] / tests).sqrt();
        let curve = (0..points - 1).map(|point| Point {
            epoch: point as u64 + 1,
            seconds: seconds_of(point),
            test_rmse: rmse_of(point),
        });
        let rest = &sums[points * (1 + workers)..];
        let counted = (0..).zip(&rest[..BINS]).filter(|(_, count)| **count > 0.0);
        let staleness = counted.map(|(bin, &count)| (-1 - bin as i64, count as u64)).collect();
        let (staleness_mean, staleness_variance) = moments(&staleness);
        let [rows_pulled, rows_pushed, sent, received, waited, worked, ref early @ ..] = rest[BINS..] else {
            unreachable!("as many as were summed")
        };
        let early = |place: usize| early[place] as u64;
        FactorReport {
            job: self.job.clone(),
            train: self.ratings.train.len() as u64,
            test: self.ratings.test.len() as u64,
            users: self.ratings.users.len() as u64,
            items: self.ratings.items.len() as u64,
            test_rmse: rmse_of(points - 1),
            seconds: seconds_of(points - 1),
            waiting_share: waited / worked,
            curve: curve.collect(),
            staleness,
            staleness_mean,
            staleness_variance,
            rows_pulled: rows_pulled as u64,
            rows_pushed: rows_pushed as u64,
            bytes_sent: sent as u64,
            bytes_received: received as u64,
            rows_sent_early: early(0),
            bytes_sent_early: early(1),
            rows_received_early: early(2),
            bytes_received_early: early(3),
        }
    }
}

fn items_spec(width: u32) -> TableSpec {
    TableSpec {
        id: ITEMS,
        name: "items".to_owned(),
        value_type: ValueType::F32,
        width,
        store: StoreKind::Sparse,
        function: FunctionSpec::named("add"),
        aggregation: Aggregation::Clocked,
    }
}

fn sums_spec() -> TableSpec {
    TableSpec {
        id: SUMS,
        name: "sums".to_owned(),
        value_type: ValueType::F64,
        width: 1,
        aggregation: Aggregation::AllWorkers,
        ..items_spec(1)
    }
}
