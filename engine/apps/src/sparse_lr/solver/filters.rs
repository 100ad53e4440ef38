//! Which filters the solver's requests pass, and what they saved.
//!
//! Values may lose something on the way only as long as passes gain. In the last ones, and in certificates, sums and Newton
//! steps, only lossless filters act. What lossy ones changed is then undone by itself, because every pass brings gradients
//! and weights anew; the final objective is that of a run without.

use std::fmt;
use std::str::FromStr;

use keyrange::client::WorkerError;
use keyrange::filter::{ChainSpec, Direction, FilterSpec, FilterSpecError, Filters, Stage};
use serde::{Deserialize, Serialize};

use super::servers::Servers;

/// The filters of gradients and curvatures on their way to the servers, and of weights on their way back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterPlan {
    /// What is pushed.
    pub push: ChainSpec,
    /// What is pulled.
    pub pull: ChainSpec,
    /// Whether features whose weight stays 0 are set aside: neither computed nor sent. The KKT filter.
    pub kkt: bool,
}

impl Default for FilterPlan {
    fn default() -> Self {
        "kkt,key-cache".parse().expect("the default is well formed")
    }
}

/// The words of a plan, for help texts.
pub const PLAN_GRAMMAR: &str = "kkt, or a filter of messages, with push/ or pull/ before it to have it in one direction only; \
    `all` is kkt,key-cache,significant:0.01,zeros,push/fixed:2,pull/fixed:3,lz4; `none` is none of them";

const ALL: &str = "kkt,key-cache,significant:0.01,zeros,push/fixed:2,pull/fixed:3,lz4";

impl FromStr for FilterPlan {
    type Err = FilterSpecError;

    /// Each filter goes where it makes sense: what leaves contributions out or adds noise to what is pushed, what relies on
    /// small changes or a narrow range to what is pulled, names of key lists to requests, the rest to both.
    fn from_str(text: &str) -> Result<FilterPlan, FilterSpecError> {
        let text = if text.trim() == "all" { ALL } else { text };
        let mut plan = FilterPlan { push: ChainSpec::default(), pull: ChainSpec::default(), kkt: false };
        if matches!(text.trim(), "" | "none") {
            return Ok(plan);
        }
        for word in text.split(',').map(str::trim) {
            if word == "kkt" {
                plan.kkt = true;
                continue;
            }
            let (asked, word) = match word.split_once('/') {
                Some(("push", word)) => (Some(Direction::Push), word),
                Some(("pull", word)) => (Some(Direction::Pull), word),
                _ => (None, word),
            };
            let filter: FilterSpec = word.parse()?;
            let (pushes, pulls) = match asked {
                Some(direction) => (direction == Direction::Push, direction == Direction::Pull),
                None => directions(&filter),
            };
            if pushes {
                plan.push.filters.push(filter.clone());
            }
            if pulls {
                plan.pull.filters.push(filter);
            }
        }
        plan.push.check(Direction::Push)?;
        plan.pull.check(Direction::Pull)?;
        // What is pushed are whole gradients, not changes: what is held back now must not be added to what comes later.
        if let Some(filter) = plan.push.filters.iter().find(|f| matches!(f, FilterSpec::Significant { .. })) {
            let (chain, direction) = (plan.push.to_string(), Direction::Push);
            let reason = format!(
                "{filter} adds what it held back to later pushes, but gradients replace older ones: use pull/{filter}"
            );
            return Err(FilterSpecError::Chain { chain, direction, reason });
        }
        Ok(plan)
    }
}

/// Whether a filter is for what is pushed, and for what is pulled, unless told otherwise.
fn directions(filter: &FilterSpec) -> (bool, bool) {
    match filter {
        // Answers name no keys.
        FilterSpec::KeyCache => (true, false),
        FilterSpec::Skip { .. } | FilterSpec::Noise { .. } => (true, false),
        FilterSpec::Frequency { .. } | FilterSpec::Bloom { .. } => (true, false),
        FilterSpec::Significant { .. } | FilterSpec::Q2x13 => (false, true),
        _ => (true, true),
    }
}

impl fmt::Display for FilterPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kkt = if self.kkt { "kkt; " } else { "" };
        write!(f, "{kkt}push {}; pull {}", self.push, self.pull)
    }
}

/// The chains of one worker.
pub struct Chains {
    /// Of weights, as long as they may lose something.
    pub lossy: Filters,
    /// Of weights, when they may not.
    pub lossless: Filters,
    /// Of sums over the workers.
    pub sums: Filters,
    /// Whether the lossy ones leave rows out of pushes.
    pub partial: bool,
    /// Whether there is a difference.
    pub loses: bool,
}

impl Chains {
    /// Chains with empty memories.
    ///
    /// # Errors
    /// The plan makes no sense.
    pub fn new(plan: &FilterPlan, seed: u64) -> Result<Chains, FilterSpecError> {
        let without_loss = |spec: &ChainSpec| ChainSpec {
            filters: spec.filters.iter().filter(|f| f.is_lossless()).cloned().collect(),
        };
        let (push, pull) = (without_loss(&plan.push), without_loss(&plan.pull));
        let leaves_out = |filter: &FilterSpec| !filter.is_lossless() && filter.stage() == Some(Stage::Rows);
        Ok(Chains {
            lossy: Filters::new(&plan.push, &plan.pull, seed)?,
            lossless: Filters::new(&push, &pull, seed)?,
            sums: Filters::new(&push, &pull, seed)?,
            partial: plan.push.filters.iter().any(leaves_out),
            loses: push != plan.push || pull != plan.pull,
        })
    }

    /// What each filter did, by name, table and direction.
    fn totals(&self) -> Vec<FilterTotals> {
        let of = |table: &'static str, filters: &Filters| {
            let directions = [("push", filters.push().cloned()), ("pull", filters.pull().cloned())];
            directions.into_iter().flat_map(move |(direction, chain)| {
                let reports = chain.map(|chain| chain.report()).unwrap_or_default();
                reports.into_iter().map(move |report| FilterTotals {
                    direction: direction.to_owned(),
                    table: table.to_owned(),
                    name: report.filter,
                    bytes_in: report.bytes_in,
                    bytes_out: report.bytes_out,
                    entries_dropped: report.entries_dropped,
                    nanoseconds: report.nanoseconds,
                })
            })
        };
        let mut all: Vec<FilterTotals> = Vec::new();
        let every =
            of("weights", &self.lossy).chain(of("weights", &self.lossless)).chain(of("sums", &self.sums));
        for found in every {
            let same = |known: &&mut FilterTotals| {
                (&known.direction, &known.table, &known.name) == (&found.direction, &found.table, &found.name)
            };
            match all.iter_mut().find(same) {
                Some(known) => known.counts_mut().into_iter().zip(found.counts()).for_each(|(a, b)| *a += b),
                None => all.push(found),
            }
        }
        all
    }
}

/// What a filter did for all workers. Times are of the workers' end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FilterTotals {
    /// `push` or `pull`.
    pub direction: String,
    /// `weights` or `sums`.
    pub table: String,
    /// The filter as written in the chain.
    pub name: String,
    /// Bytes before it.
    pub bytes_in: u64,
    /// Bytes after it.
    pub bytes_out: u64,
    /// Rows it left out.
    pub entries_dropped: u64,
    /// Time it took.
    pub nanoseconds: u64,
}

impl FilterTotals {
    fn counts(&self) -> [u64; 4] {
        [self.bytes_in, self.bytes_out, self.entries_dropped, self.nanoseconds]
    }

    fn counts_mut(&mut self) -> [&mut u64; 4] {
        [&mut self.bytes_in, &mut self.bytes_out, &mut self.entries_dropped, &mut self.nanoseconds]
    }
}

impl Servers<'_> {
    /// What the filters of all workers did. All workers must ask at the same time.
    pub fn gather_filters(&mut self) -> Result<Vec<FilterTotals>, WorkerError> {
        let mut totals = self.chains.totals();
        if totals.is_empty() {
            return Ok(totals);
        }
        let counts: Vec<u64> = totals.iter().flat_map(FilterTotals::counts).collect();
        let sums = self.gather_counts(&counts)?;
        for (total, sums) in totals.iter_mut().zip(sums.as_chunks::<4>().0) {
            total.counts_mut().into_iter().zip(sums).for_each(|(count, sum)| *count = *sum);
        }
        Ok(totals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> FilterPlan {
        text.parse().unwrap()
    }

    #[test]
    fn filters_go_where_they_make_sense() {
        let all = plan("kkt, key-cache, significant:0.5, skip:0.5, fixed:1, lz4");
        assert!(all.kkt);
        assert_eq!(all.push.to_string(), "key-cache,skip:0.5,fixed:1,lz4");
        assert_eq!(all.pull.to_string(), "significant:0.5,fixed:1,lz4");
        let one = plan("push/f16,pull/zeros");
        assert_eq!((one.push.to_string(), one.pull.to_string()), ("f16".to_owned(), "zeros".to_owned()));
        assert!(!plan("none").kkt && plan("none").push.is_empty());
        assert_eq!(plan("all"), plan(ALL));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, word) in [
            ("push/significant:1", "pull/significant:1"),
            ("pull/skip:0.5", "skip"),
            ("lz4,f16", "f16"),
            ("kkt,zip", "zip"),
        ] {
            let error = text.parse::<FilterPlan>().unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn the_lossless_chains_keep_only_what_loses_nothing() {
        let chains = Chains::new(&plan("key-cache,significant:1,zeros,fixed:2,lz4"), 1).unwrap();
        let spec = |filters: &Filters| filters.pull().unwrap().spec().to_string();
        assert_eq!(spec(&chains.lossless), "zeros,lz4");
        assert!(chains.loses && !chains.partial);
        assert!(Chains::new(&plan("skip:0.5"), 1).unwrap().partial);
        assert!(!Chains::new(&plan("key-cache,lz4"), 1).unwrap().loses);
        assert!(Chains::new(&plan("none"), 1).unwrap().lossy.whole_keys());
    }
}
