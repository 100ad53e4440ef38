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
fn a_worker_that_is_ahead_waits_half_a_clock_and_no_longer() {
    let (mut linger, ms) = (Linger::default(), Duration::from_millis);
    assert_eq!(linger.holds(0, 0, ms(0)), None);
    assert_eq!(linger.holds(1, 1, ms(40)), Some(ms(60)));
    assert_eq!(linger.holds(1, 1, ms(59)), Some(ms(60)));
    assert_eq!(linger.holds(1, 0, ms(59)), None, "the others are there");
    assert_eq!(linger.holds(2, 0, ms(70)), None, "not ahead, no wait");
    assert_eq!(linger.holds(3, 1, ms(80)), Some(ms(85)));
    assert_eq!(linger.holds(3, 1, ms(85)), None, "half of 10 ms is over");
}

#[test]
fn waiting_in_vain_is_done_ever_more_rarely_and_again_when_it_helps() {
    let (mut linger, ms) = (Linger::default(), Duration::from_millis);
    let mut now = 0;
    // A clock of 10 ms of work; whether it waited, with that lead.
    let mut clock = |of: u64, lead: u64| {
        now += 10;
        let until = linger.holds(of, lead, ms(now));
        if until.is_some() {
            now += 5;
            assert_eq!(linger.holds(of, lead, ms(now)), None, "clock {of}");
        }
        until.is_some()
    };
    let waited: Vec<u64> = (0..200).filter(|&of| clock(of, 2)).collect();
    let pauses: Vec<u64> = waited.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.starts_with(&[2, 4, 8, 16, 32, 64]), "{pauses:?}");
    let next = (200..300).find(|&of| clock(of, 1)).expect("it tries again");
    assert!(clock(next + 1, 1), "the lead had become less");
}
