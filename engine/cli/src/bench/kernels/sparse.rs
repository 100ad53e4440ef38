//! Kernels on scattered data: slots of a table, sorted key lists, sparse matrices.

use std::hint::black_box;

use keyrange_kernels::linear::{self, Csc, Csr};
use keyrange_kernels::slots::SlotList;
use keyrange_kernels::{keys, sparse};

use super::super::limits::Array;
use super::{Bench, Limit, numbers, set_name};

/// Sorted slots, a random one in every `gap`.
fn slots(count: usize, gap: usize) -> Vec<u32> {
    let within = |x: f32| ((x + 0.5) * gap as f32) as usize % gap;
    numbers(count, 5).iter().enumerate().map(|(k, &x)| (k * gap + within(x)) as u32).collect()
}

/// Adding to and gathering from a table of `bytes`, every 4th or every 32nd row on average. Gaps of a line and more move a
/// whole line each way per key.
pub fn scattered(bench: &mut Bench<'_>, bytes: usize) {
    for gap in [4, 32] {
        rows(bench, bytes, gap);
    }
}

/// The table of the prototypes' figures: 256 MiB.
pub fn scattered_widely(bench: &mut Bench<'_>) {
    for gap in [16, 64] {
        rows(bench, 256 << 20, gap);
    }
}

fn rows(bench: &mut Bench<'_>, bytes: usize, gap: usize) {
    let names = [format!("scatter add 1:{gap}"), format!("gather 1:{gap}")];
    if !names.iter().any(|name| bench.wants(name)) {
        return;
    }
    let n = bytes / 4 / gap;
    let list = SlotList::new(slots(n, gap));
    let (mut rows, mut values) = (numbers(n * gap, 1), numbers(n, 2));
    let (slot_and_value, row) = (8, (4 * gap).min(64));
    let [scatter, gather] = names;
    bench.row(&scatter, set_name(bytes), n, Limit::Update(n * (slot_and_value + 2 * row)), || {
        sparse::scatter_add(black_box(&mut rows), &list, 1, &values);
    });
    bench.row(&gather, set_name(bytes), n, Limit::Read(n * (slot_and_value + row)), || {
        sparse::gather(black_box(&mut values), &rows, &list, 1);
    });
}

/// Signatures and intersections of lists of `bytes`.
pub fn key_lists(bench: &mut Bench<'_>, bytes: usize) {
    let n = bytes / 8;
    let limit = Limit::Read(n * 8);
    let list: Array<u64> = Array::of(slots(n, 16).iter().map(|&key| u64::from(key) << 8), 0);
    bench.row("key list signature", set_name(bytes), n, limit, || {
        black_box(keys::signature(black_box(&list)));
    });
    bench.row("key list sorted?", set_name(bytes), n, limit, || {
        black_box(keys::is_sorted_unique(black_box(&list)));
    });
    let mut pairs = Vec::with_capacity(n);
    for (name, changed) in [("intersect equal", 0.0), ("intersect half", 0.5)] {
        let coins = numbers(n, 11);
        let change = |(&key, &x): (&u64, &f32)| if x + 0.5 < changed { key + 1 } else { key };
        let other: Array<u64> = Array::of(list.iter().zip(coins.iter()).map(change), 0);
        bench.row(name, set_name(bytes), n, Limit::Update(n * 24), || {
            pairs.clear();
            keys::intersect(&list, black_box(&other), &mut pairs);
        });
    }
    let few: Vec<u64> = list.iter().copied().step_by(16).collect();
    bench.row("intersect 1:16", set_name(bytes), few.len(), limit, || {
        pairs.clear();
        keys::intersect(&few, black_box(&list), &mut pairs);
    });
}

/// Products with matrices of three shapes: documents, clicks, and more features than any cache holds.
pub fn products(bench: &mut Bench<'_>) {
    for (shape, lines, per_line, width) in [
        ("47 k x 20 k", 47_000, 32, 20_000),
        ("100 k x 250 k", 100_000, 16, 250_000),
        ("100 k x 16 M", 100_000, 16, 16_000_000),
    ] {
        let n = lines * per_line;
        let index = |x: &f32| ((x + 0.5) * width as f32) as u32 % width as u32;
        let indices: Vec<u32> = numbers(n, 3).iter().map(index).collect();
        let offsets: Vec<usize> = (0..=lines).map(|line| line * per_line).collect();
        let (values, x, e) = (numbers(n, 4), numbers(width, 5), numbers(lines, 6));
        let (mut out, mut u, mut margins) = (numbers(lines, 6), numbers(lines, 6), numbers(width, 5));
        let csr = Csr::new(&offsets, &indices, Some(&values)).expect("offsets rise and fit the indices");
        let csc = Csc::new(&offsets, &indices, Some(&values)).expect("offsets rise and fit the indices");
        let binary = Csc::new(&offsets, &indices, None::<&[f32]>).expect("offsets rise and fit the indices");
        // An operand that L2 holds costs nothing beside the matrix; of a larger one every nonzero fetches a line at random, of
        // two operands two.
        let beyond_cache = width * 4 > 1 << 20;
        let limit = |operands: usize| match beyond_cache {
            true => Limit::Lines { count: n * operands, of_bytes: width * 4 },
            false => Limit::Read(n * 8),
        };
        let shape = || shape.to_owned();
        bench.row("matrix CSR dot", shape(), n, limit(1), || linear::csr_dot(csr, &x, black_box(&mut out)));
        bench.row("matrix CSC dot", shape(), n, limit(1), || linear::csc_tdot(csc, &x, black_box(&mut out)));
        bench.row("matrix gradient and bound", shape(), n, limit(2), || {
            linear::csc_block_gradient_bound(csc, &x, &x, &e, black_box(&mut out), &mut u);
        });
        bench.row("matrix gradient, binary", shape(), n, limit(2), || {
            linear::csc_block_gradient_bound(binary, &x, &x, &e, black_box(&mut out), &mut u);
        });
        bench.row("matrix axpy of columns", shape(), n, limit(2), || {
            linear::csc_axpy_columns(csc, &e, &x, black_box(&mut margins));
        });
    }
}
