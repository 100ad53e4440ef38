//! Frames between two memories.
//!
//! Read [`link`] first: it is the contract that every carrier keeps.
pub mod link;
