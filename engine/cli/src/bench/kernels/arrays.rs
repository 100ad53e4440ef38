//! Kernels on whole arrays: aggregation, fused updates, proximal operators, update rules, the logistic loss.

use std::hint::black_box;

use keyrange_kernels::fused::{self, ProxL1};
use keyrange_kernels::update::{self, FtrlProximal};
use keyrange_kernels::{dense, exp, logistic, prox};

use super::super::limits::Array;
use super::{Bench, Limit, numbers, positive_numbers, set_name};

/// Workers whose arrays are aggregated.
const WORKERS: usize = 4;

/// Sums of four workers' arrays, alone and fused with a proximal step.
pub fn aggregation(bench: &mut Bench<'_>, bytes: usize) {
    let n = bytes / 4 / (2 * WORKERS + 1);
    let sources: Vec<Array<f32>> = (0..2 * WORKERS).map(|k| positive_numbers(n, k as u32)).collect();
    let all: Vec<&[f32]> = sources.iter().map(|source| &source[..]).collect();
    let (gs, us) = all.split_at(WORKERS);
    let mut w = numbers(n, 9);
    let rule = ProxL1 { eta: 0.9, lambda: 1e-3 };
    bench.row("fused sum 4+4 and prox L1", set_name(bytes), n, Limit::Read(n * 36), || {
        fused::sum_prox_l1(black_box(&mut w), gs, us, rule);
    });
    let (mut g, mut u) = (numbers(n, 9), numbers(n, 9));
    bench.row("the same unfused", set_name(bytes), n, Limit::Read(n * 36), || {
        dense::sum_into(black_box(&mut g), gs);
        dense::sum_into(black_box(&mut u), us);
        prox::l1_diag(black_box(&mut w), &g, &u, rule.eta, rule.lambda);
    });
    bench.row("sum of 4", set_name(bytes), n, Limit::Update(n * 20), || {
        dense::sum_into(black_box(&mut w), gs);
    });
}

/// One pass over a few arrays of the same length.
pub fn elementwise(bench: &mut Bench<'_>, bytes: usize) {
    let n = bytes / 16;
    let [mut a, mut b, mut c] = [1, 2, 3].map(|seed| numbers(n, seed));
    let d = positive_numbers(n, 4);
    bench.row("y += x", set_name(bytes), n, Limit::Copy(n * 12), || dense::add(black_box(&mut a), &b));
    bench.row("prox L1 diagonal", set_name(bytes), n, Limit::Update(n * 16), || {
        prox::l1_diag(black_box(&mut a), &b, &d, 1e-3, 1e-3);
    });
    b.fill(0.0);
    c.fill(0.0);
    let rule = FtrlProximal { alpha: 0.1, beta: 1.0, l1: 0.1, l2: 0.1 };
    bench.row("ftrl proximal", set_name(bytes), n, Limit::Update(n * 28), || {
        update::ftrl_proximal(black_box(&mut a), &mut b, &mut c, &d, rule);
    });
    bench.row("exp", set_name(bytes), n, Limit::Update(n * 8), || exp::exp(&d, black_box(&mut a)));
    c.copy_from_slice(&numbers(n, 3));
    bench.row("logistic loss", set_name(bytes), n, Limit::Update(n * 16), || {
        black_box(logistic::evaluate(&d, &c, black_box(&mut a), &mut b));
    });
}
