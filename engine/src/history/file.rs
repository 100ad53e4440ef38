//! Histories on disk.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::{Event, Header, History, HistoryError, Recorder};

const MAGIC: &[u8; 8] = b"krhist01";
/// A header is a line of JSON; nothing longer is read.
const HEADER_BYTES_MAX: u32 = 4096;
/// Workers a history can have; what a header claims is not believed beyond.
const WORKERS_MAX: u32 = 1 << 16;
const SUFFIX: &str = "history";

const READ: u8 = 1;
const INC: u8 = 2;
const CLOCK: u8 = 3;
const SETTLED: u8 = 4;
const FINAL: u8 = 5;
const END: u8 = 6;

/// Writes a history to a file.
pub struct FileRecorder {
    path: PathBuf,
    file: BufWriter<File>,
    failed: Option<std::io::Error>,
    record: Vec<u8>,
}

impl FileRecorder {
    /// Begins the file of this worker in `folder`, which is made if it is not there.
    ///
    /// # Errors
    /// [`HistoryError::Io`].
    pub fn create(folder: &Path, header: &Header) -> Result<FileRecorder, HistoryError> {
        let path = folder.join(format!("worker-{}-{}.{SUFFIX}", header.rank, header.incarnation));
        let io = |error| HistoryError::Io { file: path.clone(), error };
        std::fs::create_dir_all(folder).map_err(io)?;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(&path).map_err(io)?);
        let json = serde_json::to_vec(header).expect("a header is plain numbers");
        file.write_all(MAGIC).map_err(io)?;
        file.write_all(&(json.len() as u32).to_le_bytes()).map_err(io)?;
        file.write_all(&json).map_err(io)?;
        Ok(FileRecorder { path, file, failed: None, record: Vec::new() })
    }

    fn write(&mut self, kind: u8, words: &[u64], counts: &[u32]) {
        self.record.clear();
        self.record.push(kind);
        words.iter().for_each(|word| self.record.extend_from_slice(&word.to_le_bytes()));
        counts.iter().for_each(|count| self.record.extend_from_slice(&count.to_le_bytes()));
        if self.failed.is_none() {
            self.failed = self.file.write_all(&self.record).err();
        }
    }
}

impl Recorder for FileRecorder {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Read { key, clock, row_clock, counts } => {
                self.write(READ, &[*key, *clock, *row_clock], counts);
            }
            Event::Inc { key, clock } => self.write(INC, &[*key, *clock], &[]),
            Event::Clock { clock } => self.write(CLOCK, &[*clock], &[]),
            Event::Settled { clock, norm, bound } => {
                self.write(SETTLED, &[*clock, norm.to_bits(), bound.to_bits()], &[]);
            }
            Event::Final { key, counts } => self.write(FINAL, &[*key], counts),
        }
    }

    fn finish(mut self: Box<Self>) -> Result<(), HistoryError> {
        self.write(END, &[], &[]);
        let error = self.failed.take().or_else(|| self.file.flush().err());
        error.map_or(Ok(()), |error| Err(HistoryError::Io { file: self.path.clone(), error }))
    }
}

/// A history in a file.
#[derive(Debug)]
pub struct HistoryFile {
    path: PathBuf,
    header: Header,
}

impl HistoryFile {
    /// Opens a file and reads whose history it is.
    ///
    /// # Errors
    /// [`HistoryError::Io`], [`HistoryError::Format`].
    pub fn open(path: &Path) -> Result<HistoryFile, HistoryError> {
        let header = Records::open(path)?.header;
        Ok(HistoryFile { path: path.to_owned(), header })
    }
}

impl History for HistoryFile {
    fn header(&self) -> &Header {
        &self.header
    }

    fn events(&self) -> Result<Box<dyn Iterator<Item = Result<Event, HistoryError>> + '_>, HistoryError> {
        Ok(Box::new(Records::open(&self.path)?))
    }
}

/// All histories of a folder, by rank and incarnation.
///
/// # Errors
/// [`HistoryError::Io`], [`HistoryError::Format`]; [`HistoryError::Mixed`] if there is none.
pub fn open_folder(folder: &Path) -> Result<Vec<HistoryFile>, HistoryError> {
    let io = |error| HistoryError::Io { file: folder.to_owned(), error };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
            files.push(HistoryFile::open(&path)?);
        }
    }
    if files.is_empty() {
        let text = format!("{} has no file named *.{SUFFIX}", folder.display());
        return Err(HistoryError::Mixed(text));
    }
    files.sort_by_key(|file| (file.header.rank, file.header.incarnation));
    Ok(files)
}

/// The records of a file, one after the other.
struct Records {
    path: PathBuf,
    file: BufReader<File>,
    header: Header,
    at: u64,
    has_ended: bool,
}

impl Records {
    fn open(path: &Path) -> Result<Records, HistoryError> {
        let file = File::open(path).map_err(|error| HistoryError::Io { file: path.to_owned(), error })?;
        let header = Header {
            rank: 0,
            incarnation: 0,
            workers: 0,
            staleness: crate::clock::Staleness::NONE,
            eager: false,
        };
        let mut records =
            Records { path: path.to_owned(), file: BufReader::new(file), header, at: 0, has_ended: false };
        let magic: [u8; 8] = records.bytes("the beginning of a history")?;
        if &magic != MAGIC {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            return Err(records.format(text(MAGIC), format!("{:?}", text(&magic))));
        }
        let len = u32::from_le_bytes(records.bytes("a header's length")?);
        if len > HEADER_BYTES_MAX {
            return Err(
                records.format(format!("a header of at most {HEADER_BYTES_MAX} bytes"), len.to_string())
            );
        }
        let mut json = vec![0; len as usize];
        records.fill(&mut json, "a header")?;
        let parsed: Header = serde_json::from_slice(&json)
            .map_err(|error| records.format("a header".to_owned(), error.to_string()))?;
        if parsed.workers > WORKERS_MAX || parsed.rank >= parsed.workers {
            let got = format!("worker {} of {}", parsed.rank, parsed.workers);
            return Err(records.format(format!("a worker of at most {WORKERS_MAX}"), got));
        }
        records.header = parsed;
        Ok(records)
    }

    fn format(&self, expected: String, got: String) -> HistoryError {
        HistoryError::Format { file: self.path.clone(), at: self.at, expected, got }
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), HistoryError> {
        match self.file.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.format(what.to_owned(), "the end of the file: its worker did not finish".to_owned()))
            }
            Err(error) => Err(HistoryError::Io { file: self.path.clone(), error }),
        }
    }

    fn bytes<const N: usize>(&mut self, what: &str) -> Result<[u8; N], HistoryError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes, what)?;
        Ok(bytes)
    }

    fn word(&mut self) -> Result<u64, HistoryError> {
        Ok(u64::from_le_bytes(self.bytes("a number")?))
    }

    fn counts(&mut self) -> Result<Vec<u32>, HistoryError> {
        (0..self.header.workers).map(|_| Ok(u32::from_le_bytes(self.bytes("a count")?))).collect()
    }

    fn read(&mut self) -> Result<Option<Event>, HistoryError> {
        let [kind] = self.bytes("a record")?;
        Ok(Some(match kind {
            READ => Event::Read {
                key: self.word()?,
                clock: self.word()?,
                row_clock: self.word()?,
                counts: self.counts()?,
            },
            INC => Event::Inc { key: self.word()?, clock: self.word()? },
            CLOCK => Event::Clock { clock: self.word()? },
            SETTLED => {
                let (clock, norm, bound) = (self.word()?, self.word()?, self.word()?);
                Event::Settled { clock, norm: f64::from_bits(norm), bound: f64::from_bits(bound) }
            }
            FINAL => Event::Final { key: self.word()?, counts: self.counts()? },
            END => return Ok(None),
            other => return Err(self.format("a record of kind 1 to 6".to_owned(), other.to_string())),
        }))
    }
}

impl Iterator for Records {
    type Item = Result<Event, HistoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let event = self.read();
        self.has_ended = !matches!(event, Ok(Some(_)));
        event.transpose()
    }
}
