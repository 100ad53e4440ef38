//! When to stop spinning: a value, fed with times, that knows no clock.

use std::time::Duration;

/// Not crowded: poll back to back for so long...
const SPIN: Duration = Duration::from_micros(30);
/// ...then with a yield between polls for so long, then park. An idle core costs nothing to burn for a millisecond,
/// and a wake from an idle core costs 50 microseconds.
const YIELD: Duration = Duration::from_millis(1);
/// Crowded: yield so often, then park. A yield among others that yield takes a microsecond or less and hands the core to
/// whoever works; a park takes its `membarrier`, which interrupts every core, and a wake behind whoever computes just then,
/// 50 to 80 microseconds in all. So the patience is several times that, as long as there is a job to wait for.
const CROWDED_YIELDS: u32 = 300;
/// A yield that takes longer than this let another thread run.
const LONG_YIELD: Duration = Duration::from_micros(2);
/// Rounds between looks at the clock while spinning.
pub(super) const ROUNDS_PER_LOOK: u32 = 32;
/// Spinning rounds between yields that only measure.
const ROUNDS_PER_PROBE: u32 = 2048;
/// How far the evidence counts either way.
const EVIDENCE_MAX: i32 = 16;

/// What to do before polling again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Spin,
    Yield,
    Park,
}

/// The state of one waiter's patience.
#[derive(Debug)]
pub(super) struct Budget {
    /// Rounds since work was last found.
    rounds: u32,
    /// Above zero: other threads want this core. Moved by how long yields take.
    evidence: i32,
}

impl Budget {
    pub(super) fn new(crowded: bool) -> Self {
        Self { rounds: 0, evidence: if crowded { EVIDENCE_MAX } else { -EVIDENCE_MAX } }
    }

    pub(super) fn crowded(&self) -> bool {
        self.evidence > 0
    }

    /// Work was found: patience starts anew.
    #[inline]
    pub(super) fn reset(&mut self) {
        self.rounds = 0;
    }

    /// Counts a round; false if it needs no look at the clock because it spins anyway.
    #[inline]
    pub(super) fn next_round(&mut self) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        self.crowded() || self.rounds == 1 || self.rounds.is_multiple_of(ROUNDS_PER_LOOK)
    }

    /// What this round is for, `idle` after work was last found.
    pub(super) fn step(&self, idle: Duration) -> Step {
        if self.crowded() {
            return if self.rounds <= CROWDED_YIELDS { Step::Yield } else { Step::Park };
        }
        if idle >= YIELD {
            Step::Park
        } else if idle >= SPIN || self.rounds.is_multiple_of(ROUNDS_PER_PROBE) {
            Step::Yield
        } else {
            Step::Spin
        }
    }

    /// Learns from a yield.
    pub(super) fn yielded(&mut self, took: Duration) {
        // A long yield is strong evidence; short ones must repeat, since the others may merely be parked for now.
        let change = if took >= LONG_YIELD { 4 } else { -1 };
        self.evidence = (self.evidence + change).clamp(-EVIDENCE_MAX, EVIDENCE_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rounds_until_park(budget: &mut Budget, round: Duration) -> u32 {
        budget.reset();
        (0..).find(|&n| budget.next_round() && budget.step(round * n) == Step::Park).unwrap()
    }

    #[test]
    fn alone_it_spins_then_yields_then_parks() {
        let mut budget = Budget::new(false);
        assert!(budget.next_round());
        assert_eq!(budget.step(Duration::ZERO), Step::Spin);
        assert_eq!(budget.step(SPIN), Step::Yield);
        assert_eq!(budget.step(YIELD), Step::Park);
        assert!(rounds_until_park(&mut budget, Duration::from_nanos(100)) >= 9_000);
    }

    #[test]
    fn among_many_threads_it_parks_after_a_few_yields_and_learns_that_they_left() {
        let mut budget = Budget::new(true);
        assert_eq!(rounds_until_park(&mut budget, Duration::from_micros(1)), CROWDED_YIELDS);
        for _ in 0..EVIDENCE_MAX {
            budget.yielded(Duration::from_nanos(300));
        }
        assert!(!budget.crowded());
        budget.yielded(Duration::from_micros(50));
        assert!(budget.crowded());
    }

    #[test]
    fn endless_waiting_never_wraps_back_to_spinning() {
        let mut budget = Budget::new(true);
        budget.rounds = u32::MAX - 1;
        for _ in 0..4 {
            budget.next_round();
            assert_eq!(budget.step(Duration::ZERO), Step::Park);
        }
    }
}
