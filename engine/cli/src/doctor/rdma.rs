//! RDMA: devices, ports, addresses, and whether one can be opened.

use keyrange_transport::verbs::sysfs::{Port, ports};
use keyrange_transport::verbs::{Device, LinkLayer, Selection, VerbsError};

use super::{Finding, Severity, line};

const AREA: &str = "RDMA";

/// The largest packet of RDMA there is.
const PACKET_BYTES_MAX: u32 = 4096;

/// True if a job may use RDMA here.
pub fn may_matter(demanded: bool) -> bool {
    demanded || !ports().is_empty()
}

/// Every port the kernel knows, and what opening the best one gives.
pub fn examine(demanded: bool) -> Vec<Finding> {
    let ports = ports();
    let mut findings: Vec<_> = ports.iter().map(judge_port).collect();
    findings.push(judge_opening(
        Device::open(&Selection::default()).map(|d| judge_device(&d)),
        demanded,
        &ports,
    ));
    findings
}

fn judge_device(device: &Device) -> Finding {
    let folder = format!("/sys/class/infiniband/{}", device.name());
    // Without several nodes, or on a device without a bus, the kernel says -1.
    let node = line(format!("{folder}/device/numa_node")).filter(|node| node != "-1");
    let place = node.map_or(String::new(), |node| format!(", at memory node {node}"));
    let found = format!(
        "usable: {} port {}, {} bytes a packet{place}",
        device.name(),
        device.port(),
        device.mtu_bytes()
    );
    let card = line(format!("{folder}/ports/{}/gid_attrs/ndevs/0", device.port()));
    judge_packets(found, device.link_layer(), device.mtu_bytes(), card.as_deref())
}

/// Large frames go faster in large packets; on Ethernet the interface's MTU decides.
fn judge_packets(found: String, link_layer: LinkLayer, mtu_bytes: u32, card: Option<&str>) -> Finding {
    if link_layer == LinkLayer::InfiniBand || mtu_bytes >= PACKET_BYTES_MAX {
        return Finding::fine(AREA, found);
    }
    let card = card.unwrap_or("INTERFACE");
    let mend = format!(
        "for packets of {PACKET_BYTES_MAX} bytes, where the switches pass them: ip link set {card} mtu 4200 (as root, on all machines)"
    );
    Finding::new(AREA, Severity::Fine, found, mend)
}

fn judge_port(port: &Port) -> Finding {
    let gids = port.gids.iter().map(|gid| {
        let version = match (port.link_layer, gid.roce_v2) {
            (LinkLayer::InfiniBand, _) => "",
            (LinkLayer::Ethernet, true) => " (RoCE v2)",
            (LinkLayer::Ethernet, false) => " (RoCE v1)",
        };
        format!("{}: {gid}{version}", gid.index)
    });
    let found = format!(
        "{} port {}: {}, {}, {}, addresses {}",
        port.device,
        port.number,
        port.state,
        port.link_layer,
        port.rate,
        gids.collect::<Vec<_>>().join(", ")
    );
    if port.is_active() {
        return Finding::fine("RDMA port", found);
    }
    let mend = match port.link_layer {
        LinkLayer::Ethernet => "ip link set INTERFACE up, and give it an address (rdma link shows which)",
        LinkLayer::InfiniBand => "see to the cable; a subnet manager must run (systemctl start opensm)",
    };
    Finding::new("RDMA port", Severity::Warning, found, mend)
}

/// A missing device matters only where it was demanded, or where the kernel has one.
fn judge_opening(opened: Result<Finding, VerbsError>, demanded: bool, ports: &[Port]) -> Finding {
    let error = match opened {
        Ok(usable) => return usable,
        Err(error) => error,
    };
    let severity = match (demanded, ports.is_empty()) {
        (true, _) => Severity::Problem,
        (false, false) => Severity::Warning,
        (false, true) => Severity::Fine,
    };
    // The error's text says after its first part what to do.
    let text = error.to_string();
    let (found, mend) = text.split_once("; ").unwrap_or((&text, "run keyrange with --log debug"));
    let both = match (&error, ports.is_empty()) {
        (VerbsError::NoLibrary { .. }, true) => format!("{found}; and no device in /sys/class/infiniband"),
        _ => found.to_owned(),
    };
    Finding::new(AREA, severity, both, mend)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_device_is_a_problem_only_where_one_is_wanted() {
        let severity =
            |demanded, ports: &[Port]| judge_opening(Err(VerbsError::NoDevice), demanded, ports).severity;
        let down = Port {
            device: "mlx5_0".into(),
            number: 1,
            state: "DOWN".into(),
            link_layer: LinkLayer::Ethernet,
            rate: "100 Gb/sec".into(),
            gids: vec![],
        };
        assert_eq!(severity(false, &[]), Severity::Fine);
        assert_eq!(severity(true, &[]), Severity::Problem);
        assert_eq!(severity(false, std::slice::from_ref(&down)), Severity::Warning);
        let finding = judge_port(&down);
        assert_eq!(finding.severity, Severity::Warning);
        assert!(
            finding.found.contains("mlx5_0 port 1: DOWN") && finding.mend.unwrap().contains("ip link set")
        );
    }

    #[test]
    fn small_packets_on_ethernet_can_be_mended() {
        let mend = |layer, bytes| judge_packets(String::new(), layer, bytes, Some("eth0")).mend;
        assert!(mend(LinkLayer::Ethernet, 1024).unwrap().contains("ip link set eth0 mtu 4200"));
        assert_eq!(mend(LinkLayer::Ethernet, 4096), None);
        assert_eq!(mend(LinkLayer::InfiniBand, 2048), None);
    }

    #[test]
    fn an_error_becomes_what_is_missing_and_what_to_type() {
        let finding = judge_opening(Err(VerbsError::NoLibrary { error: "not found".into() }), true, &[]);
        assert!(
            finding.found.contains("no RDMA library") && finding.found.contains("no device"),
            "{finding:?}"
        );
        assert!(finding.mend.unwrap().contains("libibverbs1"));
    }
}
