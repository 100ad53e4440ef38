//! The charts, on any canvas.

use plotters::chart::SeriesLabelPosition;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::reports::{Pass, Run};

/// Size of a chart in pixels.
const CHART: (u32, u32) = (640, 420);

const FONT: (&str, u32) = ("monospace", 16);

/// Colours that people with the common colour blindnesses can tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];

/// Objectives nearer to the optimum than this are drawn there: beyond it the reports' bound is rounding.
const EXCESS_LEAST: f64 = 1e-12;

type Drawn<DB> = Result<(), DrawingAreaErrorKind<<DB as DrawingBackend>::ErrorType>>;
type Area<DB> = DrawingArea<DB, Shift>;

/// One line of a chart.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// A group of two bars.
struct Pair {
    name: String,
    bars: [f64; 2],
}

enum Chart {
    /// Relative excess, on a logarithmic scale, over something.
    Excess {
        over: &'static str,
        lines: Vec<Line>,
    },
    Bars {
        caption: &'static str,
        names: [&'static str; 2],
        pairs: Vec<Pair>,
    },
    Idle {
        points: Vec<(f64, f64)>,
    },
}

/// The charts of some runs.
pub struct Charts(Vec<Chart>);

impl Charts {
    /// Those for which the runs have data.
    pub fn new(runs: Vec<Run>) -> Charts {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let lines = |x: &dyn Fn(&Pass) -> f64| {
            let line = |run: &Run| Line {
                name: run.name.clone(),
                points: run.excess(&runs).map(|(pass, excess)| (x(pass), excess.max(EXCESS_LEAST))).collect(),
            };
            runs.iter().map(line).collect()
        };
        let mut charts = vec![
            Chart::Excess { over: "seconds", lines: lines(&|pass| pass.seconds) },
            Chart::Excess {
                over: "MB moved",
                lines: lines(&|pass| mb(pass.bytes_pushed) + mb(pass.bytes_pulled)),
            },
        ];
        let by_run =
            |run: &Run| Pair { name: run.name.clone(), bars: [mb(run.bytes_pushed), mb(run.bytes_pulled)] };
        charts.push(Chart::Bars {
            caption: "MB by run",
            names: ["from workers", "from servers"],
            pairs: runs.iter().map(by_run).collect(),
        });
        let by_filter: Vec<Pair> = runs
            .iter()
            .flat_map(|run| run.filters.iter().map(move |filter| (run, filter)))
            .map(|(run, filter)| Pair {
                name: match runs.len() {
                    1 => format!("{} {} {}", filter.table, filter.direction, filter.name),
                    _ => format!("{}: {} {} {}", run.name, filter.table, filter.direction, filter.name),
                },
                bars: [mb(filter.bytes_in), mb(filter.bytes_out)],
            })
            .collect();
        if !by_filter.is_empty() {
            charts.push(Chart::Bars { caption: "MB by filter", names: ["in", "out"], pairs: by_filter });
        }
        let mut points: Vec<(f64, f64)> =
            runs.iter().map(|run| (run.delay as f64, run.idle_share * 100.0)).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        charts.push(Chart::Idle { points });
        Charts(charts)
    }

    fn grid(&self) -> (usize, usize) {
        (self.0.len().div_ceil(2), 2)
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (u32, u32) {
        let (rows, columns) = self.grid();
        (CHART.0 * columns as u32, CHART.1 * rows as u32)
    }

    /// Draws all of them.
    pub fn draw<DB: DrawingBackend>(&self, root: &Area<DB>) -> Drawn<DB> {
        root.fill(&WHITE)?;
        for (area, chart) in root.split_evenly(self.grid()).iter().zip(&self.0) {
            match chart {
                Chart::Excess { over, lines } => excess(area, over, lines)?,
                Chart::Bars { caption, names, pairs } => bars(area, caption, *names, pairs)?,
                Chart::Idle { points } => idle(area, points)?,
            }
        }
        root.present()
    }
}

fn colour(at: usize) -> RGBColor {
    COLOURS[at % COLOURS.len()]
}

/// The largest of some numbers that are not negative, and something above 0 if they all are 0.
fn most(values: impl Iterator<Item = f64>) -> f64 {
    let most = values.fold(0.0, f64::max);
    if most > 0.0 { most } else { 1.0 }
}

fn excess<DB: DrawingBackend>(area: &Area<DB>, over: &str, lines: &[Line]) -> Drawn<DB> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let right = most(points().map(|point| point.0));
    let (low, high) = points()
        .fold((1.0, EXCESS_LEAST), |(low, high): (f64, f64), point| (low.min(point.1), high.max(point.1)));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("relative excess of the objective over {over}"), FONT)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(0.0..right * 1.02, (low * 0.5..high * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .x_desc(over)
        .label_style(FONT)
        .y_label_formatter(&|y| format!("{y:.0e}"))
        .light_line_style(WHITE)
        .draw()?;
    for (at, line) in lines.iter().enumerate() {
        let style = colour(at).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style).point_size(3))?
            .label(line.name.clone())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.8))
        .label_font(FONT)
        .draw()
}

fn bars<DB: DrawingBackend>(area: &Area<DB>, caption: &str, names: [&str; 2], pairs: &[Pair]) -> Drawn<DB> {
    let top = most(pairs.iter().flat_map(|pair| pair.bars));
    let count = pairs.len() as f64;
    // Lying bars, so that long names have room beside them.
    let letters = pairs.iter().map(|pair| pair.name.chars().count()).max().unwrap_or(0) as u32;
    let mut chart = ChartBuilder::on(area)
        .caption(caption, FONT)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size((letters * 8 + 16).min(CHART.0 / 2))
        .build_cartesian_2d(0.0..top * 1.15, 0.0..count)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .y_labels(0)
        .x_desc("MB")
        .label_style(FONT)
        .light_line_style(WHITE)
        .draw()?;
    for (half, name) in names.into_iter().enumerate() {
        let style = colour(half).filled();
        let boxes = pairs.iter().enumerate().map(|(at, pair)| {
            let low = count - at as f64 - 0.5 - 0.35 * half as f64;
            Rectangle::new([(0.0, low), (pair.bars[half], low + 0.33)], style)
        });
        chart
            .draw_series(boxes)?
            .label(name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 14, y + 5)], style));
    }
    let style = FONT.into_text_style(area);
    for (at, pair) in pairs.iter().enumerate() {
        let (x, y) = chart.backend_coord(&(0.0, count - at as f64 - 0.5));
        let (left, upper) = area.get_base_pixel();
        let right = plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        );
        area.draw_text(&pair.name, &style.pos(right), (x - left - 6, y - upper))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .label_font(FONT)
        .draw()
}

fn idle<DB: DrawingBackend>(area: &Area<DB>, points: &[(f64, f64)]) -> Drawn<DB> {
    let right = most(points.iter().map(|point| point.0));
    let mut chart = ChartBuilder::on(area)
        .caption("idle share of the workers by delay", FONT)
        .margin(12)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(-0.05 * right..right * 1.05, 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("delay (blocks under way)")
        .label_style(FONT)
        .y_label_formatter(&|y| format!("{y} %"))
        .light_line_style(WHITE)
        .draw()?;
    let style = colour(0).stroke_width(2);
    chart.draw_series(LineSeries::new(points.iter().copied(), style).point_size(4))?;
    Ok(())
}
