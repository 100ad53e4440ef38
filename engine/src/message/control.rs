//! Control requests: JSON, because they are rare and people read them in logs.

use serde::{Deserialize, Serialize};

use crate::table::TableSpec;

/// What a worker may ask of a shard beside moving values. Asking twice is the same as asking once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// Create a table; an equal one that exists already is fine, a different one of the same number is refused.
    Create(TableSpec),
    /// Fix the keys of a frozen table.
    Freeze {
        /// Number of the table.
        table: u16,
    },
    /// Forget a table and its values.
    Drop {
        /// Number of the table.
        table: u16,
    },
}
