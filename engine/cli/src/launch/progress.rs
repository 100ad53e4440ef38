//! What people see of a job: a line that moves on a terminal, lines at intervals elsewhere, and the report at the end.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use keyrange::manager::Event;
use keyrange_apps::sparse_lr::job::TrainReport;
use keyrange_apps::sparse_lr::solver::PassReport;
use serde_json::{Value, json};

use super::Launch;
use super::job::{FACTOR_HEADER, Job, factor_line, print_factor};
use crate::failure::Failure;

/// Where standard error is no terminal, passes are told this often.
const LINE_EVERY: Duration = Duration::from_secs(1);

const HEADER: &str = "  pass       objective    nonzeros      active   violation   seconds    MB moved";

/// Everything heard of a job.
pub struct Progress {
    bar: ProgressBar,
    live: bool,
    quiet: bool,
    last_line: Option<Instant>,
    carriers: BTreeSet<String>,
    report: Option<Value>,
}

impl Progress {
    /// Shows a job as `launch` wants.
    pub fn new(launch: &Launch) -> Self {
        let live = !launch.quiet && std::io::stderr().is_terminal();
        let bar = if live { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("a fixed template"));
        if live {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        bar.set_message(format!("starting {} servers, {} workers", launch.size.servers, launch.size.workers));
        Progress { bar, live, quiet: launch.quiet, last_line: None, carriers: BTreeSet::new(), report: None }
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event) {
        match event {
            Event::Linked { node, carriers } => {
                for carrier in carriers {
                    self.carriers.extend(carrier_of(carrier));
                    tracing::info!(%node, "{carrier}");
                }
            }
            Event::Running => {
                self.bar.set_message("loading data");
                if !self.live {
                    self.line("loading data");
                }
            }
            Event::Progress { body, .. } => self.pass(body),
            Event::Report { body, .. } => self.report = Some(body.clone()),
            Event::Silent { node, silent_ms } => {
                self.line(&format!(
                    "{node} has said nothing for {:.1} s; waiting for it",
                    *silent_ms as f64 / 1e3
                ));
            }
            Event::Back { node } => self.line(&format!("{node} is back")),
            Event::Refused { reason } => self.line(&format!("turned away: {reason}")),
            Event::Joined { .. } | Event::Ended(_) => {}
            other => tracing::debug!(?other),
        }
    }

    fn pass(&mut self, body: &Value) {
        if let Some(text) = factor_line(body) {
            return self.tell(FACTOR_HEADER, text);
        }
        let Ok(pass) = serde_json::from_value::<PassReport>(body.clone()) else { return };
        let moved = body["bytes_moved"].as_f64().unwrap_or(0.0) / 1e6;
        let PassReport { pass, objective, nonzeros, active, violation, seconds, .. } = pass;
        let text = format!(
            "{pass:6} {objective:15.6} {nonzeros:11} {active:11} {violation:11.3e} {seconds:9.3} {moved:11.2}"
        );
        self.tell(HEADER, text);
    }

    /// The moving line, or now and then a line.
    fn tell(&mut self, header: &str, text: String) {
        if self.live {
            self.bar.set_message(text);
        } else if self.last_line.is_none_or(|at| at.elapsed() >= LINE_EVERY) {
            if self.last_line.replace(Instant::now()).is_none() {
                self.line(header);
            }
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        if self.live {
            self.bar.println(text);
        } else if !self.quiet {
            eprintln!("{text}");
        }
    }

    /// Clears the moving line.
    pub fn close(&mut self) {
        self.bar.finish_and_clear();
    }

    /// The report, on standard output and in its file.
    pub fn conclude(&self, launch: &Launch) -> anyhow::Result<()> {
        let no_report = || Failure::job("the job finished without a report of worker 0");
        let mut full = self.report.clone().ok_or_else(no_report)?;
        let report = full.clone();
        let carrier = match self.carriers.len() {
            0 => "in-process".to_owned(),
            _ => self.carriers.iter().cloned().collect::<Vec<_>>().join("+"),
        };
        full["carrier"] = json!(carrier);
        full["servers"] = json!(launch.size.servers);
        full["workers"] = json!(launch.size.workers);
        if let Some(file) = &launch.report {
            write_whole(file, &(serde_json::to_string_pretty(&full)? + "\n"))?;
        }
        match launch.job {
            Job::SparseLr(_) => print(&serde_json::from_value(report)?, &carrier, launch),
            Job::MatrixFactorization(_) => print_factor(&serde_json::from_value(report)?, &carrier, launch),
        }
        Ok(())
    }
}

/// `shm` of a line such as `server 0: shm (same host)`.
fn carrier_of(line: &str) -> Option<String> {
    ["shm", "tcp", "verbs", "in-process"].into_iter().find(|name| line.contains(name)).map(str::to_owned)
}

/// All of the file or nothing.
fn write_whole(file: &std::path::Path, text: &str) -> anyhow::Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let cannot =
        |error: &dyn std::fmt::Display| Failure::job(format!("{}: cannot write: {error}", file.display()));
    let mut temporary = tempfile::Builder::new()
        .prefix(".keyrange-report")
        .tempfile_in(folder.unwrap_or(std::path::Path::new(".")))
        .map_err(|error| cannot(&error))?;
    std::io::Write::write_all(&mut temporary, text.as_bytes()).map_err(|error| cannot(&error))?;
    temporary.persist(file).map(drop).map_err(|error| cannot(&error.error))
}

fn print(report: &TrainReport, carrier: &str, launch: &Launch) {
    println!(
        "examples        {} ({} features, {} nonzeros)",
        report.examples, report.features, report.data_nonzeros
    );
    println!("nodes           {} servers, {} workers, {carrier}", launch.size.servers, launch.size.workers);
    println!("objective       {:.9} (l1 {}, l2 {})", report.objective, report.l1, report.l2);
    println!("duality gap     {:.3e} relative", report.duality_gap / report.objective);
    println!("KKT violation   {:.3e}", report.kkt_violation);
    println!("nonzero weights {}", report.nonzeros);
    println!(
        "passes          {} in {:.3} s (loading {:.3} s)",
        report.passes, report.seconds, report.load_seconds
    );
    println!(
        "traffic         {:.3} MB pushed, {:.3} MB pulled",
        report.bytes_pushed as f64 / 1e6,
        report.bytes_pulled as f64 / 1e6
    );
    println!("waiting         {:.1} % of the workers' time", report.idle_share * 100.0);
    if let Some(test) = &report.test {
        let auc = test.auc.map_or("not defined".to_owned(), |auc| format!("{auc:.6}"));
        println!("test            AUC {auc}, log-loss {:.6}, accuracy {:.6}", test.logloss, test.accuracy);
    }
    if let Some(model) = launch.job.model() {
        println!("model           {}", model.display());
    }
    if let Some(file) = &launch.report {
        println!("report          {}", file.display());
    }
}
