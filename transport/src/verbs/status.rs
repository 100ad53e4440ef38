//! What a failed completion means for the link (`enum ibv_wc_status`).

use crate::link::LinkEnd;

/// Whose fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Nobody acknowledges: the peer's process, host or cable.
    Silence,
    /// The peer's device refused what we did to the memory it offered.
    Refusal,
    /// The peer did something to us that our device refused.
    Intrusion,
    /// The queue pair had failed before; another completion or event says why.
    Aftermath,
    /// This side's device, or a bug of ours.
    Here,
}

/// Every status but success, by number.
const CAUSES: [Cause; 23] = [
    Cause::Intrusion, // 1 local length: more than a receive holds, and ours hold nothing
    Cause::Here,      // 2 local queue pair operation
    Cause::Here,      // 3 local end-to-end context operation
    Cause::Here,      // 4 local protection: a piece of ours is not registered
    Cause::Aftermath, // 5 flushed
    Cause::Here,      // 6 memory window binding
    Cause::Intrusion, // 7 bad response
    Cause::Intrusion, // 8 local access: outside the memory offered
    Cause::Refusal,   // 9 remote invalid request
    Cause::Refusal,   // 10 remote access
    Cause::Refusal,   // 11 remote operation
    Cause::Silence,   // 12 transport retries exceeded
    Cause::Silence,   // 13 receiver-not-ready retries exceeded
    Cause::Here,      // 14 local domain violation
    Cause::Refusal,   // 15 remote invalid read request
    Cause::Refusal,   // 16 remote aborted
    Cause::Here,      // 17 invalid end-to-end context number
    Cause::Here,      // 18 invalid end-to-end context state
    Cause::Here,      // 19 fatal
    Cause::Silence,   // 20 response timeout
    Cause::Here,      // 21 general
    Cause::Here,      // 22 tag matching
    Cause::Here,      // 23 tag matching rendezvous incomplete
];

/// The link's end for a completion of `status` on `device`; `detail` is the library's text.
pub(super) fn end_of(status: u32, device: &str, detail: &str) -> LinkEnd {
    let cause = (status as usize).checked_sub(1).and_then(|at| CAUSES.get(at)).unwrap_or(&Cause::Here);
    match cause {
        Cause::Silence => LinkEnd::PeerGone(format!("its device does not answer: {detail}")),
        Cause::Refusal => {
            let text = format!("its device refused our WRITE into the memory it offered: {detail}");
            LinkEnd::Protocol(text)
        }
        Cause::Intrusion => {
            let text =
                format!("RDMA device {device} refused what it sent: expected WRITEs into our ring: {detail}");
            LinkEnd::Protocol(text)
        }
        Cause::Aftermath => LinkEnd::Os(format!("RDMA device {device} ended the queue pair: {detail}")),
        Cause::Here => LinkEnd::Os(format!("RDMA device {device}: {detail}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_names_its_cause() {
        // IBTA 11.6.2: retries exceeded (two kinds), response timeout.
        let silent = [12, 13, 20];
        // Lengths, responses, access and requests that one side's device refused the other's.
        let peers_fault = [1, 7, 8, 9, 10, 11, 15, 16];
        // Numbers that no library of today uses are faults of this side's device.
        for status in (1..40).chain([u32::MAX]) {
            let end = end_of(status, "rxe0", "the library's words");
            let as_expected = match &end {
                LinkEnd::PeerGone(_) => silent.contains(&status),
                LinkEnd::Protocol(_) => peers_fault.contains(&status),
                LinkEnd::Os(text) => {
                    text.contains("rxe0") && !silent.contains(&status) && !peers_fault.contains(&status)
                }
                _ => false,
            };
            assert!(as_expected && end.to_string().contains("the library's words"), "{status}: {end:?}");
        }
        let flushed = end_of(5, "rxe0", "").to_string();
        assert!(flushed.contains("ended the queue pair"), "{flushed}");
    }
}
