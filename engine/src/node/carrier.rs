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
}

impl fmt::Display for CarrierWish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CarrierWish::Auto => "auto",
            CarrierWish::Shm => "shm",
            CarrierWish::Tcp => "tcp",
        })
    }
}

/// A carrier nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected auto, shm or tcp, got {0:?}")]
pub struct CarrierWishError(String);

impl FromStr for CarrierWish {
    type Err = CarrierWishError;

    fn from_str(text: &str) -> Result<Self, CarrierWishError> {
        match text {
            "auto" => Ok(CarrierWish::Auto),
            "shm" => Ok(CarrierWish::Shm),
            "tcp" => Ok(CarrierWish::Tcp),
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
    /// The server does not listen where this node could reach it.
    #[error("the server listens at {listens:?}, none of which serves carrier {wanted}")]
    NoAddress {
        /// What was needed.
        wanted: CarrierKind,
        /// What there is.
        listens: Vec<String>,
    },
}

/// Chooses the carrier and the address for a server that lives on `theirs` and listens at `addresses`.
pub fn route(
    wish: CarrierWish,
    mine: &HostFingerprint,
    theirs: &HostFingerprint,
    addresses: &[Address],
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
        let kind = |wish, theirs| route(wish, &host(1), &host(theirs), &both).map(|route| route.kind);
        assert_eq!(kind(CarrierWish::Auto, 1), Ok(CarrierKind::Shm));
        assert_eq!(kind(CarrierWish::Auto, 2), Ok(CarrierKind::Tcp));
        assert_eq!(kind(CarrierWish::Tcp, 1), Ok(CarrierKind::Tcp));
        assert_eq!(kind(CarrierWish::Shm, 2), Err(RouteError::OtherHost));
        let only_unix = route(CarrierWish::Auto, &host(1), &host(2), &both[..1]);
        assert!(matches!(only_unix, Err(RouteError::NoAddress { .. })));
    }

    #[test]
    fn wishes_are_written_as_they_are_read() {
        for text in ["auto", "shm", "tcp"] {
            assert_eq!(text.parse::<CarrierWish>().unwrap().to_string(), text);
        }
        assert!("verbs".parse::<CarrierWish>().is_err());
    }
}
