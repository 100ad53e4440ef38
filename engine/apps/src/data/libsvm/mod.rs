//! Reads libsvm text: one example a line, `label id:value id:value ...`.
//!
//! - Labels are 0 and 1, or -1 and +1 (also written `1.0`); within a set only one of the two ways.
//! - Feature ids are whole numbers below 2^64, strictly increasing in a line. A bare `id` means `id:1`.
//! - Values are finite decimal numbers, rounded exactly.
//! - Blanks and tabs separate; lines end with `\n` or `\r\n`; empty lines and everything behind `#` are skipped.
//! - Files may be packed (see [`compression`](super::compression)).
//!
//! Threads take blocks of whole lines in turn, parse them, and number their features in a table of their own; at the end
//! the tables are merged and the numbers rewritten. The result, and the error if there is one, depend on the text
//! alone. Memory: about 12 bytes a nonzero (4 without values), twice that for a moment while blocks are joined.
//!
//! Workers that share a set of plain files each read only their part of the bytes ([`read_share`]).
//!
//! Reading order: `line` (grammar), `span` (parts of files), `source` (blocks), then this file.

mod line;
mod source;
mod span;

use std::path::Path;
use std::sync::Mutex;
use std::thread;

use super::error::LineFault;
use super::intern::{Interned, Interner};
use super::join::{Piece, join};
use super::{DataError, Dataset};
use line::Rows;
use source::{BlockId, Broken, Sources};

/// Reads `files` as one set, in their order, with `threads` threads (at least one; about as many as cores).
///
/// # Errors
/// [`DataError::Io`], [`DataError::Archive`] or [`DataError::Line`] for the first fault in the order of the text;
/// [`DataError::Empty`] when there is no example; [`DataError::TooLarge`] beyond 2^32 - 2 rows or features.
pub fn read<P: AsRef<Path> + Sync>(files: &[P], threads: usize) -> Result<Dataset, DataError> {
    let (set, _) = read_sources(&Sources::new(files, None), files, threads)?;
    if set.rows() == 0 {
        let what: Vec<_> = files.iter().map(|file| file.as_ref().display().to_string()).collect();
        return Err(DataError::Empty {
            what: if what.is_empty() { "no file".into() } else { what.join(", ") },
        });
    }
    Ok(set)
}

/// How negative examples are labelled in some part of a set. A set with both is ambiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negatives {
    /// Some are labelled 0.
    pub zero: bool,
    /// Some are labelled -1.
    pub minus: bool,
}

/// Reads the share of worker `worker` of `workers`: consecutive rows, every row in exactly one share, and about as
/// much work in each. Of plain files a worker reads only its share of the bytes; archives it reads whole.
///
/// A share may be empty, and shares may differ in the labels of their negatives: whoever joins them must make sure
/// that there is a row and that the labels agree. [`read`] names the place where they do not.
///
/// # Errors
/// Those of [`read`], for the lines read.
pub fn read_share<P: AsRef<Path> + Sync>(
    files: &[P],
    worker: usize,
    workers: usize,
    threads: usize,
) -> Result<(Dataset, Negatives), DataError> {
    match span::cut(files, worker, workers) {
        Some(spans) if workers > 1 => read_sources(&Sources::new(files, Some(spans)), files, threads),
        _ => Ok((read(files, threads)?.share(worker, workers), Negatives::default())),
    }
}

/// Whether [`read_share`] reads only a share of these files.
pub fn can_share<P: AsRef<Path>>(files: &[P]) -> bool {
    span::cut(files, 0, 1).is_some()
}

fn read_sources<P: AsRef<Path> + Sync>(
    sources: &Sources<'_>,
    files: &[P],
    threads: usize,
) -> Result<(Dataset, Negatives), DataError> {
    let threads = threads.max(1);
    let outputs = Mutex::new(Vec::with_capacity(threads));
    thread::scope(|scope| {
        let work = |thread: usize| {
            let output = parse_blocks(sources, thread);
            outputs.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(output);
        };
        for thread in 1..threads {
            scope.spawn(move || work(thread));
        }
        work(0);
    });
    let outputs = outputs.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut lists = Vec::with_capacity(threads);
    let mut parts = Vec::new();
    for (table, (list, made)) in outputs.into_iter().enumerate() {
        lists.push(list);
        parts.extend(made.into_iter().map(|mut part: Part| {
            part.piece.table = table;
            part
        }));
    }
    parts.sort_by_key(|part| part.id);
    let negatives = check(&mut parts, files, |file| sources.lines_before(file))?;
    Ok((join(parts.into_iter().map(|part| part.piece).collect(), lists, threads)?, negatives))
}

/// A parsed block.
struct Part {
    id: BlockId,
    piece: Piece,
    lines: u64,
    zero_line: Option<u64>,
    minus_line: Option<u64>,
    fault: Option<Fault>,
}

/// Why a part ends early.
enum Fault {
    Line(LineFault),
    Broken(Broken),
    TooManyFeatures,
}

/// One thread's part of the reading: blocks until there are no more, then its table, sorted.
fn parse_blocks(sources: &Sources<'_>, thread: usize) -> (Vec<Interned>, Vec<Part>) {
    let mut interner = Interner::new();
    let mut parts = Vec::new();
    let mut block = Vec::new();
    let mut rows = Rows::default();
    while let Some((id, outcome)) = sources.next(thread, &mut block) {
        rows.clear();
        let mut fault =
            rows.parse(&block).map_err(Fault::Line).err().or(outcome.map_err(Fault::Broken).err());
        let mut columns = Vec::with_capacity(rows.ids.len());
        for &id in &rows.ids {
            match interner.index(id) {
                Some(column) => columns.push(column),
                None => {
                    fault = Some(Fault::TooManyFeatures);
                    break;
                }
            }
        }
        if fault.is_some() {
            sources.stop_after(id.0);
        }
        // Copies of the exact size: the block's own arrays are grown by doubling and serve again.
        let (labels, lengths, values) = (rows.labels.clone(), rows.lengths.clone(), rows.values.clone());
        let piece = Piece { table: 0, labels, lengths, columns, values };
        let (lines, zero_line, minus_line) = (rows.lines, rows.zero_line, rows.minus_line);
        parts.push(Part { id, piece, lines, zero_line, minus_line, fault });
    }
    (interner.into_sorted(), parts)
}

/// The first fault in the order of the text, with its place in its file; also the mixture of labels 0 and -1.
/// `skipped` tells how many lines of a file come before the first part.
fn check<P: AsRef<Path>>(
    parts: &mut [Part],
    files: &[P],
    skipped: impl Fn(usize) -> Result<u64, DataError>,
) -> Result<Negatives, DataError> {
    let (mut file, mut lines_before) = (0, 0);
    let Negatives { zero: mut zeros, minus: mut minuses } = Negatives::default();
    for part in parts {
        if part.id.0 != file {
            (file, lines_before) = (part.id.0, 0);
        }
        let path = files[file].as_ref();
        let mixed = match (part.zero_line, part.minus_line) {
            (Some(zero), Some(minus)) if !zeros && !minuses => Some(zero.max(minus)),
            (Some(zero), _) if minuses => Some(zero),
            (_, Some(minus)) if zeros => Some(minus),
            _ => None,
        };
        if let Some(line) = mixed {
            return Err(DataError::Line {
                file: path.into(),
                line: skipped(file)? + lines_before + line + 1,
                column: 1,
                expected: "labels either 0 and 1 or -1 and +1 throughout the set".into(),
                got: "the first line of the other kind".into(),
            });
        }
        zeros |= part.zero_line.is_some();
        minuses |= part.minus_line.is_some();
        match part.fault.take() {
            None => lines_before += part.lines,
            Some(Fault::Line(LineFault { line, column, expected, got })) => {
                let line = skipped(file)? + lines_before + line + 1;
                return Err(DataError::Line { file: path.into(), line, column, expected, got });
            }
            Some(Fault::Broken(broken)) => {
                return Err(broken.at(path, skipped(file)? + lines_before + part.lines + 1));
            }
            Some(Fault::TooManyFeatures) => {
                let limit = Interner::LIMIT as u64;
                return Err(DataError::TooLarge { what: "features", limit, got: limit + 1 });
            }
        }
    }
    Ok(Negatives { zero: zeros, minus: minuses })
}

#[cfg(test)]
mod tests;
