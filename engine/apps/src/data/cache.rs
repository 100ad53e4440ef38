//! Keeps parsed sets on the local disk, so that the second run on the same files loads at the speed of memory.
//!
//! A cache file is named by the paths of the text files and holds their sizes and times of change, so a changed
//! file makes it stale and the next reading replaces it. A stale or damaged cache is never an error: it is reported
//! as a warning and made anew. Files are written beside their final name and renamed when complete.
//!
//! ```text
//! offset  bytes  what
//!      0      8  "KRCACHE" and the format version, 1
//!      8      8  byte order and word size of the machine: 0x01020304, then the bytes of a word
//!     16     48  six words: bytes of the description, rows, nonzeros, features, 1 if values follow else 0,
//!                how negatives are labelled: 1 some with 0, 2 some with -1, 3 both; 0 in the cache of a whole set
//!     64     16  xxh3-128 of the 48 bytes above and of all that follows here
//!     80         description of the text files, padded with 0 to 8 bytes
//!                row offsets (words), keys (u64), labels (f64), values (f64) if any, columns (u32)
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bytemuck::Pod;
use twox_hash::XxHash3_128;

use super::libsvm::Negatives;
use super::{DataError, Dataset, libsvm};

const MAGIC: [u8; 8] = *b"KRCACHE\x01";

/// A folder of parsed sets. Any number of processes may use the same folder.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// Why a cache file was not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is none")]
    Absent,
    #[error("the text files have changed since")]
    Stale,
    #[error("expected {expected}, got {got}")]
    Damaged { expected: &'static str, got: String },
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Data(#[from] DataError),
}

impl Cache {
    /// Uses `folder`, which is created when the first set is kept.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// The same set as [`libsvm::read`], from the cache if it holds it, else from the files, and then kept.
    /// That the cache cannot be written is a warning.
    ///
    /// # Errors
    /// Those of [`libsvm::read`].
    pub fn read<P: AsRef<Path> + Sync>(&self, files: &[P], threads: usize) -> Result<Dataset, DataError> {
        self.read_with(files, "", || Ok((libsvm::read(files, threads)?, Negatives::default())))
            .map(|(set, _)| set)
    }

    /// The same for [`libsvm::read_share`]. Of plain files the share is kept, of archives the whole set.
    ///
    /// # Errors
    /// Those of [`libsvm::read_share`].
    pub fn read_share<P: AsRef<Path> + Sync>(
        &self,
        files: &[P],
        worker: usize,
        workers: usize,
        threads: usize,
    ) -> Result<(Dataset, Negatives), DataError> {
        if workers == 1 || !libsvm::can_share(files) {
            return Ok((self.read(files, threads)?.share(worker, workers), Negatives::default()));
        }
        let share = format!("share {worker} of {workers}\n");
        self.read_with(files, &share, || libsvm::read_share(files, worker, workers, threads))
    }

    fn read_with<P: AsRef<Path> + Sync>(
        &self,
        files: &[P],
        share: &str,
        read: impl FnOnce() -> Result<(Dataset, Negatives), DataError>,
    ) -> Result<(Dataset, Negatives), DataError> {
        let Ok((paths, description)) = describe(files, share) else {
            // Whatever hinders us to look at the files, the reader will say it better.
            return read();
        };
        let path = self.folder.join(format!("{:032x}.krcache", XxHash3_128::oneshot(paths.as_bytes())));
        match load(&path, description.as_bytes()) {
            Ok(found) => return Ok(found),
            Err(Unusable::Absent) => {}
            Err(reason) => tracing::warn!("cache {} is not used: {reason}; it is made anew", path.display()),
        }
        let (set, negatives) = read()?;
        // If the files changed while they were read, nobody knows which state the set is of.
        if describe(files, share).is_ok_and(|(_, after)| after == description)
            && let Err(reason) = self.store(&path, description.as_bytes(), &set, negatives)
        {
            tracing::warn!("cache {} cannot be written: {reason}", path.display());
        }
        Ok((set, negatives))
    }

    fn store(&self, path: &Path, description: &[u8], set: &Dataset, negatives: Negatives) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        let valued = set.values().is_some();
        let kinds = usize::from(negatives.zero) + 2 * usize::from(negatives.minus);
        let counts =
            [description.len(), set.rows(), set.nonzeros(), set.features(), usize::from(valued), kinds]
                .map(|n| n as u64);
        let mut description = description.to_vec();
        description.resize(description.len().next_multiple_of(8), 0);
        let parts: [&[u8]; 6] = [
            &description,
            bytemuck::cast_slice(set.row_offsets()),
            bytemuck::cast_slice(set.keys()),
            bytemuck::cast_slice(set.labels()),
            bytemuck::cast_slice(set.values().unwrap_or_default()),
            bytemuck::cast_slice(set.columns()),
        ];
        let mut hasher = XxHash3_128::new();
        hasher.write(bytemuck::cast_slice(&counts));
        parts.iter().for_each(|part| hasher.write(part));
        file.write_all(&MAGIC)?;
        file.write_all(&machine())?;
        file.write_all(bytemuck::cast_slice(&counts))?;
        file.write_all(&hasher.finish_128().to_le_bytes())?;
        parts.iter().try_for_each(|part| file.write_all(part))?;
        file.persist(path)?;
        Ok(())
    }
}

fn machine() -> [u8; 8] {
    let mut mark = [0; 8];
    mark[..4].copy_from_slice(&0x0102_0304u32.to_ne_bytes());
    mark[4..].copy_from_slice(&(size_of::<usize>() as u32).to_ne_bytes());
    mark
}

/// The share and the absolute paths; the same with size and time of change of each: lines of text.
fn describe<P: AsRef<Path>>(files: &[P], share: &str) -> io::Result<(String, String)> {
    let (mut paths, mut description) = (share.to_owned(), share.to_owned());
    for file in files {
        let path = fs::canonicalize(file)?;
        let facts = fs::metadata(&path)?;
        let changed = facts.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        paths += &format!("{path:?}\n");
        description += &format!("{path:?} {} {changed}\n", facts.len());
    }
    Ok((paths, description))
}

fn load(path: &Path, description: &[u8]) -> Result<(Dataset, Negatives), Unusable> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Absent),
        other => other?,
    };
    let damaged = |expected, got: String| Err(Unusable::Damaged { expected, got });
    let mut head = [0u8; 16];
    file.read_exact(&mut head)?;
    if head[..8] != MAGIC || head[8..] != machine() {
        return damaged("the header of this version and machine", format!("\"{}\"", head.escape_ascii()));
    }
    let mut counts = [0u64; 6];
    file.read_exact(bytemuck::cast_slice_mut(&mut counts))?;
    let mut checksum = [0u8; 16];
    file.read_exact(&mut checksum)?;
    let [described, rows, nonzeros, features, valued, kinds] = counts;
    // All lengths are checked against the file's before anything is allocated.
    let sizes =
        [described.div_ceil(8) as u128 * 8, (rows as u128 + 1) * 8, features as u128 * 8, rows as u128 * 8];
    let bytes = 80 + sizes.iter().sum::<u128>() + nonzeros as u128 * if valued == 1 { 12 } else { 4 };
    let length = file.metadata()?.len();
    if bytes != u128::from(length) {
        return damaged("a file as long as its header says", format!("{length} bytes instead of {bytes}"));
    }
    let mut hasher = XxHash3_128::new();
    hasher.write(bytemuck::cast_slice(&counts));
    let mut stored: Vec<u8> = array(&mut file, sizes[0] as u64, &mut hasher)?;
    stored.truncate(described as usize);
    if stored != description {
        return Err(Unusable::Stale);
    }
    let row_offsets: Vec<usize> = array(&mut file, rows + 1, &mut hasher)?;
    let keys: Vec<u64> = array(&mut file, features, &mut hasher)?;
    let labels: Vec<f64> = array(&mut file, rows, &mut hasher)?;
    let values: Vec<f64> = array(&mut file, if valued == 1 { nonzeros } else { 0 }, &mut hasher)?;
    let columns: Vec<u32> = array(&mut file, nonzeros, &mut hasher)?;
    if hasher.finish_128().to_le_bytes() != checksum {
        return damaged("contents with the checksum of the header", "others".into());
    }
    let set = Dataset::from_parts(row_offsets, columns, (valued == 1).then_some(values), labels, keys)?;
    Ok((set, Negatives { zero: kinds & 1 == 1, minus: kinds & 2 == 2 }))
}

fn array<T: Pod>(file: &mut File, count: u64, hasher: &mut XxHash3_128) -> io::Result<Vec<T>> {
    let mut array = vec![T::zeroed(); count as usize];
    // Piece by piece, so that the hash reads what is still in cache.
    for piece in bytemuck::cast_slice_mut::<T, u8>(&mut array).chunks_mut(256 << 10) {
        file.read_exact(piece)?;
        hasher.write(piece);
    }
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    fn folder_entries(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn the_second_reading_comes_from_the_cache_and_is_the_same() {
        for text in ["1 5:1 7\n\n0\n", "1 5:0.5 7\n-1 6:2\n"] {
            let dir = TempDir::new().unwrap();
            let (file, folder) = (dir.path().join("data"), dir.path().join("cache"));
            fs::write(&file, text).unwrap();
            let cache = Cache::new(&folder);
            let first = cache.read(&[&file], 1).unwrap();
            let [entry] = folder_entries(&folder).try_into().unwrap();
            let (_, description) = describe(&[&file], "").unwrap();
            assert_eq!(load(&entry, description.as_bytes()).unwrap().0, first);
            assert_eq!(cache.read(&[&file], 1).unwrap(), first);
        }
    }

    #[test]
    fn shares_of_plain_files_are_kept_each_for_itself_with_their_labels() {
        let dir = TempDir::new().unwrap();
        let (file, folder) = (dir.path().join("data"), dir.path().join("cache"));
        fs::write(&file, "1 5:0.5 7\n0 6:2\n1 8\n").unwrap();
        let cache = Cache::new(&folder);
        for _ in 0..2 {
            let shares: Vec<_> =
                (0..3).map(|worker| cache.read_share(&[&file], worker, 3, 1).unwrap()).collect();
            assert_eq!(shares.iter().map(|(set, _)| set.rows()).sum::<usize>(), 3);
            assert_eq!(shares.iter().filter(|(_, negatives)| negatives.zero).count(), 1);
            assert_eq!(folder_entries(&folder).len(), 3);
        }
    }

    #[test]
    fn a_changed_file_makes_the_cache_stale_and_replaces_it() {
        let dir = TempDir::new().unwrap();
        let (file, folder) = (dir.path().join("data"), dir.path().join("cache"));
        let cache = Cache::new(&folder);
        fs::write(&file, "1 5:1\n").unwrap();
        cache.read(&[&file], 1).unwrap();
        fs::write(&file, "1 5:1 6:1\n").unwrap();
        assert_eq!(cache.read(&[&file], 1).unwrap().nonzeros(), 2);
        assert_eq!(folder_entries(&folder).len(), 1);
    }

    #[test]
    fn every_changed_or_missing_byte_is_noticed() {
        let dir = TempDir::new().unwrap();
        let (file, folder) = (dir.path().join("data"), dir.path().join("cache"));
        let cache = Cache::new(&folder);
        fs::write(&file, "1 5:0.5 7\n-1 6:2\n").unwrap();
        let want = cache.read(&[&file], 1).unwrap();
        let [entry] = folder_entries(&folder).try_into().unwrap();
        let (_, description) = describe(&[&file], "").unwrap();
        let bytes = fs::read(&entry).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            fs::write(&entry, &changed).unwrap();
            assert!(load(&entry, description.as_bytes()).is_err(), "byte {at}");
            fs::write(&entry, &bytes[..at]).unwrap();
            assert!(load(&entry, description.as_bytes()).is_err(), "{at} bytes");
        }
        assert_eq!(cache.read(&[&file], 1).unwrap(), want);
        assert_eq!(fs::read(&entry).unwrap(), bytes);
    }

    #[test]
    fn a_folder_that_cannot_be_made_does_not_hinder_the_reading() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, "1 5:1\n").unwrap();
        assert_eq!(Cache::new(file.join("below")).read(&[&file], 1).unwrap().rows(), 1);
        let missing = dir.path().join("missing");
        assert!(matches!(Cache::new(dir.path()).read(&[missing], 1), Err(DataError::Io { .. })));
    }
}
