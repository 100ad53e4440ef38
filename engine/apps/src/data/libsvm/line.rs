//! From text to rows: the grammar of one line, and the faults it can have.

use super::super::error::LineFault;
use super::super::number::{digits, is_delimiter, scan_f64};

/// The rows of a block of whole lines, ids not yet numbered.
#[derive(Default)]
pub(super) struct Rows {
    pub lines: u64,
    pub labels: Vec<f64>,
    /// Entries of each row.
    pub lengths: Vec<u32>,
    pub ids: Vec<u64>,
    /// Empty as long as every value was 1, else one for each id.
    pub values: Vec<f64>,
    /// The first lines labelled 0 and -1; a set with both is ambiguous.
    pub zero_line: Option<u64>,
    pub minus_line: Option<u64>,
}

impl Rows {
    /// Forgets the rows and keeps the memory.
    pub fn clear(&mut self) {
        let Self { lines, labels, lengths, ids, values, zero_line, minus_line } = self;
        (*lines, *zero_line, *minus_line) = (0, None, None);
        labels.clear();
        lengths.clear();
        ids.clear();
        values.clear();
    }

    /// Appends the rows of `text`, which ends with a line end.
    pub fn parse(&mut self, text: &[u8]) -> Result<(), LineFault> {
        let mut cursor = Cursor { text, line_start: 0, at: 0, line: self.lines };
        while cursor.at < text.len() {
            cursor.line_start = cursor.at;
            cursor.skip_blanks();
            if !cursor.ends_line() {
                self.row(&mut cursor)?;
            }
            cursor.skip_line();
            cursor.line += 1;
        }
        self.lines = cursor.line;
        Ok(())
    }

    fn row(&mut self, cursor: &mut Cursor<'_>) -> Result<(), LineFault> {
        let label = self.label(cursor)?;
        let begin = self.ids.len();
        cursor.skip_blanks();
        while !cursor.ends_line() {
            let place = cursor.at;
            let id = cursor.id()?;
            if self.ids.len() > begin && self.ids[self.ids.len() - 1] >= id {
                let last = self.ids[self.ids.len() - 1];
                let what = if last == id { "repeated" } else { "unsorted" };
                let expected = format!("feature ids strictly increasing within a line, above {last}");
                return Err(cursor.fault_at(place, expected, format!("{what} feature id {id}")));
            }
            let value = if cursor.text[cursor.at] == b':' { cursor.value()? } else { 1.0 };
            if value != 1.0 && self.values.is_empty() {
                self.values.resize(self.ids.len(), 1.0);
                self.values.push(value);
            } else if !self.values.is_empty() {
                self.values.push(value);
            }
            self.ids.push(id);
            cursor.skip_blanks();
        }
        let length = self.ids.len() - begin;
        // A line is shorter than `LINE_BYTES_MAX`, so its entries fit.
        self.lengths.push(length as u32);
        self.labels.push(label);
        Ok(())
    }

    fn label(&mut self, cursor: &mut Cursor<'_>) -> Result<f64, LineFault> {
        let place = cursor.at;
        let number = scan_f64(&cursor.text[place..]);
        let Some((value, length)) = number.filter(|(value, _)| [0.0, 1.0, -1.0].contains(value)) else {
            return Err(cursor.fault("a label, 0 or 1 (or -1 or +1), before the features"));
        };
        cursor.at += length;
        let seen = if value == 0.0 { &mut self.zero_line } else { &mut self.minus_line };
        if value != 1.0 && seen.is_none() {
            *seen = Some(cursor.line);
        }
        Ok(if value == 1.0 { 1.0 } else { -1.0 })
    }
}

struct Cursor<'a> {
    text: &'a [u8],
    line_start: usize,
    at: usize,
    line: u64,
}

impl Cursor<'_> {
    fn skip_blanks(&mut self) {
        while matches!(self.text[self.at], b' ' | b'\t' | b'\r') {
            self.at += 1;
        }
    }

    fn ends_line(&self) -> bool {
        matches!(self.text[self.at], b'\n' | b'#')
    }

    /// To the beginning of the next line, over a comment if there is one.
    fn skip_line(&mut self) {
        while self.text[self.at] != b'\n' {
            self.at += 1;
        }
        self.at += 1;
    }

    /// A feature id, up to the colon or the delimiter after it.
    fn id(&mut self) -> Result<u64, LineFault> {
        let start = self.at;
        let mut id = 0u64;
        let end = digits(self.text, start, &mut id);
        let ends_well = self.text[end] == b':' || is_delimiter(self.text[end]);
        if end == start || !ends_well {
            return Err(if self.text[start..].starts_with(b"qid:") {
                self.fault("a feature id (ranking queries, `qid:`, are not supported; remove them)")
            } else {
                self.fault("a feature id, a whole number from 0 to 18446744073709551615, in `id:value`")
            });
        }
        if end - start > 19 {
            // Beyond 19 digits the product above may have wrapped.
            let text = std::str::from_utf8(&self.text[start..end]).unwrap_or_default();
            let Ok(exact) = text.parse() else {
                return Err(self.fault("a feature id of at most 18446744073709551615"));
            };
            id = exact;
        }
        self.at = end;
        Ok(id)
    }

    /// The colon and the value behind it.
    fn value(&mut self) -> Result<f64, LineFault> {
        self.at += 1;
        // Most sets say little else. A line end is the last byte of the text, so another byte follows a digit.
        if self.text[self.at] == b'1' && is_delimiter(self.text[self.at + 1]) {
            self.at += 1;
            return Ok(1.0);
        }
        match scan_f64(&self.text[self.at..]) {
            Some((value, length)) if value.is_finite() => {
                self.at += length;
                Ok(value)
            }
            Some(_) => Err(self.fault("a finite value after the colon")),
            None => Err(self.fault("a number after the colon, as in `id:0.5`")),
        }
    }

    fn fault(&self, expected: &str) -> LineFault {
        self.fault_at(self.at, expected.into(), shown(&self.text[self.at..]))
    }

    fn fault_at(&self, place: usize, expected: String, got: String) -> LineFault {
        LineFault { line: self.line, column: (place - self.line_start + 1) as u64, expected, got }
    }
}

/// The token at the start of `text`, shortened, with unprintable bytes escaped.
fn shown(text: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 32;
    let end = text.iter().position(|&b| matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(text.len());
    let token = &text[..end.min(SHOWN_BYTES_MAX)];
    if token.is_empty() {
        return if text.first() == Some(&b'\n') { "the end of the line".into() } else { "nothing".into() };
    }
    let binary = !token.iter().all(|b| (0x20..0x7f).contains(b));
    let kind = if binary { "bytes that are no libsvm text: " } else { "" };
    let dots = if end > token.len() { "..." } else { "" };
    format!("{kind}\"{}\"{dots}", token.escape_ascii())
}
