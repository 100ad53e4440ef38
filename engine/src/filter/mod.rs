//! Filters: what need not be sent.

mod admission;
mod chain;
mod chain_spec;
mod counters;
mod pack;
mod residuals;
mod spec;
mod streams;

pub use admission::Sketch;
pub use chain::{Chain, Filters};
pub use chain_spec::ChainSpec;
pub use counters::FilterReport;
pub use spec::{Direction, FILTERS_MAX, FilterSpec, FilterSpecError, GRAMMAR, Stage};
