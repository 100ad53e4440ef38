//! Every kernel that works element by element, on every path, length and alignment, against itself applied to one
//! element at a time on the scalar path; and the scalar path against formulas written as in the papers.

mod common;

use common::{Seeded, bits};
use keyrange_kernels::isa::{self, Isa};
use keyrange_kernels::real::Real;
use keyrange_kernels::update::{AdaGrad, Adam, FtrlProximal, SgdMomentum};
use keyrange_kernels::{dense, exp, fused, logistic, prox, update};

/// Five columns of equal length; a kernel reads and writes them as it likes.
type Columns<'a, T> = [&'a mut [T]; 5];
type Kernel<T> = (&'static str, fn(Columns<T>));

fn sgd_rule<T: Real>() -> SgdMomentum<T> {
    SgdMomentum { rate: c(0.1), momentum: c(0.9), decay: c(0.01) }
}
fn adagrad_rule<T: Real>() -> AdaGrad<T> {
    AdaGrad { rate: c(0.1), epsilon: c(1e-6) }
}
fn adam_rule<T: Real>() -> Adam<T> {
    Adam { rate: c(0.001), beta1: c(0.9), beta2: c(0.999), epsilon: c(1e-8) }
}
fn ftrl_rule<T: Real>() -> FtrlProximal<T> {
    FtrlProximal { alpha: c(0.1), beta: c(1.0), l1: c(0.5), l2: c(0.25) }
}
fn prox_rule<T: Real>() -> fused::ProxL1<T> {
    fused::ProxL1 { eta: c(0.9), lambda: c(0.3) }
}
fn c<T: Real>(x: f64) -> T {
    T::from_f64(x)
}

fn kernels<T: Real>() -> Vec<Kernel<T>> {
    vec![
        ("dense::add", |[y, x, ..]| dense::add(y, x)),
        ("dense::axpy", |[y, x, ..]| dense::axpy(y, c(-1.7), x)),
        ("sum of 0", |[y, ..]| dense::sum_into(y, &[])),
        ("sum of 1", |[y, a, ..]| dense::sum_into(y, &[a])),
        ("sum of 3", |[y, a, b, c, _]| dense::sum_into(y, &[a, b, c])),
        ("sum of 4", |[y, a, b, c, d]| dense::sum_into(y, &[a, b, c, d])),
        ("sum of 9", |[y, a, b, c, d]| dense::sum_into(y, &[a, b, c, d, a, b, c, d, a])),
        ("soft_threshold", |[x, ..]| prox::soft_threshold(x, c(0.5))),
        ("l1_diag", |[w, g, u, ..]| prox::l1_diag(w, g, u, c(0.9), c(0.3))),
        ("elastic_net", |[x, ..]| prox::elastic_net(x, c(0.5), c(0.25))),
        ("box_", |[x, ..]| prox::box_(x, c(-0.5), c(0.75))),
        ("non_negative", |[x, ..]| prox::non_negative(x)),
        ("assign", |[y, x, ..]| update::assign(y, x)),
        ("add", |[y, x, ..]| update::add(y, x)),
        ("max", |[y, x, ..]| update::max(y, x)),
        ("min", |[y, x, ..]| update::min(y, x)),
        ("sgd", |[w, g, ..]| update::sgd(w, g, c(0.1))),
        ("sgd_momentum", |[w, m, g, ..]| update::sgd_momentum(w, m, g, sgd_rule())),
        ("adagrad", |[w, n, g, ..]| update::adagrad(w, n, g, adagrad_rule())),
        ("adam", |[w, m, v, g, _]| update::adam(w, m, v, g, 3, adam_rule())),
        ("ftrl_proximal", |[w, z, n, g, _]| update::ftrl_proximal(w, z, n, g, ftrl_rule())),
        ("sum_prox_l1", |[w, a, b, c, d]| fused::sum_prox_l1(w, &[a, b], &[c, d], prox_rule())),
        ("sum_add", |[w, a, b, c, d]| fused::sum_add(w, &[a, b, c, d])),
        ("sum_sgd", |[w, m, a, b, c]| fused::sum_sgd(w, m, &[a, b, c], sgd_rule())),
        ("sum_adagrad", |[w, n, a, b, c]| fused::sum_adagrad(w, n, &[a, b, c], adagrad_rule())),
        ("sum_ftrl", |[w, z, n, a, b]| fused::sum_ftrl(w, z, n, &[a, b], ftrl_rule())),
        ("exp", |[y, x, ..]| exp::exp(x, y)),
        ("sigmoid", |[y, x, ..]| logistic::sigmoid(x, y)),
        ("logistic", |[m, y, p, h, _]| _ = logistic::evaluate(m, y, p, h)),
    ]
}

/// Applies the kernel to elements `from..to` of columns whose alignments differ: column k starts `shift * k` elements in.
fn apply<T: Real>(kernel: Kernel<T>, columns: &mut [Vec<T>; 5], shift: usize, from: usize, to: usize) {
    let mut k = 0;
    kernel.1(columns.each_mut().map(|column| {
        let start = shift * k % T::LANES + shift;
        k += 1;
        &mut column[start + from..start + to]
    }));
}

fn every_path_length_and_alignment<T: Real>() {
    let lanes = T::LANES;
    let longest = 4 * lanes + 3;
    for kernel in kernels::<T>() {
        for shift in 0..lanes {
            let mut seeded = Seeded(shift as u64);
            let before: [Vec<T>; 5] = std::array::from_fn(|_| seeded.numbers(longest + 2 * lanes));
            let mut singly = before.clone();
            let steps: Vec<_> = (0..=longest)
                .map(|len| {
                    let now = singly.each_ref().map(|column| bits(column));
                    if len < longest {
                        isa::with(Isa::Scalar, || apply(kernel, &mut singly, shift, len, len + 1));
                    }
                    now
                })
                .collect();
            for path in isa::available() {
                for (len, expected) in steps.iter().enumerate() {
                    let mut columns = before.clone();
                    isa::with(path, || apply(kernel, &mut columns, shift, 0, len));
                    let got = columns.each_ref().map(|column| bits(column));
                    assert_eq!(&got, expected, "{} on {path}, {len} elements, shift {shift}", kernel.0);
                }
            }
        }
    }
}

#[test]
fn every_path_length_and_alignment_gives_the_bits_of_one_element_at_a_time() {
    every_path_length_and_alignment::<f32>();
    every_path_length_and_alignment::<f64>();
}

/// Arrays longer than the internal blocks, fused against unfused.
#[test]
fn fused_equals_unfused_across_blocks() {
    let n = 1500;
    for path in isa::available() {
        for k in [0, 1, 2, 5, 8, 11] {
            let mut seeded = Seeded(k as u64);
            let sources: Vec<Vec<f32>> = (0..2 * k).map(|_| seeded.numbers(n)).collect();
            let sources: Vec<&[f32]> = sources.iter().map(Vec::as_slice).collect();
            let (gs, us) = sources.split_at(k);
            let start: [Vec<f32>; 3] = std::array::from_fn(|_| seeded.plain(n));
            let sums = [gs, us].map(|sources| {
                let mut sum = vec![f32::NAN; n];
                let naive = |i| sources.iter().map(|s| s[i]).reduce(|a, b| a + b).unwrap_or(0.0);
                isa::with(path, || dense::sum_into(&mut sum, sources));
                assert_eq!(bits(&sum), bits(&(0..n).map(naive).collect::<Vec<_>>()));
                sum
            });
            let check = |name, fused: Fused, unfused: Unfused| {
                let (mut x, mut y) = (start.clone(), start.clone());
                isa::with(path, || fused(x.each_mut().map(Vec::as_mut_slice), gs, us));
                isa::with(path, || unfused(y.each_mut().map(Vec::as_mut_slice), &sums[0], &sums[1]));
                assert_eq!(x.map(|x| bits(&x)), y.map(|y| bits(&y)), "{name} of {k} on {path}");
            };
            let rule = prox_rule::<f32>();
            check(
                "sum_prox_l1",
                |[w, ..], g, u| fused::sum_prox_l1(w, g, u, prox_rule()),
                |[w, ..], g, u| prox::l1_diag(w, g, u, c(0.9), c(0.3)),
            );
            assert_eq!((rule.eta, rule.lambda), (0.9, 0.3));
            check("sum_add", |[w, ..], g, _| fused::sum_add(w, g), |[w, ..], g, _| dense::add(w, g));
            check(
                "sum_sgd",
                |[w, m, _], g, _| fused::sum_sgd(w, m, g, sgd_rule()),
                |[w, m, _], g, _| update::sgd_momentum(w, m, g, sgd_rule()),
            );
            check(
                "sum_adagrad",
                |[w, n, _], g, _| fused::sum_adagrad(w, n, g, adagrad_rule()),
                |[w, n, _], g, _| update::adagrad(w, n, g, adagrad_rule()),
            );
            check(
                "sum_ftrl",
                |[w, z, n], g, _| fused::sum_ftrl(w, z, n, g, ftrl_rule()),
                |[w, z, n], g, _| update::ftrl_proximal(w, z, n, g, ftrl_rule()),
            );
        }
    }
}
type Three<'a> = [&'a mut [f32]; 3];
type Fused = fn(Three, &[&[f32]], &[&[f32]]);
type Unfused = fn(Three, &[f32], &[f32]);

/// f64 kernels against the papers' formulas, one number at a time.
#[test]
fn rules_follow_their_formulas() {
    let mut seeded = Seeded(7);
    let close = |a: f64, b: f64| (a - b).abs() <= 1e-12 * (1.0 + b.abs());
    let s = |x: f64, a: f64| x.signum() * (x.abs() - a).max(0.0);
    for _ in 0..2000 {
        let [w, g, u, n]: [f64; 4] = std::array::from_fn(|_| seeded.unit() * 4.0 - 2.0);
        let (u, n) = (u.abs() + 1e-3, n.abs());
        let one = |kernel: &dyn Fn(&mut [f64])| {
            let mut x = [w];
            kernel(&mut x);
            x[0]
        };
        assert!(close(one(&|x| prox::soft_threshold(x, 0.5)), s(w, 0.5)));
        let l1 = one(&|x| prox::l1_diag(x, &[g], &[u], 0.9, 0.3));
        assert!(close(l1, s(w - 0.9 * g / u, 0.9 * 0.3 / u)));
        assert!(close(one(&|x| prox::elastic_net(x, 0.5, 0.25)), s(w, 0.5) / 1.25));

        let (mut m, mut v, mut x) = ([g], [n], [w]);
        update::adam(&mut x, &mut m, &mut v, &[u], 3, adam_rule());
        let (m1, v1) = (0.9 * g + 0.1 * u, 0.999 * n + 0.001 * u * u);
        let step = 0.001 * (m1 / (1.0 - 0.9f64.powi(3))) / ((v1 / (1.0 - 0.999f64.powi(3))).sqrt() + 1e-8);
        assert!(close(x[0], w - step) && close(m[0], m1) && close(v[0], v1));

        let (mut z, mut squares, mut x) = ([g], [n], [w]);
        update::ftrl_proximal(&mut x, &mut z, &mut squares, &[u], ftrl_rule());
        let n1 = n + u * u;
        let z1 = g + u - (n1.sqrt() - n.sqrt()) / 0.1 * w;
        let w1 =
            if z1.abs() <= 0.5 { 0.0 } else { -(z1 - z1.signum() * 0.5) / ((1.0 + n1.sqrt()) / 0.1 + 0.25) };
        assert!(close(x[0], w1) && close(z[0], z1) && close(squares[0], n1));

        let (mut squares, mut x) = ([n], [w]);
        update::adagrad(&mut x, &mut squares, &[g], adagrad_rule());
        assert!(close(x[0], w - 0.1 * g / ((n + g * g).sqrt() + 1e-6)));
        let (mut m, mut x) = ([n], [w]);
        update::sgd_momentum(&mut x, &mut m, &[g], sgd_rule());
        assert!(close(x[0], w - 0.1 * (0.9 * n + g + 0.01 * w)));
    }
}

/// The closed form of the L1 step minimises its own objective; the printed form with a plus sign would not.
#[test]
fn l1_diag_minimises_the_proximal_objective() {
    let mut seeded = Seeded(3);
    for _ in 0..500 {
        let [w, g]: [f64; 2] = std::array::from_fn(|_| seeded.unit() * 4.0 - 2.0);
        let (u, eta, lambda) = (seeded.unit() + 0.1, 0.9, 0.3);
        let mut x = [w];
        prox::l1_diag(&mut x, &[g], &[u], eta, lambda);
        let objective = |y: f64| lambda * y.abs() + g * (y - w) + u / (2.0 * eta) * (y - w) * (y - w);
        for nudge in [-1e-3, -1e-6, 1e-6, 1e-3] {
            assert!(objective(x[0]) <= objective(x[0] + nudge) + 1e-15);
        }
    }
}

#[test]
fn special_values_end_as_documented() {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let same = |got: &[f32], expected: &[f32]| assert_eq!(bits(got), bits(expected));
    for path in isa::available() {
        isa::with(path, || {
            let mut x = [0.25, -0.25, -0.0, inf, -inf, nan, 1.0, -1.0];
            prox::soft_threshold(&mut x, 0.5);
            same(&x, &[0.0, 0.0, 0.0, inf, -inf, nan, 0.5, -0.5]);
            let mut w = [1.0, -1.0, 1.0, 1.0, 2.0];
            prox::l1_diag(&mut w, &[1.0, 1.0, nan, 5.0, 1.0], &[0.0, inf, 1.0, -1.0, nan], 1.0, 0.1);
            same(&w, &[1.0, -1.0, nan, 1.0, nan]);
            let mut x = [-0.0, -1.0, nan, inf, -inf, f32::from_bits(1)];
            prox::non_negative(&mut x);
            same(&x, &[0.0, 0.0, nan, inf, 0.0, f32::from_bits(1)]);
            let mut y = [nan, 1.0, -0.0, 0.0, -inf];
            update::max(&mut y, &[1.0, nan, 0.0, -0.0, inf]);
            same(&y, &[nan, nan, -0.0, 0.0, inf]);
            let (mut w, mut z, mut n) = ([1.0, 1.0], [0.1, 0.1], [0.0, 0.0]);
            update::ftrl_proximal(&mut w, &mut z, &mut n, &[0.2, nan], ftrl_rule());
            assert!(w[1].is_nan() && z[1].is_nan() && n[1].is_nan());
        });
    }
}

#[test]
fn group_lasso_shrinks_whole_groups() {
    let mut seeded = Seeded(5);
    for path in isa::available() {
        let bounds = [2, 2, 5, 40, 140];
        let x: Vec<f64> = seeded.plain(150);
        let mut y = x.clone();
        isa::with(path, || prox::group_lasso(&mut y, &bounds, 1.5));
        let mut expected = x.clone();
        for pair in bounds.windows(2) {
            let norm = x[pair[0]..pair[1]].iter().map(|x| x * x).sum::<f64>().sqrt();
            expected[pair[0]..pair[1]].iter_mut().for_each(|x| *x *= (1.0 - 1.5 / norm).max(0.0));
        }
        assert!(y.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-13));
        let reference = isa::with(Isa::Scalar, || {
            let mut z = x.clone();
            prox::group_lasso(&mut z, &bounds, 1.5);
            z
        });
        assert_eq!(bits(&y), bits(&reference));
    }
    let mut x = [-0.0f32, 0.0, f32::NAN, 1.0];
    prox::group_lasso(&mut x, &[0, 2, 4], 0.0);
    assert_eq!(bits(&x), bits(&[0.0, 0.0, f32::NAN, f32::NAN]));
}

/// The definition over 16 lanes, by index.
fn dot_by_lanes<T: Real>(x: &[T], y: &[T]) -> T {
    let mut lanes = [T::ZERO; 16];
    for i in 0..x.len() {
        lanes[i % 16] += x[i] * y[i];
    }
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            let upper = lanes[i + half];
            lanes[i] += upper;
        }
    }
    lanes[0]
}

#[test]
fn dot_gives_the_bits_of_its_definition_on_every_path_length_and_alignment() {
    let x: Vec<f64> = (0..150).map(|i| f64::from(i * 37 % 101) / 7.0 - 5.0).collect();
    let y: Vec<f64> = (0..150).map(|i| f64::from(i * 53 % 89) / 3.0 - 11.0).collect();
    for path in isa::available() {
        for (start, len) in (0..9).flat_map(|start| (0..130).map(move |len| (start, len))) {
            let (x, y) = (&x[start..start + len], &y[start..start + len]);
            let got = isa::with(path, || dense::dot(x, y));
            assert_eq!(got.to_bits(), dot_by_lanes(x, y).to_bits(), "{path:?} {start} {len}");
        }
    }
}
