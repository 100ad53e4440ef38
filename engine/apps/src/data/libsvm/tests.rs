use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::data::compression::{Compression, pack};
use crate::data::dataset::tests::meaning;

fn write(dir: &TempDir, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn read_bytes(bytes: impl AsRef<[u8]>) -> Result<Dataset, DataError> {
    let dir = TempDir::new().unwrap();
    read(&[write(&dir, "data", bytes)], 2)
}

#[test]
fn a_small_set_is_read_as_written() {
    let set =
        read_bytes("+1 3:1 7:0.5 # a comment\n\n-1.0\t18446744073709551615\r\n# only a comment\n-1\n1 3")
            .unwrap();
    let want = vec![
        (1.0, vec![(3, 1.0), (7, 0.5)]),
        (-1.0, vec![(u64::MAX, 1.0)]),
        (-1.0, vec![]),
        (1.0, vec![(3, 1.0)]),
    ];
    assert_eq!(meaning(&set), want);
    assert_eq!((set.keys(), set.key_counts()), (&[3, 7, u64::MAX][..], &[2, 1, 1][..]));
    assert_eq!(set.positives(), 2);
}

#[test]
fn values_that_are_all_one_are_not_kept() {
    assert_eq!(read_bytes("1 3:1 4:1.0 5:1e0 6\n0 9:1\n").unwrap().values(), None);
}

#[test]
fn malformed_lines_are_named_by_place_expectation_and_finding() {
    let cases: &[(&[u8], &str)] = &[
        (b"1 3:1\n1 4:x\n", ":2:5: expected a number after the colon, as in `id:0.5`, got \"x\""),
        (
            b"1 3:1\n1 4:\n",
            ":2:5: expected a number after the colon, as in `id:0.5`, got the end of the line",
        ),
        (b"1 3:1.2.3\n", ":1:5: expected a number"),
        (b"1 3:nan\n", ":1:5: expected a finite value after the colon, got \"nan\""),
        (b"1 3:-inf\n", ":1:5: expected a finite value"),
        (b"1 3:1e999\n", ":1:5: expected a finite value after the colon, got \"1e999\""),
        (
            b"1 5:1 3:1\n",
            ":1:7: expected feature ids strictly increasing within a line, above 5, got unsorted feature id 3",
        ),
        (
            b"1 5:1 5:1\n",
            ":1:7: expected feature ids strictly increasing within a line, above 5, got repeated feature id 5",
        ),
        (b"\n\n2 5:1\n", ":3:1: expected a label, 0 or 1 (or -1 or +1), before the features, got \"2\""),
        (b"5:1 6:1\n", ":1:1: expected a label"),
        (b"yes 5:1\n", ":1:1: expected a label, 0 or 1 (or -1 or +1), before the features, got \"yes\""),
        (b"nan 5:1\n", ":1:1: expected a label"),
        (b"1 -5:1\n", ":1:3: expected a feature id, a whole number"),
        (b"1 a:1\n", ":1:3: expected a feature id, a whole number"),
        (b"1 5;1\n", ":1:3: expected a feature id, a whole number"),
        (b"1 :1\n", ":1:3: expected a feature id, a whole number"),
        (b"1 1.5:1\n", ":1:3: expected a feature id, a whole number"),
        (b"1 18446744073709551616:1\n", ":1:3: expected a feature id of at most 18446744073709551615"),
        (
            b"1 qid:3 5:1\n",
            ":1:3: expected a feature id (ranking queries, `qid:`, are not supported; remove them)",
        ),
        (
            b"\x00\x01\x02\xff",
            ":1:1: expected a label, 0 or 1 (or -1 or +1), before the features, got bytes that are no libsvm text: \"\\x00\\x01\\x02\\xff\"",
        ),
        (b"1 1:1\n0 1:1\n-1 1:1\n", ":3:1: expected labels either 0 and 1 or -1 and +1 throughout"),
        (b"1 1:1\n-1 1:1\n\n0 1:1\n", ":4:1: expected labels either 0 and 1 or -1 and +1 throughout"),
    ];
    for (text, want) in cases {
        let got = read_bytes(text).unwrap_err().to_string();
        assert!(got.contains(want), "{:?}\n got {got}\nwant {want}", text.escape_ascii().to_string());
    }
}

#[test]
fn a_long_unprintable_token_is_shortened() {
    let message = read_bytes([b"1 ".as_slice(), &[b'x'; 500]].concat()).unwrap_err().to_string();
    assert!(message.len() < 300 && message.ends_with("..."), "{message}");
}

#[test]
fn files_without_examples_are_an_error() {
    for text in ["", "\n\n", "# nothing\n"] {
        let message = read_bytes(text).unwrap_err().to_string();
        assert!(message.contains("expected at least one example"), "{message}");
    }
    assert!(matches!(read::<PathBuf>(&[], 1), Err(DataError::Empty { .. })));
}

#[test]
fn a_missing_file_is_named() {
    let message = read(&["/no/such/file"], 1).unwrap_err().to_string();
    assert!(message.contains("/no/such/file: No such file"), "{message}");
    let dir = TempDir::new().unwrap();
    assert!(matches!(read(&[dir.path()], 1), Err(DataError::Io { .. })));
}

/// Text of several blocks, with values and without, and the faults planted where `fault` says.
fn long_text(rows: u64, fault: Option<u64>) -> String {
    let mut text = String::new();
    for row in 0..rows {
        let value = if row % 3 == 0 { ":0.25" } else { "" };
        let bad = if fault == Some(row) { " 1:x" } else { "" };
        text += &format!("{} {}{value} {}:1{bad}\n", row % 2, row % 1000, row * 7919 + 1_000_000_000_000);
    }
    text
}

#[test]
fn the_set_does_not_depend_on_the_threads() {
    let dir = TempDir::new().unwrap();
    let files = [write(&dir, "a", long_text(90_000, None)), write(&dir, "b", long_text(60_000, None))];
    let want = read(&files, 1).unwrap();
    assert_eq!((want.rows(), want.nonzeros()), (150_000, 300_000));
    let checked = Dataset::from_parts(
        want.row_offsets().into(),
        want.columns().into(),
        want.values().map(Into::into),
        want.labels().into(),
        want.keys().into(),
    );
    assert_eq!(checked.unwrap(), want);
    for threads in [2, 3, 8] {
        assert!(read(&files, threads).unwrap() == want, "{threads} threads");
    }
}

#[test]
fn the_first_fault_is_reported_whatever_thread_meets_it() {
    let dir = TempDir::new().unwrap();
    let files =
        [write(&dir, "a", long_text(90_000, Some(80_000))), write(&dir, "b", long_text(60_000, Some(3)))];
    for threads in [1, 2, 5] {
        let message = read(&files, threads).unwrap_err().to_string();
        assert!(message.contains("a:80001:"), "{message}");
    }
}

#[test]
fn an_endless_line_is_refused_before_it_fills_the_memory() {
    struct Zeros;
    impl std::io::Read for Zeros {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            out.fill(b'0');
            Ok(out.len())
        }
    }
    // A packed file of a few KiB that unpacks to 300 MiB without a line end.
    let packed = ruzstd::encoding::compress_to_vec(
        std::io::Read::take(Zeros, 300 << 20),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let message = read_bytes(packed).unwrap_err().to_string();
    assert!(message.contains("expected a line of at most 256 MiB, got a longer one"), "{message}");
}

/// The text packed in every way there is.
fn packed(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let ways = [Compression::Gzip, Compression::Bzip2, Compression::Xz, Compression::Zstd];
    ways.map(|way| (way.name(), pack(way, text).unwrap())).into()
}

#[test]
fn every_compression_gives_the_same_set_whatever_the_name() {
    let text = long_text(5_000, None);
    let want = read_bytes(&text).unwrap();
    for (name, bytes) in packed(text.as_bytes()) {
        assert!(bytes.len() < text.len());
        assert!(read_bytes(&bytes).unwrap() == want, "{name}");
        // Two archives one behind the other are their texts one behind the other.
        let twice = read_bytes([bytes.clone(), bytes].concat()).unwrap();
        assert_eq!(twice.rows(), 2 * want.rows(), "{name} twice");
    }
}

#[test]
fn a_skippable_frame_is_skipped() {
    let mut bytes = vec![0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 9, 9, 9];
    bytes.extend(packed(b"1 2:3\n").pop().unwrap().1);
    assert_eq!(read_bytes(bytes).unwrap().rows(), 1);
}

#[test]
fn an_archive_cut_anywhere_is_an_error() {
    let text = long_text(300, None);
    for (name, bytes) in packed(text.as_bytes()) {
        for keep in [7, 12, bytes.len() / 3, bytes.len() / 2, bytes.len() - 5, bytes.len() - 1] {
            let message = read_bytes(&bytes[..keep]).unwrap_err().to_string();
            let want = format!("expected a whole {name} archive, got: ");
            assert!(message.contains(&want), "{name} cut at {keep}: {message}");
        }
    }
}

#[test]
fn an_archive_with_a_changed_byte_is_an_error() {
    let text = long_text(300, None);
    for (name, mut bytes) in packed(text.as_bytes()) {
        let at = bytes.len() / 2;
        bytes[at] ^= 0x10;
        assert!(read_bytes(&bytes).is_err(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read_bytes(bytes);
    }

    #[test]
    fn no_near_text_makes_the_reader_panic(text in "([-+01] ?([0-9]{1,21}|qid|)[:;.]?[-e.0-9]{0,5}[ \t\r#]?\n?){0,9}") {
        let _ = read_bytes(text);
    }

    #[test]
    fn what_is_written_is_read(set in crate::data::dataset::tests::any_dataset()) {
        let mut text = String::new();
        for (label, entries) in meaning(&set) {
            text += &format!("{label}");
            for (key, value) in entries {
                text += &format!(" {key}:{value}");
            }
            text.push('\n');
        }
        prop_assert_eq!(meaning(&read_bytes(text).unwrap()), meaning(&set));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Files with empty lines, comments, long lines and none, with and without a line end at the end.
    #[test]
    fn shares_of_plain_files_are_the_set_in_order(
        texts in prop::collection::vec("((1|-1)( [1-9]:[1-9]){0,1}[ ]{0,9}|#{0,30}|)(\n((1|-1)( 7:[1-9])?|#b|)){0,12}\n?", 1..4),
        workers in 1usize..9,
    ) {
        let dir = TempDir::new().unwrap();
        let files: Vec<_> = texts.iter().enumerate().map(|(i, text)| write(&dir, &i.to_string(), text)).collect();
        let mut joined = vec![];
        let mut read_all = || -> Result<(), DataError> {
            for worker in 0..workers {
                let (share, negatives) = read_share(&files, worker, workers, 2)?;
                assert!(!negatives.zero);
                joined.extend(meaning(&share));
            }
            Ok(())
        };
        match read(&files, 1) {
            Ok(set) => {
                read_all().unwrap();
                prop_assert_eq!(joined, meaning(&set));
            }
            Err(DataError::Empty { .. }) => {
                prop_assert!(workers == 1 || read_all().is_ok() && joined.is_empty());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn faults_in_a_share_are_named_by_their_line_in_the_file() {
    let dir = TempDir::new().unwrap();
    for line in [1usize, 2, 499, 500, 998, 999] {
        let mut text = "1 3:1\n".repeat(line - 1) + "1 3:x\n" + &"-1 3:1\n".repeat(999 - line);
        text.push_str("-1");
        let files = [write(&dir, "first", "1 1\n"), write(&dir, "second", text)];
        let mut named = 0;
        for worker in 0..3 {
            if let Err(error) = read_share(&files, worker, 3, 2) {
                assert!(
                    error.to_string().contains(&format!("second:{line}:5: expected a number")),
                    "{error}"
                );
                named += 1;
            }
        }
        assert_eq!(named, 1);
    }
}

#[test]
fn shares_tell_how_their_negatives_are_labelled_and_archives_are_shared_by_rows() {
    let dir = TempDir::new().unwrap();
    let text = "1 3:1\n0 3:1\n-1 3:1\n1 3:1\n";
    let mixed = write(&dir, "mixed", text);
    let (first, second) = (read_share(&[&mixed], 0, 2, 1).unwrap(), read_share(&[&mixed], 1, 2, 1).unwrap());
    assert_eq!(
        (first.1, second.1),
        (Negatives { zero: true, minus: false }, Negatives { zero: false, minus: true })
    );
    assert!(read(&[&mixed], 1).unwrap_err().to_string().contains("mixed:3:1: expected labels either"));

    let text = text.replace("-1", "0");
    let packed = write(&dir, "packed", pack(Compression::Gzip, text.as_bytes()).unwrap());
    let plain = write(&dir, "plain", text);
    assert!(can_share(&[&plain]) && !can_share(&[&plain, &packed]));
    let whole = read(&[&packed], 1).unwrap();
    for worker in 0..2 {
        let (share, _) = read_share(&[&packed], worker, 2, 1).unwrap();
        assert_eq!(share, whole.share(worker, 2));
    }
}

fn shared_data() -> Option<PathBuf> {
    let folder = std::env::var_os("KEYRANGE_DATA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"), PathBuf::from);
    folder.join("reference.json").is_file().then_some(folder)
}

#[test]
fn the_real_sets_have_the_sizes_of_the_reference() {
    let Some(folder) = shared_data() else {
        println!("skipped: no reference data; set KEYRANGE_DATA to its folder");
        return;
    };
    let text = fs::read(folder.join("reference.json")).unwrap();
    let reference: serde_json::Value = serde_json::from_slice(&text).unwrap();
    for (name, facts) in reference["sparse_lr"]["sets"].as_object().unwrap() {
        let train = folder.join(facts["train"].as_str().unwrap());
        let set = read(&[&train], 2).unwrap();
        let got = [set.rows(), set.features(), set.nonzeros(), set.positives()];
        let want =
            ["rows", "features_used", "nonzeros", "positives"].map(|fact| facts[fact].as_u64().unwrap());
        assert_eq!(got.map(|n| n as u64), want, "{name}");
    }
}
