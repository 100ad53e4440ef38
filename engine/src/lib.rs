//! The parameter server: many workers share one big sparse model that lives, cut into key ranges, on shards.
//!
//! What decides lives in *cores*, values without I/O, clock or threads: [`worker::WorkerCore`] and
//! [`shard::ShardCore`]. What moves (links, threads, processes, sockets) wraps the same cores from outside, and
//! so does the simulator. Learning applications and the command line never live here.
//!
//! Read in this order: [`key_range`] and [`key_list`] (what is named), [`message`] (what is said), [`session`]
//! (why each request counts once), [`shard`] (who applies it), [`worker`] (who asks), [`filter`] (what need not be
//! sent), [`sim`] (why to believe it).
//!
//! # A job in one process
//!
//! Two servers and two workers as threads; over shared memory and TCP the same [`client::Worker`] comes from
//! [`node::connect_worker`].
//!
//! ```
//! use std::{sync::Arc, thread, time::Duration};
//!
//! use keyrange::cluster::Embedded;
//! use keyrange::key_list::KeyList;
//! use keyrange::manager::{JobEnd, JobPlan};
//! use keyrange::table::{Aggregation, FunctionSpec, StoreKind, TableSpec, ValueType};
//! use keyrange::update::Registry;
//! use keyrange::worker::{Keys, Options};
//!
//! const LIMIT: Duration = Duration::from_secs(10);
//!
//! let weights = TableSpec {
//!     id: 1,
//!     name: "weights".into(),
//!     value_type: ValueType::F32,
//!     width: 1,
//!     store: StoreKind::Sparse,                // any u64 keys; rows come into being when they are pushed
//!     function: FunctionSpec::named("add"),    // w += what is pushed
//!     aggregation: Aggregation::AllWorkers,    // once both workers' pushes of a time are in
//! };
//! let mut cluster = Embedded::start(&JobPlan::new(2, 2), &Arc::new(Registry::with_builtins()))?;
//! let trainers: Vec<_> = cluster.take_workers().into_iter().map(|mut worker| {
//!     let weights = weights.clone();
//!     thread::spawn(move || {
//!         let table = worker.create_table(&weights, LIMIT)?;
//!         let keys = Keys::List(KeyList::new(vec![3, 1 << 40, u64::MAX])?);
//!         let gradient = vec![0.5_f32, 1.0, 2.0];
//!         let task = worker.push_pull(table, keys, vec![gradient], Vec::new(), Options::at(1))?;
//!         let sums: Vec<f32> = worker.wait(task, LIMIT)?.values.into_vec();
//!         worker.finish(LIMIT)?;
//!         Ok::<_, Box<dyn std::error::Error + Send + Sync>>(sums)
//!     })
//! }).collect();
//! for trainer in trainers {
//!     assert_eq!(trainer.join().unwrap().unwrap(), [1.0, 2.0, 4.0]);
//! }
//! assert_eq!(cluster.join(), JobEnd::Finished);
//! # Ok::<_, keyrange::node::NodeError>(())
//! ```

pub mod client;
pub mod cluster;
pub mod filter;
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
