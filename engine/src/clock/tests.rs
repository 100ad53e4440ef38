use std::time::Duration;

use super::linger::Linger;
use super::{ClockError, ClockedConfig, Staleness};

#[test]
fn a_staleness_is_a_number_from_0_or_unbounded() {
    assert_eq!("3".parse::<Staleness>().unwrap().oldest_at(7), 4);
    assert_eq!("3".parse::<Staleness>().unwrap().oldest_at(2), 0);
    assert_eq!("unbounded".parse::<Staleness>().unwrap(), Staleness::UNBOUNDED);
    assert_eq!(Staleness::UNBOUNDED.oldest_at(u64::MAX), 0);
    for wrong in ["-1", "", "x", "1.5", "Unbounded"] {
        let error = wrong.parse::<Staleness>().unwrap_err();
        assert!(
            matches!(error, ClockError::Staleness { .. }) && error.to_string().contains(wrong),
            "{error}"
        );
    }
    assert!(Staleness::bounded(-1).unwrap_err().to_string().contains("-1"));
}

#[test]
fn a_value_bound_needs_eager_rows() {
    let config = |eager, bound| ClockedConfig {
        eager,
        value_bound: Some(bound),
        ..ClockedConfig::new(Staleness::NONE)
    };
    assert!(config(true, 0.5).check().is_ok());
    for wrong in [config(false, 0.5), config(true, 0.0), config(true, f64::NAN)] {
        assert!(matches!(wrong.check(), Err(ClockError::ValueBound { .. })));
    }
}

#[test]
fn a_worker_that_is_ahead_waits_a_quarter_of_a_clock_and_no_longer() {
    let (mut linger, ms) = (Linger::default(), Duration::from_millis);
    assert_eq!(linger.holds(0, false, ms(0)), None);
    assert_eq!(linger.holds(1, true, ms(40)), Some(ms(50)));
    assert_eq!(linger.holds(1, true, ms(49)), Some(ms(50)));
    assert_eq!(linger.holds(1, true, ms(50)), None, "a quarter of 40 ms is over");
    assert_eq!(linger.holds(2, false, ms(60)), None, "not ahead, no wait");
}
