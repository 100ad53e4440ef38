//! RDMA devices as the kernel tells of them in `/sys/class/infiniband`: no library and no permission needed.

use std::fmt;
use std::fs;
use std::net::Ipv6Addr;
use std::path::Path;

/// Where the kernel lists RDMA devices.
const ROOT: &str = "/sys/class/infiniband";

/// What a port's packets travel in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkLayer {
    /// InfiniBand: addressed by LID.
    InfiniBand,
    /// Ethernet (RoCE): addressed by GID.
    Ethernet,
}

/// One entry of a port's table of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gid {
    /// Its place in the table.
    pub index: u8,
    /// The address.
    pub address: Ipv6Addr,
    /// RoCE version 2 (routable, over UDP); otherwise RoCE version 1 or InfiniBand.
    pub roce_v2: bool,
}

/// One port of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The device's name, `mlx5_0` for example.
    pub device: String,
    /// The port's number, from 1.
    pub number: u8,
    /// The state in the kernel's words, `ACTIVE` if it can be used.
    pub state: String,
    /// What its packets travel in.
    pub link_layer: LinkLayer,
    /// The speed in the kernel's words.
    pub rate: String,
    /// Its addresses.
    pub gids: Vec<Gid>,
}

impl Port {
    /// True if it carries traffic.
    pub fn is_active(&self) -> bool {
        self.state == "ACTIVE"
    }
}

impl fmt::Display for LinkLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LinkLayer::InfiniBand => "InfiniBand",
            LinkLayer::Ethernet => "Ethernet",
        })
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.to_ipv4_mapped() {
            Some(v4) => write!(f, "{v4}"),
            None => write!(f, "{}", self.address),
        }
    }
}

/// Every port of every device, ordered by name and number. Empty where the kernel has no RDMA.
pub fn ports() -> Vec<Port> {
    let mut ports: Vec<_> = names(Path::new(ROOT))
        .into_iter()
        .flat_map(|device| {
            let folder = Path::new(ROOT).join(&device).join("ports");
            names(&folder).into_iter().filter_map(move |number| {
                let folder = folder.join(&number);
                Some(Port {
                    device: device.clone(),
                    number: number.parse().ok()?,
                    // "4: ACTIVE"
                    state: text(&folder.join("state")).split(": ").last().unwrap_or_default().to_owned(),
                    link_layer: match text(&folder.join("link_layer")).as_str() {
                        "Ethernet" => LinkLayer::Ethernet,
                        _ => LinkLayer::InfiniBand,
                    },
                    rate: text(&folder.join("rate")),
                    gids: gids(&folder),
                })
            })
        })
        .collect();
    ports.sort_by(|a, b| (&a.device, a.number).cmp(&(&b.device, b.number)));
    ports
}

fn gids(port: &Path) -> Vec<Gid> {
    let mut gids: Vec<_> = names(&port.join("gids"))
        .into_iter()
        .filter_map(|index| {
            // An empty place reads as zeros, and its type cannot be read at all.
            let address: Ipv6Addr = text(&port.join("gids").join(&index)).parse().ok()?;
            let kind = text(&port.join("gid_attrs/types").join(&index));
            (!address.is_unspecified()).then_some(Gid {
                index: index.parse().ok()?,
                address,
                roce_v2: kind == "RoCE v2",
            })
        })
        .collect();
    gids.sort_by_key(|gid| gid.index);
    gids
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}
