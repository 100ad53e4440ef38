//! The worker's part of the solver: delayed block proximal gradient.
//!
//! Every worker runs the same program on its share of the rows and takes the same decisions, because all of them
//! rest on sums that every worker receives with the same bits; there is no scheduler. A pass visits the blocks in
//! random order: compute gradient and curvature bound of the block's active features, push both, pull the new
//! weights, fold the change into the margins. With delay `t`, up to `t` more blocks are under way meanwhile.
//!
//! Read [`local`] (the examples), [`blocks`] (what a block is), [`servers`] (what is asked of the servers), then
//! [`Solver::train`] here, then [`certificate`] (how far from the optimum) and [`metric`] (nearly collinear features).

pub mod blocks;
pub mod certificate;
pub mod local;
pub mod metric;
pub mod quadratic;
mod report;
pub mod servers;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use keyrange::client::{Worker, WorkerError};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use keyrange::worker::TaskId;
use keyrange_kernels::{exp, linear};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use self::blocks::{ActiveSet, BINS};
use self::certificate::Certificate;
use self::local::{Local, table_key};
use self::servers::Servers;
use super::server::{Begin, Penalty, Phase, PhaseStats};

pub use self::report::{PassReport, Solution};

/// A pass that gains less than this is slow enough for a step in the full metric.
const METRIC_BELOW: f64 = 1e-2;

/// A step in the full metric may cost this many times the work of a pass over all data...
const METRIC_PASSES: f64 = 40.0;

/// ...or this many operations per worker, whichever is more.
const METRIC_OPERATIONS: f64 = 2e8;

/// The first pass over the active set alone ends when it gains less than this; each later one a tenth of it.
const LEVEL_FIRST: f64 = 1e-3;

/// A pass over all features that gains less than this part of the tolerance ends the training without proof.
const STALLED: f64 = 1e-4;

/// Settings of the solver. All workers must have the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SolverConfig {
    /// The problem.
    pub penalty: Penalty,
    /// Blocks under way besides the one being computed.
    pub delay: usize,
    /// Passes over the blocks, at most.
    pub max_passes: u64,
    /// Relative accuracy of the objective at which to stop.
    pub tolerance: f64,
    /// Whether to stop only when the duality gap proves the tolerance; otherwise a pass over all features that gains
    /// less than a ten-thousandth of it suffices, too.
    pub certificate: bool,
    /// Blocks per nonzero of an example.
    pub block_ratio: f64,
    /// How much of the largest violation per example the KKT filter tolerates; infinity switches the filter off.
    pub kkt_ratio: f64,
    /// Largest support for steps in the full metric; 0 switches them off.
    pub metric_max: u64,
    /// Ids of features that form a block of their own, visited first.
    pub prior: Vec<u64>,
    /// How often the prior block is visited before the first pass.
    pub prior_rounds: u32,
    /// Seed of the block order.
    pub seed: u64,
    /// Longest wait for the other nodes, in seconds.
    pub patience_s: f64,
}

impl Default for SolverConfig {
    fn default() -> Self {
        SolverConfig {
            penalty: Penalty::default(),
            delay: 0,
            max_passes: 100_000,
            tolerance: 1e-4,
            certificate: false,
            block_ratio: 4.0,
            kkt_ratio: 10.0,
            metric_max: 2400,
            prior: Vec::new(),
            prior_rounds: 5,
            seed: 1,
            patience_s: 600.0,
        }
    }
}

/// The state of one worker between passes.
pub struct Solver<'a> {
    config: &'a SolverConfig,
    local: Local,
    servers: Servers<'a>,
    active: ActiveSet,
    order: Vec<usize>,
    random: Xoshiro256PlusPlus,
    examples: f64,
    nonzeros: f64,
    damping: f64,
    started: Instant,
}

/// What a pass came to, the same at every worker.
struct PassEnd {
    objective: f64,
    stats: PhaseStats,
    bins: Vec<f64>,
    metric_cost: f64,
}

impl<'a> Solver<'a> {
    /// Brings a worker's examples and the tables together. All workers must do so at the same time; the clock of the
    /// training starts here.
    pub fn new(worker: &'a mut Worker, local: Local, config: &'a SolverConfig) -> Result<Self, WorkerError> {
        let started = Instant::now();
        let patience = Duration::from_secs_f64(config.patience_s);
        let mut servers = Servers::new(worker, &config.penalty, &local.keys, patience)?;
        let mut sums = vec![0.0; 2 + BINS];
        sums[0] = local.labels.len() as f64;
        sums[1] = local.columns.nonzeros() as f64;
        blocks::count_active(&local, &mut sums[2..]);
        let sums = servers.sum(sums)?;
        let spans = blocks::cut(&sums[2..], sums[0], config.block_ratio);
        let active = ActiveSet::new(&local, spans);
        // Blocks under way at once act like one larger block; each holds 1/ratio nonzeros of an example on average.
        let damping = 1.0 + config.delay as f64 / config.block_ratio;
        Ok(Solver {
            config,
            local,
            servers,
            active,
            order: Vec::new(),
            random: Xoshiro256PlusPlus::seed_from_u64(config.seed),
            examples: sums[0],
            nonzeros: sums[1],
            damping,
            started,
        })
    }

    /// Runs passes until the tolerance is reached; tells `progress` after each.
    pub fn train(
        mut self,
        mut progress: impl FnMut(&mut Worker, &PassReport),
    ) -> Result<Solution, WorkerError> {
        let mut history: Vec<PassReport> = Vec::new();
        let mut kkt_threshold = f64::INFINITY;
        let (mut level, mut reset) = (LEVEL_FIRST.max(self.config.tolerance), true);
        let mut previous = self.examples * std::f64::consts::LN_2;
        let mut certificate = None;
        while (history.len() as u64) < self.config.max_passes {
            self.begin(Phase::Update, kkt_threshold, reset)?;
            if history.is_empty() {
                self.visit_prior()?;
            }
            self.visit_all()?;
            let mut end = self.end_pass()?;
            if previous / end.objective - 1.0 < METRIC_BELOW && self.metric_pays(&end) {
                self.step_in_full_metric(&mut end)?;
            }
            let gain = previous / end.objective - 1.0;
            previous = end.objective;
            history.push(self.pass_report(history.len(), &end, kkt_threshold));
            progress(self.servers.worker, history.last().expect("just pushed"));
            if gain < 0.0 {
                self.damping = (self.damping * 2.0).min(1024.0);
            }
            let slow = gain.abs() <= level;
            if slow && reset {
                let found = self.certify(end.objective)?;
                certificate = Some(found);
                let proved = found.gap <= self.config.tolerance * end.objective.abs();
                let stalled = !self.config.certificate && gain.abs() <= self.config.tolerance * STALLED;
                if proved || stalled {
                    break;
                }
                level = (level * 0.1).max(1e-15);
            }
            reset = slow;
            kkt_threshold = end.stats.violation / self.examples * self.config.kkt_ratio;
            self.renew_active_set(&end.bins, reset)?;
        }
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => self.certify(previous)?,
        };
        self.solution(history, certificate)
    }

    fn begin(&mut self, phase: Phase, kkt_threshold: f64, reset: bool) -> Result<(), WorkerError> {
        let kkt_threshold = if kkt_threshold.is_finite() { kkt_threshold } else { f64::MAX };
        if reset {
            self.local.weights.iter_mut().filter(|w| w.is_nan()).for_each(|w| *w = 0.0);
        }
        self.servers.begin(Begin { number: 0, phase, kkt_threshold, reset, damping: self.damping })
    }

    /// The prior features as one block, several times, without delay.
    fn visit_prior(&mut self) -> Result<(), WorkerError> {
        if self.config.prior.is_empty() {
            return Ok(());
        }
        let mut keys: Vec<u64> = self.config.prior.iter().map(|&id| table_key(id)).collect();
        keys.sort_unstable();
        keys.dedup();
        let place = |key: &u64| self.local.keys.binary_search(key).ok();
        let columns: Vec<u32> = keys.iter().filter_map(place).map(|column| column as u32).collect();
        let set = ActiveSet::of_columns(&self.local, columns);
        for _ in 0..self.config.prior_rounds {
            let task = self.send(&set, 0)?;
            self.fold(&set, 0, task)?;
        }
        Ok(())
    }

    /// All blocks in a fresh random order.
    fn visit_all(&mut self) -> Result<(), WorkerError> {
        let set = std::mem::replace(&mut self.active, ActiveSet::empty());
        self.order.clear();
        self.order.extend(0..set.blocks.len());
        self.order.shuffle(&mut self.random);
        let mut open = VecDeque::with_capacity(self.config.delay + 1);
        for at in 0..self.order.len() {
            let block = self.order[at];
            if open.len() > self.config.delay {
                let (oldest, task) = open.pop_front().expect("not empty");
                self.fold(&set, oldest, task)?;
            }
            open.push_back((block, self.send(&set, block)?));
        }
        for (block, task) in open {
            self.fold(&set, block, task)?;
        }
        self.active = set;
        Ok(())
    }

    /// Gradient and curvature bound of a block, pushed.
    fn send(&mut self, set: &ActiveSet, block: usize) -> Result<TaskId, WorkerError> {
        let block = &set.blocks[block];
        let len = block.part.len();
        let (mut g, mut u) = (self.servers.array(len), self.servers.array(len));
        let mut growth = self.servers.array(2 * len);
        let (exponents, bounds) = growth.split_at_mut(len);
        for (exponent, &column) in exponents.iter_mut().zip(&set.columns[block.part.clone()]) {
            *exponent = self.local.radius[column as usize] * self.local.largest[column as usize];
        }
        exp::exp(exponents, bounds);
        let view = set.matrix.view_part(block.part.clone());
        linear::csc_block_gradient_bound(view, &self.local.p, &self.local.h, bounds, &mut g, &mut u);
        u.iter_mut().zip(&set.spread[block.part.clone()]).for_each(|(u, spread)| *u *= spread);
        self.servers.recycle(growth);
        self.servers.exchange(block.keys.clone(), block.range, [g, u])
    }

    /// Waits for the new weights of a block and folds their change into the margins.
    fn fold(&mut self, set: &ActiveSet, block: usize, task: TaskId) -> Result<(), WorkerError> {
        let mut weights = self.servers.finish_exchange(task)?;
        let part = set.blocks[block].part.clone();
        for (new, &column) in weights.iter_mut().zip(&set.columns[part.clone()]) {
            let known = &mut self.local.weights[column as usize];
            let step = if new.is_nan() { 0.0 } else { *new - *known };
            *known = *new;
            self.local.radius[column as usize] = self.config.penalty.radius_after(step);
            *new = step;
        }
        self.local.apply_steps(&set.matrix, part, &weights);
        self.servers.recycle(weights);
        Ok(())
    }

    fn end_pass(&mut self) -> Result<PassEnd, WorkerError> {
        let mut sums = vec![0.0; 2 + BINS];
        sums[0] = self.local.loss();
        sums[1] = if self.config.metric_max > 0 { metric::cost(&self.local) } else { 0.0 };
        blocks::count_active(&self.local, &mut sums[2..]);
        let mut sums = self.servers.sum(sums)?;
        let stats = self.servers.end()?;
        let bins = sums.split_off(2);
        Ok(PassEnd { objective: sums[0] + stats.penalty, stats, bins, metric_cost: sums[1] })
    }

    fn metric_pays(&self, end: &PassEnd) -> bool {
        let n = end.stats.nonzeros as f64;
        let workers = f64::from(self.servers.worker.workers());
        let cost = end.metric_cost / workers + n * n;
        let affordable = (METRIC_PASSES * self.nonzeros / workers).max(METRIC_OPERATIONS);
        (1..=self.config.metric_max).contains(&end.stats.nonzeros) && cost <= affordable
    }

    fn step_in_full_metric(&mut self, end: &mut PassEnd) -> Result<(), WorkerError> {
        let found = metric::metric_step(&self.local, &mut self.servers, &self.config.penalty, end.objective)?;
        let Some(step) = found else { return Ok(()) };
        self.begin(Phase::Assign, f64::INFINITY, false)?;
        // One worker's word is enough; the others' empty contributions complete the update.
        let (keys, weights) = if self.servers.worker.rank() == 0 {
            (step.keys, step.weights)
        } else {
            (Vec::new(), Vec::new())
        };
        let zeros = vec![0.0; weights.len()];
        let keys = KeyList::new(keys).expect("the support is in key order");
        self.servers.push(keys, KeyRange::ALL, [weights, zeros])?;
        let (columns, steps): (Vec<u32>, Vec<f64>) = step.mine.into_iter().unzip();
        for (&column, &change) in columns.iter().zip(&steps) {
            self.local.weights[column as usize] += change;
            self.local.radius[column as usize] = self.config.penalty.radius_after(change);
        }
        let matrix = local::Columns::select(&self.local.columns, &columns);
        self.local.apply_steps(&matrix, 0..columns.len(), &steps);
        end.objective = step.objective;
        Ok(())
    }

    /// New blocks when features left the active set or all came back.
    fn renew_active_set(&mut self, bins: &[f64], reset: bool) -> Result<(), WorkerError> {
        if reset {
            self.local.weights.iter_mut().filter(|w| w.is_nan()).for_each(|w| *w = 0.0);
            let mut all = vec![0.0; BINS];
            blocks::count_active(&self.local, &mut all);
            let all = self.servers.sum(all)?;
            self.set_blocks(&all);
        } else {
            self.set_blocks(bins);
        }
        Ok(())
    }

    fn set_blocks(&mut self, bins: &[f64]) {
        let spans = blocks::cut(bins, self.examples, self.config.block_ratio);
        let active = self.local.weights.iter().filter(|w| !w.is_nan()).count();
        if spans != self.active.spans || active != self.active.columns.len() {
            self.active = ActiveSet::new(&self.local, spans);
        }
    }

    fn certify(&mut self, objective: f64) -> Result<Certificate, WorkerError> {
        self.begin(Phase::Measure, f64::INFINITY, true)?;
        certificate::certify(&self.local, &mut self.servers, &self.config.penalty, objective)
    }
}
