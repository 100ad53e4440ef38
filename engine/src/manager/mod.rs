//! The manager: how the nodes of a job find each other, meet at barriers, and hear of each other's death.
//!
//! No gradient and no key passes through here; data links join workers and servers directly.
//!
//! Reading order: [`message`] (what is said), [`plan`] (the job and its end), [`core`] (the manager as a value), [`service`] (its sockets and its
//! thread), [`session`] (a node's side). [`door`], [`acceptor`], [`stream`], [`address`], [`host`], [`mod@line`] and
//! [`bell`] are the small things these are made of; `node` uses them for data links too.

pub mod acceptor;
pub mod address;
pub mod bell;
pub mod core;
#[cfg(test)]
mod core_tests;
pub mod door;
pub mod host;
pub mod line;
pub mod message;
pub mod plan;
pub mod service;
pub mod session;
pub mod stream;

pub use address::{Address, AddressError};
pub use core::ManagerCore;
pub use door::{Door, DoorError};
pub use host::HostFingerprint;
pub use message::{NodeName, Role, ServerInfo, Start};
pub use plan::{Event, JobEnd, JobPlan, PlanError};
pub use service::{Manager, ManagerConfig, ManagerError};
pub use session::{Notices, Session, SessionEnd};
