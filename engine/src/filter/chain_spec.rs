//! Lists of filters, and which of them make sense.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::spec::{Direction, FILTERS_MAX, FilterSpec, FilterSpecError, Stage};
use crate::table::TableSpec;

/// Filters in the order they are applied, written `a,b,c`; the empty chain is written `none`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ChainSpec {
    /// In the order of application; the receiver undoes them in reverse.
    pub filters: Vec<FilterSpec>,
}

impl ChainSpec {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// Whether key lists are to be named by signature.
    pub fn caches_keys(&self) -> bool {
        self.filters.contains(&FilterSpec::KeyCache)
    }

    /// Whether what arrives equals what was sent, to the last bit.
    pub fn is_lossless(&self) -> bool {
        self.filters.iter().all(FilterSpec::is_lossless)
    }

    /// The filters of one stage.
    pub(crate) fn of(&self, stage: Stage) -> impl Iterator<Item = &FilterSpec> {
        self.filters.iter().filter(move |filter| filter.stage() == Some(stage))
    }

    /// C of `significant`, if that is in the chain.
    pub(crate) fn threshold(&self) -> Option<f64> {
        self.filters.iter().find_map(|filter| match filter {
            FilterSpec::Significant { threshold } => Some(*threshold),
            _ => None,
        })
    }

    /// Whether this chain can be undone and loses nothing by its order, in this direction.
    ///
    /// # Errors
    /// [`FilterSpecError::Chain`] with the reason.
    pub fn check(&self, direction: Direction) -> Result<(), FilterSpecError> {
        match self.fault(direction) {
            None => Ok(()),
            Some(reason) => Err(FilterSpecError::Chain { chain: self.to_string(), direction, reason }),
        }
    }

    /// As [`ChainSpec::check`], and whether what the table does with a push allows it. Worker and shard ask the same of
    /// every push.
    ///
    /// # Errors
    /// [`FilterSpecError::Chain`] with the reason.
    pub fn check_table(&self, direction: Direction, table: &TableSpec) -> Result<(), FilterSpecError> {
        self.check(direction)?;
        match direction {
            Direction::Push => self.check_push(format_args!("{:?}", table.name), table.function.not_adding()),
            Direction::Pull => Ok(()),
        }
    }

    /// Whether a push to a table may pass this chain, whose function is `not_adding`, if that is known.
    pub(crate) fn check_push(
        &self,
        table: fmt::Arguments<'_>,
        not_adding: Option<&str>,
    ) -> Result<(), FilterSpecError> {
        let Some(function) = not_adding else { return Ok(()) };
        let Some(filter) = self.filters.iter().find(|filter| filter.needs_sums()) else { return Ok(()) };
        let reason = format!(
            "table {table} does {function:?} with what is pushed, and a row left out by {filter} arrives as 0: \
             push there without {}, or to a table whose function adds",
            filter.name()
        );
        let (chain, direction) = (self.to_string(), Direction::Push);
        Err(FilterSpecError::Chain { chain, direction, reason })
    }

    fn fault(&self, direction: Direction) -> Option<String> {
        let filters = &self.filters;
        if filters.len() > FILTERS_MAX {
            return Some(format!("at most {FILTERS_MAX} filters, got {}", filters.len()));
        }
        for (at, filter) in filters.iter().enumerate() {
            let (before, name) = (&filters[..at], filter.name());
            if before.iter().any(|other| other.name() == name) {
                return Some(format!("{name} comes twice; once is enough"));
            }
            let fault = before.iter().find_map(|other| fault_after(filter, other));
            if fault.is_some() {
                return fault;
            }
            let push_only = matches!(
                filter,
                FilterSpec::Skip { .. } | FilterSpec::Frequency { .. } | FilterSpec::Bloom { .. }
            );
            if push_only && direction == Direction::Pull {
                return Some(format!("{name} leaves contributions out; values that are read must be there"));
            }
        }
        None
    }
}

/// Why `filter` cannot come after `other`.
fn fault_after(filter: &FilterSpec, other: &FilterSpec) -> Option<String> {
    let (this, before) = (filter.stage()?, other.stage()?);
    let (name, first) = (filter.name(), other.name());
    if this == Stage::Codes && before == Stage::Codes {
        return Some(format!("{name} after {first}: values are coded once; keep one of them"));
    }
    if this < before {
        let (needs, has) = match (this, before) {
            (Stage::Rows, Stage::Codes) => ("rows of values", "only codes"),
            (Stage::Rows, _) => ("rows of values", "only bytes"),
            _ => ("values", "only bytes"),
        };
        return Some(format!(
            "{name} needs {needs}, and after {first} there are {has}: put {name} before it"
        ));
    }
    match (filter, other) {
        (
            FilterSpec::Significant { .. },
            FilterSpec::Zeros | FilterSpec::Skip { .. } | FilterSpec::Noise { .. },
        ) => Some(format!(
            "significant must see every row to keep its bound, and {first} takes some away or changes them: \
                 put significant before it"
        )),
        (FilterSpec::Zeros, FilterSpec::Noise { .. }) => {
            Some("zeros after noise finds none: put zeros before it".to_owned())
        }
        _ => None,
    }
}

impl fmt::Display for ChainSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.filters.is_empty() {
            return f.write_str("none");
        }
        for (at, filter) in self.filters.iter().enumerate() {
            write!(f, "{}{filter}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for ChainSpec {
    type Err = FilterSpecError;

    fn from_str(text: &str) -> Result<ChainSpec, FilterSpecError> {
        if matches!(text.trim(), "" | "none") {
            return Ok(ChainSpec::default());
        }
        let filters: Result<Vec<FilterSpec>, _> = text.split(',').map(str::parse).collect();
        Ok(ChainSpec { filters: filters? })
    }
}

impl TryFrom<String> for ChainSpec {
    type Error = FilterSpecError;
    fn try_from(text: String) -> Result<ChainSpec, FilterSpecError> {
        text.parse()
    }
}

impl From<ChainSpec> for String {
    fn from(spec: ChainSpec) -> String {
        spec.to_string()
    }
}
