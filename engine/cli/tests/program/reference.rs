//! Real data sets with known optima, if this machine has them: in the folder that `KEYRANGE_DATA` names, or in
//! `shared/data` beside the project.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A training set at one weight of the L1 norm, with what independent software found for it.
pub struct Optimum {
    pub train: PathBuf,
    pub test: PathBuf,
    pub l1: f64,
    pub objective: f64,
    /// AUC and log-loss on the test set, where known.
    pub figures: Option<(f64, f64)>,
}

impl Optimum {
    /// How far `objective` is above it, relatively.
    pub fn excess(&self, objective: f64) -> f64 {
        objective / self.objective - 1.0
    }
}

/// Where the shared data is, if it is here.
pub fn folder() -> PathBuf {
    match std::env::var_os("KEYRANGE_DATA") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"),
    }
}

/// The optima of a set at the weights `l1`, or all of them; none, and a word about it, without the data.
pub fn optima(set: &str, l1: &[f64]) -> Vec<Optimum> {
    let folder = folder();
    let Ok(text) = std::fs::read_to_string(folder.join("reference.json")) else {
        println!(
            "skipped: {set}: no reference.json in {}; KEYRANGE_DATA names another folder",
            folder.display()
        );
        return Vec::new();
    };
    let reference: Value = serde_json::from_str(&text).unwrap();
    let found = &reference["sparse_lr"]["sets"][set];
    let file = |key: &str| folder.join(found[key].as_str().unwrap());
    let optimum = |entry: &Value| {
        let test = &entry["test"];
        Optimum {
            train: file("train"),
            test: file("test"),
            l1: entry["l1"].as_f64().unwrap(),
            objective: entry["objective"].as_f64().unwrap(),
            figures: test["auc"].as_f64().zip(test["logloss"].as_f64()),
        }
    };
    let optima: Vec<_> = found["optima"].as_array().unwrap().iter().map(optimum).collect();
    optima.into_iter().filter(|optimum| l1.is_empty() || l1.contains(&optimum.l1)).collect()
}
