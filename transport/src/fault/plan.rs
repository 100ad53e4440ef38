//! What faults are wanted, read from text, and the fate of each frame.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Frames that a delayed frame lets pass, unless the plan says otherwise.
const DELAY_FRAMES: u32 = 8;
/// The longest delay, which bounds how many frames are kept back.
const DELAY_FRAMES_MAX: u32 = 1024;

/// A schedule of faults. From text: `seed=7,drop=0.01,dup=0.01,delay=0.02,delay_frames=8,reorder=0.01,kill=1000`.
///
/// Each frame meets at most one of drop, dup, delay and reorder, so their probabilities sum to at most 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultPlan {
    /// Decides everything below that has a probability.
    pub seed: u64,
    /// Probability that a frame is accepted and never sent.
    pub drop: f64,
    /// Probability that a frame is sent twice.
    pub duplicate: f64,
    /// Probability that a frame is kept back until `delay_frames` later ones were accepted.
    pub delay: f64,
    /// How many frames pass a delayed one, 1 to 1024.
    pub delay_frames: u32,
    /// Probability that a frame changes places with the next.
    pub reorder: f64,
    /// After this many accepted frames the link ends without a close.
    pub kill_after: Option<u64>,
}

impl Default for FaultPlan {
    fn default() -> Self {
        FaultPlan {
            seed: 0,
            drop: 0.0,
            duplicate: 0.0,
            delay: 0.0,
            delay_frames: DELAY_FRAMES,
            reorder: 0.0,
            kill_after: None,
        }
    }
}

/// Why a text is no plan.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FaultError {
    /// A part is not `key=value`.
    #[error("fault plan: expected key=value, got {got:?}")]
    NotAPair {
        /// The part.
        got: String,
    },
    /// No such fault.
    #[error(
        "fault plan: {got:?} is not known; expected seed, drop, dup, delay, delay_frames, reorder or kill"
    )]
    UnknownKey {
        /// The key.
        got: String,
    },
    /// A key stands twice.
    #[error("fault plan: {key} is given twice")]
    Repeated {
        /// The key.
        key: String,
    },
    /// A value is not what its key takes.
    #[error("fault plan: {key} is {got:?}, expected {expected}")]
    BadValue {
        /// The key.
        key: &'static str,
        /// What it takes.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// The probabilities sum to more than 1.
    #[error("fault plan: drop, dup, delay and reorder sum to {got}, expected at most 1")]
    TooLikely {
        /// The sum.
        got: String,
    },
}

fn value<T: FromStr>(
    key: &'static str,
    expected: &'static str,
    text: &str,
    good: impl Fn(&T) -> bool,
) -> Result<T, FaultError> {
    let parsed = text.parse().ok().filter(good);
    parsed.ok_or_else(|| FaultError::BadValue { key, expected, got: text.into() })
}

fn probability(key: &'static str, text: &str) -> Result<f64, FaultError> {
    value(key, "a probability from 0 to 1", text, |p: &f64| (0.0..=1.0).contains(p))
}

impl FromStr for FaultPlan {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let mut plan = FaultPlan::default();
        let mut seen: Vec<&str> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, text) =
                part.split_once('=').ok_or_else(|| FaultError::NotAPair { got: part.into() })?;
            let (key, text) = (key.trim(), text.trim());
            if seen.contains(&key) {
                return Err(FaultError::Repeated { key: key.into() });
            }
            seen.push(key);
            match key {
                "seed" => plan.seed = value("seed", "a whole number", text, |_| true)?,
                "drop" => plan.drop = probability("drop", text)?,
                "dup" => plan.duplicate = probability("dup", text)?,
                "delay" => plan.delay = probability("delay", text)?,
                "reorder" => plan.reorder = probability("reorder", text)?,
                "delay_frames" => {
                    plan.delay_frames =
                        value("delay_frames", "1 to 1024", text, |n| (1..=DELAY_FRAMES_MAX).contains(n))?;
                }
                "kill" => plan.kill_after = Some(value("kill", "a number of frames", text, |_| true)?),
                _ => return Err(FaultError::UnknownKey { got: key.into() }),
            }
        }
        plan.check()
    }
}

/// The text that reads back as this plan.
impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FaultPlan { seed, drop, duplicate, delay, delay_frames, reorder, kill_after } = self;
        write!(f, "seed={seed},drop={drop},dup={duplicate},delay={delay},delay_frames={delay_frames}")?;
        write!(f, ",reorder={reorder}")?;
        kill_after.map_or(Ok(()), |frames| write!(f, ",kill={frames}"))
    }
}

/// What happens to one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Pass,
    Drop,
    Duplicate,
    /// Kept back until so many later frames were accepted.
    After(u32),
}

impl FaultPlan {
    /// Checks that the probabilities leave room for each other.
    fn check(self) -> Result<FaultPlan, FaultError> {
        let sum = self.drop + self.duplicate + self.delay + self.reorder;
        if sum > 1.0 + 1e-9 {
            return Err(FaultError::TooLikely { got: sum.to_string() });
        }
        Ok(self)
    }

    /// The fate of frame `number` of stream `stream`.
    pub(super) fn fate(&self, stream: u64, number: u64) -> Fate {
        let bits = mix(mix(self.seed ^ mix(stream)).wrapping_add(number));
        // 53 bits make a double evenly spread over [0, 1).
        let mut die = (bits >> 11) as f64 / (1_u64 << 53) as f64;
        let delay_frames = self.delay_frames.clamp(1, DELAY_FRAMES_MAX);
        let fates = [
            (self.drop, Fate::Drop),
            (self.duplicate, Fate::Duplicate),
            (self.delay, Fate::After(delay_frames)),
            (self.reorder, Fate::After(1)),
        ];
        for (probability, fate) in fates {
            if die < probability {
                return fate;
            }
            die -= probability;
        }
        Fate::Pass
    }
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_from_text() {
        let plan = "seed=7, drop=0.01,dup=0.02,delay=0.03,delay_frames=5,reorder=0.04,kill=1000".parse();
        let expected = FaultPlan {
            seed: 7,
            drop: 0.01,
            duplicate: 0.02,
            delay: 0.03,
            delay_frames: 5,
            reorder: 0.04,
            kill_after: Some(1000),
        };
        assert_eq!(plan, Ok(expected));
        assert_eq!(expected.to_string().parse(), Ok(expected));
        assert_eq!("".parse(), Ok(FaultPlan::default()));
        assert_eq!(FaultPlan::default().to_string().parse(), Ok(FaultPlan::default()));
    }

    #[test]
    fn a_text_that_is_no_plan_says_why() {
        let error = |text: &str| text.parse::<FaultPlan>().unwrap_err();
        assert_eq!(error("drop"), FaultError::NotAPair { got: "drop".into() });
        assert_eq!(error("dorp=1"), FaultError::UnknownKey { got: "dorp".into() });
        assert_eq!(error("drop=0,drop=1"), FaultError::Repeated { key: "drop".into() });
        for text in
            ["drop=1.5", "drop=-0.1", "drop=NaN", "seed=x", "kill=-1", "delay_frames=0", "delay_frames=9999"]
        {
            assert!(matches!(error(text), FaultError::BadValue { .. }), "{text}");
        }
        assert!(matches!(error("drop=0.6,dup=0.6"), FaultError::TooLikely { .. }));
    }

    #[test]
    fn fates_come_as_often_as_planned_and_differ_between_streams() {
        let plan: FaultPlan = "seed=1,drop=0.1,dup=0.2,reorder=0.3".parse().unwrap();
        let count = |fate| (0..100_000).filter(|n| plan.fate(3, *n) == fate).count() as i64;
        for (fate, expected) in [(Fate::Drop, 10_000), (Fate::Duplicate, 20_000), (Fate::After(1), 30_000)] {
            assert!((count(fate) - expected).abs() < 1000, "{fate:?}: {}", count(fate));
        }
        let fates = |stream| (0..64).map(|n| plan.fate(stream, n)).collect::<Vec<_>>();
        assert_eq!(fates(3), fates(3));
        assert_ne!(fates(3), fates(4));
    }
}
