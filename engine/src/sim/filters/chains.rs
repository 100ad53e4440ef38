//! Which chains a schedule uses, and each worker's own of them.

use std::fmt;
use std::sync::Arc;

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{Rng, RngExt};

use super::table::users;
use crate::filter::{Chain, ChainSpec, Direction, FilterSpec, Filters};

/// The chains of a schedule; without any, nothing is filtered.
#[derive(Clone, Default, PartialEq)]
pub struct SimChains {
    /// For requests whose books are exact.
    pub exact: ChainPair,
    /// For requests about the table with an oracle of its own.
    pub lossy: ChainPair,
    /// Values per row of that table.
    pub width: usize,
    /// Arrays of a push to it.
    pub parts: usize,
}

/// Chains by direction; a request picks one of each, or none.
#[derive(Clone, Default, PartialEq)]
pub struct ChainPair {
    /// Of what is pushed.
    pub push: Vec<ChainSpec>,
    /// Of what is pulled.
    pub pull: Vec<ChainSpec>,
}

/// Filters that leave strokes as they are: no stroke is below 1, so half a stroke's bound holds nothing back.
const EXACT: [&str; 5] = ["key-cache", "significant:0.5", "zeros", "user:same", "lz4"];
const LOSSY_ROWS: [&str; 6] = ["key-cache", "significant", "zeros", "noise:0.125", "user:trim", "lz4"];
/// Of pushes only.
const LEFT_OUT: [&str; 4] = ["skip:0.5", "skip:0.3", "frequency:2:1024x4", "bloom:4096x4"];
const CODES: [&str; 6] = ["fixed:1", "fixed:2", "fixed:3", "q2.13", "f16", "bf16"];
/// C of `significant`: from a bound that soon holds nothing back to one that holds back nearly everything.
const THRESHOLDS: [f64; 4] = [0.25, 1.0, 4.0, 20.0];

impl SimChains {
    /// Draws chains, for some schedules none.
    pub(crate) fn draw(random: &mut impl Rng) -> SimChains {
        if random.random_bool(0.4) {
            return SimChains::default();
        }
        let mut chains = |count: usize, direction, exact| {
            let mut chains: Vec<ChainSpec> = Vec::new();
            for _ in 0..count {
                let chain = draw_chain(random, direction, exact);
                if !chains.contains(&chain) {
                    chains.push(chain);
                }
            }
            chains
        };
        let exact =
            ChainPair { push: chains(2, Direction::Push, true), pull: chains(2, Direction::Pull, true) };
        let lossy =
            ChainPair { push: chains(3, Direction::Push, false), pull: chains(3, Direction::Pull, false) };
        SimChains { exact, lossy, width: random.random_range(1..=2), parts: random.random_range(1..=2) }
    }

    /// Whether nothing is filtered.
    pub fn is_empty(&self) -> bool {
        self.exact.push.is_empty()
    }
}

/// Some filters in some order that makes sense.
fn draw_chain(random: &mut impl Rng, direction: Direction, exact: bool) -> ChainSpec {
    loop {
        let (pool, probability) = if exact { (&EXACT[..], 0.5) } else { (&LOSSY_ROWS[..], 0.4) };
        let mut words: Vec<String> = Vec::new();
        for &word in pool {
            let threshold = THRESHOLDS.choose(random).unwrap_or(&1.0);
            match word {
                _ if !random.random_bool(probability) => {}
                "significant" => words.push(format!("significant:{threshold}")),
                plain => words.push(plain.to_owned()),
            }
        }
        if !exact && direction == Direction::Push && random.random_bool(0.5) {
            words.extend(LEFT_OUT.choose(random).map(|&word| word.to_owned()));
        }
        if !exact && random.random_bool(0.5) {
            words.extend(CODES.choose(random).map(|&word| word.to_owned()));
        }
        words.shuffle(random);
        let Ok(spec) = words.join(",").parse::<ChainSpec>() else { continue };
        if !spec.is_empty() && spec.check(direction).is_ok() && is_foreseeable(&spec) {
            return spec;
        }
    }
}

/// Whether each step has few results: what may be left out comes after `significant`, whose memory is then known, and
/// noise after `user:trim`, which asks for one exact value.
fn is_foreseeable(spec: &ChainSpec) -> bool {
    let place = |wanted: &dyn Fn(&FilterSpec) -> bool| spec.filters.iter().position(wanted);
    let significant = place(&|filter| matches!(filter, FilterSpec::Significant { .. }));
    let left_out = place(&|filter| matches!(filter, FilterSpec::Frequency { .. } | FilterSpec::Bloom { .. }));
    let noise = place(&|filter| matches!(filter, FilterSpec::Noise { .. }));
    let user = place(&|filter| matches!(filter, FilterSpec::User { .. }));
    let rises = |first: Option<usize>, second: Option<usize>| {
        first.zip(second).is_none_or(|(first, second)| first < second)
    };
    rises(significant, left_out) && rises(user, noise)
}

/// One worker's chains, in the order of the schedule's.
#[derive(Default)]
pub(in crate::sim) struct WorkerChains {
    exact: Chains,
    lossy: Chains,
}

#[derive(Default)]
struct Chains {
    push: Vec<Arc<Chain>>,
    pull: Vec<Arc<Chain>>,
}

/// The chains one request goes through, by number.
#[derive(Clone, Copy, Default)]
pub(super) struct Picked {
    pub push: Option<usize>,
    pub pull: Option<usize>,
}

impl WorkerChains {
    /// Chains with empty memories. With `doubled`, bounds are twice what they say.
    pub fn new(chains: &SimChains, seed: u64, doubled: bool) -> Result<WorkerChains, String> {
        let make = |spec: &ChainSpec, direction| {
            let mut spec = spec.clone();
            for filter in spec.filters.iter_mut().filter(|_| doubled) {
                if let FilterSpec::Significant { threshold } = filter {
                    *threshold *= 2.0;
                }
            }
            Chain::with_users(&spec, direction, seed, &users()).map_err(|error| error.to_string())
        };
        let all = |specs: &[ChainSpec], direction| {
            specs.iter().map(|spec| make(spec, direction)).collect::<Result<Vec<_>, String>>()
        };
        let pair = |pair: &ChainPair| {
            let (push, pull) = (all(&pair.push, Direction::Push)?, all(&pair.pull, Direction::Pull)?);
            Ok::<_, String>(Chains { push, pull })
        };
        Ok(WorkerChains { exact: pair(&chains.exact)?, lossy: pair(&chains.lossy)? })
    }

    /// Filters for a request whose books are exact; `streams` says whether `significant` may be among them.
    pub fn exact(&self, random: &mut impl Rng, streams: bool) -> Filters {
        self.exact.pick(random, streams).0
    }

    pub(super) fn lossy(&self, random: &mut impl Rng, streams: bool) -> (Filters, Picked) {
        self.lossy.pick(random, streams)
    }

    /// The lossy chains of pushes.
    pub(super) fn pushes(&self) -> &[Arc<Chain>] {
        &self.lossy.push
    }
}

impl Chains {
    fn pick(&self, random: &mut impl Rng, streams: bool) -> (Filters, Picked) {
        let pick = |chains: &[Arc<Chain>], random: &mut _| -> Option<usize> {
            let at = (!chains.is_empty() && RngExt::random_bool(random, 0.8))
                .then(|| RngExt::random_range(random, 0..chains.len()))?;
            (streams || chains[at].spec().threshold().is_none()).then_some(at)
        };
        let picked = Picked { push: pick(&self.push, random), pull: pick(&self.pull, random) };
        let chain = |chains: &[Arc<Chain>], at: Option<usize>| at.map(|at| Arc::clone(&chains[at]));
        let (push, pull) = (chain(&self.push, picked.push), chain(&self.pull, picked.pull));
        (Filters::of(push, pull), picked)
    }
}

impl fmt::Debug for SimChains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut shape = f.debug_struct("SimChains");
        for (name, specs) in [
            ("exact push", &self.exact.push),
            ("exact pull", &self.exact.pull),
            ("lossy push", &self.lossy.push),
            ("lossy pull", &self.lossy.pull),
        ] {
            shape.field(name, &specs.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        shape.field("width", &self.width).field("parts", &self.parts).finish()
    }
}
