//! Examples: how they are read, kept in memory, shared out and made up.
//!
//! Text comes in through [`libsvm`], whatever its compression ([`compression`]), and becomes a [`Dataset`]: rows of
//! sorted features, with the feature ids collected in one sorted key list. A [`Csc`] is the same data by columns.
//! [`cache`] keeps a parsed set on disk and [`synthetic`] makes one up from a seed. Nothing here knows of models or
//! servers.
//!
//! Reading order: [`dataset`], [`csc`], [`number`], [`libsvm`], [`compression`], [`cache`], [`synthetic`].

pub mod cache;
pub mod compression;
pub mod csc;
pub mod dataset;
mod error;
mod intern;
mod join;
pub mod libsvm;
pub mod number;
pub mod synthetic;

pub use csc::Csc;
pub use dataset::{Dataset, Row};
pub use error::DataError;
