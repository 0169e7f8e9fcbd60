//! The learner: for each label a linear support vector machine with squared hinge loss, learned by dual coordinate
//! descent.
//!
//! Each example has a dual variable (alpha) per label, and a label's weights are the sum of the examples times theirs.
//! A step solves for one example's alphas while the others stay fixed. So there is no learning rate, steps may come in
//! any order, and repeated passes over the same examples approach the one solution. Source: Hsieh, Chang, Lin, Keerthi,
//! Sundararajan, "A Dual Coordinate Descent Method for Large-scale Linear SVM" (2008), algorithm 1 with L2 loss.

use crate::vocabulary::{BIAS, Feature, scale};

/// The cost of an error relative to the weights' length: C, with the default of scikit-learn's LinearSVC.
const COST: f32 = 1.0;
/// Smaller changes of an alpha do not justify an update of the weights.
const LEAST_CHANGE: f32 = 1e-6;
/// A new label's bias: the score of an example that certainly has another label.
const OTHER: f32 = -1.0;

/// An example and its dual variables.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Example {
    pub(crate) label: u8,
    pub(crate) features: Box<[Feature]>,
    /// The alphas that are not 0, by label.
    pub(crate) alphas: Box<[(u8, f32)]>,
    /// Decides whether the example stays in the reservoir; random, above 0.
    pub(crate) priority: u32,
}

/// One row of weights per gram, with one weight per label.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Weights {
    pub(crate) labels: usize,
    pub(crate) values: Vec<f32>,
}

impl Weights {
    /// Makes room for this many labels and rows; keeps the existing weights.
    pub(crate) fn grow(&mut self, labels: usize, rows: usize) {
        if labels != self.labels {
            let before = std::mem::take(&mut self.values);
            self.values.reserve_exact(rows * labels);
            for row in before.chunks_exact(self.labels.max(1)) {
                self.values.extend_from_slice(row);
                self.values
                    .resize(self.values.len() + labels - self.labels, 0.0);
            }
            self.values.resize(rows * labels, 0.0);
            self.values[self.labels..labels].fill(OTHER);
            self.labels = labels;
        }
        self.values.resize(rows * labels, 0.0);
    }

    /// Moves each row to its new place; drops rows without one.
    pub(crate) fn prune(&mut self, moved: &[Option<u32>]) {
        let kept = moved.iter().flatten().count();
        let mut values = Vec::with_capacity(kept * self.labels);
        for (row, place) in self.values.chunks_exact(self.labels.max(1)).zip(moved) {
            if place.is_some() {
                values.extend_from_slice(row);
            }
        }
        self.values = values;
    }

    /// Each label's score: above 0 if the label fits.
    pub(crate) fn scores(&self, features: &[Feature]) -> Vec<f32> {
        let mut scores = self.row(BIAS).to_vec();
        for &(row, value) in features {
            for (score, weight) in scores.iter_mut().zip(self.row(row)) {
                *score += value * weight;
            }
        }
        scores
    }

    /// The features that were learned before, as a text has them whose other grams are unknown.
    pub(crate) fn learned(&self, features: &[Feature]) -> Vec<Feature> {
        let mut learned: Vec<Feature> = features
            .iter()
            .copied()
            .filter(|(row, _)| self.row(*row).iter().any(|weight| *weight != 0.0))
            .collect();
        scale(&mut learned);
        learned
    }

    /// Learns from an example, new or known.
    pub(crate) fn step(&mut self, example: &mut Example) {
        let softness = 1.0 / (2.0 * COST);
        let length = 1.0
            + example
                .features
                .iter()
                .map(|(_, value)| value * value)
                .sum::<f32>();
        let mut alphas = vec![0.0; self.labels];
        for &(label, alpha) in &example.alphas {
            alphas[usize::from(label)] = alpha;
        }
        let mut changes = self.scores(&example.features);
        let mut changed = false;
        for (label, (change, alpha)) in changes.iter_mut().zip(&mut alphas).enumerate() {
            let sign = if label == usize::from(example.label) {
                1.0
            } else {
                -1.0
            };
            let gradient = sign * *change - 1.0 + softness * *alpha;
            let next = (*alpha - gradient / (length + softness)).max(0.0);
            *change = 0.0;
            if (next - *alpha).abs() > LEAST_CHANGE {
                *change = sign * (next - *alpha);
                *alpha = next;
                changed = true;
            }
        }
        if !changed {
            return;
        }
        for &(row, value) in [(BIAS, 1.0)].iter().chain(&example.features) {
            let first = row as usize * self.labels;
            for (weight, change) in self.values[first..][..self.labels].iter_mut().zip(&changes) {
                *weight += value * change;
            }
        }
        example.alphas = (0..)
            .zip(alphas)
            .filter(|(_, alpha)| *alpha > 0.0)
            .collect();
    }

    fn row(&self, row: u32) -> &[f32] {
        &self.values[row as usize * self.labels..][..self.labels]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(label: u8, features: &[Feature]) -> Example {
        Example {
            label,
            features: features.into(),
            alphas: Box::default(),
            priority: 0,
        }
    }

    /// At the solution, `alpha = 2 C max(0, 1 - sign * score)` for every example and label.
    #[test]
    fn passes_approach_the_solution() {
        let mut weights = Weights::default();
        weights.grow(2, 4);
        let mut examples = [
            example(0, &[(1, 0.8), (2, 0.6)]),
            example(1, &[(2, 0.6), (3, 0.8)]),
            example(0, &[(2, 1.0)]),
        ];
        for _ in 0..200 {
            examples
                .iter_mut()
                .for_each(|example| weights.step(example));
        }
        for example in &examples {
            let scores = weights.scores(&example.features);
            for (label, score) in scores.iter().enumerate() {
                let sign = if label == usize::from(example.label) {
                    1.0
                } else {
                    -1.0
                };
                let alpha = example
                    .alphas
                    .iter()
                    .find(|(of, _)| usize::from(*of) == label)
                    .map_or(0.0, |(_, alpha)| *alpha);
                let solution = 2.0 * COST * (1.0 - sign * score).max(0.0);
                assert!((alpha - solution).abs() < 1e-3, "{alpha} and {solution}");
            }
        }
    }

    #[test]
    fn labels_and_rows_can_grow_and_be_pruned() {
        let mut weights = Weights::default();
        weights.grow(1, 3);
        assert_eq!(weights.values, [OTHER, 0.0, 0.0]);
        weights.values[2] = 5.0;
        weights.grow(2, 4);
        assert_eq!(weights.values, [OTHER, OTHER, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0]);
        weights.prune(&[Some(0), None, Some(1), None]);
        assert_eq!(weights.values, [OTHER, OTHER, 5.0, 0.0]);
    }
}
