//! What the tables of one shard can do on this machine, on one core, each figure beside a limit from the same run.
//!
//! `cargo run --release -p keyrange --example store_figures [-- KEYS [index|memory|lists|order]]` (16,777,216 keys by default). Pin it to one core.

use std::hint::black_box;
use std::time::Instant;

use keyrange::table::{
    Aggregation, Contribution, FunctionSpec, HashIndex, Resolved, StoreKind, Table, TableSpec, ValueType,
};
use keyrange::update::Registry;
use keyrange_kernels::isa;

/// Keys of one request in the growing tests.
const BATCH: usize = 100_000;

fn main() {
    let mut words = std::env::args().skip(1);
    let count = words.next().map_or(1 << 24, |word| word.parse().expect("a number of keys"));
    let only = words.next();
    let wanted = |section: &str| only.as_deref().is_none_or(|only| only == section);
    let keys = random_keys(count);
    println!("{count} random keys, requests of {BATCH}");
    if wanted("index") {
        limits();
        for isa in isa::available() {
            isa::with(isa, || index_figures(&keys));
        }
        println!("by size, {}:", isa::current());
        for count in [1 << 20, 1 << 22, 1 << 24] {
            index_figures(&random_keys(count));
        }
    }
    if wanted("memory") {
        memory_figures(&keys);
    }
    if wanted("lists") {
        repeated_lists();
        aggregated();
    }
    if wanted("order") {
        ordered_figures(&keys);
    }
}

/// Distinct random keys, by a bijection of the counter.
fn random_keys(count: usize) -> Vec<u64> {
    let mix = |mut x: u64| {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    (0..count as u64).map(|x| mix(x.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
}

/// Millions a second of the best of `rounds`.
fn best_mega(rounds: usize, items: usize, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let begin = Instant::now();
        work();
        begin.elapsed().as_secs_f64()
    };
    items as f64 / (0..rounds).map(time).fold(f64::INFINITY, f64::min) / 1e6
}

/// Memory as the index has it: huge pages, if the system grants them.
struct Lines {
    mapping: *mut std::ffi::c_void,
    bytes: usize,
}

impl Lines {
    fn new(bytes: usize) -> Self {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no existing memory; the
        // advice concerns that mapping alone.
        let mapping = unsafe {
            let mapping = mmap_anonymous(
                std::ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
            .expect("memory suffices");
            madvise(mapping, bytes, Advice::LinuxHugepage).expect("the mapping is ours");
            mapping
        };
        Self { mapping, bytes }
    }

    fn words(&mut self) -> &mut [u64] {
        // SAFETY: the mapping is ours, page-aligned, zeroed, and as long; the borrow of self is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.cast(), self.bytes / 8) }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nothing borrows it any more.
        unsafe { rustix::mm::munmap(self.mapping, self.bytes) }.expect("the mapping is ours");
    }
}

#[cfg(target_arch = "x86_64")]
fn prefetch(word: &u64) {
    use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
    // SAFETY: a prefetch is a hint; it reads nothing, and every x86-64 machine has it.
    unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(word).cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
fn prefetch(_: &u64) {}

/// Random lines, read-modify-write, prefetched, in the memory that so many keys would have at best.
fn random_lines_mega(count: usize) -> f64 {
    let lines_len = (count * 16 / 64).max(1);
    let mut lines = Lines::new(lines_len * 64);
    let words = lines.words();
    let places: Vec<usize> = random_keys(1 << 22)
        .iter()
        .map(|&key| ((u128::from(key) * lines_len as u128) >> 64) as usize * 8)
        .collect();
    words.iter_mut().step_by(8).for_each(|word| *word = 1);
    best_mega(2, places.len(), || {
        for (step, &place) in places.iter().enumerate() {
            prefetch(&words[places[(step + 32) % places.len()]]);
            words[place] += 1;
        }
    })
}

/// Memory that the host has to find costs ten times as much as memory used a moment ago; so each figure below is of a
/// process that had as much before.
fn limits() {
    let bytes = 768 << 20;
    for memory in ["new to the process", "used a moment ago"] {
        let mut lines = Lines::new(bytes);
        let words = lines.words();
        let fill = best_mega(1, bytes, || words.iter_mut().step_by(512).for_each(|word| *word = 1));
        println!("limit: first touch of huge pages {memory}: {:.2} GB/s", fill / 1e3);
    }
}

fn index_figures(keys: &[u64]) {
    let limit = random_lines_mega(keys.len());
    let mut index = HashIndex::new();
    let mut slots = Vec::with_capacity(BATCH);
    let mut longest_ms = 0.0f64;
    let inserts = best_mega(1, keys.len(), || {
        for batch in keys.chunks(BATCH) {
            slots.clear();
            let begin = Instant::now();
            index.insert(batch, &mut slots).expect("memory suffices");
            longest_ms = longest_ms.max(begin.elapsed().as_secs_f64() * 1e3);
        }
    });
    let shuffled: Vec<u64> =
        (0..keys.len()).map(|place| keys[place.wrapping_mul(7_919_777) % keys.len()]).collect();
    let mut again = |insert: bool, keys: &[u64]| {
        best_mega(3, keys.len(), || {
            for batch in keys.chunks(BATCH) {
                slots.clear();
                if insert {
                    index.insert(batch, &mut slots).expect("nothing is new");
                } else {
                    index.find(batch, &mut slots);
                }
                black_box(&slots);
            }
        })
    };
    let (known, hits) = (again(true, &shuffled), again(false, &shuffled));
    let absent: Vec<u64> = keys.iter().map(|key| !key).collect();
    let misses = again(false, &absent);
    let bytes = index.bytes() as f64 / keys.len() as f64;
    let (isa, count) = (isa::current(), keys.len());
    println!(
        "index {isa:>6}, {count:>8} keys: {inserts:.0} M new keys/s (longest request of {BATCH} {longest_ms:.1} ms), \
         known keys again {known:.0} M/s; {hits:.0} M hits/s, {misses:.0} M misses/s; {bytes:.1} B/key; \
         limit, random lines: {limit:.0} M/s"
    );
}

fn table(store: StoreKind, function: &str) -> Table<f32> {
    let spec = TableSpec {
        id: 0,
        name: "figures".to_owned(),
        value_type: ValueType::F32,
        width: 1,
        store,
        function: FunctionSpec::named(function),
        aggregation: Aggregation::Immediate,
    };
    Table::new(spec, &Registry::with_builtins()).expect("a sensible table")
}

fn sorted_batches(keys: &[u64]) -> Vec<Vec<u64>> {
    let mut batches: Vec<Vec<u64>> = keys.chunks(BATCH).map(<[u64]>::to_vec).collect();
    batches.iter_mut().for_each(|batch| batch.sort_unstable());
    batches
}

fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize =
        text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("statm has the pages");
    pages * 4096
}

/// First insertion by sorted requests with push, and what the process grew by.
fn memory_figures(keys: &[u64]) {
    let batches = sorted_batches(keys);
    let values = vec![1.0f32; BATCH];
    let before = resident_bytes();
    let mut table = table(StoreKind::Sparse, "add");
    let rate = best_mega(1, keys.len(), || {
        for batch in &batches {
            let at = table.resolve(batch, true).expect("memory suffices");
            table.push(&at, &[&values[..batch.len()]]).expect("fresh slots");
        }
    });
    let grown = (resident_bytes() - before) as f64 / keys.len() as f64;
    let own = table.bytes() as f64 / keys.len() as f64;
    println!("table: {rate:.0} M first pushes/s; {grown:.1} B/key resident (own account {own:.1})");
}

/// The same list again and again, its slots cached.
fn repeated_lists() {
    for count in [10_000, 100_000, 1_000_000] {
        let mut keys = random_keys(count);
        let mut table = table(StoreKind::Sparse, "add");
        // Not in order of insertion, so that slots are scattered over the table.
        table
            .resolve(
                &{
                    let mut half = keys[..count / 2].to_vec();
                    half.sort_unstable();
                    half
                },
                true,
            )
            .expect("fits");
        keys.sort_unstable();
        let at = table.resolve(&keys, true).expect("fits");
        let values = vec![1.0f32; count];
        let mut out = vec![0.0f32; count];
        let rounds = 20_000_000 / count;
        let push = best_mega(rounds, count, || table.push(&at, &[&values]).expect("current"));
        let pull = best_mega(rounds, count, || table.pull(&at, &mut out).expect("current"));
        let mut plain = vec![0.0f32; count];
        let dense = best_mega(rounds, count, || keyrange_kernels::dense::add(black_box(&mut plain), &values));
        println!(
            "same list of {count:>7}: push {push:.0}, pull {pull:.0} M keys/s (dense y += x: {dense:.0})"
        );
    }
}

/// Four workers, one update.
fn aggregated() {
    let count = 1_000_000;
    let values = vec![1.0f32; count];
    for function in ["add", "adagrad", "ftrl"] {
        let mut table = table(StoreKind::Dense { first: 0, last: count as u64 - 1 }, function);
        let at = table.resolve_range(0, count as u64 - 1, true).expect("inside");
        let push = |table: &mut Table<f32>, at: &Resolved, end: &Resolved| {
            let short = [&values[..end.len()]];
            let long = [&values[..at.len()]];
            let one = Contribution { at, parts: &long };
            let contributions = [one, one, one, Contribution { at: end, parts: &short }];
            table.apply_sum(&contributions).expect("current");
        };
        let aligned = best_mega(10, count, || push(&mut table, &at, &at));
        let part = table.resolve_range(7, count as u64 - 1, true).expect("inside");
        let shifted = best_mega(10, count, || push(&mut table, &at, &part));
        println!("4 workers, {function}: same rows {aligned:.0}, shifted rows {shifted:.0} M keys/s");
    }
}

fn ordered_figures(keys: &[u64]) {
    let mut table = table(StoreKind::Frozen, "add");
    for batch in sorted_batches(keys) {
        table.resolve(&batch, true).expect("memory suffices");
    }
    let first = best_mega(1, keys.len(), || drop(black_box(table.existing(0, u64::MAX))));
    let more = best_mega(1, 1, || drop(black_box(table.existing(1 << 60, (1 << 60) + (1 << 40)))));
    let freeze = best_mega(1, keys.len(), || table.freeze().expect("may freeze"));
    println!(
        "order: first whole range {first:.1} M keys/s; small range {:.2} us; freeze {freeze:.1} M keys/s",
        1.0 / more
    );
}
