//! `bench growth`: reports of `bench push-pull --cases growth` side by side, as a table and as a plot.
//!
//! Each report is one run with its own table, servers and workers; what grows is read from the reports. Cost is time per key:
//! of the wall, and of all threads' CPUs together, which is what must stay flat where threads outnumber cores.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use plotters::prelude::*;
use serde_json::Value;

use super::report::{digits, rate, table};
use crate::failure::Failure;

/// Arguments of `bench growth`.
#[derive(Args)]
pub struct GrowthArgs {
    /// JSON reports of `keyrange bench push-pull --cases growth --json FILE`
    #[arg(required = true, num_args = 1.., value_name = "FILE")]
    reports: Vec<PathBuf>,

    /// Also draw the figures to this file
    #[arg(long, env = "KEYRANGE_BENCH_SVG", value_name = "FILE.svg")]
    svg: Option<PathBuf>,
}

/// What grows from run to run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Axis {
    Keys,
    Servers,
    Workers,
}

impl Axis {
    const ALL: [Axis; 3] = [Axis::Keys, Axis::Servers, Axis::Workers];

    fn name(self) -> &'static str {
        match self {
            Axis::Keys => "keys in the table",
            Axis::Servers => "server threads",
            Axis::Workers => "worker processes",
        }
    }

    fn of(self, run: &Run) -> u64 {
        match self {
            Axis::Keys => run.keys,
            Axis::Servers => run.servers,
            Axis::Workers => run.workers,
        }
    }
}

/// Cost of one kind of request, in nanoseconds per key.
#[derive(Clone, Copy)]
struct Cost {
    wall_ns: f64,
    worker_ns: f64,
    server_ns: f64,
    limit_ns: f64,
}

impl Cost {
    fn cpu_ns(&self) -> f64 {
        self.worker_ns + self.server_ns
    }
}

/// One report.
struct Run {
    keys: u64,
    servers: u64,
    workers: u64,
    push: Cost,
    pull: Cost,
    new_lists: Cost,
    fill: Cost,
}

impl Run {
    fn from_report(report: &Value) -> Option<Run> {
        let figures = &report["figures"];
        let rates = figures["rates"].as_array()?;
        let cost = |request: &str| {
            let starts =
                |rate: &&Value| rate["request"].as_str().is_some_and(|name| name.starts_with(request));
            let rate = rates.iter().find(starts)?;
            let number = |field: &str| rate[field].as_f64();
            Some(Cost {
                wall_ns: number("wall_ns")?,
                worker_ns: number("cpu_ns")?,
                server_ns: number("server_cpu_ns")?,
                limit_ns: 1e9 / number("limit_per_second")?,
            })
        };
        Some(Run {
            keys: report["arguments"]["table_keys"].as_u64()?,
            servers: figures["servers"].as_u64()?,
            workers: figures["workers"].as_u64()?,
            push: cost("push known lists")?,
            pull: cost("pull known lists")?,
            new_lists: cost("push new lists")?,
            fill: cost("fill a table")?,
        })
    }
}

/// Prints the table and draws the plot.
pub fn run(args: &GrowthArgs) -> anyhow::Result<()> {
    let runs = args.reports.iter().map(read).collect::<anyhow::Result<Vec<Run>>>()?;
    let series: Vec<(Axis, Vec<&Run>)> =
        Axis::ALL.into_iter().map(|axis| (axis, along(axis, &runs))).collect();
    for (axis, runs) in series.iter().filter(|(_, runs)| !runs.is_empty()) {
        print(*axis, runs);
    }
    let Some(path) = &args.svg else { return Ok(()) };
    let mut svg = String::new();
    draw(&series, &mut svg).map_err(|error| anyhow!("drawing: {error}"))?;
    std::fs::write(path, svg).with_context(|| format!("writing {}", path.display()))
}

fn read(path: &PathBuf) -> anyhow::Result<Run> {
    let name = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| Failure::input(format!("{name}: {error}")))?;
    let report: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::input(format!("{name}: expected JSON: {error}")))?;
    Run::from_report(&report).ok_or_else(|| {
        Failure::input(format!(
            "{name}: expected a report of `keyrange bench push-pull --cases growth --json FILE`, got something else"
        ))
    })
}

/// The runs in which `axis` grows while the rest is the most common: of those with one server and one worker for the table,
/// of those with the most common table for the others.
fn along(axis: Axis, runs: &[Run]) -> Vec<&Run> {
    let others = |run: &Run| Axis::ALL.map(|other| if other == axis { 0 } else { other.of(run) });
    let like = |run: &Run| runs.iter().filter(|other| others(other) == others(run)).collect::<Vec<_>>();
    let mut longest = runs.iter().map(like).max_by_key(Vec::len).unwrap_or_default();
    longest.sort_by_key(|run| axis.of(run));
    longest.dedup_by_key(|run| axis.of(run));
    if longest.len() < 2 { Vec::new() } else { longest }
}

fn print(axis: Axis, runs: &[&Run]) {
    let rest: Vec<String> = Axis::ALL
        .into_iter()
        .filter(|&other| other != axis)
        .map(|other| format!("{} {}", other.of(runs[0]), other.name()))
        .collect();
    println!("Cost per key in ns as {} grow; {}", axis.name(), rest.join(", "));
    let mut rows = table(&[
        axis.name(),
        "push wall",
        "CPU",
        "worker",
        "server",
        "limit",
        "pull wall",
        "CPU",
        "limit",
        "new list wall",
        "CPU",
        "fill wall",
        "pushed",
    ]);
    for run in runs {
        let (push, pull, new) = (run.push, run.pull, run.new_lists);
        let costs = [
            push.wall_ns,
            push.cpu_ns(),
            push.worker_ns,
            push.server_ns,
            push.limit_ns,
            pull.wall_ns,
            pull.cpu_ns(),
            pull.limit_ns,
            new.wall_ns,
            new.cpu_ns(),
            run.fill.wall_ns,
        ];
        let mut cells = vec![axis.of(run).to_string()];
        cells.extend(costs.map(digits));
        cells.push(rate(1e9 / push.wall_ns));
        rows.add_row(cells);
    }
    println!("{rows}\n");
}

/// A line of the plot: its name, its colour, whether it is thick, and the cost it shows.
type Line = (&'static str, RGBColor, u32, fn(&Run) -> f64);

const LINES: [Line; 6] = [
    ("push, wall", RGBColor(31, 119, 180), 3, |run| run.push.wall_ns),
    ("push, CPU of all threads", RGBColor(31, 119, 180), 1, |run| run.push.cpu_ns()),
    ("pull, wall", RGBColor(44, 160, 44), 3, |run| run.pull.wall_ns),
    ("pull, CPU of all threads", RGBColor(44, 160, 44), 1, |run| run.pull.cpu_ns()),
    ("adding in plain memory, one core", RGBColor(127, 127, 127), 1, |run| run.push.limit_ns),
    ("push of lists never sent before, wall", RGBColor(214, 39, 40), 1, |run| run.new_lists.wall_ns),
];

fn draw<'a>(
    series: &[(Axis, Vec<&Run>)],
    svg: &'a mut String,
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let drawn: Vec<_> = series.iter().filter(|(_, runs)| !runs.is_empty()).collect();
    let root = SVGBackend::with_string(svg, (440 * drawn.len().max(1) as u32, 460)).into_drawing_area();
    root.fill(&WHITE)?;
    for (place, (axis, runs)) in root.split_evenly((1, drawn.len().max(1))).iter().zip(drawn) {
        // New lists cost index probes, ten times the rest: they would flatten the other lines of their panel.
        let lines = if *axis == Axis::Keys { &LINES[..] } else { &LINES[..5] };
        panel(place, *axis, runs, lines)?;
    }
    root.present()?;
    Ok(())
}

fn panel<'a>(
    place: &DrawingArea<SVGBackend<'a>, plotters::coord::Shift>,
    axis: Axis,
    runs: &[&Run],
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error + 'a>> {
    let (first, last) = (axis.of(runs[0]) as f64, axis.of(runs[runs.len() - 1]) as f64);
    let costs = || runs.iter().flat_map(|run| lines.iter().map(|(.., cost)| cost(run)));
    let (least, most) =
        costs().fold((f64::MAX, 0.0f64), |(least, most), cost| (least.min(cost), most.max(cost)));
    let mut chart = ChartBuilder::on(place)
        .caption(format!("ns per key, {}", axis.name()), ("sans-serif", 16))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d((first..last).log_scale(), (least * 0.7..most * 4.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(axis.name())
        .x_label_formatter(&|x| {
            if *x < 1e4 { x.to_string() } else { format!("1e{:.1}", x.log10()).replace(".0", "") }
        })
        .y_label_formatter(&|y| digits(*y))
        .light_line_style(WHITE.mix(0.0))
        .draw()?;
    for &(name, colour, width, cost) in lines {
        let points: Vec<(f64, f64)> = runs.iter().map(|run| (axis.of(run) as f64, cost(run))).collect();
        let style = colour.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points, style).point_size(width + 1))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .label_font(("sans-serif", 11))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(keys: u64, servers: u64, workers: u64) -> Run {
        let cost = Cost { wall_ns: 1.0, worker_ns: 1.0, server_ns: 1.0, limit_ns: 0.5 };
        Run { keys, servers, workers, push: cost, pull: cost, new_lists: cost, fill: cost }
    }

    #[test]
    fn an_axis_holds_the_runs_that_differ_in_nothing_else() {
        let runs =
            [run(10, 1, 1), run(100, 1, 1), run(100, 2, 1), run(100, 4, 1), run(100, 1, 8), run(1000, 1, 1)];
        let of = |axis: Axis| along(axis, &runs).iter().map(|run| axis.of(run)).collect::<Vec<_>>();
        assert_eq!(of(Axis::Keys), [10, 100, 1000]);
        assert_eq!(of(Axis::Servers), [1, 2, 4]);
        assert_eq!(of(Axis::Workers), [1, 8]);
        assert!(along(Axis::Workers, &runs[..2]).is_empty());
    }

    #[test]
    fn a_plot_has_a_panel_for_each_axis_that_grows() {
        let runs = [run(10, 1, 1), run(100, 1, 1), run(100, 2, 1)];
        let series = Axis::ALL.map(|axis| (axis, along(axis, &runs)));
        let mut svg = String::new();
        draw(&series, &mut svg).unwrap();
        assert!(svg.contains("keys in the table") && svg.contains("server threads"));
        assert!(!svg.contains("worker processes"));
    }

    #[test]
    fn a_report_of_something_else_is_refused() {
        assert!(Run::from_report(&serde_json::json!({"figures": {"rates": []}})).is_none());
    }
}
