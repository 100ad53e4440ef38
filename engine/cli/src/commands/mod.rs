//! The subcommands, one file each: options, then `run`.

pub mod check_history;
pub mod doctor;
pub mod eval;
pub mod factor;
pub mod generate;
pub mod manager;
pub mod server;
pub mod sparse_lr;
pub mod train;
pub mod worker;
