//! How a node joins the job: to the manager's door, then its registration.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::error::NodeError;
use crate::manager::door::Purpose;
use crate::manager::message::{Registration, ToManager};
use crate::manager::stream::Stream;
use crate::manager::{Address, Door, HostFingerprint, Role, Session, Start};

/// Beyond the manager's own deadline, which names the culprit and so should come first.
const GRACE: Duration = Duration::from_secs(5);

/// What every node must know to join.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Where the manager listens.
    pub manager: Address,
    /// Job id and secret.
    pub door: Door,
    /// The rank to have; without one, the lowest free.
    pub rank: Option<u32>,
    /// How long to look for the manager, and to wait for the others.
    pub join_deadline: Duration,
}

/// Registers with the manager. `verbs` is the link layer of this node's RDMA port; `addresses` are where this node listens; one with an unspecified IP address is
/// replaced by the address this node has on its way to the manager.
pub(super) fn register(
    membership: &Membership,
    role: Role,
    shards: u32,
    addresses: &[Address],
    verbs: Option<String>,
) -> Result<Session, NodeError> {
    let Membership { manager: address, door, rank, join_deadline } = membership;
    let deadline = Instant::now() + *join_deadline;
    let stream = Stream::connect(address, deadline)
        .map_err(|error| NodeError::NoManager { address: address.clone(), error })?;
    door.enter(&stream, Err(role), Purpose::Manager, 0, false, deadline)
        .map_err(|error| NodeError::ManagerHandshake { address: address.clone(), error })?;
    let own_ip = match &stream {
        Stream::Tcp(socket) => socket.local_addr().ok().map(|address| address.ip()),
        Stream::Unix(_) => None,
    };
    let registration = ToManager::Register(Registration {
        role,
        rank: *rank,
        pid: std::process::id(),
        host: HostFingerprint::of_this_process(),
        shards,
        addresses: addresses.iter().map(|address| reachable(address, own_ip)).collect(),
        verbs,
    });
    Session::over_socket(stream, &registration).map_err(NodeError::os("registering with the manager"))
}

/// Waits until everybody has registered.
pub(super) fn wait_start(membership: &Membership, session: &Session) -> Result<Start, NodeError> {
    Ok(session.notices().wait_start(Instant::now() + membership.join_deadline + GRACE)?)
}

fn reachable(address: &Address, own_ip: Option<IpAddr>) -> Address {
    match (address, own_ip) {
        (Address::Tcp(place), Some(ip)) if place.ip().is_unspecified() => {
            Address::Tcp((ip, place.port()).into())
        }
        _ => address.clone(),
    }
}
