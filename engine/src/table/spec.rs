//! What a table is: the description that travels when one is created.

use serde::{Deserialize, Serialize};

use super::TableError;

/// Most rows a table can have: slots are 32 bits wide and the last one is kept free.
pub const ROWS_MAX: u64 = u32::MAX as u64;

/// Widest row, in values.
pub const WIDTH_MAX: u32 = 1 << 20;

/// Longest name of a table, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The type of a table's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ValueType {
    /// 32-bit floating point.
    F32 = 1,
    /// 64-bit floating point.
    F64 = 2,
}

impl ValueType {
    /// Bytes of one value.
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The type whose wire code is `code`.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::F32),
            2 => Some(Self::F64),
            _ => None,
        }
    }
}

/// How a table finds the row of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// Every key of an interval has a row from the start, at `key - first`.
    Dense {
        /// The smallest key.
        first: u64,
        /// The greatest key, inclusive.
        last: u64,
    },
    /// Any key; a row comes into being when it is first pushed.
    Sparse,
    /// Like `Sparse` until frozen; from then on the key set is fixed and rows lie in the order of keys.
    Frozen,
}

/// When a pushed update is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// Each push by itself, as it arrives.
    #[default]
    Immediate,
    /// The pushes of all workers for one time are combined, then applied once.
    AllWorkers,
    /// Each push by itself, as it arrives, and counted as the worker's clock: what is read can be asked to hold the
    /// pushes of all workers up to some clock. See [`clock`](crate::clock).
    Clocked,
}

impl Aggregation {
    /// Whether pushes have times that count, so that every shard hears of each, with keys for it or without.
    pub(crate) fn counts_times(self) -> bool {
        self != Aggregation::Immediate
    }
}

/// The server function of a table: a registered name and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FunctionSpec {
    /// The name in the [`Registry`](crate::update::Registry).
    pub name: String,
    /// The parameters, an object; `null` asks for all defaults.
    #[serde(default)]
    pub params: serde_json::Value,
}

impl FunctionSpec {
    /// The function `name` with default parameters.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), params: serde_json::Value::Null }
    }

    /// The name, if it is that of a built-in function for which a row that is not pushed is no row of zeros. What a shard
    /// goes by is [`ServerFn::adds`](crate::update::ServerFn::adds) of the function itself.
    pub fn not_adding(&self) -> Option<&'static str> {
        ["assign", "max", "min"].into_iter().find(|name| *name == self.name)
    }
}

/// Everything needed to create a table on a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableSpec {
    /// The number that messages carry.
    pub id: u16,
    /// The name people see, at most [`NAME_BYTES_MAX`] bytes.
    pub name: String,
    /// The type of the values.
    pub value_type: ValueType,
    /// Values per row, 1 to [`WIDTH_MAX`].
    pub width: u32,
    /// How rows are found.
    pub store: StoreKind,
    /// What a push does.
    pub function: FunctionSpec,
    /// When it does it.
    #[serde(default)]
    pub aggregation: Aggregation,
}

impl TableSpec {
    /// Checks the limits that hold for every table.
    ///
    /// # Errors
    /// [`TableError::Spec`] with what was expected and what came.
    pub fn check(&self) -> Result<(), TableError> {
        let refuse = |text: String| Err(TableError::Spec { table: self.id, text });
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX {
            return refuse(format!(
                "expected a name of 1 to {NAME_BYTES_MAX} bytes, got {}",
                self.name.len()
            ));
        }
        if self.width == 0 || self.width > WIDTH_MAX {
            return refuse(format!("expected a width of 1 to {WIDTH_MAX} values, got {}", self.width));
        }
        if self.aggregation == Aggregation::Clocked && self.store == StoreKind::Frozen {
            return refuse(
                "expected a dense or sparse store for a clocked table, got a frozen one".to_owned(),
            );
        }
        if let StoreKind::Dense { first, last } = self.store {
            if first > last {
                return refuse(format!("expected first <= last, got keys {first} to {last}"));
            }
            if last - first >= ROWS_MAX {
                return refuse(format!(
                    "expected at most {ROWS_MAX} rows on one shard, got keys {first} to {last}"
                ));
            }
        }
        Ok(())
    }
}
