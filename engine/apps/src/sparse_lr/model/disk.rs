//! A model's folder on disk.
//!
//! ```text
//! meta.json     how it was trained: ModelMeta
//! weights.bin   "KRMODEL", version 1; u64 count; keys (u64); weights (f64); xxh3-128 of all before; little-endian
//! weights.tsv   the same for people and other programs: key, tab, weight (shortest text that reads back exactly)
//! ```
//!
//! A folder appears under its name complete or not at all, and replaces an earlier model in one step.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use twox_hash::XxHash3_128;

use super::{KIND, Model, ModelError, ModelMeta};

const MAGIC: [u8; 8] = *b"KRMODEL\x01";
const META: &str = "meta.json";
const BINARY: &str = "weights.bin";
const TEXT: &str = "weights.tsv";

impl Model {
    /// Writes the model as the folder `path`. An earlier model (or an empty folder) there is replaced; anything else is
    /// left alone and is an error. Whatever happens, `path` is the old state or the new one.
    ///
    /// # Errors
    /// [`ModelError::Occupied`] or [`ModelError::Io`].
    pub fn save(&self, path: &Path) -> Result<(), ModelError> {
        let occupied = path.symlink_metadata().is_ok();
        if occupied && !replaceable(path) {
            return Err(ModelError::Occupied { path: path.into() });
        }
        self.save_new(path, occupied).map_err(|source| ModelError::Io { path: path.into(), source })
    }

    fn save_new(&self, path: &Path, occupied: bool) -> io::Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(parent)?;
        let making = tempfile::Builder::new().prefix(".keyrange-model-").tempdir_in(parent)?;
        let create = |name: &str, write: &dyn Fn(&mut dyn Write) -> io::Result<()>| -> io::Result<()> {
            let mut out = BufWriter::new(File::create(making.path().join(name))?);
            write(&mut out)?;
            out.into_inner()?.sync_all()
        };
        create(META, &|out| Ok(serde_json::to_writer_pretty(out, &self.meta)?))?;
        create(BINARY, &|out| out.write_all(&self.to_bytes()))?;
        create(TEXT, &|out| {
            self.keys
                .iter()
                .zip(&self.weights)
                .try_for_each(|(key, weight)| writeln!(out, "{key}\t{weight:?}"))
        })?;
        File::open(making.path())?.sync_all()?;
        fs::set_permissions(making.path(), folder_permissions(parent)?)?;
        if occupied {
            // One step: the names change places, and the old model goes away with the temporary folder.
            exchange(making.path(), path)?;
        } else {
            fs::rename(making.path(), path)?;
        }
        File::open(parent)?.sync_all()
    }

    /// The contents of `weights.bin`.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((self.keys.len() as u64).to_le_bytes());
        bytes.extend(self.keys.iter().flat_map(|key| key.to_le_bytes()));
        bytes.extend(self.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        bytes.extend(XxHash3_128::oneshot(&bytes).to_le_bytes());
        bytes
    }

    /// Reads a model: a folder written by [`save`](Self::save), or one of its weight files alone, whose
    /// [`meta`](Self::meta) is then the default. In a folder without `weights.bin` the text counts.
    ///
    /// # Errors
    /// [`ModelError::Io`] or [`ModelError::Format`].
    pub fn load(path: &Path) -> Result<Self, ModelError> {
        if !path.is_dir() {
            return Self::load_weights(path, ModelMeta::default());
        }
        let meta = load_meta(&path.join(META))?;
        let binary = path.join(BINARY);
        let weights = if binary.exists() { binary } else { path.join(TEXT) };
        Self::load_weights(&weights, meta)
    }

    fn load_weights(path: &Path, meta: ModelMeta) -> Result<Self, ModelError> {
        let bytes = fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
        if bytes.starts_with(&MAGIC[..7]) || path.ends_with(BINARY) {
            return Self::from_bytes(&bytes, meta).map_err(|(expected, got)| ModelError::Format {
                path: path.into(),
                expected: expected.into(),
                got,
            });
        }
        let wrong = |line: usize, expected: &str, got: &str| ModelError::Format {
            path: format!("{}:{}", path.display(), line + 1).into(),
            expected: expected.into(),
            got: format!("\"{}\"", got.escape_debug().take(60).collect::<String>()),
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut weights: Vec<(u64, f64)> = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let Some((key, weight)) = line
                .split_once('\t')
                .and_then(|(key, weight)| Some((key.parse().ok()?, weight.parse().ok()?)))
            else {
                return Err(wrong(number, "key, tab, weight", line));
            };
            let grows = weights.last().is_none_or(|last| last.0 < key);
            if !grows || !f64::is_finite(weight) {
                return Err(wrong(number, "a finite weight, and keys that strictly increase", line));
            }
            weights.push((key, weight));
        }
        Self::from_weights(weights, meta)
    }

    fn from_bytes(bytes: &[u8], meta: ModelMeta) -> Result<Self, (&'static str, String)> {
        if !bytes.starts_with(&MAGIC) {
            let head = bytes.get(..8).unwrap_or(bytes).escape_ascii();
            return Err(("the binary weights of format version 1", format!("\"{head}\"")));
        }
        let count = bytes.get(8..16).map_or(0, |count| u64_at(count, 0));
        let length = u128::from(count) * 16 + 32;
        if bytes.len() as u128 != length {
            return Err((
                "a file as long as its header says",
                format!("{} bytes for {count} weights", bytes.len()),
            ));
        }
        let (body, checksum) = bytes.split_at(bytes.len() - 16);
        if XxHash3_128::oneshot(body).to_le_bytes() != checksum {
            return Err(("contents with the checksum at the end", "others; the file is damaged".into()));
        }
        let (keys, weights) = body[16..].split_at(count as usize * 8);
        let entry = |at| (u64_at(keys, at), f64::from_bits(u64_at(weights, at)));
        Self::from_weights((0..count as usize).map(entry), meta)
            .map_err(|error| ("finite weights with strictly increasing keys", error.to_string()))
    }
}

/// The `index`-th little-endian word. Panics beyond the end, as slices do.
fn u64_at(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
    u64::from_le_bytes(word)
}

fn load_meta(path: &Path) -> Result<ModelMeta, ModelError> {
    let bytes = fs::read(path).map_err(|source| ModelError::Io { path: path.into(), source })?;
    let wrong = |expected: &str, got: String| ModelError::Format {
        path: path.into(),
        expected: expected.into(),
        got,
    };
    let meta: ModelMeta = serde_json::from_slice(&bytes)
        .map_err(|error| wrong("the JSON description of a model", error.to_string()))?;
    if meta.kind != KIND {
        return Err(wrong("a model of kind sparse_lr", format!("kind {}", meta.kind)));
    }
    Ok(meta)
}

/// Whether nothing is lost but a model when the folder goes.
fn replaceable(path: &Path) -> bool {
    let Ok(entries) = fs::read_dir(path) else { return false };
    let ours = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| [META, BINARY, TEXT].iter().any(|name| entry.file_name() == *name))
    };
    !path.is_symlink() && entries.into_iter().all(ours)
}

/// Temporary folders are private; the finished one is as open as a plain `mkdir` would make it here.
fn folder_permissions(parent: &Path) -> io::Result<fs::Permissions> {
    let probe =
        tempfile::Builder::new().prefix(".keyrange-probe-").make_in(parent, |path| fs::create_dir(path))?;
    let permissions = fs::metadata(probe.path())?.permissions();
    fs::remove_dir(probe.path())?;
    Ok(permissions)
}

/// Lets two paths change places in one step; where the file system cannot, in two.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    match renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            let parked = new.with_extension("old");
            fs::rename(old, &parked)?;
            fs::rename(new, old)?;
            fs::remove_dir_all(parked)
        }
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tempfile::TempDir;

    fn model() -> Model {
        let meta = ModelMeta { l1: 0.5, objective: 1.0 / 3.0, examples: 7, ..Default::default() };
        Model::from_weights([(0, 0.1), (3, -1e-300), (9, 0.0), (u64::MAX, 1e300 / 3.0)], meta).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(30))]

        #[test]
        fn a_saved_model_loads_to_the_last_bit(weights: std::collections::BTreeMap<u64, f64>) {
            let dir = TempDir::new().unwrap();
            let path = dir.path().join("model");
            let finite = weights.into_iter().filter(|(_, weight)| weight.is_finite());
            let model = Model::from_weights(finite, ModelMeta::default()).unwrap();
            model.save(&path).unwrap();
            prop_assert_eq!(&Model::load(&path).unwrap(), &model);
            prop_assert_eq!(&Model::load(&path.join(BINARY)).unwrap(), &model);
            prop_assert_eq!(&Model::load(&path.join(TEXT)).unwrap(), &model);
        }
    }

    #[test]
    fn saving_replaces_a_model_and_leaves_nothing_else_behind() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("deep/model");
        Model::from_weights([(1, 1.0)], ModelMeta::default()).unwrap().save(&path).unwrap();
        model().save(&path).unwrap();
        assert_eq!(Model::load(&path).unwrap(), model());
        fs::remove_file(path.join(BINARY)).unwrap();
        assert_eq!(Model::load(&path).unwrap(), model());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn something_else_at_the_place_is_left_alone() {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "precious").unwrap();
        for path in [&file, dir.path()] {
            assert!(matches!(model().save(path), Err(ModelError::Occupied { .. })));
        }
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        let empty = dir.path().join("empty");
        fs::create_dir(&empty).unwrap();
        model().save(&empty).unwrap();
        assert_eq!(Model::load(&empty).unwrap(), model());
    }

    #[test]
    fn every_changed_or_missing_byte_of_the_binary_is_noticed() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("weights");
        let bytes = model().to_bytes();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x41;
            fs::write(&path, &changed).unwrap();
            assert!(matches!(Model::load(&path), Err(ModelError::Format { .. })), "byte {at}");
            // Nothing at all is an empty model in text.
            fs::write(&path, &bytes[..at.max(1)]).unwrap();
            assert!(matches!(Model::load(&path), Err(ModelError::Format { .. })), "{at} bytes");
        }
    }

    #[test]
    fn malformed_files_are_named_with_line_and_expectation() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("weights");
        for (text, want) in [
            ("1\t0.5\n2 0.5\n", "weights:2: expected key, tab, weight, got \"2 0.5\""),
            ("1\t0.5\n1\t0.5\n", "weights:2: expected a finite weight, and keys that strictly increase"),
            ("1\tnan\n", "weights:1: expected a finite weight"),
            ("-1\t1\n", "weights:1: expected key, tab, weight"),
        ] {
            fs::write(&path, text).unwrap();
            let message = Model::load(&path).unwrap_err().to_string();
            assert!(message.contains(want), "{message}");
        }
        assert!(matches!(Model::load(&dir.path().join("none")), Err(ModelError::Io { .. })));
        fs::create_dir(dir.path().join("m")).unwrap();
        fs::write(dir.path().join("m/meta.json"), "{\"kind\":\"lda\"}").unwrap();
        let message = Model::load(&dir.path().join("m")).unwrap_err().to_string();
        assert!(message.contains("expected a model of kind sparse_lr, got kind lda"), "{message}");
    }

    #[test]
    fn unsorted_keys_and_weights_without_value_are_refused() {
        for weights in [[(2, 1.0), (1, 1.0)], [(1, 1.0), (1, 1.0)], [(1, f64::NAN), (2, 1.0)]] {
            assert!(Model::from_weights(weights, ModelMeta::default()).is_err());
        }
    }
}
