//! Sparse logistic regression: minimise `sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1` over the weights `w`.
//!
//! [`model`] is what training yields and how it is kept on disk; [`evaluate()`] says how good it is on examples. Readers of
//! data are in [`data`](crate::data).

pub mod evaluate;
pub mod job;
pub mod model;
pub mod server;
#[cfg(test)]
mod server_tests;
pub mod solver;

pub use evaluate::{Evaluation, Evaluator, evaluate};
pub use model::{Model, ModelError, ModelMeta};
