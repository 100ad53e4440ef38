//! Which device, port and address a link uses: a function of what there is and what was asked for.

use super::VerbsError;
use super::sysfs::{Gid, LinkLayer, Port};

/// What the user asked for; nothing asked for means the best there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The device's name.
    pub device: Option<String>,
    /// The port's number.
    pub port: Option<u8>,
    /// The place of the address in the port's table.
    pub gid_index: Option<u8>,
}

/// A usable port and the address to use on it (none on InfiniBand without a wish: there the LID does).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) port: Port,
    pub(super) gid: Option<Gid>,
}

/// The first active port that fits, with its best address.
pub(super) fn choose(ports: &[Port], wish: &Selection) -> Result<Choice, VerbsError> {
    if ports.is_empty() {
        return Err(VerbsError::NoDevice);
    }
    let fits = |port: &&Port| {
        wish.device.as_ref().is_none_or(|name| *name == port.device)
            && wish.port.is_none_or(|number| number == port.number)
    };
    let list = |ports: &mut dyn Iterator<Item = &Port>| {
        ports.map(|p| format!("{} port {} ({})", p.device, p.number, p.state)).collect::<Vec<_>>().join(", ")
    };
    if !ports.iter().any(|port| fits(&port)) {
        let wanted = match (&wish.device, wish.port) {
            (Some(device), Some(port)) => format!("{device} port {port}"),
            (Some(device), None) => device.clone(),
            (None, port) => format!("port {}", port.unwrap_or_default()),
        };
        return Err(VerbsError::NoSuchPort { wanted, found: list(&mut ports.iter()) });
    }
    let Some(port) = ports.iter().filter(fits).find(|port| port.is_active()) else {
        return Err(VerbsError::NoActivePort { found: list(&mut ports.iter().filter(fits)) });
    };
    Ok(Choice { port: port.clone(), gid: choose_gid(port, wish.gid_index)? })
}

/// RoCE: version 2 before 1, an IPv4 address before a global IPv6 one before a link-local one.
fn choose_gid(port: &Port, wish: Option<u8>) -> Result<Option<Gid>, VerbsError> {
    let rank = |gid: &&Gid| {
        let scope = if gid.address.to_ipv4_mapped().is_some() {
            0
        } else if !gid.address.is_unicast_link_local() {
            1
        } else {
            2
        };
        (!gid.roce_v2, scope, gid.index)
    };
    let found = match wish {
        Some(index) => port.gids.iter().find(|gid| gid.index == index),
        None if port.link_layer == LinkLayer::InfiniBand => return Ok(None),
        None => port.gids.iter().min_by_key(rank),
    };
    let error = || VerbsError::NoGid {
        port: format!("{} port {}", port.device, port.number),
        wanted: wish.map_or("any address".into(), |index| format!("an address at index {index}")),
        found: port.gids.iter().map(|gid| format!("{}: {gid}", gid.index)).collect::<Vec<_>>().join(", "),
    };
    found.map(|gid| Some(*gid)).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(device: &str, state: &str, gids: &[(&str, bool)]) -> Port {
        let gid = |(index, &(address, roce_v2)): (usize, &(&str, bool))| Gid {
            index: index as u8,
            address: address.parse().unwrap(),
            roce_v2,
        };
        Port {
            device: device.into(),
            number: 1,
            state: state.into(),
            link_layer: LinkLayer::Ethernet,
            rate: String::new(),
            gids: gids.iter().enumerate().map(gid).collect(),
        }
    }

    fn wish(device: Option<&str>, gid_index: Option<u8>) -> Selection {
        Selection { device: device.map(Into::into), port: None, gid_index }
    }

    #[test]
    fn the_best_address_of_the_first_active_port_is_taken() {
        let gids =
            [("fe80::1", false), ("fe80::1", true), ("::ffff:10.0.0.1", false), ("::ffff:10.0.0.1", true)];
        let ports =
            [port("down0", "DOWN", &gids), port("up0", "ACTIVE", &gids), port("up1", "ACTIVE", &gids[..2])];
        let chosen = |wish| choose(&ports, &wish).map(|c| (c.port.device, c.gid.unwrap().index));
        assert_eq!(chosen(wish(None, None)), Ok(("up0".into(), 3)));
        assert_eq!(chosen(wish(None, Some(0))), Ok(("up0".into(), 0)));
        assert_eq!(chosen(wish(Some("up1"), None)), Ok(("up1".into(), 1)));
    }

    #[test]
    fn infiniband_needs_no_global_address() {
        let ib = Port { link_layer: LinkLayer::InfiniBand, ..port("ib0", "ACTIVE", &[("fe80::1", false)]) };
        assert_eq!(choose(std::slice::from_ref(&ib), &wish(None, None)).unwrap().gid, None);
        assert!(choose(&[ib], &wish(None, Some(0))).unwrap().gid.is_some());
    }

    #[test]
    fn what_is_missing_is_named() {
        let ports = [port("down0", "DOWN", &[]), port("up0", "ACTIVE", &[("fe80::1", true)])];
        let text = |ports: &[Port], wish| choose(ports, &wish).unwrap_err().to_string();
        assert!(text(&[], wish(None, None)).contains("no RDMA device"));
        let other = text(&ports, wish(Some("mlx5_0"), None));
        assert!(other.contains("mlx5_0") && other.contains("up0 port 1 (ACTIVE)"), "{other}");
        let down = text(&ports, wish(Some("down0"), None));
        assert!(down.contains("down0 port 1 (DOWN)"), "{down}");
        let gid = text(&ports, wish(None, Some(7)));
        assert!(gid.contains("index 7") && gid.contains("0: fe80::1"), "{gid}");
    }
}
