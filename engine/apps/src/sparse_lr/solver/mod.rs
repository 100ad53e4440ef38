//! The worker's part of the solver: delayed block proximal gradient.
//!
//! Every worker runs the same program on its share of the rows and takes the same decisions, because all of them
//! rest on sums that every worker receives with the same bits; there is no scheduler. A pass visits the blocks in
//! random order: compute gradient and curvature bound of the block's active features, push both, pull the new
//! weights, fold the change into the margins. With delay `t`, up to `t` more blocks are under way meanwhile.
//!
//! [`newton`] steps follow each pass.
//!
//! Read [`config`], [`local`] (the examples), [`blocks`] (what a block is), [`servers`] (what is asked of the servers),
//! `passes` (one pass), [`guard`] (how long its steps may be), [`filters`] (what need
//! not be sent), then [`Solver::train`] here, then [`newton`] with [`support`] (nearly collinear features) and
//! [`certificate`] (how far from the optimum); [`waiting`] and `report` tell how it went.

pub mod blocks;
pub mod certificate;
pub mod config;
pub mod filters;
pub mod guard;
pub mod local;
pub mod newton;
mod passes;
mod report;
pub mod servers;
pub mod support;
pub mod waiting;

use std::time::Instant;

use keyrange::client::{Worker, WorkerError};
use keyrange::key_list::KeyList;
use keyrange::key_range::KeyRange;
use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use self::blocks::{ActiveSet, BINS};
use self::certificate::Certificate;
use self::guard::Guard;
use self::local::Local;
use self::newton::Newton;
use self::passes::PassEnd;
use self::servers::Servers;
use self::support::Support;
use self::waiting::Waiting;
use super::protocol::Phase;

pub use self::config::SolverConfig;
pub use self::report::{PassReport, Solution};

/// A Newton step may cost this many times the multiplications of a pass over all data...
const NEWTON_PASSES: f64 = 40.0;

/// ...or this many per worker, whichever is more.
const NEWTON_OPERATIONS: f64 = 4e8;

/// The first pass over the active set alone ends when it gains less than this; each later one a tenth of it.
const LEVEL_FIRST: f64 = 1e-3;

/// Values may lose something on the way while passes are to gain this part of the tolerance at least; the rest is done
/// exactly. Without Newton steps that is all but the end.
const LOSSY: f64 = 1e-2;

/// A pass over all features that gains less than this part of the tolerance ends the training without proof.
const STALLED: f64 = 1e-4;

/// Blocks under way at once act like one larger block, and each holds `1 / ratio` nonzeros of an example on average: were
/// all their features to move an example's margin the same way, the metric would have to be raised by `1 + delay / ratio`.
/// Features seldom agree; this part of it is enough at first (on text and on clicks, delays to 32), and where it is not the
/// objective rises and the caution with it.
const COHERENCE: f64 = 0.25;

/// The caution grows by this factor when a pass raised the objective.
const CAUTION_GROWTH: f64 = 1.5;

/// And no further than this.
const CAUTION_MAX: f64 = 1024.0;

/// The state of one worker between passes.
pub struct Solver<'a> {
    config: &'a SolverConfig,
    local: Local,
    servers: Servers<'a>,
    active: ActiveSet,
    /// Nonzeros per bin with all features active.
    all_bins: Vec<f64>,
    order: Vec<usize>,
    random: Xoshiro256PlusPlus,
    examples: f64,
    nonzeros: f64,
    damping: f64,
    /// Raises the damping after each pass that gained nothing.
    caution: f64,
    /// Whether values may still lose something on the way.
    lossy: bool,
    newton: Newton,
    started: Instant,
    /// Bytes this worker had sent and received at the end of each pass.
    bytes: Vec<[u64; 2]>,
}

impl<'a> Solver<'a> {
    /// Brings a worker's examples and the tables together. All workers must do so at the same time; the clock of the
    /// training starts here.
    pub fn new(
        mut servers: Servers<'a>,
        local: Local,
        config: &'a SolverConfig,
    ) -> Result<Self, WorkerError> {
        let started = Instant::now();
        servers.waiting = Waiting::default();
        servers.fix_features(&local.keys)?;
        let mut sums = vec![0.0; 2 + BINS];
        sums[0] = local.labels.len() as f64;
        sums[1] = local.columns.nonzeros() as f64;
        blocks::count_active(&local, &mut sums[2..]);
        let sums = servers.sum(sums)?;
        let spans = blocks::cut(&sums[2..], sums[0], config.block_ratio);
        let active = ActiveSet::new(&local, spans);
        let damping = 1.0 + COHERENCE * config.delay as f64 / config.block_ratio;
        let lossy = servers.chains.loses;
        let mut solver = Solver {
            config,
            local,
            servers,
            active,
            all_bins: sums[2..].to_vec(),
            order: Vec::new(),
            random: Xoshiro256PlusPlus::seed_from_u64(config.seed),
            examples: sums[0],
            nonzeros: sums[1],
            damping,
            caution: 1.0,
            lossy,
            newton: Newton::new(config.penalty),
            started,
            bytes: Vec::new(),
        };
        solver.guard_steps()?;
        Ok(solver)
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
            certificate = None;
            self.begin(Phase::Update, kkt_threshold, reset)?;
            if history.is_empty() {
                self.visit_prior()?;
            }
            self.visit_all()?;
            let mut end = self.end_pass()?;
            if !self.config.diagonal_only {
                self.newton_steps(&mut end)?;
            }
            let gain = previous / end.objective - 1.0;
            previous = end.objective;
            self.note_bytes();
            history.push(self.pass_report(history.len(), &end, kkt_threshold));
            progress(self.servers.worker, history.last().expect("just pushed"));
            let slow = gain.abs() <= level;
            if self.lossy {
                // A lossy pass proves nothing: neither its gain nor its loss is quite true.
                self.lossy = gain >= -level;
                if slow && reset {
                    self.lossy &= level * 0.1 >= self.lossy_level();
                    level *= if self.lossy { 0.1 } else { 1.0 };
                }
            } else {
                if gain < 0.0 {
                    self.caution = (self.caution * CAUTION_GROWTH).min(CAUTION_MAX);
                }
                if slow && reset {
                    let found = self.certify(end.objective)?;
                    certificate = Some(found);
                    if self.is_done(&found, end.objective, gain) {
                        break;
                    }
                    level = (level * 0.1).max(1e-15);
                }
            }
            reset = slow;
            if self.config.filters.kkt {
                kkt_threshold = end.stats.violation / self.examples * self.config.kkt_ratio;
            }
            self.renew_active_set(&end.bins, reset || end.stats.active == end.stats.features)?;
        }
        let certificate = match certificate {
            Some(certificate) => certificate,
            None => self.certify(previous)?,
        };
        self.solution(history, certificate)
    }

    /// Whether the tolerance is proved, or a pass over all features gained next to nothing.
    fn is_done(&self, found: &Certificate, objective: f64, gain: f64) -> bool {
        let proved = found.gap <= self.config.tolerance * objective.abs();
        proved || (!self.config.certificate && gain.abs() <= self.config.tolerance * STALLED)
    }

    fn lossy_level(&self) -> f64 {
        self.config.tolerance * if self.config.diagonal_only { STALLED } else { LOSSY }
    }

    /// Newton steps from the point at the end of a pass, and word of them to the servers.
    fn newton_steps(&mut self, end: &mut PassEnd) -> Result<(), WorkerError> {
        if self.lossy {
            self.settle(end)?;
        }
        let workers = f64::from(self.servers.worker.workers());
        let work_max = (NEWTON_PASSES * self.nonzeros).max(NEWTON_OPERATIONS * workers);
        let found = self.newton.improve(&mut self.local, &mut self.servers, end.objective, work_max)?;
        let Some((support, objective)) = found else { return Ok(()) };
        end.objective = objective;
        end.stats.nonzeros = support.weights.iter().filter(|w| **w != 0.0).count() as u64;
        self.begin(Phase::Assign, f64::INFINITY, false)?;
        // One worker's word is enough; the others' empty contributions complete the update.
        let (keys, weights) = if self.servers.worker.rank() == 0 {
            (support.keys, support.weights)
        } else {
            (Vec::new(), Vec::new())
        };
        let zeros = vec![0.0; weights.len()];
        let keys = KeyList::new(keys).expect("the support is in key order");
        self.servers.push(keys, KeyRange::ALL, [weights, zeros])
    }

    /// Brings the damping in step with the current blocks, if the guard is on. All workers must do so at the same time.
    fn guard_steps(&mut self) -> Result<(), WorkerError> {
        if self.config.step_guard {
            // Of its own: the order of the blocks must come out alike at every worker, and how much is drawn here differs.
            let mut random = Xoshiro256PlusPlus::seed_from_u64(!self.config.seed);
            let mine = Guard::estimate(&self.active, self.local.labels.len(), &mut random);
            self.damping = mine.combine(&mut self.servers)?.damping(self.config.delay);
        }
        Ok(())
    }

    /// Makes known to this worker what lossy filters kept from it, and the objective true.
    fn settle(&mut self, end: &mut PassEnd) -> Result<(), WorkerError> {
        Support::gather(&self.local, &mut self.servers)?.settle(&mut self.local);
        let loss = self.servers.sum(vec![self.local.loss()])?[0];
        end.objective = loss + end.stats.penalty;
        Ok(())
    }

    fn certify(&mut self, objective: f64) -> Result<Certificate, WorkerError> {
        self.begin(Phase::Measure, f64::INFINITY, true)?;
        certificate::certify(&self.local, &mut self.servers, &self.config.penalty, objective)
    }
}
