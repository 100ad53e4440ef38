//! A moment for the others: a worker with eager rows that is ahead of what it knows of them waits a little before it goes on.
//!
//! Without it, a worker that once got ahead stays ahead by as much as its staleness allows, and reads rows as old as that
//! for good, waiting at the bound in every clock. Waiting a little earlier costs nothing then (the slowest sets the pace),
//! and the lead melts away.
//!
//! The moment is a part of a clock. Where that brings nothing (somebody stands still, is slower by more than that part, or
//! the network takes longer) it is done ever more rarely, so that all of the staleness is there for those who need it. Who is
//! slower by more, again and again, is what `level.rs` is for.

use std::time::Duration;

use super::level::{Held, Level};

/// A moment is this part of the time a clock takes, at most.
const PART: u32 = 2;
/// After waiting in vain again and again, no moment for up to so many clocks.
const REST_MAX: u32 = 63;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Linger {
    /// Since when the bound holds this clock up, and what it did once it let it go.
    at_bound: Option<Duration>,
    held: Held,
    /// The clock whose rows are there, and since when.
    fetched: Option<(u64, Duration)>,
    /// When it went on with the last clock.
    went_on: Option<Duration>,
    length: Duration,
    level: Level,
    /// How far ahead it was after the last moment.
    lead: i64,
    /// Clocks until the next moment, and how many there were before it.
    resting: u32,
    rest: u32,
}

impl Linger {
    /// The bound stands against the next clock.
    pub fn hold_up(&mut self, now: Duration) {
        self.at_bound.get_or_insert(now);
    }

    /// The bound does not, or no longer, stand against the next clock. `has_arrived`: all clocks of this worker have.
    pub fn let_go(&mut self, has_arrived: bool, now: Duration) {
        if let Some(since) = self.at_bound.take() {
            self.held = Held { time: now.saturating_sub(since), has_arrived };
        }
    }

    /// Until when a worker whose rows of `clock` are there, ahead of the others by `lead`, is to wait still. Once it says
    /// `None`, it goes on with that clock.
    pub fn holds(&mut self, clock: u64, lead: i64, now: Duration) -> Option<Duration> {
        let since = match self.fetched {
            Some((of, since)) if of == clock => since,
            _ => {
                self.begin(lead, now);
                now
            }
        };
        self.fetched = Some((clock, since));
        if lead > self.level.lead_max() && now < since + self.length {
            return Some(since + self.length);
        }
        if self.level.is_on() {
            self.level.goes_on(lead);
        } else if !self.length.is_zero() {
            let helps = lead <= 0 || lead < self.lead;
            self.rest = if helps { 0 } else { (2 * self.rest + 1).min(REST_MAX) };
            (self.lead, self.resting) = (lead, self.rest);
        }
        self.went_on = Some(now);
        None
    }

    /// How long the moment may be, now that the rows of a clock are there.
    fn begin(&mut self, lead: i64, now: Duration) {
        let clock = self.went_on.map_or(Duration::ZERO, |at| now.saturating_sub(at));
        self.level.takes(clock, std::mem::take(&mut self.held), lead);
        let moment = if self.resting == 0 { clock / PART } else { Duration::ZERO };
        self.length = self.level.length(lead).unwrap_or(moment);
        self.resting = self.resting.saturating_sub(1);
    }
}
