//! A moment for the others: a worker with eager rows that is ahead of what it knows of them waits for a part of a clock before
//! it goes on.
//!
//! Without it, a worker that once got ahead stays ahead by as much as its staleness allows, and reads rows as old as that
//! for good, waiting at the bound in every clock. Waiting a little earlier costs nothing then (the slowest sets the pace),
//! and the lead melts away. Where waiting brings nothing (somebody stands still, is slower by more than that part, or the
//! network takes longer) it is done ever more rarely, so that all of the staleness is there for those who need it.

use std::time::Duration;

/// A moment is this part of the time a clock's work takes, at most.
const PART: u32 = 2;
/// After waiting in vain again and again, no moment for up to so many clocks.
const REST_MAX: u32 = 63;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Linger {
    /// The clock being fetched and since when.
    fetching: Option<(u64, Duration)>,
    /// When the rows of the last clock were there.
    went_on: Option<Duration>,
    length: Duration,
    /// How far ahead it was after the last moment.
    lead: u64,
    /// Clocks until the next moment, and how many there were before it.
    resting: u32,
    rest: u32,
}

impl Linger {
    /// Until when a worker that could go on with `clock`, ahead of the others by `lead`, is to wait still. Once it says
    /// `None`, it goes on with that clock.
    pub fn holds(&mut self, clock: u64, lead: u64, now: Duration) -> Option<Duration> {
        let since = match self.fetching {
            Some((of, since)) if of == clock => since,
            _ => {
                let work = self.went_on.map_or(Duration::ZERO, |at| now.saturating_sub(at));
                self.length = if self.resting == 0 { work / PART } else { Duration::ZERO };
                self.resting = self.resting.saturating_sub(1);
                now
            }
        };
        self.fetching = Some((clock, since));
        if lead > 0 && now < since + self.length {
            return Some(since + self.length);
        }
        if !self.length.is_zero() {
            let helps = lead == 0 || lead < self.lead;
            self.rest = if helps { 0 } else { (2 * self.rest + 1).min(REST_MAX) };
            (self.lead, self.resting) = (lead, self.rest);
        }
        self.went_on = Some(now);
        None
    }
}
