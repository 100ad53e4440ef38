//! The kernels a push goes through, on every instruction set, beside a copy of the same bytes. `keyrange bench kernels`
//! has all of them and more sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use keyrange_kernels::fused::{self, ProxL1};
use keyrange_kernels::slots::SlotList;
use keyrange_kernels::{dense, exp, isa, keys, sparse};

/// Fits a second-level cache.
const NUMBERS: usize = 64 << 10;

fn on_every_isa(c: &mut Criterion, kernel: &str, items: usize, bytes: usize, mut work: impl FnMut()) {
    let mut group = c.benchmark_group(format!("kernels/{kernel}"));
    group.throughput(Throughput::Elements(items as u64));
    for path in isa::available() {
        group.bench_function(BenchmarkId::from_parameter(path), |b| isa::with(path, || b.iter(&mut work)));
    }
    let (from, mut to) = (vec![1u8; bytes / 2], vec![0u8; bytes / 2]);
    group.bench_function("limit: copy", |b| b.iter(|| black_box(&mut to).copy_from_slice(black_box(&from))));
    group.finish();
}

fn main() {
    let mut c = keyrange_benches::criterion();
    let array = |step: usize| (0..NUMBERS).map(|k| (k * step % 1000) as f32 / 1000.0).collect::<Vec<_>>();
    let (mut y, x) = (array(3), array(7));
    on_every_isa(&mut c, "add", NUMBERS, NUMBERS * 12, || dense::add(black_box(&mut y), &x));
    on_every_isa(&mut c, "exp", NUMBERS, NUMBERS * 8, || exp::exp(&x, black_box(&mut y)));
    let n = NUMBERS / 4;
    let sources: Vec<Vec<f32>> = (1..9).map(|step| array(step)[..n].to_vec()).collect();
    let all: Vec<&[f32]> = sources.iter().map(Vec::as_slice).collect();
    let (rule, mut w) = (ProxL1 { eta: 0.9, lambda: 1e-3 }, array(5)[..n].to_vec());
    on_every_isa(&mut c, "fused sum 4+4 and prox L1", n, n * 40, || {
        fused::sum_prox_l1(black_box(&mut w), &all[..4], &all[4..], rule);
    });
    let list = SlotList::new((0..n as u32).map(|slot| slot * 4 + slot % 4).collect());
    on_every_isa(&mut c, "scatter add", n, n * 16, || {
        sparse::scatter_add(black_box(&mut y), &list, 1, &x[..n]);
    });
    let key_list: Vec<u64> = (0..NUMBERS as u64).map(|key| key * key).collect();
    on_every_isa(&mut c, "signature", NUMBERS, NUMBERS * 8, || {
        black_box(keys::signature(black_box(&key_list)));
    });
    c.final_summary();
}
