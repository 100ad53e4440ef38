//! Times every kernel on every path over sizes that live in L2, L3 and DRAM, beside the machine's limit measured in
//! the same run: `cargo run --release -p keyrange-kernels --example figures [name part]...`.
//!
//! `limit` is what a copy of the same number of bytes reaches at that size (for the fused kernels, which read nine times what
//! they write, a plain sum). The number beside each rate is its part of that limit: 1.00 is as fast as memory.

use std::hint::black_box;
use std::time::{Duration, Instant};

use keyrange_kernels::fused::{self, ProxL1};
use keyrange_kernels::isa;
use keyrange_kernels::linear::{self, Csc, Csr};
use keyrange_kernels::slots::SlotList;
use keyrange_kernels::update::{self, FtrlProximal};
use keyrange_kernels::{dense, exp, keys, logistic, prox, sparse};

/// Working sets: half an L2, an L3's part, beyond caches.
const SIZES: [(&str, usize); 3] = [("L2", 512 << 10), ("L3", 12 << 20), ("DRAM", 640 << 20)];
const TIMED: Duration = Duration::from_millis(60);

/// The best time of one call over several, in seconds.
fn best(mut work: impl FnMut()) -> f64 {
    work();
    let (begin, mut best) = (Instant::now(), f64::MAX);
    loop {
        let call = Instant::now();
        work();
        best = best.min(call.elapsed().as_secs_f64());
        if begin.elapsed() > TIMED {
            return best;
        }
    }
}

struct Table {
    wanted: Vec<String>,
}

impl Table {
    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|part| name.contains(part.as_str()))
    }

    /// Times `work` on every path: `items` per call, `bytes` of traffic, `limit_s` the limit's seconds for them.
    fn row(&self, name: &str, size: &str, items: usize, limit_s: f64, mut work: impl FnMut()) {
        print!("{name:<26} {size:<5}");
        for path in isa::available() {
            let seconds = isa::with(path, || best(&mut work));
            print!(" {:>8.3} G/s {:>5.2}", items as f64 / seconds / 1e9, limit_s / seconds);
        }
        println!("   limit {:.2} G/s", items as f64 / limit_s / 1e9);
    }
}

fn numbers(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// Seconds to copy half of `bytes` into the other half: `bytes` of traffic.
fn copy_limit(bytes: usize) -> f64 {
    let (from, mut to) = (vec![1u8; bytes / 2], vec![0u8; bytes / 2]);
    best(|| black_box(&mut to).copy_from_slice(black_box(&from)))
}

/// Seconds to read `bytes` and add them up.
fn read_limit(bytes: usize) -> f64 {
    let from = vec![1u64; bytes / 8];
    best(|| {
        black_box(black_box(&from).iter().fold(0u64, |sum, &x| sum.wrapping_add(x)));
    })
}

fn aggregation(table: &Table) {
    for (size, bytes) in SIZES {
        let n = bytes / 4 / 9;
        let sources: Vec<Vec<f32>> =
            (0..8).map(|k| numbers(n, k).iter().map(|x| x.abs()).collect()).collect();
        let all: Vec<&[f32]> = sources.iter().map(Vec::as_slice).collect();
        let (gs, us) = all.split_at(4);
        let mut w = numbers(n, 9);
        let rule = ProxL1 { eta: 0.9, lambda: 1e-3 };
        if table.wants("fused") {
            let limit = read_limit(bytes);
            table.row("fused sum 4+4, prox L1", size, n, limit, || {
                fused::sum_prox_l1(black_box(&mut w), gs, us, rule)
            });
            let (mut g, mut u) = (w.clone(), w.clone());
            table.row("unfused", size, n, limit, || {
                dense::sum_into(black_box(&mut g), gs);
                dense::sum_into(black_box(&mut u), us);
                prox::l1_diag(black_box(&mut w), &g, &u, rule.eta, rule.lambda);
            });
        }
        if table.wants("sum of 4") {
            table.row("sum of 4", size, n, copy_limit(n * 20), || dense::sum_into(black_box(&mut w), gs));
        }
    }
}

fn elementwise(table: &Table) {
    for (size, bytes) in SIZES {
        let n = bytes / 16;
        let [mut a, mut b, mut c] = [1, 2, 3].map(|seed| numbers(n, seed));
        let d: Vec<f32> = numbers(n, 4).iter().map(|x| x.abs() + 0.1).collect();
        if table.wants("y += x") {
            table.row("y += x", size, n, copy_limit(n * 12), || dense::add(black_box(&mut a), &b));
        }
        if table.wants("prox") {
            table.row("prox L1 diagonal", size, n, copy_limit(n * 16), || {
                prox::l1_diag(black_box(&mut a), &b, &d, 1e-3, 1e-3);
            });
        }
        if table.wants("ftrl") {
            let rule = FtrlProximal { alpha: 0.1, beta: 1.0, l1: 0.1, l2: 0.1 };
            b.fill(0.0);
            c.fill(0.0);
            table.row("ftrl_proximal", size, n, copy_limit(n * 28), || {
                update::ftrl_proximal(black_box(&mut a), &mut b, &mut c, &d, rule);
            });
        }
        if table.wants("exp") {
            table.row("exp", size, n, copy_limit(n * 8), || exp::exp(&d, black_box(&mut a)));
        }
        if table.wants("logistic") {
            table.row("logistic", size, n, copy_limit(n * 16), || {
                black_box(logistic::evaluate(&d, &c, black_box(&mut a), &mut b));
            });
        }
    }
}

/// Sorted slots, a random one in every `gap`.
fn slots(n: usize, gap: usize) -> Vec<u32> {
    numbers(n, 5)
        .iter()
        .enumerate()
        .map(|(k, x)| (k * gap) as u32 + ((x + 0.5) * gap as f32) as u32)
        .collect()
}

fn scattered(table: &Table) {
    for (size, n, gap) in
        [("10 k", 10_000, 4), ("100 k", 100_000, 4), ("1 M", 1_000_000, 4), ("256M", 2_000_000, 32)]
    {
        if !table.wants("scatter") {
            continue;
        }
        let list = SlotList::new(slots(n, gap));
        let (mut rows, mut values) = (numbers(n * gap + gap, 1), numbers(n, 2));
        let limit = copy_limit(n * 16);
        table.row("scatter_add", size, n, limit, || {
            sparse::scatter_add(black_box(&mut rows), &list, 1, &values)
        });
        table.row("gather (scatter)", size, n, limit, || {
            sparse::gather(black_box(&mut values), &rows, &list, 1)
        });
    }
}

fn lists(table: &Table) {
    for (size, n) in [("L2", 20_000), ("L3", 500_000), ("DRAM", 16_000_000)] {
        let list: Vec<u64> = slots(n, 64).iter().map(|&k| u64::from(k) << 8).collect();
        let limit = copy_limit(n * 8);
        if table.wants("signature") {
            table.row("key signature", size, n, limit, || {
                black_box(keys::signature(black_box(&list)));
            });
            table.row("signature: sorted?", size, n, limit, || {
                black_box(keys::is_sorted_unique(black_box(&list)));
            });
        }
        if table.wants("intersect") {
            let mut pairs = Vec::with_capacity(n);
            for (name, keep) in [("intersect same", 0.0), ("intersect 95 %", 0.05), ("intersect half", 0.5)] {
                let coins = numbers(n, 11);
                let other: Vec<u64> =
                    list.iter().zip(&coins).map(|(&k, &x)| if x + 0.5 < keep { k + 1 } else { k }).collect();
                table.row(name, size, n, limit, || {
                    pairs.clear();
                    keys::intersect(&list, black_box(&other), &mut pairs);
                });
            }
            let few: Vec<u64> = list.iter().copied().step_by(16).collect();
            table.row("intersect 1:16", size, few.len(), limit, || {
                pairs.clear();
                keys::intersect(&few, black_box(&list), &mut pairs);
            });
        }
    }
}

/// A matrix of `lines` lines with about `per_line` entries, by squaring skewed towards low indices like click data.
fn sparse_products(table: &Table) {
    if !table.wants("linear") {
        return;
    }
    for (size, lines, per_line, width) in
        [("rcv1", 47_000, 32, 20_000), ("click", 100_000, 16, 250_000), ("16 M", 100_000, 16, 16_000_000)]
    {
        let n = lines * per_line;
        let indices: Vec<u32> =
            numbers(n, 3).iter().map(|x| ((x + 0.5) * width as f32) as u32 % width as u32).collect();
        let offsets: Vec<usize> = (0..=lines).map(|k| k * per_line).collect();
        let (values, dense, e) = (numbers(n, 4), numbers(width, 5), numbers(lines, 6));
        let (mut out, mut u, mut margins) = (e.clone(), e.clone(), dense.clone());
        let limit = copy_limit(n * 8);
        let csr = Csr::new(&offsets, &indices, Some(&values)).expect("a matrix");
        let csc = Csc::new(&offsets, &indices, Some(&values)).expect("a matrix");
        let binary = Csc::new(&offsets, &indices, None).expect("a matrix");
        table.row("linear csr_dot", size, n, limit, || linear::csr_dot(csr, &dense, black_box(&mut out)));
        table.row("linear csc_tdot", size, n, limit, || linear::csc_tdot(csc, &dense, black_box(&mut out)));
        table.row("linear gradient, bound", size, n, limit, || {
            linear::csc_block_gradient_bound(csc, &dense, &dense, &e, black_box(&mut out), &mut u);
        });
        table.row("linear the same, binary", size, n, limit, || {
            linear::csc_block_gradient_bound(binary, &dense, &dense, &e, black_box(&mut out), &mut u);
        });
        table.row("linear axpy_columns", size, n, limit, || {
            linear::csc_axpy_columns(csc, &e, &dense, black_box(&mut margins));
        });
    }
}

fn main() {
    let table = Table { wanted: std::env::args().skip(1).collect() };
    print!("{:<26} {:<5}", "kernel", "size");
    isa::available().for_each(|path| print!(" {:>12} {:>5}", path.to_string(), "/lim"));
    println!();
    aggregation(&table);
    elementwise(&table);
    scattered(&table);
    lists(&table);
    sparse_products(&table);
}
