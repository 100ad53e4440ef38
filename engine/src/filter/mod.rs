//! Filters: what need not be sent.

mod admission;
mod chain;
mod chain_spec;
mod code;
mod counters;
mod pack;
mod residuals;
mod rows;
mod spec;
mod streams;
#[cfg(test)]
mod tests;
mod undo;
mod user;
mod wire;

pub use admission::Sketch;
pub use chain::{Chain, Filters};
pub use chain_spec::ChainSpec;
pub use counters::FilterReport;
pub use spec::{Direction, FILTERS_MAX, FilterSpec, FilterSpecError, GRAMMAR, Stage};
pub use undo::FilterError;
pub use user::{FilterRegistry, PartView, RowView, UserFilter};

pub(crate) use code::Coded;
pub(crate) use rows::{Outgoing, RowKeys};
pub(crate) use streams::StreamName;
pub(crate) use undo::{Context, Scratch, undo};
pub(crate) use wire::{FILTER_BYTES_MAX, Parcel, TEXT_BYTES_MAX, Wish, plain_bytes_max};
