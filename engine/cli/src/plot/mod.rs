//! `keyrange plot`: reports of `keyrange train sparse-lr` as pictures.
//!
//! Here live the reading of reports, the charts, and a canvas for PNG. Nothing is computed from data: what is drawn stands in
//! the reports. Read [`run`], `reports` (what is taken from a report), `charts` (what becomes of it), `canvas` (PNG).

mod canvas;
mod charts;
mod reports;

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use plotters::prelude::*;

use self::canvas::Canvas;
use self::charts::Charts;
use crate::failure::Failure;

/// Arguments of `keyrange plot`.
#[derive(Args)]
pub struct PlotArgs {
    /// Reports of `keyrange train sparse-lr --report FILE`, a line each
    #[arg(required = true, num_args = 1.., value_name = "REPORT.json")]
    reports: Vec<PathBuf>,

    /// Pictures to write, .svg or .png, several with commas between them
    #[arg(
        long,
        short,
        env = "KEYRANGE_PLOT_OUT",
        value_delimiter = ',',
        default_value = "plot.svg,plot.png",
        value_name = "FILE"
    )]
    out: Vec<PathBuf>,
}

#[derive(Clone, Copy)]
enum Format {
    Svg,
    Png,
}

impl Format {
    fn of(path: &Path) -> anyhow::Result<Format> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("svg") => Ok(Format::Svg),
            Some("png") => Ok(Format::Png),
            _ => Err(Failure::input(format!(
                "--out: expected a name that ends in .svg or .png, got {}",
                path.display()
            ))),
        }
    }
}

/// Reads the reports and draws them into every file.
pub fn run(args: &PlotArgs) -> anyhow::Result<()> {
    let formats = args.out.iter().map(|path| Format::of(path)).collect::<anyhow::Result<Vec<_>>>()?;
    let charts = Charts::new(reports::read_all(&args.reports)?);
    for (path, format) in args.out.iter().zip(formats) {
        let picture = match format {
            Format::Svg => svg(&charts)?.into_bytes(),
            Format::Png => png(&charts)?,
        };
        std::fs::write(path, picture).with_context(|| format!("writing {}", path.display()))?;
        println!("{}", path.display());
    }
    Ok(())
}

fn svg(charts: &Charts) -> anyhow::Result<String> {
    let mut text = String::new();
    let root = SVGBackend::with_string(&mut text, charts.size()).into_drawing_area();
    charts.draw(&root).map_err(|error| anyhow!("drawing: {error}"))?;
    drop(root);
    Ok(text)
}

fn png(charts: &Charts) -> anyhow::Result<Vec<u8>> {
    let (width, height) = charts.size();
    let mut pixels = vec![0; width as usize * height as usize * canvas::PIXEL_BYTES];
    let root = Canvas::new(&mut pixels, (width, height)).into_drawing_area();
    charts.draw(&root).map_err(|error| anyhow!("drawing: {error}"))?;
    drop(root);
    canvas::encode(&pixels, (width, height)).context("encoding PNG")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::reports::tests::run_with_delay;

    #[test]
    fn both_formats_hold_every_chart_that_has_data() {
        let charts = Charts::new(vec![run_with_delay("one", 0), run_with_delay("two", 4)]);
        let text = svg(&charts).unwrap();
        for caption in ["seconds", "MB moved", "MB by run", "MB by filter", "idle share"] {
            assert!(text.contains(caption), "{caption}");
        }
        let picture = png(&charts).unwrap();
        let reader = png::Decoder::new(std::io::Cursor::new(&picture)).read_info().unwrap();
        assert_eq!(reader.info().size(), charts.size());
    }

    #[test]
    fn a_run_without_filters_has_no_chart_of_them() {
        let mut run = run_with_delay("one", 0);
        run.filters.clear();
        assert!(!svg(&Charts::new(vec![run])).unwrap().contains("MB by filter"));
    }

    #[test]
    fn a_picture_of_unknown_format_is_refused() {
        assert!(Format::of(Path::new("plot.pdf")).is_err());
    }
}
