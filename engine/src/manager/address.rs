//! Where a node listens: an abstract Unix name (same host) or a TCP address.
//!
//! Abstract names leave nothing in the file system, whatever kills the process.

use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest abstract name (`sun_path` less its leading zero byte).
const UNIX_NAME_BYTES_MAX: usize = 107;

/// One place to listen at or to connect to. Written `unix:NAME` or `tcp:HOST:PORT` (also `HOST:PORT`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Address {
    /// A name in the abstract Unix namespace of this network namespace.
    Unix(String),
    /// An internet address.
    Tcp(SocketAddr),
}

/// An address that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("expected unix:NAME or tcp:HOST:PORT, got {got:?}: {why}")]
pub struct AddressError {
    /// What came.
    pub got: String,
    /// What is wrong with it.
    pub why: String,
}

impl Address {
    /// A fresh abstract name nobody can guess or collide with: `keyrange-<hint>-<128 random bits>`.
    pub fn unique_unix(hint: &str) -> Result<Self, getrandom::Error> {
        let mut random = [0u8; 16];
        getrandom::fill(&mut random)?;
        Ok(Address::Unix(format!("keyrange-{hint}-{:032x}", u128::from_le_bytes(random))))
    }

    /// True when only this host can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Address::Unix(_) => true,
            Address::Tcp(address) => address.ip().is_loopback(),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Unix(name) => write!(f, "unix:{name}"),
            Address::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |why: String| AddressError { got: text.to_owned(), why };
        if let Some(name) = text.strip_prefix("unix:") {
            return match name.len() {
                0 => Err(wrong("the name is empty".into())),
                1..=UNIX_NAME_BYTES_MAX => Ok(Address::Unix(name.to_owned())),
                got => Err(wrong(format!("a name of {got} bytes, at most {UNIX_NAME_BYTES_MAX} fit"))),
            };
        }
        let place = text.strip_prefix("tcp:").unwrap_or(text);
        if let Ok(address) = place.parse() {
            return Ok(Address::Tcp(address));
        }
        let mut found = place.to_socket_addrs().map_err(|error| wrong(error.to_string()))?;
        found.next().map(Address::Tcp).ok_or_else(|| wrong("the host has no address".into()))
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    /// From a peer's message: no name look-ups, so that no peer makes us ask a name server.
    fn try_from(text: String) -> Result<Self, AddressError> {
        match text.strip_prefix("tcp:") {
            Some(place) => place
                .parse()
                .map(Address::Tcp)
                .map_err(|error| AddressError { got: text.clone(), why: format!("{error}") }),
            None if text.starts_with("unix:") => text.parse(),
            None => Err(AddressError { got: text, why: "unknown kind of address".into() }),
        }
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_round_trip_through_text_and_json() {
        for text in ["unix:abc", "tcp:127.0.0.1:80", "tcp:[::1]:9"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            let json = serde_json::to_string(&address).unwrap();
            assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
        }
        assert_eq!("127.0.0.1:80".parse::<Address>().unwrap().to_string(), "tcp:127.0.0.1:80");
    }

    #[test]
    fn bad_addresses_say_what_is_wrong() {
        for text in ["unix:", "tcp:", "tcp:1.2.3.4", "nonsense", &format!("unix:{}", "x".repeat(108))] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("expected unix:NAME"), "{error}");
        }
        assert!(serde_json::from_str::<Address>("\"tcp:localhost:80\"").is_err(), "peers send numbers only");
    }
}
