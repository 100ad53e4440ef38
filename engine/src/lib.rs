//! The parameter server: many workers share one big sparse model that lives, cut into key ranges, on shards.
//!
//! What decides lives in *cores*, values without I/O, clock or threads: [`worker::WorkerCore`] and
//! [`shard::ShardCore`]. What moves (links, threads, processes, sockets) wraps the same cores from outside, and
//! so does the simulator. Learning applications and the command line never live here.
//!
//! Read in this order: [`key_range`] and [`key_list`] (what is named), [`message`] (what is said), [`session`]
//! (why each request counts once), [`shard`] (who applies it), [`worker`] (who asks), [`sim`] (why to believe it).

pub mod client;
pub mod cluster;
pub mod key_list;
pub mod key_range;
pub mod manager;
pub mod message;
pub mod node;
pub mod session;
pub mod shard;
pub mod sim;
pub mod table;
pub mod update;
pub mod worker;
