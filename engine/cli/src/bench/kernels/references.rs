//! What a prototype of each kernel reached on another machine, and what that would be on this one.
//!
//! The prototypes ran on one core of a Zen 5 with AVX-512. A figure is scaled by the ratio of this machine's limit, measured in
//! the same run, to that machine's limit of the same kind. Kernels must reach 0.9 of it with AVX-512, and with AVX2 not be more
//! than 1.6 times slower than that.

use std::hint::black_box;

use keyrange_kernels::dense;
use serde::Serialize;

use super::super::limits::{Array, Line64, add_to_random_lines, read_all_numbers};
use super::super::report::{digits, rate, size, table};
use super::{Bench, Row, set_name};

/// What limits a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Reading at the level of the data.
    Read,
    /// Reading and writing there, as `y += x` does.
    Update,
    /// Random cache lines of 640 MB.
    Lines,
    /// The core: its clock and the width of its vectors, as reading from L1 shows them.
    Core,
}

/// The limits of one machine for one working set; bytes, or lines, per second.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Limits {
    pub working_set_bytes: usize,
    read: f64,
    update: f64,
    lines: f64,
    core: f64,
}

/// A figure of a prototype, and carried over to this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Prototype {
    items_per_second: f64,
    limited_by: Scale,
    here_items_per_second: f64,
}

/// Where so many bytes are, on the prototypes' machine and here: 0 for L2, 1 for L3, 2 for DRAM.
fn level(bytes: usize) -> usize {
    [1 << 20, 32 << 20].iter().filter(|&&bytes_max| bytes > bytes_max).count()
}

impl Limits {
    /// Those of the prototypes' machine.
    fn there(bytes: usize) -> Limits {
        let (read, update) = [(218e9, 260e9), (93e9, 154e9), (37e9, 57e9)][level(bytes)];
        Limits { working_set_bytes: bytes, read, update, lines: 205e6, core: 454e9 }
    }

    /// Those of this machine, now.
    pub fn measured(bench: &Bench<'_>, bytes: usize) -> Limits {
        let (small, whole) = (Array::new(8 << 10, 1.0f32), Array::new(bytes / 4, 1.0f32));
        let [mut y, x] = [0, 1].map(|_| Array::new(bytes / 8, 1.0f32));
        let mut lines = Array::new(bytes / 64, Line64::default());
        let of_l1 = 64;
        let per_second =
            |items: usize, work: &mut dyn FnMut()| items as f64 / bench.best_seconds(&mut || work());
        Limits {
            working_set_bytes: bytes,
            read: per_second(bytes, &mut || _ = black_box(read_all_numbers(black_box(&whole)))),
            update: per_second(bytes / 2 * 3, &mut || dense::add(black_box(&mut y), black_box(&x))),
            lines: per_second(bytes / 64, &mut || add_to_random_lines(&mut lines)),
            core: per_second(of_l1 * small.len() * 4, &mut || {
                (0..of_l1).for_each(|_| _ = black_box(read_all_numbers(black_box(&small))));
            }),
        }
    }

    fn of(&self, scale: Scale) -> f64 {
        match scale {
            Scale::Read => self.read,
            Scale::Update => self.update,
            Scale::Lines => self.lines,
            Scale::Core => self.core,
        }
    }
}

/// What the prototypes reached with data in L2, L3 and DRAM, items per second, and what limits each; 0: not measured.
const PROTOTYPES: &[(&str, [(f64, Scale); 3])] = {
    use Scale::{Core, Lines, Read, Update};
    const NONE: (f64, Scale) = (0.0, Core);
    &[
        ("fused sum 4+4 and prox L1", [(3.3e9, Read), (2.7e9, Read), (0.91e9, Read)]),
        ("the same unfused", [(1.8e9, Read), (1.2e9, Read), (0.49e9, Read)]),
        ("prox L1 diagonal", [(17.7e9, Update), (8.6e9, Update), (2.7e9, Update)]),
        ("ftrl proximal", [(4.7e9, Core), (4.3e9, Core), (2.0e9, Update)]),
        ("exp", [(4.3e9, Core), NONE, NONE]),
        ("logistic loss", [(2.0e9, Core), NONE, NONE]),
        ("key list signature", [(47e9 / 8.0, Core), NONE, (29e9 / 8.0, Read)]),
        ("intersect equal", [(2.3e9, Core), NONE, NONE]),
        ("intersect half", [(1.4e9, Core), NONE, NONE]),
        ("intersect 1:16", [(87e6, Core), NONE, (57e6, Read)]),
        ("scatter add 1:16", [NONE, NONE, (0.5e9, Update)]),
        ("scatter add 1:64", [NONE, NONE, (0.28e9, Update)]),
        ("matrix CSC dot", [(1.1e9, Core), NONE, (0.1e9, Lines)]),
        ("matrix CSR dot", [NONE, NONE, (0.18e9, Lines)]),
    ]
};

/// The prototype of a row, if there was one. Matrices count as L2 if documents fit there, as DRAM with 16 million features.
pub fn prototype(kernel: &str, data: &str, measured: &[Limits]) -> Option<Prototype> {
    let (_, levels) = PROTOTYPES.iter().find(|(name, _)| *name == kernel)?;
    let here = match data {
        "47 k x 20 k" => measured.first()?,
        "100 k x 16 M" | "256MB" => measured.last()?,
        _ => measured.iter().find(|limits| set_name(limits.working_set_bytes) == data)?,
    };
    let (items_per_second, limited_by) = levels[level(here.working_set_bytes)];
    if items_per_second == 0.0 || data == "100 k x 250 k" {
        return None;
    }
    let ratio = here.of(limited_by) / Limits::there(here.working_set_bytes).of(limited_by);
    Some(Prototype { items_per_second, limited_by, here_items_per_second: items_per_second * ratio })
}

/// The limits measured, and every kernel that had a prototype beside it.
pub fn print(rows: &[Row], measured: &[Limits]) {
    println!("\nLimits of this core, and of the prototypes' (Zen 5) in parentheses, in GB/s");
    let mut printed = table(&["working set", "read", "y += x", "random lines, M/s", "L1 (core)"]);
    for here in measured {
        let there = Limits::there(here.working_set_bytes);
        let cell = |scale: Scale, unit: f64| {
            format!("{} ({})", digits(here.of(scale) / unit), digits(there.of(scale) / unit))
        };
        printed.add_row([
            format!("{}B", size(here.working_set_bytes)),
            cell(Scale::Read, 1e9),
            cell(Scale::Update, 1e9),
            cell(Scale::Lines, 1e6),
            cell(Scale::Core, 1e9),
        ]);
    }
    println!("{printed}");
    println!("\nBeside the prototypes: AVX-512 should reach 0.90 of their figure carried over, AVX2 0.56");
    let mut printed =
        table(&["kernel", "data", "prototype", "scaled by", "here", "avx2 of it", "avx512 of it"]);
    for (row, prototype) in rows.iter().filter_map(|row| Some((row, row.prototype?))) {
        let part = |isa: &str| {
            let path = row.paths.iter().find(|path| path.isa == isa);
            path.map_or("-".to_owned(), |path| {
                digits(path.items_per_second / prototype.here_items_per_second)
            })
        };
        printed.add_row([
            row.kernel.clone(),
            row.data.clone(),
            rate(prototype.items_per_second),
            format!("{:?}", prototype.limited_by).to_lowercase(),
            rate(prototype.here_items_per_second),
            part("avx2"),
            part("avx512"),
        ]);
    }
    println!("{printed}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_of_half_the_limit_is_expected_to_do_half() {
        let half = |bytes| {
            let there = Limits::there(bytes);
            Limits { read: there.read / 2.0, update: there.update / 4.0, ..there }
        };
        let measured = [half(512 << 10), half(12 << 20)];
        let fused = prototype("fused sum 4+4 and prox L1", "512KB", &measured).unwrap();
        assert_eq!(fused.here_items_per_second, 1.65e9);
        let prox = prototype("prox L1 diagonal", "12MB", &measured).unwrap();
        assert_eq!(prox.here_items_per_second, 8.6e9 / 4.0);
        assert!(
            prototype("exp", "12MB", &measured).is_none()
                && prototype("sum of 4", "12MB", &measured).is_none()
        );
    }
}
