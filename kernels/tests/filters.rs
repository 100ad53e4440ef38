//! Bitmaps of rows and stochastic rounding, on every path: round trips, bias, and the same bits.

mod common;

use common::Seeded;
use keyrange_kernels::random::{Seed, gaussian};
use keyrange_kernels::real::Real;
use keyrange_kernels::{isa, presence, quantise};

fn sparse_rows<T: Real>(random: &mut Seeded, rows: usize, width: usize, zero_of_ten: usize) -> Vec<T> {
    let row = |random: &mut Seeded| {
        let zero = random.below(10) < zero_of_ten;
        (0..width).map(|_| if zero { T::ZERO } else { T::from_f64(random.unit() + 0.5) }).collect::<Vec<T>>()
    };
    (0..rows).flat_map(|_| row(random)).collect()
}

fn presence_round_trip<T: Real>() {
    let mut random = Seeded(7);
    for rows in [0, 1, 63, 64, 65, 200, 1000] {
        for (width, zero_of_ten) in [(1, 9), (1, 0), (1, 10), (3, 5), (16, 9)] {
            let values: Vec<T> = sparse_rows(&mut random, rows, width, zero_of_ten);
            let expected: Vec<bool> =
                values.chunks(width).map(|row| row.iter().any(|&x| x != T::ZERO)).collect();
            for path in isa::available() {
                isa::with(path, || {
                    let mut bitmap = vec![0; presence::words(rows)];
                    presence::mark_nonzero(&values, width, &mut bitmap);
                    let bit = |row: usize| bitmap[row / 64] >> (row % 64) & 1 == 1;
                    assert_eq!((0..rows).map(bit).collect::<Vec<_>>(), expected, "{path}");
                    let present = presence::count(&bitmap);
                    let mut packed = vec![T::ZERO; present * width];
                    assert_eq!(presence::compact(&values, width, &bitmap, &mut packed), present);
                    let mut back = vec![T::ZERO; values.len()];
                    assert_eq!(presence::expand(&packed, width, &bitmap, &mut back), present);
                    assert_eq!(back, values, "{path}");
                });
            }
        }
    }
}

#[test]
fn rows_that_are_there_come_back_where_they_were() {
    presence_round_trip::<f32>();
    presence_round_trip::<f64>();
}

/// One quantiser: encodes with a seed, decodes, and tells the step at a value.
struct Quantiser<T> {
    name: String,
    round: Box<dyn Fn(&[T], u64) -> Vec<T>>,
    step: Box<dyn Fn(f64) -> f64>,
    low: f64,
    high: f64,
}

fn quantisers<T: Real>() -> Vec<Quantiser<T>> {
    let mut all = Vec::new();
    for bytes in 1..=3 {
        let (low, high) = (-3.0, 5.0);
        let step = (high - low) / f64::from(quantise::fixed_top(bytes));
        let round = move |x: &[T], seed| {
            let (mut codes, mut back) = (vec![0; bytes * x.len()], vec![T::ZERO; x.len()]);
            quantise::fixed_encode(x, bytes, low, step, Seed::new(seed), &mut codes);
            quantise::fixed_decode(&codes, bytes, low, step, &mut back);
            back
        };
        let name = format!("fixed:{bytes}");
        all.push(Quantiser { name, round: Box::new(round), step: Box::new(move |_| step), low, high });
    }
    type Encode<T> = fn(&[T], Seed, &mut [u8]);
    type Decode<T> = fn(&[u8], &mut [T]);
    let exponent = |x: f64| x.abs().log2().floor() as i32;
    let two_bytes: [(&str, Encode<T>, Decode<T>, Box<dyn Fn(f64) -> f64>); 3] = [
        ("q2.13", quantise::q2x13_encode, quantise::q2x13_decode, Box::new(|_| 1.0 / 8192.0)),
        (
            "f16",
            quantise::f16_encode,
            quantise::f16_decode,
            Box::new(move |x| 2f64.powi(exponent(x).max(-14) - 10)),
        ),
        ("bf16", quantise::bf16_encode, quantise::bf16_decode, Box::new(move |x| 2f64.powi(exponent(x) - 7))),
    ];
    for (name, encode, decode, step) in two_bytes {
        let round = move |x: &[T], seed| {
            let (mut codes, mut back) = (vec![0; 2 * x.len()], vec![T::ZERO; x.len()]);
            encode(x, Seed::new(seed), &mut codes);
            decode(&codes, &mut back);
            back
        };
        all.push(Quantiser { name: name.to_owned(), round: Box::new(round), step, low: -3.9, high: 3.9 });
    }
    all
}

/// Ten million draws of each quantiser: of one awkward value at a time, and of values all over.
fn bias<T: Real>() {
    for quantiser in quantisers::<T>() {
        let Quantiser { name, round, step, low, high } = &quantiser;
        for fraction in [0.1, 0.5, 0.9] {
            // A little above a value that every code holds exactly.
            let x = T::from_f64(if name.starts_with("fixed") { *low } else { 1.0 } + fraction * step(1.0));
            let (mut sum, draws) = (0.0, 2_500_000);
            for seed in 0..draws / 50_000 {
                let back = round(&vec![x; 50_000], seed as u64);
                sum += back.iter().map(|y| y.to_f64() - x.to_f64()).sum::<f64>();
            }
            let bias = sum / draws as f64 / step(x.to_f64());
            assert!(bias.abs() < 0.01, "{name} at {fraction}: bias {bias} of a step");
        }
        let (mut random, mut sum, draws) = (Seeded(3), 0.0, 2_500_000);
        for seed in 0..draws / 50_000 {
            let x: Vec<T> = (0..50_000).map(|_| T::from_f64(low + random.unit() * (high - low))).collect();
            for (x, y) in x.iter().zip(round(&x, seed as u64)) {
                let error = (y.to_f64() - x.to_f64()) / step(x.to_f64());
                assert!(error.abs() < 1.001, "{name}: {x:?} came back as {y:?}");
                sum += error;
            }
        }
        let bias = sum / draws as f64;
        assert!(bias.abs() < 0.01, "{name}: bias {bias} of a step");
    }
}

#[test]
fn a18_no_quantiser_has_a_bias_of_a_hundredth_of_its_step() {
    bias::<f32>();
}

#[test]
fn a18_nor_of_values_of_64_bits() {
    bias::<f64>();
}

#[test]
fn a18_every_path_gives_the_same_codes() {
    let mut random = Seeded(11);
    let values: Vec<f32> = random.numbers(3000);
    for quantiser in quantisers::<f32>() {
        let bits = |isa| {
            isa::with(isa, || (quantiser.round)(&values, 5)).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        let expected = bits(isa::Isa::Scalar);
        for path in isa::available() {
            assert!(bits(path) == expected, "{} on {path}", quantiser.name);
        }
    }
}

#[test]
fn a18_what_a_code_holds_comes_back_exactly_and_specials_stay_in_bounds() {
    let round = |encode: fn(&[f32], Seed, &mut [u8]), decode: fn(&[u8], &mut [f32]), x: &[f32]| {
        let (mut codes, mut back) = (vec![0; 2 * x.len()], vec![0f32; x.len()]);
        (0..50).for_each(|seed| {
            encode(x, Seed::new(seed), &mut codes);
            decode(&codes, &mut back);
        });
        back
    };
    let held = [0.0, -0.0, 1.0, -2.5, 2f32.powi(-24), 65504.0, f32::INFINITY, f32::NEG_INFINITY];
    assert_eq!(round(quantise::f16_encode, quantise::f16_decode, &held), held);
    assert!(round(quantise::f16_encode, quantise::f16_decode, &[-0.0])[0].is_sign_negative());
    assert_eq!(round(quantise::f16_encode, quantise::f16_decode, &[1e6, -f32::MAX]), [65504.0, -65504.0]);
    assert!(round(quantise::f16_encode, quantise::f16_decode, &[f32::NAN])[0].is_nan());
    let held = [0.0, 1.0, -2.5, 2f32.powi(-126), f32::INFINITY];
    assert_eq!(round(quantise::bf16_encode, quantise::bf16_decode, &held), held);
    assert!(round(quantise::bf16_encode, quantise::bf16_decode, &[f32::MAX])[0].is_finite());
    let held = [0.0, -4.0, 1.5, 4.0 - 1.0 / 8192.0];
    assert_eq!(round(quantise::q2x13_encode, quantise::q2x13_decode, &held), held);
    let clamped = round(quantise::q2x13_encode, quantise::q2x13_decode, &[9.0, -1e30, f32::NAN]);
    assert_eq!(clamped, [4.0 - 1.0 / 8192.0, -4.0, 0.0]);
    assert_eq!(quantise::finite_range(&[1.0f32, f32::NAN]), None);
    assert_eq!(quantise::finite_range(&[f32::INFINITY, 1.0]), None);
    assert_eq!(quantise::finite_range::<f64>(&[]), None);
    assert_eq!(quantise::finite_range(&[3.0f64, -1.0, 2.0]), Some((-1.0, 3.0)));
}

#[test]
fn gaussian_draws_have_the_moments_of_the_normal_distribution() {
    let mut draws = vec![0.0; 200_000];
    gaussian(Seed::new(1), &mut draws);
    let moment = |power: i32| draws.iter().map(|x| x.powi(power)).sum::<f64>() / draws.len() as f64;
    assert!(moment(1).abs() < 0.01 && (moment(2) - 1.0).abs() < 0.02 && (moment(4) - 3.0).abs() < 0.15);
}
