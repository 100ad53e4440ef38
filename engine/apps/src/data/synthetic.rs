//! Makes up click-like examples from a seed, so that a first run needs no download.
//!
//! A row has one feature of each categorical field (one-hot; the fields' vocabularies grow from a few words to a third
//! of all features, and words are drawn by Zipf's law) and, if wanted, a few real features. Hidden weights, mostly
//! zero, turn it into a probability by the logistic model, and the label is drawn from that. Each row comes from
//! the seed and its own number alone: ranges of rows can be made anywhere, in any order, by any number of threads, and
//! rows of different ranges follow the same hidden weights. So rows `0..n` can train and `n..m` can test.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::thread;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, StandardNormal, Zipf};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde::{Deserialize, Serialize};

use super::compression::{Compression, pack};
use super::dataset::balanced;
use super::intern::Interner;
use super::join::{Piece, join};
use super::{DataError, Dataset};

/// How the examples are drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SyntheticSpec {
    /// Categorical fields, so nonzeros of each row; at least 1.
    pub fields: u32,
    /// Words of all fields together; at least two for each field.
    pub features: u64,
    /// Real features of each row, normally distributed, besides the categorical ones.
    pub real_features: u32,
    /// Exponent of Zipf's law in each field; 0 draws words uniformly.
    pub zipf_exponent: f64,
    /// Part of the rare words with a hidden weight, 0 to 1. The k-th most frequent word has one with probability 1/k
    /// at the least.
    pub weight_density: f64,
    /// Standard deviation of the hidden margin over rows: how much can be learned.
    pub signal: f64,
    /// Expected part of rows labelled +1, between 0 and 1.
    pub positive_rate: f64,
    /// Scatter the feature ids over all of `u64` instead of counting from 1.
    pub spread_ids: bool,
    /// Everything follows from it.
    pub seed: u64,
}

impl Default for SyntheticSpec {
    fn default() -> Self {
        Self {
            fields: 20,
            features: 100_000,
            real_features: 0,
            zipf_exponent: 1.1,
            weight_density: 0.02,
            signal: 1.5,
            positive_rate: 0.2,
            spread_ids: false,
            seed: 1,
        }
    }
}

/// A source of made-up rows.
pub struct Synthetic {
    spec: SyntheticSpec,
    fields: Vec<Field>,
    /// Margin = scale * (hidden weights . row) + bias.
    scale: f64,
    bias: f64,
}

struct Field {
    /// Number of its first word among all features.
    first: u64,
    ranks: Zipf<f64>,
}

/// A row's entries, sorted by id.
type Entries = Vec<(u64, f64)>;

/// Rows drawn, apart from those of any set, to find the scale and the bias.
const CALIBRATION_ROWS: u64 = 4096;

impl Synthetic {
    /// Checks the specification and finds the scale and bias that give its signal and rate.
    ///
    /// # Errors
    /// [`DataError::Inconsistent`] names the number out of bounds.
    pub fn new(spec: SyntheticSpec) -> Result<Self, DataError> {
        check(&spec)?;
        // Vocabularies: two words each, the others in geometric shares.
        let count = spec.fields as usize;
        let spare = (spec.features - 2 * u64::from(spec.fields)) as f64;
        let share = |field: usize| 1.5f64.powi(field as i32 - count as i32);
        let total: f64 = (0..count).map(share).sum();
        let mut first = 0;
        let mut fields = Vec::with_capacity(count);
        for field in 0..count {
            let words = if field + 1 == count {
                spec.features - first
            } else {
                2 + (spare * share(field) / total) as u64
            };
            let ranks =
                Zipf::new(words as f64, spec.zipf_exponent).map_err(|error| DataError::Inconsistent {
                    expected: "a vocabulary and exponent Zipf's law allows",
                    got: error.to_string(),
                })?;
            fields.push(Field { first, ranks });
            first += words;
        }
        let mut source = Self { spec, fields, scale: 1.0, bias: 0.0 };
        source.calibrate();
        Ok(source)
    }

    fn calibrate(&mut self) {
        let mut entries = Entries::new();
        let mut draw = |row| self.draw(row, &mut entries).0;
        let mut margins: Vec<f64> = (0..CALIBRATION_ROWS).map(|row| draw(u64::MAX - row)).collect();
        let count = margins.len() as f64;
        let mean = margins.iter().sum::<f64>() / count;
        let deviation = (margins.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / count).sqrt();
        self.scale = if deviation > 0.0 { self.spec.signal / deviation } else { 0.0 };
        margins.iter_mut().for_each(|margin| *margin *= self.scale);
        // The rate grows with the bias: halve the interval until it is exact.
        let (mut low, mut high) = (-1e3, 1e3);
        for _ in 0..100 {
            self.bias = (low + high) / 2.0;
            let rate = margins.iter().map(|margin| logistic(margin + self.bias)).sum::<f64>() / count;
            if rate < self.spec.positive_rate { low = self.bias } else { high = self.bias }
        }
    }

    /// Draws the features of a row; returns the margin before scale and bias, and the generator for the label.
    fn draw(&self, row: u64, entries: &mut Entries) -> (f64, Xoshiro256PlusPlus) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(mix(mix(self.spec.seed) ^ row));
        let mut margin = 0.0;
        entries.clear();
        for field in &self.fields {
            let rank = field.ranks.sample(&mut random).max(1.0);
            let feature = field.first + rank as u64 - 1;
            margin += self.hidden_weight(feature, rank);
            entries.push((self.id(feature), 1.0));
        }
        for real in 0..self.spec.real_features {
            let normal: f64 = StandardNormal.sample(&mut random);
            let value = (normal * 1e4).round() / 1e4;
            let feature = self.spec.features + u64::from(real);
            margin += self.hidden_weight(feature, 1.0) * value;
            if value != 0.0 {
                entries.push((self.id(feature), value));
            }
        }
        entries.sort_unstable_by_key(|entry| entry.0);
        (margin, random)
    }

    /// The row's entries, and its label.
    fn row(&self, row: u64, entries: &mut Entries) -> f64 {
        let (margin, mut random) = self.draw(row, entries);
        if random.random::<f64>() < logistic(margin * self.scale + self.bias) { 1.0 } else { -1.0 }
    }

    fn hidden_weight(&self, feature: u64, rank: f64) -> f64 {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(mix(!self.spec.seed) ^ mix(feature));
        if random.random::<f64>() < self.spec.weight_density.max(1.0 / rank) {
            StandardNormal.sample(&mut random)
        } else {
            0.0
        }
    }

    fn id(&self, feature: u64) -> u64 {
        // `mix` is a bijection, so different features keep different ids.
        if self.spec.spread_ids { mix(feature) } else { feature + 1 }
    }

    /// The examples numbered `rows`, made by `threads` threads (at least one); their number changes nothing.
    ///
    /// # Errors
    /// [`DataError::Empty`] for no rows, [`DataError::TooLarge`] beyond 2^32 - 2 rows or features.
    pub fn dataset(&self, rows: Range<u64>, threads: usize) -> Result<Dataset, DataError> {
        if rows.is_empty() {
            return Err(DataError::Empty { what: "synthetic examples".into() });
        }
        let limit = u64::from(u32::MAX) - 1;
        if rows.end - rows.start > limit {
            return Err(DataError::TooLarge { what: "rows", limit, got: rows.end - rows.start });
        }
        let threads = threads.max(1);
        let made = in_shares(rows, threads, |share| {
            let mut interner = Interner::new();
            self.piece(share, &mut interner).map(|piece| (interner.into_sorted(), piece))
        });
        let (mut lists, mut pieces) = (Vec::new(), Vec::new());
        for (table, made) in made.into_iter().enumerate() {
            let (list, piece) =
                made.ok_or(DataError::TooLarge { what: "features", limit, got: Interner::LIMIT as u64 + 1 })?;
            lists.push(list);
            pieces.push(Piece { table, ..piece });
        }
        join(pieces, lists, threads)
    }

    fn piece(&self, rows: Range<u64>, interner: &mut Interner) -> Option<Piece> {
        let mut piece = Piece { table: 0, labels: vec![], lengths: vec![], columns: vec![], values: vec![] };
        let mut entries = Entries::new();
        for row in rows {
            piece.labels.push(self.row(row, &mut entries));
            piece.lengths.push(entries.len() as u32);
            for &(id, value) in &entries {
                piece.columns.push(interner.index(id)?);
                piece.values.push(value);
            }
        }
        Some(piece)
    }

    /// Writes the examples numbered `rows` as libsvm text, packed as the end of the name says (`.gz`, `.bz2`, `.xz`,
    /// `.zst`; otherwise plain). The file appears under its name when it is complete.
    ///
    /// # Errors
    /// [`DataError::Io`] with what the system says, [`DataError::Empty`] for no rows.
    pub fn write(&self, rows: Range<u64>, file: &Path, threads: usize) -> Result<(), DataError> {
        const BATCH_ROWS: u64 = 16 << 10;
        if rows.is_empty() {
            return Err(DataError::Empty { what: "synthetic examples".into() });
        }
        let threads = threads.max(1);
        let write = || -> io::Result<()> {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
            let mut out = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
            let compression = Compression::by_name(file);
            let mut start = rows.start;
            while start < rows.end {
                // Each batch is an archive of its own, so that packing is shared out too, and always the same way.
                let size = (rows.end - start).min(BATCH_ROWS * threads as u64);
                let batches = in_batches(start..start + size, BATCH_ROWS, |batch| {
                    pack(compression, self.text(batch).as_bytes())
                });
                for batch in batches {
                    out.write_all(&batch?)?;
                }
                start += size;
            }
            out.as_file().sync_all()?;
            out.persist(file)?;
            Ok(())
        };
        write().map_err(|source| DataError::Io { file: file.into(), source })
    }

    fn text(&self, rows: Range<u64>) -> String {
        let mut text = String::new();
        let mut entries = Entries::new();
        for row in rows {
            text.push_str(if self.row(row, &mut entries) > 0.0 { "1" } else { "-1" });
            for (id, value) in &entries {
                // Writing to a string cannot fail.
                let _ = write!(text, " {id}:{value}");
            }
            text.push('\n');
        }
        text
    }
}

fn check(spec: &SyntheticSpec) -> Result<(), DataError> {
    let within = |good: bool, expected, got: String| {
        if good { Ok(()) } else { Err(DataError::Inconsistent { expected, got }) }
    };
    let SyntheticSpec { fields, features, zipf_exponent, weight_density, signal, positive_rate, .. } = *spec;
    within((1..=10_000).contains(&fields), "1 to 10000 fields", fields.to_string())?;
    within(spec.real_features <= 10_000, "at most 10000 real features", spec.real_features.to_string())?;
    let enough = features >= 2 * u64::from(fields) && features <= 1 << 40;
    within(enough, "2 to 2^40 features, two for each field", format!("{features} for {fields} fields"))?;
    within(
        (0.0..=100.0).contains(&zipf_exponent),
        "a Zipf exponent from 0 to 100",
        zipf_exponent.to_string(),
    )?;
    within(
        (0.0..=1.0).contains(&weight_density),
        "a weight density from 0 to 1",
        weight_density.to_string(),
    )?;
    within((0.0..=100.0).contains(&signal), "a signal from 0 to 100", signal.to_string())?;
    let possible = positive_rate > 0.0 && positive_rate < 1.0;
    within(possible, "a positive rate between 0 and 1", positive_rate.to_string())
}

/// `make` of `shares` contiguous parts of `rows`, each in a thread of its own, in order.
fn in_shares<T: Send>(rows: Range<u64>, shares: usize, make: impl Fn(Range<u64>) -> T + Sync) -> Vec<T> {
    let count = (rows.end - rows.start) as usize;
    let parts = (0..shares).map(|part| {
        let share = balanced(count, part, shares, |row| row);
        rows.start + share.start as u64..rows.start + share.end as u64
    });
    in_threads(parts.collect(), make)
}

/// `make` of each `size` rows of `rows`, each in a thread of its own, in order.
fn in_batches<T: Send>(rows: Range<u64>, size: u64, make: impl Fn(Range<u64>) -> T + Sync) -> Vec<T> {
    let starts = rows.clone().step_by(size as usize);
    in_threads(starts.map(|start| start..(start + size).min(rows.end)).collect(), make)
}

fn in_threads<T: Send>(parts: Vec<Range<u64>>, make: impl Fn(Range<u64>) -> T + Sync) -> Vec<T> {
    let make = &make;
    thread::scope(|scope| {
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || make(part))).collect();
        let result = |thread: thread::ScopedJoinHandle<'_, T>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(result).collect()
    })
}

fn logistic(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection that scatters.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::tests::meaning;
    use crate::data::libsvm;

    fn small(real_features: u32, spread_ids: bool) -> Synthetic {
        let spec =
            SyntheticSpec { fields: 6, features: 500, real_features, spread_ids, ..Default::default() };
        Synthetic::new(spec).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_set_whatever_the_threads() {
        let source = small(2, true);
        let one = source.dataset(0..1000, 1).unwrap();
        assert!(one == source.dataset(0..1000, 3).unwrap());
        let halves = [source.dataset(0..400, 2).unwrap(), source.dataset(400..1000, 1).unwrap()];
        assert_eq!(meaning(&one), halves.iter().flat_map(meaning).collect::<Vec<_>>());
        let other = Synthetic::new(SyntheticSpec { seed: 2, ..source.spec.clone() }).unwrap();
        assert!(one != other.dataset(0..1000, 1).unwrap());
    }

    #[test]
    fn the_text_read_back_is_the_set() {
        let dir = tempfile::TempDir::new().unwrap();
        for (source, name) in [(small(2, true), "a.zst"), (small(0, false), "b"), (small(1, false), "c.gz")] {
            let file = dir.path().join(name);
            source.write(7..20_000, &file, 2).unwrap();
            assert!(libsvm::read(&[&file], 2).unwrap() == source.dataset(7..20_000, 2).unwrap(), "{name}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn rows_have_a_word_of_each_field_and_the_rate_asked_for() {
        let source = small(0, false);
        let set = source.dataset(0..20_000, 2).unwrap();
        assert_eq!(set.values(), None);
        assert_eq!(set.nonzeros(), 6 * set.rows());
        let rate = set.positives() as f64 / set.rows() as f64;
        // Five standard deviations of both samples together.
        assert!((rate - 0.2).abs() < 0.035, "{rate}");
        // Power law: the most frequent word of the last field is far ahead of the typical one.
        let counts = set.key_counts();
        assert!(counts.iter().max().unwrap() > &(10 * counts[counts.len() / 2]));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        let base = SyntheticSpec::default;
        for (spec, want) in [
            (SyntheticSpec { fields: 0, ..base() }, "1 to 10000 fields, got 0"),
            (SyntheticSpec { features: 39, ..base() }, "two for each field, got 39 for 20"),
            (SyntheticSpec { zipf_exponent: f64::NAN, ..base() }, "Zipf exponent"),
            (SyntheticSpec { weight_density: 1.5, ..base() }, "density"),
            (SyntheticSpec { signal: -1.0, ..base() }, "signal"),
            (SyntheticSpec { positive_rate: 1.0, ..base() }, "positive rate"),
        ] {
            let message = Synthetic::new(spec).err().unwrap().to_string();
            assert!(message.contains(want), "{message}");
        }
        assert!(matches!(small(0, false).dataset(5..5, 1), Err(DataError::Empty { .. })));
    }
}
