//! Two machines together: which carrier they would choose, and why not a better one. A pure judgement of what both said.

use keyrange::manager::{Address, HostFingerprint};
use keyrange::node::carrier::{CarrierWish, VerbsPorts, route};
use keyrange_transport::link::CarrierKind;
use keyrange_transport::verbs::{Device, Selection};
use serde::{Deserialize, Serialize};

use super::{Finding, Severity};

/// What one machine tells another. Texts are bounded by the line they travel in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The program's release.
    pub version: String,
    /// Which host and network namespace.
    pub host: HostFingerprint,
    /// Its RDMA port: what its packets travel in, or why there is none.
    pub verbs: Result<Port, String>,
    /// Whether the carrier wished for may be verbs.
    pub may_be_verbs: bool,
    /// Whether it must be, also on one host.
    pub must_be_verbs: bool,
}

/// An RDMA port that was opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// As nodes tell it each other: only equal ones can talk.
    pub link_layer: String,
    /// For people.
    pub name: String,
}

impl Facts {
    /// This machine's, for a job over `carrier`.
    pub fn of_this_machine(carrier: CarrierWish) -> Self {
        let port = Device::open(&Selection::default()).map(|device| Port {
            link_layer: device.link_layer().to_string(),
            name: format!("{} port {}", device.name(), device.port()),
        });
        Facts {
            version: env!("CARGO_PKG_VERSION").into(),
            host: HostFingerprint::of_this_process(),
            verbs: port.map_err(|error| error.to_string()),
            may_be_verbs: matches!(carrier, CarrierWish::Auto | CarrierWish::Verbs),
            must_be_verbs: carrier == CarrierWish::Verbs,
        }
    }

    fn link_layer(&self) -> Option<&str> {
        self.verbs.as_ref().ok().map(|port| port.link_layer.as_str())
    }
}

/// Whether a job would use verbs between the two, so that a link is to be tried. Both sides come to the same answer.
pub fn shall_try_verbs(mine: &Facts, theirs: &Facts) -> bool {
    let fits = mine.link_layer().is_some() && mine.link_layer() == theirs.link_layer();
    let apart = mine.host != theirs.host || mine.must_be_verbs || theirs.must_be_verbs;
    fits && apart && mine.may_be_verbs && theirs.may_be_verbs
}

/// Releases, and the carrier of a worker here and a server there that listens at `address`.
pub fn judge(carrier: CarrierWish, mine: &Facts, theirs: &Facts, address: &Address) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mine.version != theirs.version {
        findings.push(Finding::new(
            "release",
            Severity::Warning,
            format!("{} here, {} there", mine.version, theirs.version),
            "install the same release on all machines",
        ));
    }
    findings.push(judge_carrier(carrier, mine, theirs, address));
    findings
}

fn judge_carrier(carrier: CarrierWish, mine: &Facts, theirs: &Facts, address: &Address) -> Finding {
    const AREA: &str = "carrier";
    let verbs = VerbsPorts { mine: mine.link_layer(), theirs: theirs.link_layer() };
    // A server always has a name of its host, and listens where others reach it if it is told to.
    let listens = [Address::Unix("server".into()), address.clone()];
    match route(carrier, &mine.host, &theirs.host, &listens, verbs) {
        Err(error) => Finding::new(AREA, Severity::Problem, error.to_string(), lack(mine, theirs)),
        Ok(route) => {
            let found = format!("{}: {}", route.kind, route.reason);
            match (route.kind, carrier) {
                (CarrierKind::Tcp, CarrierWish::Auto) => {
                    Finding::new(AREA, Severity::Fine, found, format!("for RDMA: {}", lack(mine, theirs)))
                }
                _ => Finding::fine(AREA, found),
            }
        }
    }
}

/// What stands between the two machines and RDMA.
fn lack(mine: &Facts, theirs: &Facts) -> String {
    let missing =
        |place: &str, facts: &Facts| facts.verbs.as_ref().err().map(|error| format!("{place}: {error}"));
    let missing: Vec<_> = [missing("here", mine), missing("there", theirs)].into_iter().flatten().collect();
    match (&mine.verbs, &theirs.verbs) {
        (Ok(here), Ok(there)) => format!(
            "ports of one kind on both machines: {} ({}) here, {} ({}) there",
            here.name, here.link_layer, there.name, there.link_layer
        ),
        _ => missing.join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(host: &str, verbs: Result<&str, &str>) -> Facts {
        Facts {
            version: "1".into(),
            host: HostFingerprint { boot_id: host.into(), net_namespace: 1 },
            verbs: verbs
                .map(|layer| Port { link_layer: layer.into(), name: "mlx5_0 port 1".into() })
                .map_err(Into::into),
            may_be_verbs: true,
            must_be_verbs: false,
        }
    }

    fn carrier(wish: CarrierWish, mine: &Facts, theirs: &Facts) -> Finding {
        let findings = judge(wish, mine, theirs, &"10.0.0.2:7071".parse().unwrap());
        findings.into_iter().find(|finding| finding.area == "carrier").unwrap()
    }

    #[test]
    fn the_carrier_is_the_one_that_nodes_would_take() {
        let (ethernet, none) = (facts("a", Ok("Ethernet")), facts("b", Err("no RDMA device")));
        let same = carrier(CarrierWish::Auto, &ethernet, &ethernet);
        assert_eq!((same.severity, same.found.as_str()), (Severity::Fine, "shm: same host"));
        let far = facts("b", Ok("Ethernet"));
        assert!(carrier(CarrierWish::Auto, &ethernet, &far).found.starts_with("verbs"));
        assert!(shall_try_verbs(&ethernet, &far) && !shall_try_verbs(&ethernet, &none));
        assert!(!shall_try_verbs(&ethernet, &ethernet));
        assert!(shall_try_verbs(&Facts { must_be_verbs: true, ..ethernet.clone() }, &ethernet));
        assert!(!shall_try_verbs(&ethernet, &facts("b", Ok("InfiniBand"))));
        let tcp = carrier(CarrierWish::Auto, &ethernet, &none);
        assert_eq!((tcp.severity, tcp.found.as_str()), (Severity::Fine, "tcp: another host, RDMA only here"));
        assert_eq!(tcp.mend.unwrap(), "for RDMA: there: no RDMA device");
    }

    #[test]
    fn a_carrier_that_cannot_be_had_is_a_problem_that_names_what_lacks() {
        let (ethernet, none) = (facts("a", Ok("Ethernet")), facts("b", Err("no RDMA device")));
        let finding = carrier(CarrierWish::Verbs, &ethernet, &none);
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.mend.unwrap().contains("there: no RDMA device"));
        let other = facts("b", Ok("InfiniBand"));
        let finding = carrier(CarrierWish::Verbs, &ethernet, &other);
        assert!(finding.mend.unwrap().contains("(InfiniBand) there"));
        assert_eq!(carrier(CarrierWish::Shm, &ethernet, &other).severity, Severity::Problem);
    }

    #[test]
    fn different_releases_are_a_warning() {
        let mut there = facts("b", Err("none"));
        there.version = "2".into();
        let findings =
            judge(CarrierWish::Auto, &facts("a", Err("none")), &there, &"10.0.0.2:1".parse().unwrap());
        assert_eq!((findings[0].area, findings[0].severity), ("release", Severity::Warning));
    }
}
