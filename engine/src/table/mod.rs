//! Tables: rows of values found by ordered 64-bit keys, owned by one shard thread.
//!
//! Here lives what a shard stores and how it finds it: the description of a table, the three ways from key
//! to row (dense interval, hash index, frozen sorted keys), the columns, and the application of single and
//! of aggregated pushes. What an update *computes* lives in [`update`](crate::update); messages, sessions
//! and threads never appear here.
//!
//! Read `spec` (what a table is), then `resolved` (what a look-up gives), `table` (the operations), `space`
//! (from key to row) with `index` and `ordered` beneath it, `aggregate` with `places`, and last `pages`, the memory.

mod aggregate;
mod any;
mod error;
mod index;
mod ordered;
mod pages;
mod places;
mod resolved;
mod space;
mod spec;
mod store;
#[cfg(test)]
mod tests;
mod value;

pub use any::AnyTable;
pub use error::{CallError, TableError};
pub use index::HashIndex;
pub use resolved::{Resolved, Slots};
pub use spec::{
    Aggregation, FunctionSpec, NAME_BYTES_MAX, ROWS_MAX, StoreKind, TableSpec, ValueType, WIDTH_MAX,
};
pub use store::{Contribution, RANGE_KEYS_MAX, Table};
pub use value::Value;

pub(crate) use pages::Pages;
pub(crate) use space::KeySpace;
