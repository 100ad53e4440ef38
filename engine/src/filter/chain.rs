//! A chain at work: its filters' memory and counters.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::admission::{Bloom, CountMin, mix};
use super::chain_spec::ChainSpec;
use super::code::Coded;
use super::counters::{Counter, FilterReport};
use super::pack::Sampler;
use super::residuals::Residuals;
use super::rows::Outgoing;
use super::spec::{Direction, FilterSpec, FilterSpecError, Stage};
use super::streams::{StreamName, Streams};
use super::user::{FilterRegistry, UserFilters};
use super::wire::Parcel;
use crate::key_range::Key;
use crate::message::{Element, PARTS_MAX};
use crate::table::ValueType;

/// The filters of one direction of one worker's requests. Make one per worker and direction (they remember what was
/// held back and what was read last) and give it to each request by [`Options::filters`](crate::worker::Options).
pub struct Chain {
    spec: ChainSpec,
    /// The spec as it is written, for requests.
    text: Arc<str>,
    traits: Traits,
    direction: Direction,
    seed: u64,
    counters: Vec<Counter>,
    /// Filters of the program's own that work on one type of values only.
    value_types: Vec<(String, ValueType)>,
    state: Mutex<State>,
}

/// What is asked of the spec with each request.
pub(super) struct Traits {
    /// Filters drop or change rows, or code values.
    pub codes: bool,
    /// The filter that packs.
    pub packer: Option<usize>,
    /// Coding the same request again would give something else.
    remembers: bool,
    /// Pulls form streams: `significant` is among the filters.
    has_streams: bool,
}

impl Traits {
    fn of(spec: &ChainSpec) -> Traits {
        let remembers = |filter: &FilterSpec| {
            use FilterSpec::{Bloom, Frequency, Significant, User};
            matches!(filter, Significant { .. } | Frequency { .. } | Bloom { .. } | User { .. })
        };
        Traits {
            codes: spec.of(Stage::Rows).chain(spec.of(Stage::Codes)).next().is_some(),
            packer: spec.filters.iter().rposition(|filter| *filter == FilterSpec::Lz4),
            remembers: spec.of(Stage::Rows).any(remembers),
            has_streams: spec.threshold().is_some(),
        }
    }
}

/// What filters remember between requests.
pub(super) struct State {
    pub residuals: Residuals,
    pub count_min: Option<CountMin>,
    pub bloom: Option<Bloom>,
    pub streams: Streams,
    pub users: UserFilters,
    pub sampler: Sampler,
}

impl Chain {
    /// A chain with an empty memory; everything random in it follows from `seed` and the request.
    ///
    /// # Errors
    /// [`FilterSpecError::Chain`] if it makes no sense in this direction.
    pub fn new(spec: &ChainSpec, direction: Direction, seed: u64) -> Result<Arc<Chain>, FilterSpecError> {
        Chain::with_users(spec, direction, seed, &FilterRegistry::default())
    }

    /// As [`Chain::new`], with the program's own filters.
    ///
    /// # Errors
    /// As [`Chain::new`], and [`FilterSpecError::User`] for a filter that refuses its parameter, or is not registered (in a
    /// chain for pulls the shards say that).
    pub fn with_users(
        spec: &ChainSpec,
        direction: Direction,
        seed: u64,
        registry: &FilterRegistry,
    ) -> Result<Arc<Chain>, FilterSpecError> {
        // A pull's filters run at the shards; what is known of them here is only asked whether it fits.
        Chain::made(spec, direction, seed, registry, direction == Direction::Push)
    }

    /// The chain that a shard applies to its answers: as [`Chain::with_users`], but here user filters must be there.
    pub(crate) fn for_answers(
        spec: &ChainSpec,
        seed: u64,
        registry: &FilterRegistry,
    ) -> Result<Arc<Chain>, FilterSpecError> {
        Chain::made(spec, Direction::Pull, seed, registry, true)
    }

    fn made(
        spec: &ChainSpec,
        direction: Direction,
        seed: u64,
        registry: &FilterRegistry,
        needs_users: bool,
    ) -> Result<Arc<Chain>, FilterSpecError> {
        spec.check(direction)?;
        let users = registry.make(spec, needs_users)?;
        let only = users.iter().map(|(name, user)| Some((name.clone(), user.value_type()?)));
        let value_types = only.flatten().collect();
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
        let state = State { residuals, count_min, bloom, streams, users, sampler: Sampler::default() };
        Ok(Arc::new(Chain {
            spec: spec.clone(),
            traits: Traits::of(spec),
            text: spec.to_string().into(),
            direction,
            seed,
            counters: spec.filters.iter().map(|_| Counter::default()).collect(),
            value_types,
            state: Mutex::new(state),
        }))
    }

    /// All three stages; `None` if they leave everything as it is.
    pub(crate) fn parcel<V: Element>(
        &self,
        out: &Outgoing<'_, V>,
        keys: &[u8],
    ) -> Result<Option<Parcel>, FilterSpecError> {
        let coded = self.code(out)?;
        let rows = out.arrays.first().map_or(0, |array| array.len() / out.width);
        Ok(self.pack(coded, out.arrays, rows, keys))
    }

    /// The last stage of what the first two came to.
    pub(crate) fn pack<V: Element>(
        &self,
        coded: Option<Coded>,
        arrays: &[&[V]],
        rows: usize,
        keys: &[u8],
    ) -> Option<Parcel> {
        let Some(packer) = self.traits.packer.and_then(|at| self.counters.get(at)) else {
            return coded.map(|coded| Parcel::coded(coded, keys));
        };
        let start = Instant::now();
        let mut pieces: [&[u8]; PARTS_MAX + 1] = [&[]; PARTS_MAX + 1];
        let mut count = 0;
        let arrays = arrays.iter().map(|array| bytemuck::cast_slice(array)).filter(|_| coded.is_none());
        let bodies = coded.iter().map(|coded| coded.body.as_slice()).chain(arrays);
        for piece in [keys].into_iter().chain(bodies).filter(|piece| !piece.is_empty()) {
            pieces[count] = piece;
            count += 1;
        }
        let pieces = &pieces[..count];
        let plain_bytes = pieces.iter().map(|piece| piece.len()).sum();
        let longest = pieces.iter().copied().max_by_key(|piece| piece.len()).unwrap_or(&[]);
        let mut state = self.state();
        let block = if state.sampler.is_promising(longest) { state.sampler.pack(pieces) } else { None };
        let packed_bytes = block.as_ref().map_or(plain_bytes, Vec::len);
        packer.add(plain_bytes, packed_bytes, 0);
        packer.time(start);
        match (block, coded) {
            (Some(block), Some(coded)) => Some(Parcel::packed(block, coded, keys)),
            (Some(block), None) => Some(Parcel::packed_plain(block, rows, plain_bytes)),
            (None, coded) => coded.map(|coded| Parcel::coded(coded, keys)),
        }
    }

    /// Whether its filters can work on values of the type with this code in messages.
    pub(crate) fn check_values(&self, value_type: u8) -> Result<(), FilterSpecError> {
        let unfit = self.value_types.iter().find(|&&(_, only)| only as u8 != value_type);
        unfit.map_or(Ok(()), |(name, only)| {
            let got = if value_type == f64::CODE { ValueType::F64 } else { ValueType::F32 };
            let text = format!("it works on values of type {only:?} only, and the table's are {got:?}");
            Err(FilterSpecError::User { name: name.clone(), text })
        })
    }

    /// Counts an answer that no filter could shorten.
    pub(crate) fn count_plain(&self, bytes: usize) {
        let filters = self.spec.filters.iter().zip(&self.counters);
        let touching = filters.filter(|(filter, _)| filter.stage().is_some());
        touching.for_each(|(_, counter)| counter.add(bytes, bytes, 0));
    }

    /// The next pull of this stream: its number, and whether it must ask for everything.
    pub(crate) fn next_pull(&self, name: StreamName) -> (u32, bool) {
        self.state().streams.next(name)
    }

    /// Notes that this pull has left.
    pub(crate) fn asked(&self, name: StreamName, number: u32) {
        self.state().streams.asked(name, number);
    }

    /// Forgets the values kept of this stream, so that the next pull asks for everything.
    pub(crate) fn forget_pull(&self, name: StreamName) {
        self.state().streams.advance(name, 0);
    }

    /// Counts the bytes of a key list before and after it was named.
    pub(crate) fn count_keys(&self, bytes_in: usize, bytes_out: usize) {
        if let Some(counter) = self.counter(|filter| *filter == FilterSpec::KeyCache) {
            counter.add(bytes_in, bytes_out, 0);
        }
    }

    /// What is random in the request (or answer) `sequence` between `sender` and its peer follows from this.
    pub(crate) fn request_seed(&self, seed: u64, sender: u32, sequence: u64) -> u64 {
        mix(mix(seed ^ u64::from(sender) << 32) ^ sequence)
    }

    /// The filters.
    pub fn spec(&self) -> &ChainSpec {
        &self.spec
    }

    /// The filters as they are written.
    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
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

    pub(super) fn counters(&self) -> &[Counter] {
        &self.counters
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Whether values pass through it at all, or only keys.
    #[inline]
    pub(crate) fn touches_values(&self) -> bool {
        self.traits.codes || self.traits.packer.is_some()
    }

    /// Whether coding the same request again would give something else.
    pub(crate) fn remembers(&self) -> bool {
        self.traits.remembers
    }

    /// Whether its pulls form streams: `significant` is among the filters.
    pub(crate) fn has_streams(&self) -> bool {
        self.traits.has_streams
    }

    pub(super) fn traits(&self) -> &Traits {
        &self.traits
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
