//! JSON lines over a byte stream, bounded in both directions.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The longest line anybody may send. A report with a long history fits; a flood does not.
pub const LINE_BYTES_MAX: usize = 8 << 20;

/// A peer may leave at most this much unread before it counts as stuck.
const UNSENT_BYTES_MAX: usize = 32 << 20;

/// What can be wrong with a line.
#[derive(Debug, Error)]
pub enum LineError {
    /// No newline came within the limit.
    #[error("a line of more than {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not the JSON we expected.
    #[error("not a message of this protocol: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The peer does not read what it is sent.
    #[error("more than {UNSENT_BYTES_MAX} bytes wait to be read by the peer")]
    Stuck,
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// Some bytes.
    Some,
    /// Nothing now.
    Nothing,
    /// The peer closed.
    End,
}

/// Collects bytes and hands out messages.
#[derive(Debug, Default)]
pub struct LineReader {
    bytes: Vec<u8>,
    /// Bytes before this are handed out already.
    taken: usize,
    /// No newline lies between `taken` and here.
    scanned: usize,
}

impl LineReader {
    /// Reads once from `source`.
    pub fn fill(&mut self, source: &mut impl Read) -> io::Result<Filled> {
        self.bytes.drain(..self.taken);
        self.scanned -= self.taken;
        self.taken = 0;
        let mut chunk = [0u8; 16 << 10];
        match source.read(&mut chunk) {
            Ok(0) => Ok(Filled::End),
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                Ok(Filled::Some)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Filled::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// The next complete message.
    pub fn next_message<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        let Some(offset) = self.bytes[self.scanned..].iter().position(|&byte| byte == b'\n') else {
            self.scanned = self.bytes.len();
            if self.scanned - self.taken > LINE_BYTES_MAX {
                return Err(LineError::TooLong);
            }
            return Ok(None);
        };
        let end = self.scanned + offset;
        let line = &self.bytes[self.taken..end];
        self.taken = end + 1;
        self.scanned = end + 1;
        if line.len() > LINE_BYTES_MAX {
            return Err(LineError::TooLong);
        }
        Ok(Some(serde_json::from_slice(line)?))
    }
}

/// `message` as a line.
pub fn encode(message: &impl Serialize) -> Result<Vec<u8>, LineError> {
    let mut line = serde_json::to_vec(message)?;
    if line.len() > LINE_BYTES_MAX {
        return Err(LineError::TooLong);
    }
    line.push(b'\n');
    Ok(line)
}

/// Lines on their way to a peer that may read slowly.
#[derive(Debug, Default)]
pub struct LineWriter {
    unsent: Vec<u8>,
}

impl LineWriter {
    /// Queues a message.
    pub fn push(&mut self, message: &impl Serialize) -> Result<(), LineError> {
        let line = encode(message)?;
        if self.unsent.len() + line.len() > UNSENT_BYTES_MAX {
            return Err(LineError::Stuck);
        }
        self.unsent.extend_from_slice(&line);
        Ok(())
    }

    /// Writes what the peer takes now.
    pub fn flush(&mut self, sink: &mut impl Write) -> io::Result<()> {
        let mut sent = 0;
        let result = loop {
            if sent == self.unsent.len() {
                break Ok(());
            }
            match sink.write(&self.unsent[sent..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.unsent.drain(..sent);
        result
    }

    /// True while something waits.
    pub fn pending(&self) -> bool {
        !self.unsent.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_arrive_whole_however_they_are_cut() {
        let text: Vec<u8> =
            [encode(&"one").unwrap(), encode(&vec![1, 2]).unwrap(), encode(&"three").unwrap()].concat();
        for cut in 1..text.len() {
            let mut reader = LineReader::default();
            let mut seen: Vec<serde_json::Value> = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                let mut source = part;
                while reader.fill(&mut source).unwrap() == Filled::Some {
                    while let Some(value) = reader.next_message().unwrap() {
                        seen.push(value);
                    }
                }
            }
            assert_eq!(
                seen,
                [serde_json::json!("one"), serde_json::json!([1, 2]), serde_json::json!("three")]
            );
        }
    }

    #[test]
    fn a_line_without_an_end_is_refused_at_the_limit() {
        let mut reader = LineReader::default();
        let mut source = io::repeat(b'x');
        let error = loop {
            reader.fill(&mut source).unwrap();
            if let Err(error) = reader.next_message::<serde_json::Value>() {
                break error;
            }
        };
        assert!(matches!(error, LineError::TooLong));
        assert!(reader.bytes.len() <= LINE_BYTES_MAX + (16 << 10));
    }

    #[test]
    fn rubbish_is_an_error_not_a_panic() {
        let mut reader = LineReader::default();
        reader.fill(&mut &b"\x00\xff{{{\n"[..]).unwrap();
        assert!(matches!(reader.next_message::<serde_json::Value>(), Err(LineError::Malformed(_))));
    }

    #[test]
    fn a_peer_that_never_reads_is_called_stuck() {
        let mut writer = LineWriter::default();
        let long = "x".repeat(LINE_BYTES_MAX - 2);
        let error = (0..8).find_map(|_| writer.push(&long).err()).expect("the queue is bounded");
        assert!(matches!(error, LineError::Stuck));
    }
}
