//! Staying level: a worker that the bound holds up in many clocks running is faster than somebody for good. From then on it
//! lets its lead melt, a clock at a time, and stays level with the others as long as they keep their pace.
//!
//! Level is as close as costs nothing. If its own clock has arrived and been acknowledged while the bound held it up, there
//! is time for a round trip in each clock, and it can wait until the others' last clocks are there. If not, it stays ahead by
//! one: a clock leaves when the one before has arrived, so the news takes no longer than a clock.
//!
//! Many clocks running, because a worker that stands still once in a while holds up the others too, and there a lead is what
//! keeps those going when it is this worker's turn to stand still.

use std::time::Duration;

/// Held up in so many clocks running is held up for good. With 8, stalls at random cost twice as much (at most 3.5 % of the
/// time of a job instead of 1.7 %, `slow_network staleness --stall-ms`, before a late clock was let pass).
const RUN: u32 = 12;
/// Held up is who waited at the bound for more than this part of a clock.
const HELD_PART: u32 = 8;

/// What the bound did in a clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// How long it held the worker up.
    pub time: Duration,
    /// By its end all clocks of the worker itself had arrived.
    pub has_arrived: bool,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Level {
    /// How many clocks running the bound has held the worker up, and the time they took; while it is to be level, how many
    /// running the others have kept their pace.
    run: u32,
    time: Duration,
    /// In one of them it was let go before its own clock had arrived.
    is_far: bool,
    /// The time the others take for a clock, while the worker is to be level with them, and how far ahead it may be.
    pace: Option<Duration>,
    lead_max: i64,
}

impl Level {
    pub fn is_on(&self) -> bool {
        self.pace.is_some()
    }

    /// How far ahead the worker may go on.
    pub fn lead_max(&self) -> i64 {
        self.lead_max
    }

    /// A clock has taken that long; its rows are there, and the worker is ahead by `lead`.
    pub fn takes(&mut self, clock: Duration, held: Held, lead: i64) {
        let melted = |lead: i64, is_far| (lead - 1).max(i64::from(is_far));
        if self.is_on() {
            self.lead_max = melted(self.lead_max, self.is_far);
        } else if held.time <= clock / HELD_PART {
            *self = Level::default();
        } else {
            (self.run, self.time) = (self.run + 1, self.time + clock);
            self.is_far |= !held.has_arrived;
            if self.run == RUN {
                (self.pace, self.run) = (Some(self.time / RUN), 0);
                self.lead_max = melted(lead, self.is_far);
            }
        }
    }

    /// How long the worker is to wait at most, when it is to be level: a quarter of a clock more than the others' pace says.
    /// They have two clocks to close at most, the one this worker has just closed and the one that melts.
    pub fn length(&self, lead: i64) -> Option<Duration> {
        let clocks = (lead - self.lead_max).clamp(0, 2) as u32;
        self.pace.map(|pace| pace * clocks + pace / 4)
    }

    /// It goes on with its next clock, ahead by `lead`. If that is too far still, the others have not kept their pace, which
    /// is let pass once in [`RUN`] clocks: the lead melts from there.
    pub fn goes_on(&mut self, lead: i64) {
        if lead <= self.lead_max {
            self.run = (self.run + 1).min(RUN);
        } else if self.run < RUN {
            *self = Level::default();
        } else {
            (self.run, self.lead_max) = (0, lead);
        }
    }
}
