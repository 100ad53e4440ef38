//! Findings about another machine, from a conversation with its doctor ([`super::visit`]).

use std::time::Duration;

use keyrange::manager::stream::Listener;
use keyrange::manager::{Address, Door};
use keyrange::node::carrier::CarrierWish;

use super::pair::{Facts, judge};
use super::visit::{Visit, receive, visit};
use super::{Finding, Severity};

const AREA: &str = "peer";

/// A round trip beyond this is no network of a cluster.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(2);

/// Calls the doctor at `peer`.
pub fn examine(carrier: CarrierWish, peer: &str, door: &Door, wait: Duration) -> Vec<Finding> {
    let address = match peer.parse::<Address>() {
        Ok(address) => address,
        Err(error) => {
            let mend = "write HOST:PORT; getent hosts HOST must answer: see /etc/hosts and /etc/resolv.conf";
            return vec![Finding::new(AREA, Severity::Problem, error.to_string(), mend)];
        }
    };
    let mine = Facts::of_this_machine(carrier);
    match visit(&address, door, &mine, wait) {
        Ok(visit) => judge_visit(carrier, &mine, &visit, &address),
        Err(error) => vec![unreachable(&address, &error)],
    }
}

/// Waits for another doctor's call.
pub fn await_visitor(carrier: CarrierWish, listener: &Listener, door: &Door, wait: Duration) -> Vec<Finding> {
    let mine = Facts::of_this_machine(carrier);
    let address = match listener.address() {
        Ok(address) => address,
        Err(error) => {
            return vec![Finding::new(AREA, Severity::Problem, error.to_string(), "choose another address")];
        }
    };
    let turned_away = |who: &str| eprintln!("turned away: {who}");
    match receive(listener, door, &mine, wait, &turned_away) {
        Ok((visitor, visit)) => {
            let mut findings = vec![Finding::fine(AREA, format!("{visitor} came"))];
            findings.extend(visit.theirs.iter().flat_map(|theirs| judge(carrier, &mine, theirs, &address)));
            findings.extend(judge_link(&visit));
            findings
        }
        Err(error) => {
            let mend = format!(
                "keyrange doctor --peer {address} on the other machine, with the same --job and secret"
            );
            vec![Finding::new(AREA, Severity::Problem, error, mend)]
        }
    }
}

fn unreachable(address: &Address, error: &str) -> Finding {
    // What to do depends on how it failed; the handshake's errors say it themselves.
    let mend = if error.contains("refused") {
        format!("start there: keyrange doctor --listen {address}")
    } else if error.contains("timed out") || error.contains("unreachable") || error.contains("No route") {
        "ping the host; a firewall must let TCP to that port pass (nft list ruleset, iptables -L)".into()
    } else {
        "both need the same --job and the same secret (--secret-file or KEYRANGE_SECRET)".into()
    };
    Finding::new(AREA, Severity::Problem, format!("{address}: {error}"), mend)
}

fn judge_visit(carrier: CarrierWish, mine: &Facts, visit: &Visit, address: &Address) -> Vec<Finding> {
    let reached = format!("{address} answers, connected in {}", milliseconds(visit.connect));
    let Some(theirs) = &visit.theirs else {
        let found = format!("{reached}; it is a manager or server of this job, which knows no carriers");
        let mend = "to learn which carrier the two machines would choose: keyrange doctor --listen there";
        return vec![Finding::new(AREA, Severity::Fine, found, mend)];
    };
    let mut findings = vec![Finding::fine(AREA, reached)];
    findings.extend(judge_echoes(&visit.echoes));
    findings.extend(judge(carrier, mine, theirs, address));
    findings.extend(judge_link(visit));
    findings
}

/// Sorted echoes over TCP.
fn judge_echoes(echoes: &[Duration]) -> Option<Finding> {
    const AREA: &str = "round trip";
    let (median, worst) = (*echoes.get(echoes.len() / 2)?, *echoes.last()?);
    let found =
        format!("64 bytes over the socket: median {}, worst {}", milliseconds(median), milliseconds(worst));
    Some(if median > ROUND_TRIP_MAX {
        let mend = "see that the address is one of the cluster's own network (ip route get HOST), not of a slow detour";
        Finding::new(AREA, Severity::Warning, found, mend)
    } else {
        Finding::fine(AREA, found)
    })
}

/// The link over verbs, if it was tried: where it fails, a job would.
fn judge_link(visit: &Visit) -> Option<Finding> {
    const AREA: &str = "verbs link";
    Some(match visit.verbs.as_ref()? {
        Ok(echoes) => match echoes.get(echoes.len() / 2) {
            Some(median) => Finding::fine(
                AREA,
                format!("tried: 64 bytes there and back in {} (median)", milliseconds(*median)),
            ),
            None => Finding::fine(AREA, "tried: frames came and went back"),
        },
        Err(error) => Finding::new(
            AREA,
            Severity::Problem,
            format!("tried: {error}"),
            "both ports must have addresses of one network (ip addr; GIDs above), and UDP port 4791 must pass the firewall; \
             --carrier tcp does without",
        ),
    })
}

fn milliseconds(time: Duration) -> String {
    format!("{:.3} ms", time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_depends_on_how_it_failed() {
        let address: Address = "10.0.0.2:7071".parse().unwrap();
        let mend = |error| unreachable(&address, error).mend.unwrap();
        assert!(mend("Connection refused (os error 111)").contains("doctor --listen tcp:10.0.0.2:7071"));
        assert!(mend("connection timed out").contains("firewall"));
        assert!(mend("the peer does not have this job's secret").contains("--secret-file"));
    }

    #[test]
    fn a_long_round_trip_is_a_warning_and_a_failed_link_a_problem() {
        let severity = |ms| judge_echoes(&[Duration::from_millis(ms)]).unwrap().severity;
        assert_eq!((severity(0), severity(26)), (Severity::Fine, Severity::Warning));
        let mut visit = Visit { connect: Duration::ZERO, theirs: None, echoes: vec![], verbs: None };
        assert_eq!(judge_link(&visit), None);
        visit.verbs = Some(Err("no frame".into()));
        assert_eq!(judge_link(&visit).unwrap().severity, Severity::Problem);
    }
}
