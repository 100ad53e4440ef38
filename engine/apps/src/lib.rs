//! Data readers and the learning applications that run on the parameter server.
//!
//! Here live the formats examples come in, the sets they become in memory, and one module for each learning
//! problem with its worker part, its server part, its model file and its evaluation. What never lives here:
//! carriers, messages, tables or anything else an application without learning would need.
//!
//! Reading order: [`data`] first, then [`sparse_lr`], [`matrix_factorization`], and [`application`], which tells them apart.

pub mod application;
pub mod data;
pub mod matrix_factorization;
pub mod sparse_lr;
