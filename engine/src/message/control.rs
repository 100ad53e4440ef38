//! Control requests: JSON, because they are rare and people read them in logs.

use serde::{Deserialize, Serialize};

use crate::clock::EarlyConfig;
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
    /// Begin the stream of changed rows of a clocked table anew: all rows the worker subscribed to, and from then on what
    /// changes. The answer says that the stream has begun, not that it has arrived.
    Restream {
        /// Number of the table.
        table: u16,
        /// Number of the new stream, above that of the worker's last one; streams begin at 0.
        generation: u32,
    },
    /// Send rows of a clocked table that this worker subscribed to before the least clock has advanced, too.
    SendEarly {
        /// Number of the table.
        table: u16,
        /// How much, and in which order. The budget is this shard's.
        early: EarlyConfig,
        /// Values at the beginning of a row that a change is measured by.
        width: u32,
    },
    /// Is every worker's clock of a table at `time`? Refused with the names of those it waits for if not.
    Reached {
        /// Number of the table.
        table: u16,
        /// The clock asked for.
        time: u64,
    },
    /// Forget a table and its values.
    Drop {
        /// Number of the table.
        table: u16,
    },
}
