//! The engine through its public doors, a file for each subject; one program, because linking is what takes the time.
//! (`allocation` counts what a whole process allocates, and `faults` also runs in the guest of `ci/rdma.sh`: they are
//! programs of their own.)

#[path = "../common/mod.rs"]
mod common;
#[path = "../filter_driver/mod.rs"]
mod filter_driver;
#[path = "../hostile_driver/mod.rs"]
mod hostile_driver;
#[path = "../wires/mod.rs"]
mod wires;

mod blocks;
mod borrowed;
mod bounded_delay;
mod clocked;
mod cluster_embedded;
mod cluster_processes;
mod cores;
mod filter_refusals;
mod filtered_answers;
mod filters;
mod hostile;
mod key_range;
mod lent;
mod message;
mod refusing_function;
mod shipped_graphs;
mod sim;
mod task_dags;
