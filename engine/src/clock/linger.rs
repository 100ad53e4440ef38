//! A moment for the others: a worker with eager rows that is ahead waits for a part of a clock before it goes on.
//!
//! Without it, a worker that once got ahead stays ahead by as much as its staleness allows, and reads rows as old as that
//! for good, waiting at the bound in every clock. Waiting a little earlier costs nothing then (the slowest sets the pace),
//! and the lead melts away; if the others really stall, the worker loses a quarter of its time at most and is free for
//! all of its staleness.

use std::time::Duration;

/// A moment is this part of the time from one clock's rows to the next one's.
const PART: u32 = 4;
/// And no longer than this.
const LONGEST: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Linger {
    /// The clock being fetched and since when.
    fetching: Option<(u64, Duration)>,
    /// When the rows of the last clock were there.
    went_on: Option<Duration>,
    length: Duration,
}

impl Linger {
    /// Until when a worker that could go on with `clock` is to wait still. Once it says `None`, it goes on with that clock.
    pub fn holds(&mut self, clock: u64, is_ahead: bool, now: Duration) -> Option<Duration> {
        let since = match self.fetching {
            Some((of, since)) if of == clock => since,
            _ => {
                let last = self.went_on.map_or(Duration::ZERO, |at| now.saturating_sub(at));
                self.length = (last / PART).min(LONGEST);
                now
            }
        };
        self.fetching = Some((clock, since));
        if is_ahead && now < since + self.length {
            return Some(since + self.length);
        }
        self.went_on = Some(now);
        None
    }
}
