//! The server's part of the solver: the block proximal update with trust region and KKT filter, and a sum over workers.
//!
//! [`BlockProx`] keeps a weight and a trust-region radius per feature. One aggregated push brings the gradient `g`
//! and the curvature bound `u` of the features of a block; what it does with them depends on the phase, which workers
//! announce by the calls `begin` and `end`. A weight that the KKT filter set aside reads as NaN until the next reset.
//!
//! Formulas: Li et al., "Communication Efficient Distributed Machine Learning with the Parameter Server" (2014),
//! with the trust region and the active set of its authors' public solver.

use keyrange::table::{Aggregation, CallError, FunctionSpec, StoreKind, TableSpec, ValueType};
use keyrange::update::{CallView, Combine, Registry, Rows, ServerFn, UpdateError};
use serde::Deserialize;

use super::protocol::{Begin, Page, Penalty, Phase, PhaseStats};

/// Table of the weights.
pub const WEIGHTS_TABLE: u16 = 1;

/// Table of the sums over workers.
pub const SUMS_TABLE: u16 = 2;

/// Longest array that can be summed over workers at once.
pub const SUMS_MAX: u64 = 1 << 23;

/// The server function of the weights: columns 0 weight (NaN: set aside), 1 radius; parts 0 gradient, 1 curvature.
pub struct BlockProx {
    penalty: Penalty,
    begun: Begin,
    ended: Option<(u64, PhaseStats)>,
    seen: PhaseStats,
}

impl BlockProx {
    /// The function for one shard.
    ///
    /// # Errors
    /// A text that says which parameter is out of its range.
    pub fn new(penalty: Penalty) -> Result<Self, String> {
        let begun = Begin {
            number: 0,
            phase: Phase::Measure,
            kkt_threshold: f64::INFINITY,
            reset: false,
            damping: 1.0,
            partial: false,
        };
        Ok(BlockProx { penalty: penalty.check()?, begun, ended: None, seen: PhaseStats::default() })
    }

    /// The soft-threshold Newton step of each active coordinate, within its radius.
    fn step(&mut self, w: &mut [f64], radius: &mut [f64], g: &[f64], u: &[f64]) {
        let Penalty { l1, l2, .. } = self.penalty;
        let Begin { kkt_threshold, damping, partial, .. } = self.begun;
        for (((w, radius), &g), &u) in w.iter_mut().zip(radius).zip(g).zip(u) {
            if w.is_nan() || (partial && u == 0.0) {
                continue;
            }
            let curvature = u * damping + l2 + 1e-10;
            let g = g + l2 * *w;
            let (g_up, g_down) = (g + l1, g - l1);
            if *w == 0.0 {
                let violation = (-g_up).max(g_down).max(0.0);
                if violation == 0.0 && g_up > kkt_threshold && g_down < -kkt_threshold {
                    *w = f64::NAN;
                    continue;
                }
                self.seen.violation = self.seen.violation.max(violation);
            }
            let step = if g_up <= curvature * *w {
                -g_up / curvature
            } else if g_down >= curvature * *w {
                -g_down / curvature
            } else {
                -*w
            };
            let step = step.clamp(-*radius, *radius);
            *radius = self.penalty.radius_after(step);
            *w += step;
        }
    }

    fn measure(&mut self, w: &[f64], g: &[f64]) {
        let Penalty { l1, l2, .. } = self.penalty;
        for (&w, &g) in w.iter().zip(g) {
            let w = if w.is_nan() { 0.0 } else { w };
            let g_all = g + l2 * w;
            let violation =
                if w == 0.0 { (g_all.abs() - l1).max(0.0) } else { (g_all + l1 * w.signum()).abs() };
            self.seen.kkt_violation = self.seen.kkt_violation.max(violation);
            self.seen.gradient_max = self.seen.gradient_max.max(g.abs());
            self.seen.excess_squares += (g.abs() - l1).max(0.0).powi(2);
        }
    }

    fn begin(&mut self, args: &[u8], view: &mut CallView<'_, f64>) -> Result<Vec<u8>, CallError> {
        let begin: Begin = parse("begin", args)?;
        if !(begin.damping >= 1.0 && begin.kkt_threshold >= 0.0) {
            let Begin { damping, kkt_threshold, .. } = begin;
            return Err(refused(
                "begin",
                format!("expected damping >= 1 and kkt_threshold >= 0, got {damping} and {kkt_threshold}"),
            ));
        }
        if begin.number > self.begun.number {
            self.begun = begin;
            self.seen = PhaseStats::default();
            if begin.reset {
                view.column_mut(0).iter_mut().filter(|w| w.is_nan()).for_each(|w| *w = 0.0);
            }
        }
        Ok(Vec::new())
    }

    /// All workers have finished phase `number`; its statistics are taken once and kept for the slower ones.
    fn end(&mut self, args: &[u8], view: &mut CallView<'_, f64>) -> Result<Vec<u8>, CallError> {
        let number: u64 = parse("end", args)?;
        let stats = match self.ended {
            Some((ended, stats)) if ended == number => stats,
            _ if number == self.begun.number => {
                let Penalty { l1, l2, .. } = self.penalty;
                let mut stats = PhaseStats { features: view.len() as u64, ..self.seen };
                for &w in view.column(0).iter().filter(|w| !w.is_nan()) {
                    stats.active += 1;
                    stats.nonzeros += u64::from(w != 0.0);
                    stats.penalty += l1 * w.abs() + 0.5 * l2 * w * w;
                }
                self.ended = Some((number, stats));
                stats
            }
            _ => {
                let text = format!("phase {number} is not known; now is {}", self.begun.number);
                return Err(refused("end", text));
            }
        };
        Ok(serde_json::to_vec(&stats).expect("plain numbers are JSON"))
    }

    /// Keys and weights that are not 0, a page of them, as little-endian pairs of `u64` and `f64`, in the order of keys.
    fn support(&self, args: &[u8], view: &mut CallView<'_, f64>) -> Result<Vec<u8>, CallError> {
        let page: Page = parse("support", args)?;
        let (keys, _) = view.existing(0, u64::MAX);
        // A frozen table's slots are the ranks of its keys.
        let nonzero = keys.iter().zip(view.column(0)).filter(|(_, w)| **w != 0.0 && !w.is_nan());
        let pairs = nonzero.skip(page.skip as usize).take(page.pairs_max as usize);
        Ok(pairs.flat_map(|(key, w)| [key.to_le_bytes(), w.to_le_bytes()]).flatten().collect())
    }
}

fn refused(verb: &str, text: String) -> CallError {
    CallError::Arguments { verb: verb.to_owned(), text }
}

fn parse<'a, T: Deserialize<'a>>(verb: &str, args: &'a [u8]) -> Result<T, CallError> {
    serde_json::from_slice(args).map_err(|error| refused(verb, error.to_string()))
}

impl ServerFn<f64> for BlockProx {
    fn name(&self) -> &str {
        "block_prox"
    }

    fn push_parts(&self) -> usize {
        2
    }

    fn state_columns(&self) -> usize {
        1
    }

    fn initial(&self, column: usize) -> f64 {
        if column == 1 { self.penalty.radius_first } else { 0.0 }
    }

    fn update(&mut self, rows: &mut Rows<'_, f64>, parts: &[&[f64]]) -> Result<(), UpdateError> {
        let (g, u) = (parts[0], parts[1]);
        rows.apply(|[w, radius]: [&mut [f64]; 2]| match self.begun.phase {
            Phase::Update => self.step(w, radius, g, u),
            Phase::Measure => self.measure(w, g),
            Phase::Assign => {
                for ((w, radius), &new) in w.iter_mut().zip(radius).zip(g) {
                    *radius = self.penalty.radius_after(new - *w);
                    *w = new;
                }
            }
        });
        Ok(())
    }

    fn call(&mut self, verb: &str, args: &[u8], view: &mut CallView<'_, f64>) -> Result<Vec<u8>, CallError> {
        match verb {
            "begin" => self.begin(args, view),
            "end" => self.end(args, view),
            "support" => self.support(args, view),
            _ => Err(CallError::UnknownVerb { function: "block_prox".to_owned(), verb: verb.to_owned() }),
        }
    }
}

/// The server function of the sums: a row becomes the sum of what the workers pushed for the same time.
pub struct SumOverWorkers;

impl ServerFn<f64> for SumOverWorkers {
    fn name(&self) -> &str {
        "sum_over_workers"
    }

    fn combine(&self) -> Combine {
        Combine::Sum
    }

    fn update(&mut self, rows: &mut Rows<'_, f64>, parts: &[&[f64]]) -> Result<(), UpdateError> {
        rows.scatter(0, parts[0]);
        Ok(())
    }
}

/// Makes this module's functions known to a server.
pub fn register(registry: &mut Registry) {
    registry.register_f64("block_prox", |params| {
        let penalty: Penalty = serde_json::from_value(params.clone()).map_err(|error| error.to_string())?;
        Ok(Box::new(BlockProx::new(penalty)?))
    });
    registry.register_f64("sum_over_workers", |_| Ok(Box::new(SumOverWorkers)));
}

/// The table of the weights.
pub fn weights_table(penalty: &Penalty) -> TableSpec {
    let params = serde_json::to_value(penalty).expect("plain numbers are JSON");
    TableSpec {
        id: WEIGHTS_TABLE,
        name: "weights".to_owned(),
        value_type: ValueType::F64,
        width: 1,
        store: StoreKind::Frozen,
        function: FunctionSpec { name: "block_prox".to_owned(), params },
        aggregation: Aggregation::AllWorkers,
    }
}

/// The table of the sums.
pub fn sums_table() -> TableSpec {
    TableSpec {
        id: SUMS_TABLE,
        name: "sums".to_owned(),
        value_type: ValueType::F64,
        width: 1,
        store: StoreKind::Dense { first: 0, last: SUMS_MAX - 1 },
        function: FunctionSpec::named("sum_over_workers"),
        aggregation: Aggregation::AllWorkers,
    }
}
