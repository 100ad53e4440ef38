//! Why a table refuses: errors as data, with what was expected and what came.

use thiserror::Error;

/// A request that a table cannot serve. The table is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TableError {
    /// The description of the table is not acceptable.
    #[error("table {table}: {text}")]
    Spec {
        /// The table's number.
        table: u16,
        /// What was expected and what came.
        text: String,
    },
    /// No such server function is registered.
    #[error("unknown server function {name:?}; registered: {known}")]
    UnknownFunction {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The server function does not accept its parameters.
    #[error("server function {name:?}: {text}")]
    Params {
        /// The function.
        name: String,
        /// What was expected and what came.
        text: String,
    },
    /// The key has no row, and the table's key set is fixed.
    #[error("key {key} (number {index} of the list) has no row: {expected}")]
    NoSuchKey {
        /// The key.
        key: u64,
        /// Its place in the list.
        index: usize,
        /// Which keys the table has.
        expected: String,
    },
    /// Keys are not in strictly increasing order.
    #[error("expected strictly increasing keys, but number {index} of the list is not above the one before")]
    Unsorted {
        /// The first offending place.
        index: usize,
    },
    /// A range with its ends exchanged, or longer than one request may be.
    #[error("expected a range of 1 to {limit} keys, got {first} to {last}")]
    Range {
        /// The first key.
        first: u64,
        /// The last key, inclusive.
        last: u64,
        /// Most keys of one range request.
        limit: u64,
    },
    /// A wrong number of value arrays.
    #[error("server function {function:?} takes {expected} value arrays, got {got}")]
    Parts {
        /// The function.
        function: String,
        /// Arrays it takes.
        expected: usize,
        /// Arrays that came.
        got: usize,
    },
    /// An array of values of the wrong length.
    #[error("value array {part}: expected {expected} values (keys x width), got {got}")]
    Values {
        /// Which array.
        part: usize,
        /// Values expected.
        expected: usize,
        /// Values that came.
        got: usize,
    },
    /// The slots were resolved before the table was frozen, or belong to another table, or lack rows.
    #[error("these slots are out of date; resolve the keys again")]
    Stale,
    /// The table is frozen already, or not of a kind that freezes.
    #[error("cannot freeze: {0}")]
    Freeze(&'static str),
    /// The server function will not apply the push.
    #[error("server function {function:?} refused: {text}")]
    Refused {
        /// The function.
        function: String,
        /// Its reason.
        text: String,
    },
    /// No more rows fit.
    #[error("the table is full: it has {rows} rows and at most {limit} fit")]
    Full {
        /// Rows now.
        rows: u64,
        /// Most rows.
        limit: u64,
    },
    /// The machine has no memory to give.
    #[error("out of memory: {bytes} bytes were refused")]
    OutOfMemory {
        /// The size asked for.
        bytes: usize,
    },
}

/// A call of a server function that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallError {
    /// The function knows no such verb.
    #[error("server function {function:?} knows no verb {verb:?}")]
    UnknownVerb {
        /// The function.
        function: String,
        /// The verb asked for.
        verb: String,
    },
    /// The arguments are not what the verb takes.
    #[error("verb {verb:?}: {text}")]
    Arguments {
        /// The verb.
        verb: String,
        /// What was expected and what came.
        text: String,
    },
    /// The verb issues sub-tasks, and this call is no request of a worker.
    #[error("verb {verb:?} issues sub-tasks; only a worker's request can wait for them")]
    Subtasks {
        /// The verb.
        verb: String,
    },
    /// The table refused.
    #[error(transparent)]
    Table(#[from] TableError),
}
