//! One pass over the blocks.

use std::collections::VecDeque;

use keyrange::client::WorkerError;
use keyrange::worker::TaskId;
use keyrange_kernels::{exp, linear};
use rand::seq::SliceRandom;

use super::Solver;
use super::blocks::{self, ActiveSet, BINS};
use super::local::table_key;
use crate::sparse_lr::protocol::{Begin, Phase, PhaseStats};

/// What a pass came to, the same at every worker.
pub(super) struct PassEnd {
    pub objective: f64,
    pub stats: PhaseStats,
    /// Active nonzeros per bin; those of some bins together stand in the last of them.
    pub bins: Vec<f64>,
}

impl Solver<'_> {
    /// Tells the servers what pushes do from now on.
    pub(super) fn begin(&mut self, phase: Phase, kkt_threshold: f64, reset: bool) -> Result<(), WorkerError> {
        let kkt_threshold = if kkt_threshold.is_finite() { kkt_threshold } else { f64::MAX };
        if reset {
            self.local.weights.iter_mut().filter(|w| w.is_nan()).for_each(|w| *w = 0.0);
        }
        let (damping, lossy) = (self.damping * self.caution, self.lossy && phase == Phase::Update);
        let begin = Begin { number: 0, phase, kkt_threshold, reset, damping, partial: false };
        self.servers.begin(begin, lossy)
    }

    /// The prior features as one block, several times, without delay.
    pub(super) fn visit_prior(&mut self) -> Result<(), WorkerError> {
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
    pub(super) fn visit_all(&mut self) -> Result<(), WorkerError> {
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
            *new = self.local.set_weight(column as usize, *new, &self.config.penalty);
        }
        self.local.apply_steps(&set.matrix, part, &weights);
        self.servers.recycle(weights);
        Ok(())
    }

    /// Sums up the pass.
    pub(super) fn end_pass(&mut self) -> Result<PassEnd, WorkerError> {
        let mut bins = vec![0.0; BINS];
        blocks::count_active(&self.local, &mut bins);
        let step = blocks::bins_together(self.active.spans.len());
        let counts = bins.chunks(step).map(|bins| bins.iter().sum::<f64>());
        let sums = self.servers.sum(std::iter::once(self.local.loss()).chain(counts).collect())?;
        let stats = self.servers.end()?;
        bins.fill(0.0);
        bins.iter_mut().skip(step - 1).step_by(step).zip(&sums[1..]).for_each(|(bin, sum)| *bin = *sum);
        Ok(PassEnd { objective: sums[0] + stats.penalty, stats, bins })
    }

    /// New blocks when features left the active set or all came back; with `all` active they are those of the first pass,
    /// whose key lists the servers know.
    pub(super) fn renew_active_set(&mut self, bins: &[f64], all: bool) -> Result<(), WorkerError> {
        if all {
            self.local.weights.iter_mut().filter(|w| w.is_nan()).for_each(|w| *w = 0.0);
            let all = std::mem::take(&mut self.all_bins);
            let result = self.set_blocks(&all);
            self.all_bins = all;
            result
        } else {
            self.set_blocks(bins)
        }
    }

    fn set_blocks(&mut self, bins: &[f64]) -> Result<(), WorkerError> {
        let spans = blocks::cut(bins, self.examples, self.config.block_ratio);
        let active = self.local.weights.iter().filter(|w| !w.is_nan()).count();
        // Every worker sees the same spans, so all of them come to the guard or none.
        let renewed = spans != self.active.spans;
        if renewed || active != self.active.columns.len() {
            self.active = ActiveSet::new(&self.local, spans);
        }
        if renewed { self.guard_steps() } else { Ok(()) }
    }
}
