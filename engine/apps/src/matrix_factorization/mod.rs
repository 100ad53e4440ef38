//! Matrix factorisation by stochastic gradient descent: the first application of clocked tables.
//!
//! A rating of user `u` for item `i` is predicted as `mean + b_u + b_i + p_u . q_i`; descent minimises the squared errors plus
//! `reg` times the squares of all parameters. Each worker owns some users with all their ratings, so `p_u` and `b_u` stay
//! with it; rows `(q_i, b_i)` are shared in a clocked table. Each epoch is cut into clocks (100 are one per cent of the
//! ratings each): a worker fetches the rows of a clock's ratings, works through them, and closes the clock. Source: the
//! application of Dai et al., arXiv 1410.8043.
//!
//! Reading order: [`ratings`] (the data), `factors.rs` (the mathematics), [`job`] (a worker's part), `report.rs`.

mod factors;
pub mod job;
pub mod ratings;
mod report;
#[cfg(test)]
mod tests;

pub use job::{FactorError, FactorJob};
pub use report::{FactorReport, Point};
