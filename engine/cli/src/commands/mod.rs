//! The subcommands, one file each: options, then `run`.

pub mod doctor;
pub mod eval;
pub mod generate;
pub mod manager;
pub mod server;
pub mod train;
pub mod worker;
