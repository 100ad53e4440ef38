//! A chain at work: its filters' memory and counters.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::admission::{Bloom, CountMin};
use super::chain_spec::ChainSpec;
use super::counters::{Counter, FilterReport};
use super::pack::Sampler;
use super::residuals::Residuals;
use super::spec::{Direction, FilterSpec, FilterSpecError, Stage};
use super::streams::Streams;
use crate::key_range::Key;
use crate::message::Element;

/// The filters of one direction of one worker's requests. Make one per worker and direction (they remember what was
/// held back and what was read last) and give it to each request by [`Options::filters`](crate::worker::Options).
pub struct Chain {
    spec: ChainSpec,
    direction: Direction,
    seed: u64,
    counters: Vec<Counter>,
    state: Mutex<State>,
}

/// What filters remember between requests.
pub(super) struct State {
    pub residuals: Residuals,
    pub count_min: Option<CountMin>,
    pub bloom: Option<Bloom>,
    pub streams: Streams,
    pub sampler: Sampler,
}

/// How the values and keys of one request travel. The default is as they are, key lists by signature.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// What is pushed.
    pub push: Option<Arc<Chain>>,
    /// What is pulled: the shard applies this chain to its answer.
    pub pull: Option<Arc<Chain>>,
    /// Send key lists whole even if the shard knows them.
    pub whole_keys: bool,
}

impl Filters {
    /// The chains of one worker, with empty memories. Key lists are named by signature if one of them says `key-cache`.
    ///
    /// # Errors
    /// [`FilterSpecError::Chain`] if a chain makes no sense in its direction.
    pub fn new(push: &ChainSpec, pull: &ChainSpec, seed: u64) -> Result<Filters, FilterSpecError> {
        let chain = |spec: &ChainSpec, direction| {
            if spec.is_empty() { Ok(None) } else { Chain::new(spec, direction, seed).map(Some) }
        };
        Ok(Filters {
            push: chain(push, Direction::Push)?,
            pull: chain(pull, Direction::Pull)?,
            whole_keys: !push.caches_keys() && !pull.caches_keys(),
        })
    }
}

impl Chain {
    /// A chain with an empty memory; everything random in it follows from `seed` and the request.
    ///
    /// # Errors
    /// [`FilterSpecError::Chain`] if it makes no sense in this direction.
    pub fn new(spec: &ChainSpec, direction: Direction, seed: u64) -> Result<Arc<Chain>, FilterSpecError> {
        spec.check(direction)?;
        let sketch = |wanted: &dyn Fn(&FilterSpec) -> bool| spec.filters.iter().find(|&f| wanted(f)).cloned();
        let count_min = match sketch(&|filter| matches!(filter, FilterSpec::Frequency { .. })) {
            Some(FilterSpec::Frequency { sketch, .. }) => Some(CountMin::new(sketch)),
            _ => None,
        };
        let bloom = match sketch(&|filter| matches!(filter, FilterSpec::Bloom { .. })) {
            Some(FilterSpec::Bloom { sketch }) => Some(Bloom::new(sketch)),
            _ => None,
        };
        let (residuals, streams) = (Residuals::default(), Streams::default());
        let state = State { residuals, count_min, bloom, streams, sampler: Sampler::default() };
        Ok(Arc::new(Chain {
            spec: spec.clone(),
            direction,
            seed,
            counters: spec.filters.iter().map(|_| Counter::default()).collect(),
            state: Mutex::new(state),
        }))
    }

    /// The filters.
    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// The direction it was made for.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// What each filter did so far, in the order of the chain.
    pub fn report(&self) -> Vec<FilterReport> {
        let filters = self.spec.filters.iter().zip(&self.counters);
        filters.map(|(filter, counter)| counter.report(filter.to_string())).collect()
    }

    /// Takes the rows that `significant` has held back from pushes to `table`: their keys, rising, and one array per
    /// part. Push them without filters at the end, and nothing is missing.
    pub fn take_held_back<V: Element>(&self, table: u16) -> (Vec<Key>, Vec<Vec<V>>) {
        self.state().residuals.take(table)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether values pass through it at all, or only keys.
    pub(crate) fn touches_values(&self) -> bool {
        self.spec.filters.iter().any(|filter| filter.stage().is_some())
    }

    /// Whether coding the same request again would give something else.
    pub(crate) fn remembers(&self) -> bool {
        let remembers = |filter: &FilterSpec| {
            matches!(
                filter,
                FilterSpec::Significant { .. }
                    | FilterSpec::Frequency { .. }
                    | FilterSpec::Bloom { .. }
                    | FilterSpec::User { .. }
            )
        };
        self.spec.of(Stage::Rows).any(remembers)
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a user's filter leaves memory that is old, not wrong.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counter of the last filter for which `wanted` holds.
    pub(super) fn counter(&self, wanted: impl Fn(&FilterSpec) -> bool) -> Option<&Counter> {
        let at = self.spec.filters.iter().rposition(wanted)?;
        self.counters.get(at)
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chain({}, {})", self.direction, self.spec)
    }
}
