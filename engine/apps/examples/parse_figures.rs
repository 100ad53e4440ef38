//! How fast libsvm text is read, beside the speed at which the same bytes are copied.
//!
//! `cargo run --release -p keyrange-apps --example parse_figures -- [--threads N] FILE...`
//! Reads each file five times; prints the median of each figure in MB/s of the file's bytes.

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use keyrange_apps::data::cache::Cache;
use keyrange_apps::data::{Csc, Dataset, libsvm};

const REPETITIONS: usize = 5;

/// Median seconds of `work`, and its last result.
fn median<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let mut seconds = Vec::with_capacity(REPETITIONS);
    loop {
        let start = Instant::now();
        let result = work();
        seconds.push(start.elapsed().as_secs_f64());
        if seconds.len() == REPETITIONS {
            seconds.sort_by(f64::total_cmp);
            return (seconds[REPETITIONS / 2], result);
        }
    }
}

fn measure(file: &Path, threads: usize) -> Result<(), Box<dyn Error>> {
    let bytes = std::fs::read(file)?;
    let megabytes = bytes.len() as f64 / 1e6;
    let mut copy = vec![0u8; bytes.len()];
    let (copying, ()) = median(|| std::hint::black_box(&mut copy).copy_from_slice(&bytes));
    let (parsing, set) = median(|| libsvm::read(&[file], threads));
    let set: Dataset = set?;
    let folder = tempfile::tempdir()?;
    let cache = Cache::new(folder.path());
    cache.read(&[file], threads)?;
    let (loading, cached) = median(|| cache.read(&[file], threads));
    let loaded: u64 =
        folder.path().read_dir()?.map(|entry| entry?.metadata()).map(|m| m.map_or(0, |m| m.len())).sum();
    if cached? != set {
        return Err("the cache gives another set".into());
    }
    let (turning, _) = median(|| Csc::new(&set, set.keys(), threads));
    println!(
        "{}: {megabytes:.1} MB, {} rows, {} features, {} nonzeros, {threads} thread(s)",
        file.display(),
        set.rows(),
        set.features(),
        set.nonzeros()
    );
    println!("  memcpy of the text       {:9.0} MB/s", megabytes / copying);
    println!("  read and number features {:9.0} MB/s", megabytes / parsing);
    println!(
        "  load from cache          {:9.0} MB/s of {:.1} MB",
        loaded as f64 / 1e6 / loading,
        loaded as f64 / 1e6
    );
    println!("  turn into columns        {:9.0} M nonzeros/s", set.nonzeros() as f64 / 1e6 / turning);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut threads = 1;
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "--threads").is_some() {
        threads = arguments.next().ok_or("expected a number after --threads")?.parse()?;
    }
    if arguments.peek().is_none() {
        return Err("expected at least one libsvm file".into());
    }
    arguments.try_for_each(|file| measure(Path::new(&file), threads))
}
