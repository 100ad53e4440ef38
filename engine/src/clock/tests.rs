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
    let mut clock = |of: u64, lead: i64| {
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

/// How far ahead the worker is when it goes on with each clock, and the time all clocks take: its work takes that long and the
/// others', in milliseconds, and so does the news of either.
fn leads(work: u64, others: impl Fn(u64) -> u64, news: u64, staleness: i64) -> (Vec<i64>, u64) {
    let (mut linger, ms) = (Linger::default(), Duration::from_millis);
    let (mut now, mut done, mut known, mut leads) = (0, 0, 0, Vec::new());
    for clock in 0..200 {
        let closed = now;
        let ahead = loop {
            while done + others(known) + news <= now {
                done += others(known);
                known += 1;
            }
            let lead = clock as i64 - known as i64;
            if lead > staleness {
                linger.hold_up(ms(now));
            } else {
                linger.let_go(closed + news <= now, ms(now));
                if linger.holds(clock, lead, ms(now)).is_none() {
                    break lead;
                }
            }
            now += 1;
        };
        leads.push(ahead);
        now += work;
    }
    (leads, now)
}

#[test]
fn a_worker_that_is_always_faster_comes_level_and_stays_so_in_no_more_time() {
    for others in [100, 150, 200, 400] {
        let (leads, time_ms) = leads(40, |_| others, 10, 8);
        assert_eq!(leads[..30].iter().max(), Some(&8), "the bound is used at first");
        assert!(leads[60..].iter().all(|&lead| lead <= 0), "{others} ms: {leads:?}");
        assert!(time_ms <= 199 * others + 10 + 40, "the slowest sets the pace: {time_ms} ms");
    }
}

#[test]
fn where_the_news_takes_long_it_stays_ahead_by_one() {
    let (leads, time_ms) = leads(40, |_| 100, 90, 8);
    assert!(leads[60..].iter().all(|&lead| lead == 1), "{leads:?}");
    assert!(time_ms <= 199 * 100 + 90 + 40, "{time_ms} ms");
}

#[test]
fn it_keeps_its_lead_where_the_bound_holds_it_up_now_and_then() {
    // The others stand still in every tenth clock: held up once, it works as fast as they do.
    let stalls = |clock: u64| if clock % 10 == 9 { 200 } else { 40 };
    let (leads, _) = leads(40, stalls, 1, 2);
    assert!(leads[60..].iter().filter(|&&lead| lead > 0).count() > 70, "{leads:?}");
}

#[test]
fn it_does_not_wait_for_long_once_the_others_are_slower_than_they_were() {
    let (leads, _) = leads(40, |clock| if clock < 100 { 100 } else { 1000 }, 10, 8);
    assert!(leads[60..99].iter().all(|&lead| lead <= 0), "{leads:?}");
    assert!(leads[105..115].contains(&8), "it uses its staleness anew: {leads:?}");
    assert!(leads[150..].iter().all(|&lead| lead <= 0), "and comes level with the new pace: {leads:?}");
}

#[test]
fn it_comes_level_again_at_once_when_the_others_stand_still_for_once() {
    let others = |clock: u64| if clock == 100 { 250 } else { 100 };
    let (leads, _) = leads(40, others, 10, 8);
    assert!(leads[60..99].iter().all(|&lead| lead <= 0), "{leads:?}");
    assert!(
        (1..=3).contains(leads[100..110].iter().max().unwrap()),
        "it did not wait all the time: {leads:?}"
    );
    assert!(leads[112..].iter().all(|&lead| lead <= 0), "{leads:?}");
}
