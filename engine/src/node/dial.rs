//! A worker's way to the shards.

use std::cell::Cell;
use std::time::Instant;

use keyrange_transport::fault::FaultPlan;
use keyrange_transport::link::{CarrierKind, Link};

use super::carrier::{CarrierWish, Route, RouteError, VerbsPorts, route};
use super::error::NodeError;
use super::open::{OpenError, open};
use super::verbs::Verbs;
use crate::manager::door::Purpose;
use crate::manager::stream::Stream;
use crate::manager::{Door, HostFingerprint, NodeName, ServerInfo};

/// What is needed to connect to any shard, at the start or again after a link broke.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    pub(crate) me: NodeName,
    pub(crate) door: Door,
    pub(crate) wish: CarrierWish,
    pub(crate) host: HostFingerprint,
    pub(crate) verbs: Verbs,
    pub(crate) ring_bytes: u32,
    pub(crate) servers: Vec<ServerInfo>,
    /// Faults that what is sent over the links is to meet.
    pub(crate) fault: Option<FaultPlan>,
    /// Links made so far: each meets other faults.
    pub(crate) links_made: Cell<u64>,
}

impl Dialer {
    /// The server that runs `shard` (a global number), and the shard's number there.
    pub(crate) fn server_of(&self, shard: u32) -> (&ServerInfo, u32) {
        // Servers are in order of their first shard, and the first of them begins at shard 0.
        let place = self.servers.partition_point(|server| server.shard_first <= shard).saturating_sub(1);
        (&self.servers[place], shard - self.servers[place].shard_first)
    }

    /// The name of the server that runs `shard`.
    pub(crate) fn name_of(&self, shard: u32) -> NodeName {
        NodeName::server(self.server_of(shard).0.rank)
    }

    /// Which carrier leads to the shard.
    pub(crate) fn kind_of(&self, shard: u32) -> Option<CarrierKind> {
        self.route(self.server_of(shard).0).ok().map(|route| route.kind)
    }

    fn route(&self, server: &ServerInfo) -> Result<Route, RouteError> {
        let mine = self.verbs.link_layer();
        let verbs = VerbsPorts { mine: mine.as_deref(), theirs: server.verbs.as_deref() };
        route(self.wish, &self.host, &server.host, &server.addresses, verbs)
    }

    /// Connects to a shard. Also returns carrier and reason, for people.
    pub(crate) fn dial(&self, shard: u32, deadline: Instant) -> Result<(Box<dyn Link>, String), NodeError> {
        let (server, local) = self.server_of(shard);
        let peer = NodeName::server(server.rank);
        let route = self.route(server).map_err(|error| NodeError::Route { server: peer, error })?;
        let device = self.verbs.device().filter(|_| route.kind == CarrierKind::Verbs);
        let address = route.address;
        let failed = |error: String| NodeError::Connect { peer, address: address.clone(), error };
        let stream = Stream::connect(&address, deadline).map_err(|error| failed(error.to_string()))?;
        let peer_ring_bytes = self
            .door
            .enter(&stream, Ok(self.me), Purpose::Shard(local), self.ring_bytes, device.is_some(), deadline)
            .map_err(|error| failed(error.to_string()))?;
        let attempt = self.links_made.replace(self.links_made.get() + 1);
        let faults = self.fault.map(|plan| (plan, u64::from(self.me.rank) << 32 | attempt));
        let link =
            open(stream, device, self.ring_bytes, peer_ring_bytes, faults).map_err(|error| match error {
                OpenError::Passing(error) => failed(error),
                OpenError::Lasting(error) => NodeError::Open { peer, error },
            })?;
        Ok((link, format!("{peer}: {} ({})", route.kind, route.reason)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_found_at_the_server_that_runs_it() {
        let host = HostFingerprint { boot_id: "b".into(), net_namespace: 1 };
        let server = |rank, shard_first, shards| ServerInfo {
            rank,
            host: host.clone(),
            shard_first,
            shards,
            addresses: vec![],
            verbs: None,
        };
        let dialer = Dialer {
            me: NodeName::worker(0),
            door: Door::new([0; 16], ""),
            wish: CarrierWish::Auto,
            host: host.clone(),
            verbs: Verbs::none(),
            ring_bytes: 0,
            fault: None,
            links_made: Cell::new(0),
            servers: vec![server(0, 0, 2), server(1, 2, 1), server(2, 3, 3)],
        };
        let found: Vec<_> =
            (0..6).map(|shard| (dialer.name_of(shard).rank, dialer.server_of(shard).1)).collect();
        assert_eq!(found, [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (2, 2)]);
    }
}
