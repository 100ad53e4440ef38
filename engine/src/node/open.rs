//! From a connected, authenticated socket to a link.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use keyrange_transport::fault::{FaultPlan, Faulty};
use keyrange_transport::link::Link;
use keyrange_transport::shm::{self, RingConfig};
use keyrange_transport::tcp::{TcpConfig, TcpLink};
use keyrange_transport::verbs::{self, Device, VerbsConfig, VerbsError};
use thiserror::Error;

use crate::manager::stream::{HOST_PATIENCE, Stream};

/// Both ends exchange their rings at once, so this is only for a peer that hangs.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(5);

/// The settings of a ring on shared memory.
pub(crate) fn ring_config(ring_bytes: u32) -> RingConfig {
    RingConfig { ring_bytes: ring_bytes as usize, connect_timeout: EXCHANGE_DEADLINE }
}

/// Faults that what is sent over one link meets: the plan, and the number of the link.
pub(crate) type Faults = Option<(FaultPlan, u64)>;

/// Why there is no link over this socket.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// Trying again may help: the peer went away, or took too long.
    #[error("{0}")]
    Passing(String),
    /// It will not: this node lacks something, or the two do not fit.
    #[error("{0}")]
    Lasting(String),
}

impl From<VerbsError> for OpenError {
    fn from(error: VerbsError) -> Self {
        match error {
            VerbsError::PeerGone | VerbsError::TimedOut(_) => OpenError::Passing(error.to_string()),
            _ => OpenError::Lasting(error.to_string()),
        }
    }
}

/// Makes the link that this kind of socket carries, or with a device the one over RDMA that it introduces. Every ring of a job has the same size.
pub(crate) fn open(
    stream: Stream,
    device: Option<&Arc<Device>>,
    ring_bytes: u32,
    peer_ring_bytes: u32,
    faults: Faults,
) -> Result<Box<dyn Link>, OpenError> {
    if peer_ring_bytes != ring_bytes {
        let text = format!("expected a peer with rings of {ring_bytes} bytes, got {peer_ring_bytes}");
        return Err(OpenError::Passing(text));
    }
    if let Some(device) = device {
        let socket = match stream {
            Stream::Unix(socket) => OwnedFd::from(socket),
            Stream::Tcp(socket) => OwnedFd::from(socket),
        };
        let ring_bytes = ring_bytes as usize;
        let config = VerbsConfig { ring_bytes, connect_timeout: EXCHANGE_DEADLINE, ..VerbsConfig::default() };
        return Ok(boxed(verbs::connect(socket, device, &config)?, faults));
    }
    match stream {
        Stream::Unix(socket) => match shm::connect(socket, ring_config(ring_bytes)) {
            Ok(link) => Ok(boxed(link, faults)),
            Err(error) => Err(OpenError::Passing(error.to_string())),
        },
        Stream::Tcp(socket) => {
            let ring_bytes = ring_bytes as usize;
            let config = TcpConfig {
                ring_bytes,
                peer_ring_bytes: ring_bytes,
                peer_timeout: HOST_PATIENCE,
                ..TcpConfig::default()
            };
            match TcpLink::new(socket, &config) {
                Ok(link) => Ok(boxed(link, faults)),
                Err(error) => Err(OpenError::Passing(error.to_string())),
            }
        }
    }
}

fn boxed<L: Link + 'static>(link: L, faults: Faults) -> Box<dyn Link> {
    match faults {
        Some((plan, stream)) => Box::new(Faulty::new(link, plan, stream)),
        None => Box::new(link),
    }
}
