//! `bench kernels`: every kernel on every instruction set, over sizes that live in different caches.
//!
//! Read `arrays` (aggregation and update rules on whole arrays) and `sparse` (slots, key lists, matrices): they make the
//! data and name the limit; `references` has the prototypes' figures; timing is here.

mod arrays;
mod references;
mod sparse;

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use keyrange_kernels::dense;
use keyrange_kernels::isa::{self, Isa};
use serde::Serialize;

use super::limits::{Array, Line64, add_to_random_lines, pin, read_all_numbers};
use super::options::{MeasureArgs, bytes, duration};
use super::report::{digits, median, median_ratio, rate, size, table, write_json};
use crate::failure::Failure;
use references::{Limits, Prototype};

/// Arguments of `bench kernels`.
#[derive(Args, Serialize)]
pub struct KernelsArgs {
    /// Only kernels whose name contains one of these words [default: all]
    #[arg(long, env = "KEYRANGE_BENCH_KERNELS", value_delimiter = ',', num_args = 1.., value_name = "WORD")]
    kernels: Vec<String>,

    /// Instruction sets: scalar, avx2, avx512 [default: all that this machine has]
    #[arg(long, env = "KEYRANGE_BENCH_ISAS", value_delimiter = ',', num_args = 1.., value_name = "ISA")]
    #[serde(skip)]
    isas: Vec<Isa>,

    /// Bytes of data a kernel works on: choose one size per cache of the machine
    #[arg(long, env = "KEYRANGE_BENCH_WORKING_SETS", value_delimiter = ',', num_args = 1.., default_value = "512K,12M,640M", value_parser = working_set, value_name = "BYTES")]
    working_sets: Vec<usize>,

    /// How long each kernel runs on each instruction set and size in one repetition
    #[arg(long, env = "KEYRANGE_BENCH_TURN", default_value = "10ms", value_parser = duration, value_name = "TIME")]
    turn: Duration,

    #[command(flatten)]
    #[serde(skip)]
    measure: MeasureArgs,
}

/// A size that gives every kernel something to do.
fn working_set(text: &str) -> Result<usize, String> {
    match bytes(text)? {
        bytes if (16 << 10..=16 << 30).contains(&bytes) => Ok(bytes),
        got => Err(format!("expected 16K to 16G, got {got}")),
    }
}

/// One kernel over data of one size.
#[derive(Serialize)]
struct Row {
    kernel: String,
    data: String,
    limit_items_per_second: f64,
    paths: Vec<Path>,
    prototype: Option<Prototype>,
}

/// The same on one instruction set.
#[derive(Serialize)]
struct Path {
    isa: String,
    items_per_second: f64,
    of_limit: f64,
}

/// What bounds a kernel from below: bytes in all, copied, only read, or read and written as `y += x` does; or lines at random
/// places of so much memory.
#[derive(Clone, Copy)]
enum Limit {
    Copy(usize),
    Read(usize),
    Update(usize),
    Lines { count: usize, of_bytes: usize },
}

/// Times kernels and keeps what it finds.
struct Bench<'a> {
    args: &'a KernelsArgs,
    isas: Vec<Isa>,
    /// Memory of the limits: grown once, used by all.
    memory: RefCell<Memory>,
    /// What the machine does with data of each working set.
    limits: Vec<Limits>,
    rows: Vec<Row>,
}

/// Two arrays to read, copy and add.
struct Memory([Array<f32>; 2]);

impl Default for Memory {
    fn default() -> Self {
        Memory([Array::new(0, 0.0), Array::new(0, 0.0)])
    }
}

/// Everything found, as it stands in the JSON file.
#[derive(Serialize)]
struct Figures<'a> {
    limits: &'a [Limits],
    kernels: &'a [Row],
}

/// Measures and prints.
pub fn run(args: &KernelsArgs) -> anyhow::Result<()> {
    args.measure.check_json()?;
    let isas = match args.isas.as_slice() {
        [] => isa::available().collect(),
        isas => isas.to_vec(),
    };
    if let Some(missing) = isas.iter().find(|&&isa| isa > isa::detected()) {
        let text = format!("--isas: this machine has no {missing}; its strongest is {}", isa::detected());
        return Err(Failure::input(text));
    }
    let core = args.measure.one_core()?;
    pin(core).with_context(|| format!("pinning to core {core}"))?;
    let mut bench = Bench { args, isas, memory: RefCell::default(), limits: Vec::new(), rows: Vec::new() };
    for &bytes in &args.working_sets {
        let limits = Limits::measured(&bench, bytes);
        bench.limits.push(limits);
        arrays::aggregation(&mut bench, bytes);
        arrays::elementwise(&mut bench, bytes);
        sparse::scattered(&mut bench, bytes);
        sparse::key_lists(&mut bench, bytes);
    }
    sparse::scattered_widely(&mut bench);
    sparse::products(&mut bench);
    if bench.rows.is_empty() {
        return Err(Failure::input(format!(
            "--kernels: no kernel's name contains {}",
            args.kernels.join(" or ")
        )));
    }
    for row in &mut bench.rows {
        row.prototype = references::prototype(&row.kernel, &row.data, &bench.limits);
    }
    print(&bench.rows, core);
    references::print(&bench.rows, &bench.limits);
    let figures = Figures { limits: &bench.limits, kernels: &bench.rows };
    write_json("keyrange bench kernels", &args.measure, args, &figures)
}

impl Bench<'_> {
    fn wants(&self, kernel: &str) -> bool {
        self.args.kernels.is_empty() || self.args.kernels.iter().any(|word| kernel.contains(word.as_str()))
    }

    /// Times `work`, which handles `items` per call, on every path beside `limit` for one call's bytes.
    fn row(&mut self, kernel: &str, data: String, items: usize, limit: Limit, mut work: impl FnMut()) {
        if !self.wants(kernel) {
            return;
        }
        let mut limits = Vec::new();
        let mut rates = vec![Vec::new(); self.isas.len()];
        for _ in 0..self.args.measure.rounds {
            limits.push(items as f64 / self.limit_seconds(limit));
            for (&isa, rates) in self.isas.iter().zip(&mut rates) {
                rates.push(items as f64 / isa::with(isa, || self.best_seconds(&mut work)));
            }
        }
        let path = |(isa, rates): (&Isa, &Vec<f64>)| Path {
            isa: isa.to_string(),
            items_per_second: median(rates),
            of_limit: median_ratio(rates, &limits),
        };
        let paths = self.isas.iter().zip(&rates).map(path).collect();
        let limit_items_per_second = median(&limits);
        let kernel = kernel.to_owned();
        self.rows.push(Row { kernel, data, limit_items_per_second, paths, prototype: None });
    }

    /// The best time of one call within a turn.
    fn best_seconds(&self, work: &mut impl FnMut()) -> f64 {
        work();
        let (began, mut best) = (Instant::now(), f64::MAX);
        loop {
            let call = Instant::now();
            work();
            best = best.min(call.elapsed().as_secs_f64());
            if began.elapsed() > self.args.turn {
                return best;
            }
        }
    }

    fn limit_seconds(&self, limit: Limit) -> f64 {
        let Memory([from, to]) = &mut *self.memory.borrow_mut();
        let grow = |memory: &mut Array<f32>, numbers: usize| {
            if memory.len() < numbers {
                *memory = Array::new(numbers, 1.0);
            }
        };
        match limit {
            Limit::Copy(bytes) => {
                let half = bytes / 8;
                grow(from, half);
                grow(to, half);
                self.best_seconds(&mut || {
                    black_box(&mut to[..half]).copy_from_slice(black_box(&from[..half]))
                })
            }
            Limit::Read(bytes) => {
                let whole = bytes / 4;
                grow(from, whole);
                self.best_seconds(&mut || _ = black_box(read_all_numbers(black_box(&from[..whole]))))
            }
            Limit::Update(bytes) => {
                let third = bytes / 12;
                grow(from, third);
                grow(to, third);
                self.best_seconds(&mut || dense::add(black_box(&mut to[..third]), black_box(&from[..third])))
            }
            Limit::Lines { count, of_bytes } => {
                let mut lines = Array::new(of_bytes / 64, Line64::default());
                let seconds = self.best_seconds(&mut || add_to_random_lines(&mut lines));
                seconds * count as f64 / lines.len() as f64
            }
        }
    }
}

/// A seeded sequence of numbers from -0.5 to 0.5.
fn numbers(count: usize, seed: u32) -> Array<f32> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    Array::of((0..count).map(|_| next()), 0.0)
}

/// Like [`numbers`], all above 0.
fn positive_numbers(count: usize, seed: u32) -> Array<f32> {
    let mut numbers = numbers(count, seed);
    numbers.iter_mut().for_each(|x| *x = x.abs() + 0.1);
    numbers
}

fn set_name(bytes: usize) -> String {
    format!("{}B", size(bytes))
}

fn print(rows: &[Row], core: usize) {
    println!(
        "kernels on core {core}, f32; items (keys, numbers, nonzeros) per second, medians of the best calls;"
    );
    println!(
        "beside each its part of the limit: reading, or adding to, the bytes it must move; or so many lines at random\n"
    );
    let isas = rows.first().map_or(&[][..], |row| &row.paths[..]);
    let headings: Vec<&str> = ["kernel", "data"]
        .into_iter()
        .chain(isas.iter().flat_map(|path| [path.isa.as_str(), "of limit"]))
        .chain(["limit"])
        .collect();
    let mut printed = table(&headings);
    for row in rows {
        let mut cells = vec![row.kernel.clone(), row.data.clone()];
        for path in &row.paths {
            cells.extend([rate(path.items_per_second), digits(path.of_limit)]);
        }
        cells.push(rate(row.limit_items_per_second));
        printed.add_row(cells);
    }
    println!("{printed}");
}
