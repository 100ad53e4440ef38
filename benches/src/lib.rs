//! What the Criterion benches share: the limits of the machine, links with a thread at the other end, short settings.
//!
//! The benches guard against regressions inside one process; `keyrange bench` measures between processes, with
//! percentiles and CPU time, and is what recorded results come from. Read [`partner`] for how both sides of a link run.

use std::time::Duration;

use criterion::Criterion;

pub mod partner;

/// The limits `keyrange bench` prints too: one definition, so that both mean the same.
#[path = "../../engine/cli/src/bench/limits.rs"]
pub mod limits;

/// Short settings: about a second for each bench.
pub fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .configure_from_args()
}

/// The first two cores this process may use; on a machine with one, that one twice.
///
/// # Panics
/// If the system does not say which cores may be used.
pub fn two_cores() -> [usize; 2] {
    let cores = limits::usable_cores().expect("the cores of this process");
    [cores[0], *cores.get(1).unwrap_or(&cores[0])]
}
