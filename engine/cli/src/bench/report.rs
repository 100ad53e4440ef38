//! How figures are printed: a table for people, JSON for programs.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use anyhow::Context;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, ContentArrangement, Table};
use serde::Serialize;

use super::options::MeasureArgs;

/// Everything a JSON file holds. Durations are in nanoseconds, rates per second, sizes in bytes, as the names say.
#[derive(Serialize)]
struct Report<'a, A, F> {
    program: &'static str,
    version: &'static str,
    date: String,
    machine: Machine,
    measure: &'a MeasureArgs,
    arguments: &'a A,
    figures: &'a F,
}

/// What was measured on.
#[derive(Serialize)]
struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    isa: String,
}

impl Machine {
    fn this() -> Machine {
        let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
        Machine {
            cpu: named.map_or(std::env::consts::ARCH, |(_, name)| name).to_owned(),
            // Not what this thread may use: it is pinned by now.
            cores: cpus.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            isa: keyrange_kernels::isa::current().to_string(),
        }
    }
}

/// Writes the JSON file if one is wanted: whole, or not at all.
pub fn write_json<A: Serialize, F: Serialize>(
    what: &'static str,
    measure: &MeasureArgs,
    arguments: &A,
    figures: &F,
) -> anyhow::Result<()> {
    let Some(path) = &measure.json else { return Ok(()) };
    let report = Report {
        program: what,
        version: env!("CARGO_PKG_VERSION"),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        machine: Machine::this(),
        measure,
        arguments,
        figures,
    };
    let write = || -> anyhow::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(folder.unwrap_or(".".as_ref()))?;
        serde_json::to_writer_pretty(&mut file, &report)?;
        file.write_all(b"\n")?;
        file.persist(path)?;
        Ok(())
    };
    write().with_context(|| format!("writing {}", path.display()))
}

/// A table with these headings; all columns but the first are aligned to the right.
pub fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// The middle of the values; not a number if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median of `over / under`, pair by pair.
pub fn median_ratio(over: &[f64], under: &[f64]) -> f64 {
    median(&over.iter().zip(under).map(|(over, under)| over / under).collect::<Vec<_>>())
}

/// Three digits and a unit, for nanoseconds.
pub fn time(ns: f64) -> String {
    match ns {
        ns if ns < 1e3 => format!("{} ns", digits(ns)),
        ns if ns < 1e6 => format!("{} us", digits(ns / 1e3)),
        ns => format!("{} ms", digits(ns / 1e6)),
    }
}

/// Three digits and a unit, for things per second.
pub fn rate(per_second: f64) -> String {
    match per_second {
        rate if rate < 1e3 => format!("{}/s", digits(rate)),
        rate if rate < 1e6 => format!("{} k/s", digits(rate / 1e3)),
        rate if rate < 1e9 => format!("{} M/s", digits(rate / 1e6)),
        rate => format!("{} G/s", digits(rate / 1e9)),
    }
}

/// Three digits, for bytes per second.
pub fn gigabytes(bytes_per_second: f64) -> String {
    format!("{} GB/s", digits(bytes_per_second / 1e9))
}

/// Bytes as they are asked for.
pub fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}M", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{}K", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// About three significant digits.
pub fn digits(value: f64) -> String {
    match value.abs() {
        small if small < 0.01 => format!("{value:.4}"),
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_keep_about_three_digits() {
        assert_eq!([time(134.4), time(1_204.0), time(2.5e6)], ["134 ns", "1.20 us", "2.50 ms"]);
        assert_eq!([rate(12.0), rate(3.3e5), rate(1.2e8)], ["12.0/s", "330 k/s", "120 M/s"]);
        assert_eq!([size(48), size(1024), size(3 << 20)], ["48", "1K", "3M"]);
    }

    #[test]
    fn a_median_ratio_pairs_what_was_measured_together() {
        assert_eq!(median_ratio(&[1.0, 20.0, 3.0], &[1.0, 10.0, 1.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
