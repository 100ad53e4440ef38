//! The network: whether ports can be had here, how many are left, and whether the manager's name leads somewhere.

use std::collections::BTreeSet;
use std::net::TcpListener;

use keyrange::manager::Address;

use super::{Finding, Severity, line};

/// A job with thousands of links has trouble with fewer free ports.
const PORTS_MIN: usize = 1000;

/// A port of the loopback, and the manager's address if one was given.
pub fn examine(manager: Option<&str>) -> Vec<Finding> {
    let range = line("/proc/sys/net/ipv4/ip_local_port_range");
    let used =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let left = range.as_deref().and_then(|range| ports_left(range, &used));
    let mut findings = vec![judge_ports(TcpListener::bind("127.0.0.1:0").map(drop), left)];
    findings.extend(manager.map(judge_manager));
    findings
}

/// Ports that the kernel may give away, and how many of them nobody has: of a range as in "32768 60999" and the kernel's tables.
fn ports_left(range: &str, tables: &[String]) -> Option<(u16, u16, usize)> {
    let (first, last) = range.split_once(char::is_whitespace)?;
    let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // "   0: 0100007F:1F90 00000000:0000 0A ...": the local port in hexadecimal.
    let port = |line: &str| u16::from_str_radix(line.split_whitespace().nth(1)?.rsplit_once(':')?.1, 16).ok();
    let used: BTreeSet<u16> = tables.iter().flat_map(|table| table.lines().filter_map(port)).collect();
    let all = usize::from(last.checked_sub(first)?) + 1;
    Some((first, last, all - used.range(first..=last).count()))
}

fn judge_ports(bound: std::io::Result<()>, left: Option<(u16, u16, usize)>) -> Finding {
    const AREA: &str = "ports";
    let range =
        left.map_or(String::new(), |(first, last, left)| format!("; {left} of {first} to {last} are free"));
    if let Err(error) = bound {
        return Finding::new(
            AREA,
            Severity::Problem,
            format!("no TCP port can be had on the loopback: {error}{range}"),
            "ip link set lo up; ss -s shows who has the ports; more: sysctl -w net.ipv4.ip_local_port_range='15000 60999'",
        );
    }
    let found = format!("a free TCP port can be had on the loopback{range}");
    match left {
        Some((.., left)) if left < PORTS_MIN => Finding::new(
            AREA,
            Severity::Warning,
            found,
            "ss -s shows who has the ports; more: sysctl -w net.ipv4.ip_local_port_range='15000 60999'",
        ),
        _ => Finding::fine(AREA, found),
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
    fn ports_are_counted_and_few_are_a_warning() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:8000 00000000:0000 0A\n   1: 0100007F:0016 0A".to_owned();
        assert_eq!(ports_left("32768\t60999", std::slice::from_ref(&table)), Some((32768, 60999, 28231)));
        assert_eq!(ports_left("nonsense", &[]), None);
        assert_eq!(judge_ports(Ok(()), Some((1, 500, 500))).severity, Severity::Warning);
        assert_eq!(judge_ports(Ok(()), Some((1, 5000, 5000))).severity, Severity::Fine);
        assert_eq!(judge_ports(Ok(()), None).severity, Severity::Fine);
        assert_eq!(
            judge_ports(Err(std::io::ErrorKind::AddrNotAvailable.into()), None).severity,
            Severity::Problem
        );
    }

    #[test]
    fn an_address_that_leads_nowhere_is_a_problem() {
        assert_eq!(judge_manager("tcp:127.0.0.1:80").severity, Severity::Fine);
        let finding = judge_manager("no port at all");
        assert_eq!(finding.severity, Severity::Problem);
        assert!(finding.mend.unwrap().contains("getent hosts"));
    }
}
