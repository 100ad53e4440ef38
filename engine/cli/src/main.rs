//! The `keyrange` program.
fn main() {}
