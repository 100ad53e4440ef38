//! Sparse logistic regression: minimise `sum_i log(1 + exp(-y_i w.x_i)) + l1 |w|_1` over the weights `w`.
//!
//! Reading order: [`protocol`] (what workers and servers tell each other), [`server`] (the update of the weights), [`solver`]
//! (the worker's part), [`job`] (a whole training), [`model`] (what it yields, in memory and on disk), [`evaluate()`] (how
//! good that is on examples). Readers of data are in [`data`](crate::data).

pub mod evaluate;
pub mod job;
pub mod model;
pub mod protocol;
pub mod server;
#[cfg(test)]
mod server_tests;
pub mod solver;

pub use evaluate::{Evaluation, Evaluator, evaluate};
pub use model::{Model, ModelError, ModelMeta};
