//! A trained model: its weights and how it came about. `disk` keeps it in a folder.

mod disk;

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why a model cannot be made, saved or loaded.
#[derive(Debug, Error)]
pub enum ModelError {
    /// The system refused to read or write.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what a model's file should be.
    #[error("{}: expected {expected}, got {got}", .path.display())]
    Format {
        /// The file, with `:line` if it is text.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        got: String,
    },
    /// The place to save to is taken by something else.
    #[error("{}: expected a new name, an empty folder or an earlier model to replace, got something else", .path.display())]
    Occupied {
        /// The place asked for.
        path: PathBuf,
    },
    /// Weights handed in do not form a model.
    #[error("expected finite weights with strictly increasing keys, got {got}")]
    Inconsistent {
        /// The offending entry.
        got: String,
    },
}

/// How a model was trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelMeta {
    /// The kind of model; always `sparse_lr` here.
    pub kind: String,
    /// Weight of the L1 norm in the objective.
    pub l1: f64,
    /// Weight of half the squared L2 norm in the objective.
    pub l2: f64,
    /// Objective reached on the training set.
    pub objective: f64,
    /// Examples of the training set.
    pub examples: u64,
    /// Features of the training set.
    pub features: u64,
    /// Passes made over it.
    pub passes: u64,
}

impl Default for ModelMeta {
    fn default() -> Self {
        Self { kind: KIND.into(), l1: 0.0, l2: 0.0, objective: 0.0, examples: 0, features: 0, passes: 0 }
    }
}

const KIND: &str = "sparse_lr";

/// Nonzero weights by feature, keys strictly increasing.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    keys: Vec<u64>,
    weights: Vec<f64>,
    /// How it was trained.
    pub meta: ModelMeta,
}

impl Model {
    /// A model of these weights, in strictly increasing order of keys. Zero weights are left out.
    ///
    /// # Errors
    /// [`ModelError::Inconsistent`] for unsorted keys and infinite weights or NaN.
    pub fn from_weights(
        weights: impl IntoIterator<Item = (u64, f64)>,
        meta: ModelMeta,
    ) -> Result<Self, ModelError> {
        let mut model = Self { keys: vec![], weights: vec![], meta };
        let mut last = None;
        for (key, weight) in weights {
            if last.is_some_and(|last| last >= key) || !weight.is_finite() {
                let after = last.map_or(String::new(), |last| format!(" after key {last}"));
                return Err(ModelError::Inconsistent { got: format!("key {key}, weight {weight}{after}") });
            }
            last = Some(key);
            if weight != 0.0 {
                model.keys.push(key);
                model.weights.push(weight);
            }
        }
        Ok(model)
    }

    /// Keys with a nonzero weight, strictly increasing.
    pub fn keys(&self) -> &[u64] {
        &self.keys
    }

    /// The weight of each key.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The weight of each of `keys` (strictly increasing), 0 for those the model does not know.
    pub fn weights_of(&self, keys: &[u64]) -> Vec<f64> {
        let mut at = 0;
        let weight = |&key: &u64| {
            while at < self.keys.len() && self.keys[at] < key {
                at += 1;
            }
            if self.keys.get(at) == Some(&key) { self.weights[at] } else { 0.0 }
        };
        keys.iter().map(weight).collect()
    }
}
