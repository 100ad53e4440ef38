//! What a filter is called and what it is told: words that users write, and the chains they form.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::admission::Sketch;

/// Filters in a chain, at most.
pub const FILTERS_MAX: usize = 8;

/// Which way the values go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a worker to the shards.
    Push,
    /// From the shards to a worker.
    Pull,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(if *self == Direction::Push { "push" } else { "pull" })
    }
}

/// One filter with its parameters, written `name` or `name:parameter`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FilterSpec {
    /// `key-cache`: a key list the shard has seen is named by its 128-bit signature.
    KeyCache,
    /// `zeros`: rows that are all zero bits stay at home. Lossless.
    Zeros,
    /// `significant:C`: push, what was held back and is now above C / t; pull, rows that moved by more than C / t since
    /// they were last sent. t is the task's time, at least 1.
    Significant {
        /// C, above 0.
        threshold: f64,
    },
    /// `skip:Q`: each row goes with probability Q, divided by Q, so that the mean stays. Push only.
    Skip {
        /// Q, above 0, at most 1.
        probability: f64,
    },
    /// `noise:SIGMA`: adds Gaussian noise of this standard deviation to what goes.
    Noise {
        /// SIGMA, at least 0.
        sigma: f64,
    },
    /// `frequency:N[:WIDTHxDEPTH]`: a key's rows go from its N-th push on, counted by a count-min sketch. Push only.
    Frequency {
        /// N, at least 1.
        pushes: u16,
        /// The sketch.
        sketch: Sketch,
    },
    /// `bloom[:BITSxHASHES]`: a key's rows go from its second push on, remembered by a Bloom filter. Push only.
    Bloom {
        /// Bits and hashes.
        sketch: Sketch,
    },
    /// `fixed:N`: N bytes a value between the smallest and the largest of its array, rounded up or down at random so
    /// that the mean stays.
    Fixed {
        /// N, 1 to 3.
        bytes: u8,
    },
    /// `q2.13`: 2 bytes a value, multiples of 2^-13 in [-4, 4), rounded as in `fixed`; values beyond are clamped.
    Q2x13,
    /// `f16`: IEEE half precision, rounded as in `fixed`; finite values beyond 65504 are clamped.
    F16,
    /// `bf16`: the upper half of an f32, rounded as in `fixed`.
    Bf16,
    /// `lz4`: what is left as an LZ4 block, unless a sample says that it would not shrink. Lossless.
    Lz4,
    /// `user:NAME[:PARAMETER]`: a filter of the program's own, registered under this name at both ends.
    User {
        /// The name in the [`FilterRegistry`](super::FilterRegistry).
        name: String,
        /// What it is told.
        parameter: String,
    },
}

/// What a filter works on; a chain goes through the stages in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Rows of values: some are dropped or changed.
    Rows,
    /// The values of the rows left: each becomes a shorter code.
    Codes,
    /// The bytes of everything.
    Bytes,
}

/// Why a word is no filter, or filters no chain.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterSpecError {
    /// No such filter.
    #[error("unknown filter {got:?}: expected {expected}")]
    Unknown {
        /// The word.
        got: String,
        /// The words there are.
        expected: &'static str,
    },
    /// A parameter that cannot be.
    #[error("filter {filter:?}: expected {expected}, got {got:?}")]
    Parameter {
        /// The filter.
        filter: &'static str,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        got: String,
    },
    /// A filter of the program's own that is not registered, or says no.
    #[error("filter user:{name}: {text}")]
    User {
        /// Its name.
        name: String,
        /// What is wrong.
        text: String,
    },
    /// Filters that do not go together, or not in this order or direction.
    #[error("the {direction} chain \"{chain}\" makes no sense: {reason}")]
    Chain {
        /// The chain.
        chain: String,
        /// The direction it was meant for.
        direction: Direction,
        /// What is wrong, and what to do.
        reason: String,
    },
}

/// The words of the grammar, for messages and help texts.
pub const GRAMMAR: &str = "key-cache, zeros, significant:C, skip:Q, noise:SIGMA, frequency:N[:WIDTHxDEPTH], \
    bloom[:BITSxHASHES], fixed:1..3, q2.13, f16, bf16, lz4 or user:NAME[:PARAMETER]";

impl FilterSpec {
    /// What it works on; `None` for key caching, which touches no value.
    pub fn stage(&self) -> Option<Stage> {
        Some(match self {
            FilterSpec::KeyCache => return None,
            FilterSpec::Fixed { .. } | FilterSpec::Q2x13 | FilterSpec::F16 | FilterSpec::Bf16 => Stage::Codes,
            FilterSpec::Lz4 => Stage::Bytes,
            _ => Stage::Rows,
        })
    }

    /// Whether what arrives equals what was sent, to the last bit.
    pub fn is_lossless(&self) -> bool {
        matches!(self, FilterSpec::KeyCache | FilterSpec::Zeros | FilterSpec::Lz4)
    }

    /// Whether what it leaves out of a push is meant to be missing from a sum, or comes with later rows: for functions
    /// that add. A filter of the program's own is for them where it drops rows, which shows when it runs.
    pub fn needs_sums(&self) -> bool {
        use FilterSpec::*;
        matches!(self, Significant { .. } | Skip { .. } | Frequency { .. } | Bloom { .. })
    }

    /// The name, without parameters.
    pub fn name(&self) -> &str {
        match self {
            FilterSpec::KeyCache => "key-cache",
            FilterSpec::Zeros => "zeros",
            FilterSpec::Significant { .. } => "significant",
            FilterSpec::Skip { .. } => "skip",
            FilterSpec::Noise { .. } => "noise",
            FilterSpec::Frequency { .. } => "frequency",
            FilterSpec::Bloom { .. } => "bloom",
            FilterSpec::Fixed { .. } => "fixed",
            FilterSpec::Q2x13 => "q2.13",
            FilterSpec::F16 => "f16",
            FilterSpec::Bf16 => "bf16",
            FilterSpec::Lz4 => "lz4",
            FilterSpec::User { name, .. } => name,
        }
    }
}

impl fmt::Display for FilterSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FilterSpec::Significant { threshold } => write!(f, "significant:{threshold}"),
            FilterSpec::Skip { probability } => write!(f, "skip:{probability}"),
            FilterSpec::Noise { sigma } => write!(f, "noise:{sigma}"),
            FilterSpec::Frequency { pushes, sketch } => write!(f, "frequency:{pushes}:{sketch}"),
            FilterSpec::Bloom { sketch } => write!(f, "bloom:{sketch}"),
            FilterSpec::Fixed { bytes } => write!(f, "fixed:{bytes}"),
            FilterSpec::User { name, parameter } if parameter.is_empty() => write!(f, "user:{name}"),
            FilterSpec::User { name, parameter } => write!(f, "user:{name}:{parameter}"),
            plain => f.write_str(plain.name()),
        }
    }
}

/// Reads a parameter, or says what may stand there.
fn parameter<T: FromStr>(
    filter: &'static str,
    got: &str,
    expected: &'static str,
    allowed: impl Fn(&T) -> bool,
) -> Result<T, FilterSpecError> {
    let wrong = || FilterSpecError::Parameter { filter, expected, got: got.to_owned() };
    got.parse().ok().filter(allowed).ok_or_else(wrong)
}

impl FromStr for FilterSpec {
    type Err = FilterSpecError;

    fn from_str(word: &str) -> Result<FilterSpec, FilterSpecError> {
        let (name, rest) = word.trim().split_once(':').unwrap_or((word.trim(), ""));
        let sketch = |filter, text: &str, default| {
            if text.is_empty() { Ok(default) } else { parameter(filter, text, Sketch::GRAMMAR, |_| true) }
        };
        let spec = match name {
            "significant" => FilterSpec::Significant {
                threshold: parameter("significant", rest, "significant:C with C above 0", |&c: &f64| {
                    c > 0.0 && c.is_finite()
                })?,
            },
            "skip" => FilterSpec::Skip {
                probability: parameter("skip", rest, "skip:Q with 0 < Q <= 1", |&q: &f64| {
                    q > 0.0 && q <= 1.0
                })?,
            },
            "noise" => FilterSpec::Noise {
                sigma: parameter("noise", rest, "noise:SIGMA with SIGMA at least 0", |&s: &f64| {
                    s >= 0.0 && s.is_finite()
                })?,
            },
            "frequency" => {
                let (pushes, size) = rest.split_once(':').unwrap_or((rest, ""));
                FilterSpec::Frequency {
                    pushes: parameter(
                        "frequency",
                        pushes,
                        "frequency:N with N from 1 to 65535",
                        |&n: &u16| n >= 1,
                    )?,
                    sketch: sketch("frequency", size, Sketch::COUNT_MIN)?,
                }
            }
            "bloom" => FilterSpec::Bloom { sketch: sketch("bloom", rest, Sketch::BLOOM)? },
            "fixed" => FilterSpec::Fixed {
                bytes: parameter("fixed", rest, "fixed:N with N from 1 to 3", |n| (1..=3).contains(n))?,
            },
            "user" if !rest.is_empty() => {
                let (name, parameter) = rest.split_once(':').unwrap_or((rest, ""));
                FilterSpec::User { name: name.to_owned(), parameter: parameter.to_owned() }
            }
            _ => return plain(word.trim()),
        };
        Ok(spec)
    }
}

/// The filters without parameters.
fn plain(word: &str) -> Result<FilterSpec, FilterSpecError> {
    use FilterSpec::*;
    let all = [KeyCache, Zeros, Q2x13, F16, Bf16, Lz4];
    all.into_iter().find(|spec| spec.name() == word).ok_or_else(|| FilterSpecError::Unknown {
        got: word.to_owned(),
        expected: if word == "kkt" {
            "a filter of messages; kkt decides what is computed at all and belongs to the application"
        } else {
            GRAMMAR
        },
    })
}

impl TryFrom<String> for FilterSpec {
    type Error = FilterSpecError;
    fn try_from(word: String) -> Result<FilterSpec, FilterSpecError> {
        word.parse()
    }
}

impl From<FilterSpec> for String {
    fn from(spec: FilterSpec) -> String {
        spec.to_string()
    }
}
