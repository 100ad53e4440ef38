//! How good a model is on examples: area under the ROC curve, log-loss, accuracy.

use serde::{Deserialize, Serialize};

use super::Model;
use crate::data::Dataset;

/// Figures of a model on a set of examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Examples.
    pub rows: u64,
    /// Those labelled +1.
    pub positives: u64,
    /// The probability that a positive example has a larger margin than a negative one, ties counted half.
    /// `None` when one of the classes is missing.
    pub auc: Option<f64>,
    /// Mean of `log(1 + exp(-y m))`.
    pub logloss: f64,
    /// Part of examples on whose side of margin 0 (probability 0.5) they are; margin 0 counts as negative.
    pub accuracy: f64,
}

/// Collects the margins of any number of sets, so that a large test set need not be in memory as a whole.
#[derive(Debug)]
pub struct Evaluator<'a> {
    model: &'a Model,
    /// Margin and whether the label is +1.
    scores: Vec<(f64, bool)>,
    loss_sum: f64,
    correct: u64,
}

impl<'a> Evaluator<'a> {
    /// Evaluates `model`, on nothing yet.
    pub fn new(model: &'a Model) -> Self {
        Self { model, scores: Vec::new(), loss_sum: 0.0, correct: 0 }
    }

    /// Adds the examples of `set`. Features the model does not know have weight 0.
    pub fn add(&mut self, set: &Dataset) {
        let weights = self.model.weights_of(set.keys());
        self.scores.reserve(set.rows());
        for row in set.iter() {
            let margin: f64 = row.entries().map(|(column, value)| weights[column as usize] * value).sum();
            self.loss_sum += log_loss(row.label * margin);
            self.correct += u64::from((margin > 0.0) == (row.label > 0.0));
            self.scores.push((margin, row.label > 0.0));
        }
    }

    /// The figures over all sets added. With no examples at all they are NaN.
    pub fn finish(self) -> Evaluation {
        let rows = self.scores.len() as u64;
        Evaluation {
            rows,
            positives: self.scores.iter().filter(|score| score.1).count() as u64,
            auc: auc(self.scores),
            logloss: self.loss_sum / rows as f64,
            accuracy: self.correct as f64 / rows as f64,
        }
    }
}

/// The figures of `model` on one set.
pub fn evaluate(model: &Model, set: &Dataset) -> Evaluation {
    let mut evaluator = Evaluator::new(model);
    evaluator.add(set);
    evaluator.finish()
}

/// `log(1 + exp(-margin))`, finite for every finite margin and exact to the last bits at both ends.
pub fn log_loss(margin: f64) -> f64 {
    (-margin.abs()).exp().ln_1p() + (-margin).max(0.0)
}

/// The area under the ROC curve of margins with "is positive": the rank statistic of Mann and Whitney, ties counted
/// half. Counted in whole numbers and divided once. `None` if a class is missing. Margins are finite.
pub fn auc(mut scores: Vec<(f64, bool)>) -> Option<f64> {
    // -0 and 0 are one margin.
    scores.iter_mut().for_each(|score| score.0 += 0.0);
    scores.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    // Twice the number of pairs in the right order; a tie is one.
    let (mut pairs_twice, mut negatives, mut positives) = (0u128, 0u128, 0u128);
    for tied in scores.chunk_by(|a, b| a.0 == b.0) {
        let above = tied.iter().filter(|score| score.1).count() as u128;
        let below = tied.len() as u128 - above;
        pairs_twice += above * (2 * negatives + below);
        negatives += below;
        positives += above;
    }
    let pairs = negatives * positives;
    (pairs > 0).then(|| pairs_twice as f64 / (2 * pairs) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn naive_auc(scores: &[(f64, bool)]) -> Option<f64> {
        let (mut sum, mut pairs) = (0.0, 0.0);
        for positive in scores.iter().filter(|score| score.1) {
            for negative in scores.iter().filter(|score| !score.1) {
                pairs += 1.0;
                sum += if positive.0 > negative.0 {
                    1.0
                } else if positive.0 == negative.0 {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (pairs > 0.0).then(|| sum / pairs)
    }

    proptest! {
        #[test]
        fn auc_counts_all_pairs(scores in prop::collection::vec((-4i32..5, any::<bool>()), 0..60), scale in 0.1..9.0f64) {
            let scores: Vec<_> = scores.into_iter().map(|(m, y)| (f64::from(m) * scale, y)).collect();
            prop_assert_eq!(auc(scores.clone()), naive_auc(&scores));
        }

        #[test]
        fn log_loss_is_the_plain_formula_where_that_works(margin in -30.0..30.0f64) {
            let plain = (1.0 + (-margin).exp()).ln();
            prop_assert!((log_loss(margin) - plain).abs() <= 1e-12 * plain.max(1e-3));
        }
    }

    #[test]
    fn negative_zero_ties_with_zero() {
        assert_eq!(auc(vec![(-0.0, false), (0.0, true)]), Some(0.5));
    }

    #[test]
    fn log_loss_stays_finite_and_positive_at_the_ends() {
        assert_eq!(log_loss(-1e300), 1e300);
        assert_eq!(log_loss(700.0), (-700.0f64).exp());
        assert_eq!(log_loss(0.0), std::f64::consts::LN_2);
    }

    #[test]
    fn figures_of_a_small_set_are_right_in_one_piece_or_several() {
        let set = Dataset::from_parts(
            vec![0, 1, 2, 2, 4],
            vec![0, 1, 0, 2],
            Some(vec![1.0, 2.0, 3.0, 1.0]),
            vec![1.0, -1.0, -1.0, 1.0],
            vec![5, 8, 9],
        )
        .unwrap();
        let model = Model::from_weights([(5, 1.0), (8, 0.5), (100, 7.0)], Default::default()).unwrap();
        let whole = evaluate(&model, &set);
        // Margins 1, 1, 0, 3: positives 1 and 3, negatives 1 and 0.
        let loss = (log_loss(1.0) + log_loss(-1.0) + log_loss(0.0) + log_loss(3.0)) / 4.0;
        assert_eq!((whole.rows, whole.positives, whole.auc, whole.accuracy), (4, 2, Some(0.875), 0.75));
        assert!((whole.logloss - loss).abs() < 1e-15);
        let mut pieces = Evaluator::new(&model);
        (0..4).for_each(|row| pieces.add(&set.select(row..row + 1)));
        assert_eq!(pieces.finish(), whole);
    }
}
