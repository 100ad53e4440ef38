//! Hands out the text of several files in blocks of whole lines, to any number of threads.

use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::super::DataError;
use super::super::compression::{self, Compression};
use super::span;

/// What a thread parses at a time: large enough to make the lock cheap, small enough to stay in cache.
const BLOCK_BYTES: usize = 1 << 20;

/// No line may be longer. Without such a bound a file without line ends, however well packed, takes all memory.
pub(super) const LINE_BYTES_MAX: usize = 256 << 20;

/// Which block of which file; blocks sorted by this are the text in order.
pub(super) type BlockId = (usize, usize);

/// Files being read, each by at most one thread at a time. Archives of several files unpack in parallel.
pub(super) struct Sources<'a> {
    files: Vec<Mutex<FileSource<'a>>>,
}

/// How a file ended before its time.
pub(super) enum Broken {
    Io(io::Error),
    Archive(&'static str, io::Error),
    LineTooLong,
}

impl Broken {
    /// As an error at a line of the file, from 1.
    pub fn at(self, file: &Path, line: u64) -> DataError {
        let file = file.to_path_buf();
        match self {
            Self::Io(source) => DataError::Io { file, source },
            Self::Archive(format, source) => DataError::Archive { file, line, format, source },
            Self::LineTooLong => DataError::Line {
                file,
                line,
                column: 1,
                expected: format!("a line of at most {} MiB", LINE_BYTES_MAX >> 20),
                got: "a longer one".into(),
            },
        }
    }
}

impl<'a> Sources<'a> {
    /// The files whole, or of each the lines that begin in its span.
    pub fn new<P: AsRef<Path>>(files: &'a [P], spans: Option<Vec<Range<u64>>>) -> Self {
        let mut spans = spans.map(Vec::into_iter);
        let mut source = |file: &'a P| {
            let span = spans.as_mut().and_then(Iterator::next);
            Mutex::new(FileSource::new(file.as_ref(), span))
        };
        Self { files: files.iter().map(&mut source).collect() }
    }

    /// How many lines of a file come before the first that was handed out. Reads them, so only for errors.
    pub fn lines_before(&self, file: usize) -> Result<u64, DataError> {
        let source = lock(&self.files[file], true);
        let (start, path) = source.map_or((0, Path::new("")), |source| (source.start, source.path));
        if start == 0 {
            return Ok(0);
        }
        span::lines_before(path, start).map_err(|source| DataError::Io { file: path.into(), source })
    }

    /// Puts the next lines of some file into `block` (its old contents are dropped), preferring the files from
    /// `hint` on. `None` when every file is exhausted. After a fault the file it is in yields no more.
    pub fn next(&self, hint: usize, block: &mut Vec<u8>) -> Option<(BlockId, Result<(), Broken>)> {
        let order = || (0..self.files.len()).map(|step| (hint + step) % self.files.len());
        // First whichever file is free, then wait for the ones others read.
        for wait in [false, true] {
            for file in order() {
                let Some(mut source) = lock(&self.files[file], wait) else { continue };
                if let Some((index, result)) = source.next(block) {
                    return Some(((file, index), result));
                }
            }
        }
        None
    }

    /// Makes every file behind `file` yield no more: an error before them is what will be reported.
    pub fn stop_after(&self, file: usize) {
        for later in &self.files[file..] {
            if let Some(mut source) = lock(later, true) {
                source.exhausted = true;
            }
        }
    }
}

fn lock<'l, T>(mutex: &'l Mutex<T>, wait: bool) -> Option<MutexGuard<'l, T>> {
    if wait {
        return Some(mutex.lock().unwrap_or_else(PoisonError::into_inner));
    }
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

struct FileSource<'a> {
    path: &'a Path,
    /// Only lines that begin here.
    span: Option<Range<u64>>,
    /// Where the first line begins.
    start: u64,
    opened: Option<(Compression, Box<dyn Read + Send>)>,
    /// The beginning of a line whose end was not read yet.
    rest: Vec<u8>,
    blocks: usize,
    exhausted: bool,
}

impl<'a> FileSource<'a> {
    fn new(path: &'a Path, span: Option<Range<u64>>) -> Self {
        let exhausted = span.as_ref().is_some_and(Range::is_empty);
        Self { path, span, start: 0, opened: None, rest: Vec::new(), blocks: 0, exhausted }
    }

    fn open(&mut self) -> io::Result<(Compression, Box<dyn Read + Send>)> {
        let Some(span) = &self.span else { return compression::open(self.path) };
        let (start, text) = span::open(self.path, span)?;
        self.start = start;
        Ok((Compression::Plain, Box::new(text)))
    }

    fn next(&mut self, block: &mut Vec<u8>) -> Option<(usize, Result<(), Broken>)> {
        block.clear();
        if self.exhausted {
            return None;
        }
        let result = self.fill(block);
        if result.is_err() {
            self.exhausted = true;
        } else if block.is_empty() {
            return None;
        }
        self.blocks += 1;
        Some((self.blocks - 1, result))
    }

    /// Reads until `block` ends with a line end and has about [`BLOCK_BYTES`], or the file ends.
    /// On a fault `block` holds the whole lines before it.
    fn fill(&mut self, block: &mut Vec<u8>) -> Result<(), Broken> {
        std::mem::swap(block, &mut self.rest);
        self.rest.clear();
        let outcome = self.read_lines(block);
        let whole = block.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        if self.exhausted && outcome.is_ok() {
            // The last line may lack its end.
            if whole < block.len() {
                block.push(b'\n');
            }
        } else {
            self.rest.extend_from_slice(&block[whole..]);
            block.truncate(whole);
        }
        outcome
    }

    fn read_lines(&mut self, block: &mut Vec<u8>) -> Result<(), Broken> {
        if self.opened.is_none() {
            let opened = self.open().map_err(Broken::Io)?;
            self.opened = Some(opened);
            block.reserve(BLOCK_BYTES);
        }
        let Some((compression, reader)) = &mut self.opened else { return Ok(()) };
        let compression = *compression;
        let mut wanted = BLOCK_BYTES;
        loop {
            let start = block.len();
            let missing = wanted.saturating_sub(start).max(BLOCK_BYTES / 4) as u64;
            let read =
                reader.as_mut().take(missing).read_to_end(block).map_err(|error| match compression {
                    Compression::Plain => Broken::Io(error),
                    _ => Broken::Archive(compression.name(), error),
                })?;
            if read == 0 {
                self.exhausted = true;
                return Ok(());
            }
            if block[start..].contains(&b'\n') {
                return Ok(());
            }
            if block.len() > LINE_BYTES_MAX {
                return Err(Broken::LineTooLong);
            }
            wanted = block.len() * 2;
        }
    }
}
