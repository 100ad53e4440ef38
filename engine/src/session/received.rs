//! The shard's memory of the requests of one session.

/// The largest window a session can have.
pub const WINDOW_MAX: usize = 1 << 20;

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was applied (or waits to be, with its effect already promised).
    Applied,
    /// It was refused and had no effect.
    Refused,
}

/// What to do with a request number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Never seen: handle it, then [`Received::record`] it.
    New,
    /// A repetition of a request with this outcome: answer again, apply nothing.
    Repeated(Outcome),
    /// So old that the worker must have had its answer: drop it.
    Ancient,
    /// Further ahead than any correct worker can be (or 0).
    Impossible,
}

/// Outcomes of the last `window` request numbers, two bits each.
#[derive(Debug, Clone)]
pub struct Received {
    seen: Box<[u64]>,
    refused: Box<[u64]>,
    newest: u64,
}

impl Received {
    /// Remembers `window` numbers, rounded up to a power of two from 64 to [`WINDOW_MAX`].
    pub fn new(window: usize) -> Received {
        let words = window.clamp(64, WINDOW_MAX).next_power_of_two() / 64;
        let zeros = || vec![0; words].into_boxed_slice();
        Received { seen: zeros(), refused: zeros(), newest: 0 }
    }

    /// Numbers remembered.
    #[inline]
    pub fn window(&self) -> u64 {
        self.seen.len() as u64 * 64
    }

    /// The highest number recorded, 0 before the first.
    pub fn newest(&self) -> u64 {
        self.newest
    }

    #[inline]
    fn place(&self, sequence: u64) -> (usize, u64) {
        ((sequence / 64) as usize & (self.seen.len() - 1), 1 << (sequence % 64))
    }

    /// Judges `sequence` without changing anything.
    #[inline]
    pub fn check(&self, sequence: u64) -> Verdict {
        if sequence > self.newest {
            let ahead = sequence - self.newest;
            return if ahead <= self.window() { Verdict::New } else { Verdict::Impossible };
        }
        if sequence == 0 {
            return Verdict::Impossible;
        }
        if self.newest - sequence >= self.window() {
            return Verdict::Ancient;
        }
        let (word, bit) = self.place(sequence);
        match (self.seen[word] & bit != 0, self.refused[word] & bit != 0) {
            (false, _) => Verdict::New,
            (true, false) => Verdict::Repeated(Outcome::Applied),
            (true, true) => Verdict::Repeated(Outcome::Refused),
        }
    }

    /// Records the outcome of a number judged [`Verdict::New`].
    #[inline]
    pub fn record(&mut self, sequence: u64, outcome: Outcome) {
        debug_assert_eq!(self.check(sequence), Verdict::New);
        while self.newest < sequence {
            self.newest += 1;
            let (word, bit) = self.place(self.newest);
            self.seen[word] &= !bit;
            self.refused[word] &= !bit;
        }
        let (word, bit) = self.place(sequence);
        self.seen[word] |= bit;
        if outcome == Outcome::Refused {
            self.refused[word] |= bit;
        }
    }

    /// Makes a recorded number a refused one: what had been promised could not be done. Nothing if it is forgotten.
    pub fn refuse(&mut self, sequence: u64) {
        if matches!(self.check(sequence), Verdict::Repeated(_)) {
            let (word, bit) = self.place(sequence);
            self.refused[word] |= bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn verdicts_are_those_of_a_memory_that_forgets_nothing(steps in prop::collection::vec((0..200u64, any::<bool>()), 1..400)) {
            let mut received = Received::new(64);
            let (mut all, mut newest) = (HashMap::new(), 0u64);
            for (back, refused) in steps {
                let sequence = (newest + 70).saturating_sub(back);
                let expected = match all.get(&sequence) {
                    _ if sequence == 0 || sequence > newest + 64 => Verdict::Impossible,
                    _ if sequence + 64 <= newest => Verdict::Ancient,
                    Some(&outcome) => Verdict::Repeated(outcome),
                    None => Verdict::New,
                };
                prop_assert_eq!(received.check(sequence), expected);
                if expected == Verdict::New {
                    let outcome = if refused { Outcome::Refused } else { Outcome::Applied };
                    received.record(sequence, outcome);
                    all.insert(sequence, outcome);
                    newest = newest.max(sequence);
                }
            }
        }
    }
}
