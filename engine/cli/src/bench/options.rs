//! Options that the measurements share: message sizes, cores, how long to measure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, ValueEnum};
use keyrange_transport::link::CarrierKind;
use serde::Serialize;

use super::limits::usable_cores;
use crate::failure::Failure;

/// No message is larger: both sides hold one in memory.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// How to measure.
#[derive(Args, Clone, Debug, Serialize)]
pub struct MeasureArgs {
    /// The two cores to pin the sides to, the measuring side first (kernels run on the first) [default: the first two this process may use].
    /// With several servers or workers: one for each worker, then one for each server thread; without, none is pinned where
    /// cores do not suffice
    #[arg(long, env = "KEYRANGE_BENCH_CORES", value_delimiter = ',', num_args = 1.., value_name = "A,B")]
    pub cores: Vec<usize>,

    /// Repetitions, taking turns with the limit; medians are printed
    #[arg(long, env = "KEYRANGE_BENCH_ROUNDS", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=10_000), value_name = "N")]
    pub rounds: u32,

    /// Also write the figures to this file, as JSON
    #[arg(long, env = "KEYRANGE_BENCH_JSON", value_name = "FILE")]
    pub json: Option<PathBuf>,
}

impl MeasureArgs {
    /// The measuring side's core and the other side's.
    pub fn two_cores(&self) -> anyhow::Result<[usize; 2]> {
        let usable = usable_cores().context("asking which cores may be used")?;
        let wrong = |text: String| Failure::input(format!("--cores: {text}"));
        let cores = match (self.cores.as_slice(), usable.as_slice()) {
            (&[], &[a, b, ..]) => [a, b],
            (&[], _) => return Err(wrong(format!("two cores are needed, this process may use {usable:?}"))),
            (&[a, b], _) => [a, b],
            (other, _) => return Err(wrong(format!("expected two cores like 0,1, got {}", other.len()))),
        };
        if cores[0] == cores[1] {
            return Err(wrong(format!("expected two different cores, got {} twice", cores[0])));
        }
        match cores.iter().find(|core| !usable.contains(core)) {
            Some(core) => Err(wrong(format!("core {core} cannot be used; choose among {usable:?}"))),
            None => Ok(cores),
        }
    }

    /// Where the threads of a job go. `other_core` is the first server's, or else any that is not the measuring thread's.
    pub fn places(&self, workers: usize, servers: usize) -> anyhow::Result<Places> {
        if (workers, servers) == (1, 1) {
            let [worker, server] = self.two_cores()?;
            return Ok(Places {
                workers: vec![Some(worker)],
                servers: vec![Some(server)],
                other_core: server,
            });
        }
        let usable = usable_cores().context("asking which cores may be used")?;
        let wrong = |text: String| Failure::input(format!("--cores: {text}"));
        let threads = workers + servers;
        let given = &self.cores;
        if let Some(core) = given.iter().find(|core| !usable.contains(core)) {
            return Err(wrong(format!("core {core} cannot be used; choose among {usable:?}")));
        }
        let repeated = given.iter().enumerate().any(|(k, core)| given[..k].contains(core));
        if repeated || ![0, threads].contains(&given.len()) {
            return Err(wrong(format!(
                "expected {threads} different cores, one for each worker and server, got {given:?}"
            )));
        }
        let chosen = if given.is_empty() { &usable } else { given };
        let pinned = chosen.len() >= threads;
        let place = |thread: usize| pinned.then(|| chosen[thread]);
        Ok(Places {
            workers: (0..workers).map(place).collect(),
            servers: (workers..threads).map(place).collect(),
            other_core: place(workers).or(usable.get(1).copied()).unwrap_or(usable[0]),
        })
    }

    /// The core to measure on when one is enough.
    pub fn one_core(&self) -> anyhow::Result<usize> {
        let usable = usable_cores().context("asking which cores may be used")?;
        let core = self.cores.first().or(usable.first()).copied().unwrap_or(0);
        match usable.contains(&core) {
            true => Ok(core),
            false => {
                Err(Failure::input(format!("--cores: core {core} cannot be used; choose among {usable:?}")))
            }
        }
    }

    /// Refuses a JSON file that could not be written in the end.
    pub fn check_json(&self) -> anyhow::Result<()> {
        let Some(folder) = self.json.as_deref().and_then(std::path::Path::parent) else { return Ok(()) };
        if folder.as_os_str().is_empty() || folder.is_dir() {
            return Ok(());
        }
        Err(Failure::input(format!("--json: there is no folder {}", folder.display())))
    }
}

/// The core of each thread of a job, if it is pinned.
#[derive(Clone, Debug)]
pub struct Places {
    pub workers: Vec<Option<usize>>,
    pub servers: Vec<Option<usize>>,
    /// A core for the other side of a limit.
    pub other_core: usize,
}

/// What a sweep over message sizes needs.
#[derive(Args, Clone, Debug, Serialize)]
pub struct SweepArgs {
    /// Bytes of payload of a message, with suffixes K, M, G; A:B doubles from A to B. Messages larger than a frame go as
    /// several frames
    #[arg(long, env = "KEYRANGE_BENCH_SIZES", value_delimiter = ',', num_args = 1.., default_value = "8,48,104,1K,4K,64K,1M", value_name = "BYTES")]
    sizes: Vec<Sizes>,

    /// Receive ring of each side in bytes, a power of two from 4K; a frame is at most a quarter of it
    #[arg(long, env = "KEYRANGE_BENCH_RING_BYTES", default_value = "1M", value_parser = bytes, value_name = "BYTES")]
    pub ring_bytes: usize,

    /// How long one repetition of one size lasts
    #[arg(long, env = "KEYRANGE_BENCH_TURN", default_value = "20ms", value_parser = duration, value_name = "TIME", conflicts_with = "messages")]
    pub turn: Duration,

    /// Messages in one repetition, instead of a time
    #[arg(long, env = "KEYRANGE_BENCH_MESSAGES", value_parser = clap::value_parser!(u64).range(1..=1 << 40), value_name = "N")]
    pub messages: Option<u64>,

    /// How long each size is run before it is measured
    #[arg(long, env = "KEYRANGE_BENCH_WARM_UP", default_value = "30ms", value_parser = duration, value_name = "TIME")]
    pub warm_up: Duration,

    /// Write messages where the peer reads them, instead of copying them from an array
    #[arg(long, env = "KEYRANGE_BENCH_IN_PLACE")]
    pub in_place: bool,

    /// Neither fill messages nor read them: what the link alone moves, as ib_write_lat and ib_write_bw measure it
    #[arg(long, env = "KEYRANGE_BENCH_UNTOUCHED", conflicts_with = "in_place")]
    pub untouched: bool,

    /// Measure only this
    #[arg(long, env = "KEYRANGE_BENCH_ONLY", value_name = "PATTERN")]
    pub only: Option<Pattern>,
}

impl SweepArgs {
    /// All sizes in the order given.
    pub fn sizes(&self) -> Vec<usize> {
        self.sizes.iter().flat_map(Sizes::all).collect()
    }

    /// True if `pattern` is to be measured.
    pub fn wants(&self, pattern: Pattern) -> bool {
        self.only.is_none_or(|only| only == pattern)
    }
}

/// The direction of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// One message there, one of the same size back
    RoundTrip,
    /// Messages one way, as fast as they are read
    Stream,
}

/// Which carrier to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkCarrier {
    /// The ring between two threads of one process
    InProcess,
    /// The ring between two processes
    Shm,
    /// A TCP connection over the loopback between two processes
    Tcp,
    /// RDMA verbs between two processes on the same port
    Verbs,
}

impl From<LinkCarrier> for CarrierKind {
    fn from(carrier: LinkCarrier) -> Self {
        match carrier {
            LinkCarrier::InProcess => CarrierKind::InProcess,
            LinkCarrier::Shm => CarrierKind::Shm,
            LinkCarrier::Tcp => CarrierKind::Tcp,
            LinkCarrier::Verbs => CarrierKind::Verbs,
        }
    }
}

/// One size, or sizes doubling from one to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sizes {
    first: usize,
    last: usize,
}

impl Sizes {
    fn all(&self) -> impl Iterator<Item = usize> + use<> {
        let Sizes { first, last } = *self;
        std::iter::successors(Some(first), |size| size.checked_mul(2)).take_while(move |&size| size <= last)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}:{}", self.first, self.last),
        }
    }
}

impl Serialize for Sizes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let sizes = Sizes { first: bytes(first)?, last: bytes(last)? };
        if sizes.first == 0 || sizes.last < sizes.first || sizes.last > MESSAGE_BYTES_MAX {
            return Err(format!("expected 1 to 1G bytes, and the smaller size first, got {text}"));
        }
        Ok(sizes)
    }
}

/// A number of bytes with an optional suffix K, M or G (powers of 1024).
pub fn bytes(text: &str) -> Result<usize, String> {
    let wrong = || format!("expected bytes like 64, 4K or 1M, got {text:?}");
    let (digits, shift) = match text.as_bytes().last().ok_or_else(wrong)? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).ok_or_else(wrong)
}

/// A duration like 20ms, above nothing and at most a minute.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = |why: String| format!("expected a duration like 20ms, at most 1min: {why}");
    match humantime::parse_duration(text) {
        Ok(time) if !time.is_zero() && time <= Duration::from_secs(60) => Ok(time),
        Ok(time) => Err(wrong(format!("got {time:?}"))),
        Err(error) => Err(wrong(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_from_the_first_to_the_last() {
        let all = |text: &str| text.parse::<Sizes>().map(|sizes| sizes.all().collect::<Vec<_>>());
        assert_eq!(all("4K"), Ok(vec![4096]));
        assert_eq!(all("512:3K"), Ok(vec![512, 1024, 2048]));
        for bad in ["", "0", "x", "8:4", "2G", "1é", "-1", "99999999999999999999K"] {
            assert!(all(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn cores_must_be_two_usable_ones() {
        let with = |cores: &[usize]| MeasureArgs { cores: cores.to_vec(), rounds: 1, json: None }.two_cores();
        for bad in [&[0][..], &[0, 0], &[0, 1, 2], &[0, 1023]] {
            assert!(with(bad).is_err(), "{bad:?}");
        }
    }
}
