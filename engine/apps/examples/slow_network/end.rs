//! What a run came to.

/// What a run came to.
#[derive(Default)]
pub struct End {
    /// Seconds and test error after each epoch of the slowest.
    pub curve: Vec<(f64, f64)>,
    pub seconds: f64,
    pub behind: Vec<u64>,
    /// How far rows were, when read, from the sum of all increments made so far anywhere, relative to that.
    pub distance: f64,
    /// The mean over reads of a row's own relative distance, at most 1.
    pub distance_by_row: f64,
    pub rows_pulled: u64,
    pub rows_pushed: u64,
    pub bytes: u64,
    pub early_bytes: u64,
}

impl End {
    /// Mean and variance of the staleness of reads.
    pub fn moments(&self) -> (f64, f64) {
        let all = self.behind.iter().sum::<u64>().max(1) as f64;
        let sum = |of: &dyn Fn(f64) -> f64| {
            self.behind
                .iter()
                .zip(1..)
                .map(|(&count, behind)| of(-f64::from(behind)) * count as f64)
                .sum::<f64>()
                / all
        };
        let mean = sum(&|value| value);
        (mean, sum(&|value| (value - mean).powi(2)))
    }

    /// Seconds until the error is `goal`, between two epochs in proportion.
    pub fn seconds_to(&self, goal: f64) -> f64 {
        let mut before = (0.0, f64::INFINITY);
        for &(at, error) in &self.curve {
            if error <= goal {
                let share = if before.1.is_finite() && before.1 > error {
                    (before.1 - goal) / (before.1 - error)
                } else {
                    1.0
                };
                return before.0 + share * (at - before.0);
            }
            before = (at, error);
        }
        f64::NAN
    }
}
