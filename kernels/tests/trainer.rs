//! exp, the logistic loss and sparse products against libm and plain loops, on every path.

mod common;

use common::{Seeded, bits, specials};
use keyrange_kernels::isa::{self, Isa};
use keyrange_kernels::linear::{self, Csc, Csr, MatrixError};
use keyrange_kernels::real::Real;
use keyrange_kernels::{exp, logistic};

fn exp32(x: &[f32]) -> Vec<f32> {
    let mut out = vec![0.0; x.len()];
    exp::exp(x, &mut out);
    out
}

/// Over all exponents and both signs: |got - exact| in units of the last place of the exact value.
#[test]
fn exp_f32_is_within_one_ulp_everywhere() {
    let all: Vec<f32> = (0..=u32::MAX).step_by(4999).map(f32::from_bits).filter(|x| !x.is_nan()).collect();
    let near: Vec<f32> = (0..200_000).map(|k| -104.5 + k as f32 * (193.5 / 200_000.0)).collect();
    for x in [all, near] {
        for (&x, y) in x.iter().zip(exp32(&x)) {
            let exact = f64::from(x).exp();
            if exact > f64::from(f32::MAX) * (1.0 + 1e-7) {
                assert_eq!(y, f32::INFINITY, "exp({x})");
                continue;
            }
            let ulp = (exact.log2().floor().max(-126.0) - 23.0).exp2();
            let error = (f64::from(y.min(f32::MAX)) - exact).abs() / ulp;
            assert!(error <= 1.0, "exp({x}) = {y}, exact {exact}: {error} ulp");
        }
    }
}

#[test]
fn exp_f64_is_within_one_ulp_of_libm() {
    let x: Vec<f64> = (0..400_000).map(|k| -746.0 + f64::from(k) * (1456.0 / 400_000.0)).collect();
    let mut y = vec![0.0; x.len()];
    exp::exp(&x, &mut y);
    for (x, y) in x.iter().zip(y) {
        // libm itself may be off by half an ulp beyond rounding; equal-sign floats differ in ulps as their bits do.
        let ulps = x.exp().to_bits().abs_diff(y.to_bits());
        assert!(ulps <= 1, "exp({x}) = {y}, libm {}: {ulps} ulp", x.exp());
    }
}

#[test]
fn exp_of_special_values() {
    let x = [
        0.0,
        -0.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
        f32::MIN,
        f32::from_bits(1),
        88.0,
        -103.5,
    ];
    for path in isa::available() {
        let y = isa::with(path, || exp32(&x));
        let inf = f32::INFINITY;
        let expected = [1.0, 1.0, inf, 0.0, f32::NAN, inf, 0.0, 1.0, 88f64.exp() as f32, f32::from_bits(1)];
        assert_eq!(bits(&y), bits(&expected), "{path}");
    }
}

fn logistic_against_libm<T: Real>(epsilon: f64) {
    let mut margins: Vec<T> = (-4000..4000).map(|k| T::from_f64(f64::from(k) * 0.02)).collect();
    margins.extend(specials::<T>().into_iter().filter(|m| !m.is_nan() && m.to_f64() > -1e30));
    let n = margins.len();
    let labels: Vec<T> = (0..n).map(|k| if k % 3 == 0 { -T::ONE } else { T::ONE }).collect();
    let (mut p, mut h) = (vec![T::ZERO; n], vec![T::ZERO; n]);
    let sum = logistic::evaluate(&margins, &labels, &mut p, &mut h);
    let mut expected = 0.0;
    for i in 0..n {
        let m = margins[i].to_f64();
        let e = (-m.abs()).exp();
        let s = if m < 0.0 { 1.0 } else { e } / (1.0 + e);
        let near = |got: T, want: f64| {
            (got.to_f64() - want).abs() <= 4.0 * epsilon * want.abs() + T::DENORMAL.to_f64()
        };
        assert!(near(p[i], labels[i].to_f64() * s), "p at {m}");
        assert!(near(h[i], e / (1.0 + e) / (1.0 + e)), "h at {m}");
        let loss = (-m).max(0.0) + e.ln_1p();
        let one = T::from_f64(logistic::loss(&margins[i..=i]));
        assert!(near(one, loss), "loss at {m}: {one:?} for {loss}");
        expected += loss;
    }
    // The plain f64 sum it is compared with has rounding errors of its own.
    assert!((sum - expected).abs() <= (4.0 * epsilon + 1e-12) * expected, "{sum} for {expected}");
    assert_eq!(sum.to_bits(), logistic::loss(&margins).to_bits());
}

#[test]
fn the_loss_and_its_derivatives_are_exact_to_a_few_ulp() {
    logistic_against_libm::<f32>(f64::from(f32::EPSILON));
    logistic_against_libm::<f64>(f64::EPSILON);
}

#[test]
fn extreme_margins_end_as_documented() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    for path in isa::available() {
        isa::with(path, || {
            let (mut p, mut h) = ([9.0; 3], [9.0; 3]);
            let sum = logistic::evaluate(&[inf, -inf, nan], &[-1.0, -1.0, 1.0], &mut p, &mut h);
            assert!(sum.is_nan());
            assert_eq!(bits(&p), bits(&[-0.0, -1.0, nan]));
            assert_eq!(bits(&h), bits(&[0.0, 0.0, nan]));
            assert_eq!(logistic::loss(&[inf]), 0.0);
            assert_eq!(logistic::loss(&[-inf]), inf);
        });
    }
}

#[test]
fn sums_and_row_lists_are_the_same_on_every_path_and_length() {
    let mut seeded = Seeded(9);
    for n in (0..=67).chain([511, 512, 513, 1500]) {
        let margins: Vec<f32> = (0..n).map(|_| (seeded.unit() * 40.0 - 20.0) as f32).collect();
        let labels: Vec<f32> = (0..n).map(|_| if seeded.below(2) == 0 { 1.0 } else { -1.0 }).collect();
        let all: Vec<u32> = (0..n as u32).collect();
        let run = |path, rows: Option<&[u32]>| {
            isa::with(path, || {
                let (mut p, mut h) = (vec![7.0; n], vec![7.0; n]);
                let sum = match rows {
                    None => logistic::evaluate(&margins, &labels, &mut p, &mut h),
                    Some(rows) => logistic::evaluate_rows(rows, &margins, &labels, &mut p, &mut h),
                };
                (sum.to_bits(), bits(&p), bits(&h))
            })
        };
        let expected = run(Isa::Scalar, None);
        let some: Vec<u32> = all.iter().copied().filter(|i| i % 3 == 1).collect();
        for path in isa::available() {
            assert_eq!(run(path, None), expected, "{n} on {path}");
            assert_eq!(run(path, Some(&all)), expected, "{n} rows on {path}");
            let (_, p, h) = run(path, Some(&some));
            for i in 0..n {
                let kept = (7f32.to_bits(), 7f32.to_bits());
                let want = if i % 3 == 1 { (expected.1[i], expected.2[i]) } else { kept };
                assert_eq!((p[i], h[i]), want, "row {i} of {n} on {path}");
            }
        }
    }
}

/// A matrix whose lines have 0, 1, 2, ... entries and a few long ones.
fn matrix<T: Real>(seeded: &mut Seeded, width: usize) -> (Vec<usize>, Vec<u32>, Vec<T>) {
    let (mut offsets, mut indices) = (vec![0], Vec::new());
    for n in (0..70).chain([200, 0, 333]) {
        let line = indices.len();
        indices.extend((0..width as u32).filter(|_| seeded.below(width) < n * 2).take(n));
        while indices.len() < line + n {
            indices.push(seeded.below(width) as u32);
        }
        offsets.push(indices.len());
    }
    let values = seeded.plain(indices.len());
    (offsets, indices, values)
}

fn close<T: Real>(got: T, want: f64, scale: f64) -> bool {
    (got.to_f64() - want).abs() <= scale * if size_of::<T>() == 4 { 1e-5 } else { 1e-13 }
}

fn products<T: Real>(width: usize) {
    let mut seeded = Seeded(width as u64);
    let (offsets, indices, values) = matrix::<T>(&mut seeded, width);
    let lines = offsets.len() - 1;
    let dense: Vec<T> = seeded.plain(width);
    let h: Vec<T> = dense.iter().map(|&d| d * d * T::from_f64(0.0625)).collect();
    let growth: Vec<T> = seeded.plain::<T>(lines).iter().map(|&x| x.abs()).collect();
    let labels: Vec<T> = dense.iter().map(|&d| if d < T::ZERO { -T::ONE } else { T::ONE }).collect();
    for values in [None, Some(values.as_slice())] {
        let (csr, csc) =
            (Csr::new(&offsets, &indices, values).unwrap(), Csc::new(&offsets, &indices, values).unwrap());
        let all = |path| {
            isa::with(path, || {
                let [mut dot, mut tdot, mut g, mut u] = std::array::from_fn(|_| vec![T::NAN; lines]);
                let mut margins = dense.clone();
                linear::csr_dot(csr, &dense, &mut dot);
                linear::csc_tdot(csc, &dense, &mut tdot);
                linear::csc_block_gradient_bound(csc, &dense, &h, &growth, &mut g, &mut u);
                linear::csc_axpy_columns(csc, &growth, &labels, &mut margins);
                [dot, tdot, g, u, margins]
            })
        };
        let scalar = all(Isa::Scalar);
        for path in isa::available() {
            assert_eq!(all(path).map(|x| bits(&x)), scalar.each_ref().map(|x| bits(x)), "{path}");
        }
        let [dot, tdot, g, u, margins] = scalar;
        let mut expected: Vec<f64> = dense.iter().map(|d| d.to_f64()).collect();
        for l in 0..lines {
            let (mut sum, mut bound) = (0.0, 0.0);
            for k in offsets[l]..offsets[l + 1] {
                let (i, x) = (indices[k] as usize, values.map_or(1.0, |v| v[k].to_f64()));
                sum += x * dense[i].to_f64();
                bound += (h[i].to_f64() * growth[l].to_f64()).min(0.25) * x * x;
                expected[i] += labels[i].to_f64() * x * growth[l].to_f64();
            }
            let scale = 1.0 + 4.0 * (offsets[l + 1] - offsets[l]) as f64;
            assert!(close(dot[l], sum, scale) && close(tdot[l], sum, scale) && close(g[l], -sum, scale));
            assert!(close(u[l], bound, scale), "line {l}");
        }
        assert!(margins.iter().zip(&expected).all(|(&m, &e)| close(m, e, 2000.0)));
        let mut part = vec![T::ZERO; 9];
        linear::csc_tdot(csc.part(20..29), &dense, &mut part);
        assert_eq!(bits(&part), bits(&tdot[20..29]), "a block is a view");
        assert_eq!(csc.part(20..29).nonzeros(), offsets[29] - offsets[20]);
        assert_eq!((csr.rows(), csc.columns()), (lines, lines));
    }
}

#[test]
fn sparse_products_equal_plain_loops() {
    products::<f32>(500);
    products::<f64>(500);
    products::<f32>(300_000);
    products::<f64>(150_000);
}

#[test]
fn parts_that_make_no_matrix_are_refused() {
    let new = |offsets: &[usize], values: Option<&[f32]>| {
        Csr::new(offsets, &[0, 1], values).map(|_| ()).unwrap_err()
    };
    assert_eq!(new(&[], None), MatrixError::NoOffsets);
    assert_eq!(new(&[0, 2, 1], None), MatrixError::UnsortedOffsets { at: 2 });
    assert_eq!(new(&[0, 3], None), MatrixError::OffsetBeyondIndices { got: 3, max: 2 });
    assert_eq!(new(&[0, 2], Some(&[1.0])), MatrixError::ValueCount { expected: 2, got: 1 });
}

#[test]
fn an_index_beyond_the_operand_panics_on_every_path() {
    let before = isa::current();
    for path in isa::available() {
        for n in [3, 40] {
            let mut indices = vec![0; n];
            indices[n - 1] = 8;
            let run = || {
                isa::with(path, || {
                    linear::csr_dot(Csr::new(&[0, n], &indices, None).unwrap(), &[1.0f32; 8], &mut [0.0])
                })
            };
            assert!(std::panic::catch_unwind(run).is_err(), "{n} entries on {path}");
            assert_eq!(isa::current(), before, "the forced path was restored");
        }
    }
}
