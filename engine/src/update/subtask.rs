//! What a server function may ask of its own shard while it answers a call.

/// A request that a call makes of its shard, by [`CallView::issue`](super::CallView::issue). It begins when the call has
/// returned; the call is answered when all of its sub-tasks have ended, and refused if one of them is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subtask {
    /// Call a verb of a table's function. What it answers is dropped.
    Call {
        /// Number of the table.
        table: u16,
        /// The verb.
        verb: String,
        /// Its arguments.
        arguments: Vec<u8>,
    },
    /// Wait until update `time` of a table is finished on this shard.
    Wait {
        /// Number of the table.
        table: u16,
        /// The update.
        time: u64,
    },
}
