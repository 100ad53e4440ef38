//! The network: whether ports can be had here, and whether the manager's name leads somewhere.

use std::net::TcpListener;

use keyrange::manager::Address;

use super::{Finding, Severity};

/// A port of the loopback, and the manager's address if one was given.
pub fn examine(manager: Option<&str>) -> Vec<Finding> {
    let mut findings = vec![judge_ports(TcpListener::bind("127.0.0.1:0").map(drop))];
    findings.extend(manager.map(judge_manager));
    findings
}

fn judge_ports(bound: std::io::Result<()>) -> Finding {
    match bound {
        Ok(()) => Finding::fine("ports", "a free TCP port can be had on the loopback"),
        Err(error) => Finding::new(
            "ports",
            Severity::Problem,
            format!("no TCP port can be had on the loopback: {error}"),
            "ip link set lo up; see that the range in /proc/sys/net/ipv4/ip_local_port_range is not used up (ss -s)",
        ),
    }
}

fn judge_manager(manager: &str) -> Finding {
    const AREA: &str = "manager";
    match manager.parse::<Address>() {
        Ok(address) => Finding::fine(AREA, format!("{manager} is {address}")),
        Err(error) => Finding::new(
            AREA,
            Severity::Problem,
            error.to_string(),
            "write unix:NAME or tcp:HOST:PORT; getent hosts HOST must answer: see /etc/hosts and /etc/resolv.conf",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_nowhere_is_a_problem() {
        assert_eq!(judge_manager("tcp:127.0.0.1:80").severity, Severity::Fine);
        let finding = judge_manager("no port at all");
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.mend.unwrap().contains("getent hosts"));
    }
}
