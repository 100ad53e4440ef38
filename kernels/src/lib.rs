//! Pure functions on slices: what a parameter server and its trainers compute.
//!
//! Here live aggregation, update rules, proximal operators, sparse products, the logistic loss and key lists,
//! for `f32` and `f64` (the sealed trait [`real::Real`]). Nothing here allocates unless its signature shows a
//! `Vec`, and nothing knows a message, a thread or a file.
//!
//! Read [`isa`] first: every algorithm is one plain loop, compiled for the baseline, AVX2 and AVX-512, and all
//! three return the same bits. Then [`dense`], [`prox`], [`update`] and [`fused`] for whole arrays; [`slots`] and
//! [`sparse`] for scattered ones; [`linear`], [`logistic`] and [`exp`] for the trainer; [`keys`] for key lists;
//! [`presence`], [`quantise`] and [`random`] for what travels in fewer bytes.
//!
//! # Numbers
//!
//! * The same inputs give the same bits on every path, at every alignment and every position in a slice.
//! * NaN in, NaN out, unless a function says otherwise; *which* NaN (sign, payload) is not specified.
//! * Infinities follow IEEE 754. Denormals are numbers like others, never flushed to zero.
//! * A zero that a proximal operator or FTRL makes is `+0`, so that it is all zero bits and compresses well.
//!
//! # Misuse
//!
//! Slices of lengths that do not fit, or an index beyond its array, are the caller's bug and panic with a
//! sentence; nothing ever reads or writes outside the slices given.

pub mod dense;
pub mod exp;
pub mod fused;
pub mod isa;
pub mod keys;
pub mod linear;
pub mod logistic;
mod prefetch;
pub mod presence;
pub mod prox;
pub mod quantise;
pub mod random;
pub mod real;
pub mod slots;
pub mod sparse;
pub mod update;
