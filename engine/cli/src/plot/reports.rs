//! What is taken from a report.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::failure::Failure;

/// One run.
#[derive(Clone, Deserialize)]
pub struct Run {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    objective: f64,
    duality_gap: f64,
    l1: f64,
    l2: f64,
    examples: u64,
    features: u64,
    data_nonzeros: u64,
    /// Blocks under way besides the one being computed.
    pub delay: u64,
    /// Mean of the workers' idle shares.
    pub idle_share: f64,
    pub bytes_pushed: u64,
    pub bytes_pulled: u64,
    pub history: Vec<Pass>,
    /// Empty when nothing was filtered.
    #[serde(default)]
    pub filters: Vec<Filter>,
}

/// The end of a pass.
#[derive(Clone, Deserialize)]
pub struct Pass {
    pub objective: f64,
    pub seconds: f64,
    pub bytes_pushed: u64,
    pub bytes_pulled: u64,
}

/// What a filter of one direction took in and let out.
#[derive(Clone, Deserialize)]
pub struct Filter {
    pub direction: String,
    pub table: String,
    pub name: String,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Run {
    /// What the optimum is at least, as far as this run could prove it.
    fn bound(&self) -> f64 {
        self.objective - self.duality_gap
    }

    fn same_problem(&self, other: &Run) -> bool {
        let of =
            |run: &Run| (run.examples, run.features, run.data_nonzeros, run.l1.to_bits(), run.l2.to_bits());
        of(self) == of(other)
    }

    /// How far each pass ended above the optimum, relatively, by the best bound that a run on the same problem proved.
    pub fn excess<'a>(&'a self, all: &[Run]) -> impl Iterator<Item = (&'a Pass, f64)> {
        let same = all.iter().filter(|other| self.same_problem(other));
        let bound = same.map(Run::bound).fold(self.bound(), f64::max);
        self.history.iter().map(move |pass| (pass, pass.objective / bound - 1.0))
    }
}

/// All of the reports, or what is wrong with the first that is none.
pub fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Run>> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> anyhow::Result<Run> {
    let file = path.display();
    let text =
        std::fs::read(path).map_err(|error| Failure::input(format!("{file}: cannot read: {error}")))?;
    let run: Run = serde_json::from_slice(&text).map_err(|error| {
        Failure::input(format!(
            "{file}: expected a report of `keyrange train sparse-lr --report FILE` of this version, got something else: {error}"
        ))
    })?;
    if run.history.is_empty() || !(run.bound() > 0.0 && run.bound().is_finite()) {
        return Err(Failure::input(format!(
            "{file}: expected passes and an objective above 0, got {} passes and {}",
            run.history.len(),
            run.objective
        )));
    }
    let name = path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Run { name, ..run })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use serde_json::json;

    /// A small report.
    pub fn run_with_delay(name: &str, delay: u64) -> Run {
        let pass = |at: u64| json!({"objective": 10.0 + 1.0 / (at + 1) as f64, "seconds": at as f64 * 0.5, "bytes_pushed": at * 1000, "bytes_pulled": at * 500});
        let report = json!({
            "objective": 10.0, "duality_gap": 1e-6, "l1": 1.0, "l2": 0.0, "examples": 5, "features": 3, "data_nonzeros": 9,
            "delay": delay, "idle_share": 0.4 / (1 + delay) as f64, "bytes_pushed": 4000, "bytes_pulled": 2000,
            "history": [pass(1), pass(2), pass(4)],
            "filters": [{"direction": "push", "table": "weights", "name": "lz4", "bytes_in": 4000, "bytes_out": 900}],
        });
        Run { name: name.to_owned(), ..serde_json::from_value(report).unwrap() }
    }

    #[test]
    fn runs_on_one_problem_are_measured_against_the_best_bound() {
        let (mut loose, tight) = (run_with_delay("loose", 0), run_with_delay("tight", 0));
        loose.duality_gap = 1.0;
        let runs = [loose, tight];
        let last = |run: &Run| run.excess(&runs).last().unwrap().1;
        assert_eq!(last(&runs[0]), last(&runs[1]));
        assert!((last(&runs[0]) - 0.02).abs() < 1e-6);
    }

    #[test]
    fn a_file_that_is_no_report_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.json");
        for text in ["", "[1, 2]", "{\"objective\": 1}"] {
            std::fs::write(&path, text).unwrap();
            let error = read(&path).err().unwrap().to_string();
            assert!(error.contains("x.json") && error.contains("keyrange train sparse-lr"), "{error}");
        }
        assert!(read(&folder.path().join("none.json")).err().unwrap().to_string().contains("cannot read"));
    }
}
