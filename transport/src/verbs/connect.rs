//! From a connected, authenticated socket and an open device to a link.

use std::net::Ipv6Addr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

use super::VerbsError;
use super::device::Device;
use super::endpoint::Endpoint;
use super::exchange::{Address, Message, hear, tell};
use super::link::VerbsLink;
use super::memory::Mailbox;
use super::wire::FRAME_BYTES_MAX;
use crate::region::RegionError;
use crate::ring::{Consumer, MappedRing, Producer};

/// The largest ring: a quarter of it is a frame whose length still fits a word on the wire.
const RING_BYTES_MAX: usize = 1 << 25;
const _: () = assert!(RING_BYTES_MAX / 4 <= FRAME_BYTES_MAX);

/// Between probes of a silent host: it is gone after four.
const PROBE: Duration = Duration::from_secs(5);

/// How to set up a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerbsConfig {
    /// Bytes of this side's receive ring, a power of two from a page to 32 MiB. The peer's frames are at most a quarter
    /// of it.
    pub ring_bytes: usize,
    /// How long the peer may take for its half of the exchange.
    pub connect_timeout: Duration,
    /// How long dropping a closed link may wait for its last frames to reach the peer.
    pub linger: Duration,
}

impl Default for VerbsConfig {
    fn default() -> Self {
        Self { ring_bytes: 1 << 20, connect_timeout: Duration::from_secs(5), linger: Duration::from_secs(1) }
    }
}

/// Makes a link over a connected stream socket (TCP or Unix). Both sides call this; it is symmetric and blocks until both queue
/// pairs are connected, at most `config.connect_timeout`. The socket stays open: its hang-up tells the peer's death.
pub fn connect(
    socket: impl Into<OwnedFd>,
    device: &Arc<Device>,
    config: &VerbsConfig,
) -> Result<VerbsLink, VerbsError> {
    let socket = socket.into();
    keep_alive(&socket);
    let deadline = Instant::now() + config.connect_timeout;
    if config.ring_bytes > RING_BYTES_MAX {
        let expected = "a power of two, at least a page, at most 32 MiB";
        return Err(RegionError::Size { got: config.ring_bytes, expected }.into());
    }
    let ring = MappedRing::create(config.ring_bytes)?;
    let mailbox = Mailbox::new()?;
    let mut endpoint = Endpoint::new(device, &ring, &mailbox)?;
    let own = own_address(device, &endpoint, config.ring_bytes)?;
    tell(&socket, &Message::Address(own), deadline)?;
    let peer = match hear(&socket, deadline)? {
        Message::Address(peer) => check(&own, peer)?,
        other => return Err(VerbsError::Protocol(format!("expected the peer's address, got {other:?}"))),
    };
    let staged = MappedRing::create(peer.ring_bytes as usize)?;
    endpoint.attach(&peer, &staged)?;
    let mtu = u32::from(own.mtu.min(peer.mtu));
    endpoint
        .queue_pair
        .get_ready_to_receive(&peer, mtu)
        .map_err(|error| no_way(device, &own, &peer, error))?;
    endpoint.queue_pair.get_ready_to_send(own.first_packet)?;
    // Nobody writes before the other side can take it: a device would send again only after its timeout.
    tell(&socket, &Message::Ready, deadline)?;
    match hear(&socket, deadline)? {
        Message::Ready => {}
        other => return Err(VerbsError::Protocol(format!("expected that the peer is ready, got {other:?}"))),
    }
    // SAFETY: both memories are new, so zeroed and unused; each gets its one consumer or producer here. The peer writes into
    // `ring` from outside, which is what a consumer is for.
    let (inward, outward) = unsafe { (Consumer::new(ring), Producer::new(staged)) };
    Ok(VerbsLink::new(endpoint, outward, inward, mailbox, socket, config.linger))
}

/// At this step the device looks for a route to the peer, and says little if there is none.
fn no_way(device: &Device, own: &Address, peer: &Address, error: VerbsError) -> VerbsError {
    let name = |address: &Address| {
        let gid = Ipv6Addr::from(address.gid);
        match gid.to_ipv4_mapped() {
            _ if gid.is_unspecified() => format!("LID {}", address.lid),
            Some(v4) => v4.to_string(),
            None => gid.to_string(),
        }
    };
    VerbsError::Unreachable {
        device: device.name().to_owned(),
        here: name(own),
        there: name(peer),
        error: Box::new(error),
    }
}

fn own_address(device: &Device, endpoint: &Endpoint, ring_bytes: usize) -> Result<Address, VerbsError> {
    let mut random = [0; 4];
    getrandom::fill(&mut random)
        .map_err(|_| VerbsError::Os { call: "getrandom", error: rustix::io::Errno::IO })?;
    let [ring, mailbox] = endpoint.own_memory();
    Ok(Address {
        link_layer: device.link_layer(),
        mtu: device.mtu as u8,
        lid: device.lid,
        gid: device.choice.gid.map_or([0; 16], |gid| gid.address.octets()),
        queue_pair: endpoint.queue_pair.number,
        first_packet: u32::from_le_bytes(random) & 0x00ff_ffff,
        ring,
        ring_bytes: ring_bytes as u64,
        mailbox,
    })
}

/// Whether two devices can talk, and the peer's ring is one.
fn check(own: &Address, peer: Address) -> Result<Address, VerbsError> {
    if peer.link_layer != own.link_layer {
        let (expected, got) = (own.link_layer, peer.link_layer);
        return Err(VerbsError::Protocol(format!("link layer: expected {expected}, got {got}")));
    }
    if (peer.gid == [0; 16]) != (own.gid == [0; 16]) {
        let text =
            "one side is addressed by GID and the other by LID: choose a GID index on both or on neither";
        return Err(VerbsError::Protocol(text.into()));
    }
    let page = rustix::param::page_size() as u64;
    if !peer.ring_bytes.is_power_of_two() || !(page..=RING_BYTES_MAX as u64).contains(&peer.ring_bytes) {
        let got = peer.ring_bytes;
        let text = format!("ring: expected a power of two of {page} to {RING_BYTES_MAX} bytes, got {got}");
        return Err(VerbsError::Protocol(text));
    }
    // Addresses are only ever used as the peer's device takes them; they must not overflow in our sums.
    let ends = [(peer.ring.address, 2 * peer.ring_bytes), (peer.mailbox.address, page)];
    if ends.iter().any(|(address, bytes)| address.checked_add(*bytes).is_none()) {
        return Err(VerbsError::Protocol("ring and mailbox: expected addresses below 2^64".into()));
    }
    Ok(peer)
}

/// On TCP a host that vanished while nothing was sent shows by probes that stay unanswered; on Unix sockets there is
/// nothing to ask for, so a refusal is no error.
fn keep_alive(socket: &OwnedFd) {
    let _ = sockopt::set_tcp_keepidle(socket, PROBE)
        .and_then(|()| sockopt::set_tcp_keepintvl(socket, PROBE))
        .and_then(|()| sockopt::set_tcp_keepcnt(socket, 3))
        .and_then(|()| sockopt::set_socket_keepalive(socket, true));
}
