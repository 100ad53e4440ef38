//! Counters of one worker's clocked table.

/// What a table has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClockStats {
    /// Rows read, by how far the newest clock they wholly hold was behind the reader's: entry `n` counts differences of
    /// `-1 - n`.
    pub reads_behind: Vec<u64>,
    /// Rows asked for.
    pub rows_pulled: u64,
    /// Rows that came unasked.
    pub rows_pushed: u64,
    /// Streams asked for anew.
    pub restreams: u64,
    /// What left before its clock.
    pub early: EarlyTraffic,
}

/// What left before its clock was closed: at this worker, and at the servers to it. Bytes are those of whole frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EarlyTraffic {
    /// Rows of increments that this worker sent.
    pub rows_sent: u64,
    /// Bytes of that, with all keys in full; what lossy links made it send again is not counted.
    pub bytes_sent: u64,
    /// Rows that servers sent.
    pub rows_received: u64,
    /// Bytes of that.
    pub bytes_received: u64,
}
