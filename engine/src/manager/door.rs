//! What opens a connection: the transport's handshake with this program's conventions for roles and purposes.

use std::time::Instant;

use keyrange_transport::handshake::{self, Credentials, HandshakeError, Identity, Request};
use keyrange_transport::link::CarrierKind;
use thiserror::Error;

use super::message::{NodeName, Role};
use super::stream::Stream;

/// `Identity::node` of a node that has no rank yet.
const NO_RANK: u32 = u32::MAX;
const ROLE_MANAGER: u8 = 0;
const ROLE_SERVER: u8 = 1;
const ROLE_WORKER: u8 = 2;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A node's lines to the manager.
    Manager,
    /// A worker's frames to the server's shard of this local number.
    Shard(u32),
    /// `keyrange doctor` tries what this host and another one have together. Managers and servers hang up on it.
    Examination,
}

/// No shard has such a number.
const EXAMINATION: u32 = u32::MAX;

impl Purpose {
    fn code(self) -> u32 {
        match self {
            Purpose::Manager => 0,
            Purpose::Shard(local) => local.saturating_add(1),
            Purpose::Examination => EXAMINATION,
        }
    }

    fn from_code(code: u32) -> Self {
        match code {
            0 => Purpose::Manager,
            EXAMINATION => Purpose::Examination,
            code => Purpose::Shard(code - 1),
        }
    }
}

/// Who stands at the door, proved to belong to the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    /// Its name, once it has one (connections to the manager come before that).
    pub name: Option<NodeName>,
    /// What it wants.
    pub purpose: Purpose,
    /// The carrier to be used afterwards.
    pub carrier: CarrierKind,
    /// Bytes of the receive ring it will use.
    pub ring_bytes: u32,
}

/// Why a door did not open.
#[derive(Debug, Error)]
pub enum DoorError {
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The peer is none of this program's.
    #[error("expected role 1 (server) or 2 (worker), got {0}")]
    Role(u8),
}

/// The job's id and secret, as every node of the job has them.
#[derive(Debug, Clone)]
pub struct Door {
    credentials: Credentials,
}

impl Door {
    /// The door of job `job`. An empty secret opens only between processes of one user on one host.
    pub fn new(job: [u8; 16], secret: impl Into<Vec<u8>>) -> Self {
        Door { credentials: Credentials { job, secret: secret.into() } }
    }

    /// The door of the job called `name`.
    pub fn named(name: &str, secret: impl Into<Vec<u8>>) -> Self {
        // Names of any length become ids of 16 bytes; a mix-up of jobs is a mistake, not an attack: secrets are for that.
        let mut id = [0u8; 16];
        for (at, byte) in name.bytes().enumerate() {
            id[at % 16] = id[at % 16].rotate_left(3) ^ byte;
        }
        Door::new(id, secret)
    }

    /// Shows a peer that connected through the handshake. With `verbs` it may ask for RDMA instead of the socket's own carrier.
    pub fn admit(
        &self,
        stream: &Stream,
        me: Option<NodeName>,
        ring_bytes: u32,
        verbs: bool,
        deadline: Instant,
    ) -> Result<Visitor, DoorError> {
        let served = [own_carrier(stream), CarrierKind::Verbs];
        let served = if verbs { &served[..] } else { &served[..1] };
        let peer =
            handshake::respond(stream, &self.credentials, &identity(me, ring_bytes), served, deadline)?;
        let name = match (peer.identity.role, peer.identity.node) {
            (ROLE_SERVER | ROLE_WORKER, NO_RANK) => None,
            (ROLE_SERVER, rank) => Some(NodeName::server(rank)),
            (ROLE_WORKER, rank) => Some(NodeName::worker(rank)),
            (role, _) => return Err(DoorError::Role(role)),
        };
        Ok(Visitor {
            name,
            purpose: Purpose::from_code(peer.request.purpose),
            carrier: peer.request.carrier,
            ring_bytes: peer.identity.ring_bytes,
        })
    }

    /// Passes a listener's handshake as `me` (`Err(role)` while the rank is unknown), asking for RDMA if `verbs`, else for
    /// the socket's own carrier. Returns the bytes of the receive ring the other side will use.
    pub fn enter(
        &self,
        stream: &Stream,
        me: Result<NodeName, Role>,
        purpose: Purpose,
        ring_bytes: u32,
        verbs: bool,
        deadline: Instant,
    ) -> Result<u32, HandshakeError> {
        let carrier = if verbs { CarrierKind::Verbs } else { own_carrier(stream) };
        let identity = match me {
            Ok(name) => identity(Some(name), ring_bytes),
            Err(role) => Identity { role: role_code(role), ..identity(None, ring_bytes) },
        };
        let request = Request { carrier, purpose: purpose.code() };
        let peer = handshake::initiate(stream, &self.credentials, &identity, request, deadline)?;
        Ok(peer.identity.ring_bytes)
    }
}

/// What a socket carries when nothing else was asked for.
fn own_carrier(stream: &Stream) -> CarrierKind {
    match stream {
        Stream::Unix(_) => CarrierKind::Shm,
        Stream::Tcp(_) => CarrierKind::Tcp,
    }
}

fn role_code(role: Role) -> u8 {
    match role {
        Role::Server => ROLE_SERVER,
        Role::Worker => ROLE_WORKER,
    }
}

/// How a node introduces itself; without a name, the manager.
fn identity(me: Option<NodeName>, ring_bytes: u32) -> Identity {
    let (node, role, name) = match me {
        Some(name) => (name.rank, role_code(name.role), name.to_string()),
        None => (NO_RANK, ROLE_MANAGER, "manager or unranked node".to_owned()),
    };
    Identity { node, role, name, epoch: 0, ring_bytes }
}
