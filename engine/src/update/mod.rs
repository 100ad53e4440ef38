//! Server functions: what a push does to the rows of a table.
//!
//! Here live the trait that every server function implements, the view of rows it works on, the built-in functions
//! (thin shells around the kernels), and the registry that makes a function from its name and parameters. Finding
//! rows and summing the pushes of several workers is the business of [`table`](crate::table).
//!
//! Read `function` (the trait), `rows` (what it is given), then `builtin` for examples, and `registry`.

mod answer;
mod builtin;
mod function;
mod registry;
mod rows;
mod subtask;
#[cfg(test)]
mod tests;
mod view;

pub use answer::{Answer, Kept};
pub use builtin::{
    AdaGradFn, AdaGradParams, AdamFn, AdamParams, AddFn, AssignFn, ElasticNetFn, ElasticNetParams, FtrlFn,
    FtrlParams, MaxFn, MinFn, NoParams, ProxL1Fn, ProxL1Params, SgdFn, SgdParams,
};
pub use function::{Combine, ServerFn, UpdateError};
pub use registry::{BoxedFn, Registry, parse_params};
pub use rows::Rows;
pub use subtask::Subtask;
pub use view::CallView;
