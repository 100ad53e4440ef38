//! From names to server functions.

use std::any::Any;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;

use super::ServerFn;
use super::builtin::register_builtins;
use crate::filter::FilterRegistry;
use crate::table::{FunctionSpec, TableError, Value};

/// A server function as a table owns it.
pub type BoxedFn<V> = Box<dyn ServerFn<V>>;

type Makers<V> = BTreeMap<String, Maker<V>>;
type Maker<V> = Box<dyn Fn(&serde_json::Value) -> Result<BoxedFn<V>, String> + Send + Sync>;

/// Constructors of server functions by name, for both value types. A value that is passed to shards, not a global:
/// two servers of one process can have different ones.
pub struct Registry {
    f32: Makers<f32>,
    f64: Makers<f64>,
    /// The program's own filters, for the answers of shards.
    pub filters: FilterRegistry,
}

impl Registry {
    /// Without any function.
    pub fn empty() -> Self {
        Self { f32: BTreeMap::new(), f64: BTreeMap::new(), filters: FilterRegistry::default() }
    }

    /// With the built-in functions: `assign`, `add`, `max`, `min`, `sgd`, `adagrad`, `adam`, `ftrl`, `prox_l1` and
    /// `elastic_net`.
    pub fn with_builtins() -> Self {
        let mut registry = Self::empty();
        register_builtins(&mut registry);
        registry
    }

    /// Registers a function for f32 tables, replacing one of the same name. The constructor gets the parameters of the
    /// table's description and answers with what is wrong with them, if anything.
    pub fn register_f32(
        &mut self,
        name: &str,
        make: impl Fn(&serde_json::Value) -> Result<BoxedFn<f32>, String> + Send + Sync + 'static,
    ) {
        self.f32.insert(name.to_owned(), Box::new(make));
    }

    /// Registers a function for f64 tables, replacing one of the same name.
    pub fn register_f64(
        &mut self,
        name: &str,
        make: impl Fn(&serde_json::Value) -> Result<BoxedFn<f64>, String> + Send + Sync + 'static,
    ) {
        self.f64.insert(name.to_owned(), Box::new(make));
    }

    /// Registers a function that is written for both types, its parameters read by serde.
    pub fn register<P, F>(
        &mut self,
        name: &str,
        make: impl Fn(P) -> Result<F, String> + Send + Sync + Clone + 'static,
    ) where
        P: DeserializeOwned + Default,
        F: ServerFn<f32> + ServerFn<f64> + 'static,
    {
        let again = make.clone();
        self.register_f32(name, move |params| Ok(Box::new(make(parse_params(params)?)?)));
        self.register_f64(name, move |params| Ok(Box::new(again(parse_params(params)?)?)));
    }

    /// Makes the function that `spec` describes.
    ///
    /// # Errors
    /// [`TableError::UnknownFunction`], [`TableError::Params`].
    pub fn make<V: Value>(&self, spec: &FunctionSpec) -> Result<BoxedFn<V>, TableError> {
        let both: [&dyn Any; 2] = [&self.f32, &self.f64];
        let makers = both.into_iter().find_map(|makers| makers.downcast_ref::<Makers<V>>());
        let makers = makers.expect("every value is f32 or f64");
        let Some(make) = makers.get(&spec.name) else {
            let known = makers.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return Err(TableError::UnknownFunction { name: spec.name.clone(), known });
        };
        make(&spec.params).map_err(|text| TableError::Params { name: spec.name.clone(), text })
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::with_builtins()
    }
}

/// Reads the parameters of a function; `null` gives the defaults.
///
/// # Errors
/// What is wrong with them, in words.
pub fn parse_params<P: DeserializeOwned + Default>(params: &serde_json::Value) -> Result<P, String> {
    if params.is_null() {
        return Ok(P::default());
    }
    serde_json::from_value(params.clone()).map_err(|error| error.to_string())
}
