//! The lines that begin in a range of bytes of a plain file, so that several workers read one file without overlap.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::super::compression::Compression;

/// The span of each file that is part `part` of `parts`: the files one behind the other are cut at equal bytes, and the
/// lines that begin in a part belong to it. `None` unless all of them are plain files: archives cannot be entered in
/// the middle.
pub(super) fn cut<P: AsRef<Path>>(files: &[P], part: usize, parts: usize) -> Option<Vec<Range<u64>>> {
    let lengths: Vec<u64> = files.iter().map(|file| plain_length(file.as_ref())).collect::<Option<_>>()?;
    let total: u64 = lengths.iter().sum();
    let place = |part: usize| (u128::from(total) * part as u128 / parts as u128) as u64;
    let (from, to) = (place(part), place(part + 1));
    let mut before = 0;
    let within = lengths.into_iter().map(|length| {
        let begin = before;
        before += length;
        from.clamp(begin, before) - begin..to.clamp(begin, before) - begin
    });
    Some(within.collect())
}

fn plain_length(file: &Path) -> Option<u64> {
    let facts = fs::metadata(file).ok().filter(fs::Metadata::is_file)?;
    let mut head = Vec::new();
    File::open(file).ok()?.take(6).read_to_end(&mut head).ok()?;
    (Compression::detect(&head) == Compression::Plain).then_some(facts.len())
}

/// Where the first line that begins in `span` does, and the text from there to the end of the last such line.
pub(super) fn open(file: &Path, span: &Range<u64>) -> io::Result<(u64, impl Read + Send + 'static)> {
    let mut file = BufReader::with_capacity(64 << 10, File::open(file)?);
    let start = line_start(&mut file, span.start)?;
    let end = line_start(&mut file, span.end)?.max(start);
    file.seek(SeekFrom::Start(start))?;
    Ok((start, file.take(end - start)))
}

/// The beginning of the first line at or after the byte `at`, or the end of the file.
fn line_start(file: &mut BufReader<File>, at: u64) -> io::Result<u64> {
    if at == 0 {
        return Ok(0);
    }
    // A line begins at `at` itself if the byte before ends one.
    let mut place = file.seek(SeekFrom::Start(at - 1))?;
    loop {
        let text = file.fill_buf()?;
        if text.is_empty() {
            return Ok(place);
        }
        if let Some(end) = text.iter().position(|&b| b == b'\n') {
            return Ok(place + end as u64 + 1);
        }
        let length = text.len();
        place += length as u64;
        file.consume(length);
    }
}

/// How many lines end before the byte `end`.
pub(super) fn lines_before(file: &Path, end: u64) -> io::Result<u64> {
    let mut text = BufReader::with_capacity(256 << 10, File::open(file)?.take(end));
    let mut lines = 0;
    loop {
        let block = text.fill_buf()?;
        if block.is_empty() {
            return Ok(lines);
        }
        lines += block.iter().filter(|&&b| b == b'\n').count() as u64;
        let length = block.len();
        text.consume(length);
    }
}
