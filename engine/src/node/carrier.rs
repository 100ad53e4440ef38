//! Which carrier joins two nodes, and why.

use std::fmt;
use std::str::FromStr;

use keyrange_transport::link::CarrierKind;
use thiserror::Error;

use crate::manager::{Address, HostFingerprint};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CarrierWish {
    /// The best that both nodes have.
    #[default]
    Auto,
    /// Shared memory or nothing.
    Shm,
    /// TCP, also on one host.
    Tcp,
    /// RDMA verbs, also on one host.
    Verbs,
}

impl fmt::Display for CarrierWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CarrierWish::Auto => "auto",
            CarrierWish::Shm => "shm",
            CarrierWish::Tcp => "tcp",
            CarrierWish::Verbs => "verbs",
        })
    }
}

/// A carrier nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected auto, shm, verbs or tcp, got {0:?}")]
pub struct CarrierWishError(String);

impl FromStr for CarrierWish {
    type Err = CarrierWishError;

    fn from_str(text: &str) -> Result<Self, CarrierWishError> {
        match text {
            "auto" => Ok(CarrierWish::Auto),
            "shm" => Ok(CarrierWish::Shm),
            "tcp" => Ok(CarrierWish::Tcp),
            "verbs" => Ok(CarrierWish::Verbs),
            other => Err(CarrierWishError(other.to_owned())),
        }
    }
}

/// How to reach a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which carrier.
    pub kind: CarrierKind,
    /// Where to connect.
    pub address: Address,
    /// Why this one, for people.
    pub reason: &'static str,
}

/// No carrier fits.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RouteError {
    /// Shared memory was demanded and cannot be had.
    #[error("carrier shm was demanded, but the server runs on another host or in another network namespace")]
    OtherHost,
    /// RDMA was demanded, and the server has none that fits.
    #[error(
        "carrier verbs was demanded: this node's RDMA port is {here}, the server has {there}; run `keyrange doctor` there"
    )]
    NoVerbs {
        /// This node's link layer.
        here: String,
        /// The server's.
        there: String,
    },
    /// The server does not listen where this node could reach it.
    #[error("the server listens at {listens:?}, none of which serves carrier {wanted}")]
    NoAddress {
        /// What was needed.
        wanted: CarrierKind,
        /// What there is.
        listens: Vec<String>,
    },
}

/// The link layers of both nodes' RDMA ports, as far as they have any.
#[derive(Debug, Clone, Copy, Default)]
pub struct VerbsPorts<'a> {
    /// This node's.
    pub mine: Option<&'a str>,
    /// The server's.
    pub theirs: Option<&'a str>,
}

impl VerbsPorts<'_> {
    fn meet(self) -> bool {
        self.mine.is_some() && self.mine == self.theirs
    }
}

/// Chooses the carrier and the address for a server that lives on `theirs` and listens at `addresses`.
pub fn route(
    wish: CarrierWish,
    mine: &HostFingerprint,
    theirs: &HostFingerprint,
    addresses: &[Address],
    verbs: VerbsPorts<'_>,
) -> Result<Route, RouteError> {
    let same_host = mine == theirs;
    let unix = addresses.iter().find(|address| matches!(address, Address::Unix(_)));
    let tcp = addresses.iter().find(|address| matches!(address, Address::Tcp(_)));
    let (kind, address, reason) = match wish {
        CarrierWish::Shm if !same_host => return Err(RouteError::OtherHost),
        CarrierWish::Shm => (CarrierKind::Shm, unix, "demanded"),
        CarrierWish::Tcp => (CarrierKind::Tcp, tcp, "demanded"),
        CarrierWish::Auto if same_host && unix.is_some() => (CarrierKind::Shm, unix, "same host"),
        CarrierWish::Auto if same_host => (CarrierKind::Tcp, tcp, "the server offers no shared memory"),
        CarrierWish::Verbs if !verbs.meet() => {
            let name = |port: Option<&str>| port.unwrap_or("no RDMA port").to_owned();
            return Err(RouteError::NoVerbs { here: name(verbs.mine), there: name(verbs.theirs) });
        }
        // The socket only introduces the two devices.
        CarrierWish::Verbs => (CarrierKind::Verbs, if same_host { unix.or(tcp) } else { tcp }, "demanded"),
        CarrierWish::Auto if verbs.meet() => (CarrierKind::Verbs, tcp, "another host, RDMA on both"),
        CarrierWish::Auto if verbs.mine.is_some() => (CarrierKind::Tcp, tcp, "another host, RDMA only here"),
        CarrierWish::Auto if verbs.theirs.is_some() => {
            (CarrierKind::Tcp, tcp, "another host, RDMA only there")
        }
        CarrierWish::Auto => (CarrierKind::Tcp, tcp, "another host or network namespace"),
    };
    let listens = || addresses.iter().map(ToString::to_string).collect();
    let address = address.ok_or_else(|| RouteError::NoAddress { wanted: kind, listens: listens() })?;
    Ok(Route { kind, address: address.clone(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(net_namespace: u64) -> HostFingerprint {
        HostFingerprint { boot_id: "boot".into(), net_namespace }
    }

    #[test]
    fn one_host_means_shm_two_hosts_mean_tcp_and_a_demand_is_kept() {
        let both = [Address::Unix("u".into()), "127.0.0.1:1".parse().unwrap()];
        let none = VerbsPorts::default();
        let kind = |wish, theirs| route(wish, &host(1), &host(theirs), &both, none).map(|route| route.kind);
        assert_eq!(kind(CarrierWish::Auto, 1), Ok(CarrierKind::Shm));
        assert_eq!(kind(CarrierWish::Auto, 2), Ok(CarrierKind::Tcp));
        assert_eq!(kind(CarrierWish::Tcp, 1), Ok(CarrierKind::Tcp));
        assert_eq!(kind(CarrierWish::Shm, 2), Err(RouteError::OtherHost));
        let only_unix = route(CarrierWish::Auto, &host(1), &host(2), &both[..1], none);
        assert!(matches!(only_unix, Err(RouteError::NoAddress { .. })));
    }

    #[test]
    fn verbs_joins_hosts_whose_ports_speak_the_same() {
        let both = [Address::Unix("u".into()), "127.0.0.1:1".parse().unwrap()];
        let kind = |wish, theirs, ports: (Option<&str>, Option<&str>)| {
            let verbs = VerbsPorts { mine: ports.0, theirs: ports.1 };
            route(wish, &host(1), &host(theirs), &both, verbs).map(|route| (route.kind, route.address))
        };
        let (ethernet, infiniband) = (Some("Ethernet"), Some("InfiniBand"));
        let [unix, tcp] = both.clone();
        let auto = |theirs, ports| kind(CarrierWish::Auto, theirs, ports).unwrap().0;
        assert_eq!(auto(1, (ethernet, ethernet)), CarrierKind::Shm);
        assert_eq!(auto(2, (ethernet, ethernet)), CarrierKind::Verbs);
        assert_eq!(auto(2, (ethernet, infiniband)), CarrierKind::Tcp);
        assert_eq!(auto(2, (None, ethernet)), CarrierKind::Tcp);
        let verbs = |theirs, ports| kind(CarrierWish::Verbs, theirs, ports);
        assert_eq!(verbs(1, (ethernet, ethernet)), Ok((CarrierKind::Verbs, unix)));
        assert_eq!(verbs(2, (infiniband, infiniband)), Ok((CarrierKind::Verbs, tcp)));
        let error = verbs(1, (ethernet, None)).unwrap_err().to_string();
        assert!(error.contains("Ethernet") && error.contains("no RDMA port"), "{error}");
    }

    #[test]
    fn wishes_are_written_as_they_are_read() {
        for text in ["auto", "shm", "tcp", "verbs"] {
            assert_eq!(text.parse::<CarrierWish>().unwrap().to_string(), text);
        }
        assert!("infiniband".parse::<CarrierWish>().is_err());
    }
}
