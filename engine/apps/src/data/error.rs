use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// What can be wrong with a set of examples. Every message names the file, and the place in it where there is one.
#[derive(Debug, Error)]
pub enum DataError {
    /// The file cannot be opened or read at all.
    #[error("{}: {source}; expected a file that can be read (or written, where it is to be made)", .file.display())]
    Io {
        /// The file asked for.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is an archive that ends early or is damaged. The text before the damage was well formed.
    #[error("{}:{line}: expected a whole {format} archive, got: {source}; fetch or compress the file again", .file.display())]
    Archive {
        /// The archive.
        file: PathBuf,
        /// The line of the unpacked text that could not be completed, from 1.
        line: u64,
        /// The compression its first bytes announced.
        format: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// A line is not what the format wants.
    #[error("{}:{line}:{column}: expected {expected}, got {got}", .file.display())]
    Line {
        /// The file.
        file: PathBuf,
        /// The line of the (unpacked) text, from 1.
        line: u64,
        /// The byte in that line, from 1.
        column: u64,
        /// What the format wants there.
        expected: String,
        /// What stands there, shortened and made printable.
        got: String,
    },
    /// No file was named, or the files hold no example.
    #[error("{what}: expected at least one example, got none; name a file with `label id:value ...` lines")]
    Empty {
        /// The files read.
        what: String,
    },
    /// More rows or features than the 32-bit indices of a set can name.
    #[error("expected at most {limit} {what}, got {got}; split the set")]
    TooLarge {
        /// Rows or features.
        what: &'static str,
        /// The most a set can hold.
        limit: u64,
        /// How many there were.
        got: u64,
    },
    /// Arrays handed in do not form a set (see [`Dataset::from_parts`](super::Dataset::from_parts)).
    #[error("inconsistent arrays: expected {expected}, got {got}")]
    Inconsistent {
        /// The rule that does not hold.
        expected: &'static str,
        /// The offending place.
        got: String,
    },
}

/// A fault in one line of text, before it is known which file and which block of it the line belongs to.
#[derive(Debug)]
pub(crate) struct LineFault {
    /// Lines of the block before this one.
    pub line: u64,
    /// From 1.
    pub column: u64,
    pub expected: String,
    pub got: String,
}
