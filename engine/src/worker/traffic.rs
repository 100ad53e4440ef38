//! What the frames of each table came to.
//!
//! Counted are all requests and answers but one-key pushes and acknowledgements: a count would cost these a measurable part
//! of what they cost altogether. The statistics of the links hold them.

use serde::{Deserialize, Serialize};

/// Frames of one table in one direction, and what their bytes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameBytes {
    /// Frames.
    pub frames: u64,
    /// Bytes of headers.
    pub headers: u64,
    /// Bytes of key lists and of their signatures.
    pub keys: u64,
    /// Bytes of everything behind the keys: values as they travelled, padding, arguments and answers of calls.
    pub values: u64,
}

impl FrameBytes {
    /// All bytes.
    pub fn total(&self) -> u64 {
        self.headers + self.keys + self.values
    }

    /// Both together.
    pub fn plus(self, other: FrameBytes) -> FrameBytes {
        FrameBytes {
            frames: self.frames + other.frames,
            headers: self.headers + other.headers,
            keys: self.keys + other.keys,
            values: self.values + other.values,
        }
    }

    fn add(&mut self, frame_bytes: usize, key_bytes: usize) {
        let headers = frame_bytes.min(crate::message::HEADER_BYTES);
        self.frames += 1;
        self.headers += headers as u64;
        self.keys += key_bytes as u64;
        self.values += frame_bytes.saturating_sub(headers + key_bytes) as u64;
    }
}

/// What a worker sent and received for the sake of one table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableTraffic {
    /// Number of the table; 0 for creating and freezing tables.
    pub table: u16,
    /// From worker to servers.
    pub requests: FrameBytes,
    /// From servers to worker.
    pub replies: FrameBytes,
}

/// The traffic of every table of a worker.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    tables: Vec<TableTraffic>,
}

impl Traffic {
    pub fn sent(&mut self, table: u16, frame_bytes: usize, key_bytes: usize) {
        self.of(table).requests.add(frame_bytes, key_bytes);
    }

    pub fn received(&mut self, table: u16, frame_bytes: usize, key_bytes: usize) {
        self.of(table).replies.add(frame_bytes, key_bytes);
    }

    pub fn tables(&self) -> &[TableTraffic] {
        &self.tables
    }

    /// A job has a handful of tables: a search from the front is the quickest map.
    fn of(&mut self, table: u16) -> &mut TableTraffic {
        let at = self.tables.iter().position(|known| known.table == table).unwrap_or_else(|| {
            self.tables.push(TableTraffic { table, ..TableTraffic::default() });
            self.tables.len() - 1
        });
        &mut self.tables[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_frames_add_up_to_their_lengths() {
        let mut traffic = Traffic::default();
        traffic.sent(3, 64 + 16 + 48 + 80, 16);
        traffic.sent(3, 64, 0);
        traffic.received(1, 64 + 8, 0);
        let [three, one] = traffic.tables() else { panic!("two tables") };
        assert_eq!((three.table, three.requests.total(), three.requests.frames), (3, 272, 2));
        assert_eq!((three.requests.headers, three.requests.keys, three.requests.values), (128, 16, 128));
        assert_eq!((one.table, one.replies.total(), one.replies.values), (1, 72, 8));
    }
}
