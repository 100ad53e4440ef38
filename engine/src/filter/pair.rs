//! The chains of one request: one word, so that a request without them carries and drops nothing.

use std::sync::Arc;

use super::chain::Chain;
use super::chain_spec::ChainSpec;
use super::spec::{Direction, FilterSpecError};

/// How the values and keys of one request travel. The default is as they are, key lists by signature.
///
/// It is a handle: clone it for each request.
#[derive(Debug, Clone, Default)]
pub struct Filters(Option<Arc<Pair>>);

#[derive(Debug)]
struct Pair {
    push: Option<Arc<Chain>>,
    pull: Option<Arc<Chain>>,
    whole_keys: bool,
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
        Ok(Filters::of(chain(push, Direction::Push)?, chain(pull, Direction::Pull)?))
    }

    /// These chains, `push` for what is pushed and `pull` for the shards to apply to their answers. Key lists are named by
    /// signature if one of them says `key-cache`.
    pub fn of(push: Option<Arc<Chain>>, pull: Option<Arc<Chain>>) -> Filters {
        let whole_keys = ![&push, &pull].into_iter().flatten().any(|chain| chain.spec().caches_keys());
        Filters(Some(Arc::new(Pair { push, pull, whole_keys })))
    }

    /// The chain that what is pushed goes through.
    pub fn push(&self) -> Option<&Arc<Chain>> {
        self.0.as_ref()?.push.as_ref()
    }

    /// The chain that the shards apply to what is pulled.
    pub fn pull(&self) -> Option<&Arc<Chain>> {
        self.0.as_ref()?.pull.as_ref()
    }

    /// The chains there are.
    pub fn chains(&self) -> impl Iterator<Item = &Arc<Chain>> {
        [self.push(), self.pull()].into_iter().flatten()
    }

    /// Whether key lists go whole even if the shard knows them.
    #[inline]
    pub fn whole_keys(&self) -> bool {
        self.0.as_ref().is_some_and(|pair| pair.whole_keys)
    }

    /// Whether requests travel as by default.
    #[inline]
    pub fn is_default(&self) -> bool {
        self.0.is_none()
    }
}
