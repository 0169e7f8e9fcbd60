//! The learner: softmax regression over hashed, TF-IDF weighted features, trained online with AdaGrad.
//!
//! Each example is predicted before it is learned, which yields the accuracy (progressive validation). Nothing here
//! waits, stores or knows of other models. Source of the step rule: Duchi, Hazan, Singer, "Adaptive Subgradient
//! Methods" (2011), with one accumulator a bucket.

use crate::features::{self, BUCKETS};

/// Bounds a model's memory: a label costs 256 KiB.
pub(crate) const LABELS: usize = 64;
const RATE: f32 = 1.0;
const EPSILON: f32 = 1e-4;

/// A text classifier.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Model {
    pub(crate) labels: Vec<String>,
    /// One vector of [`BUCKETS`] weights a label.
    pub(crate) weights: Vec<Vec<f32>>,
    /// Each bucket's sum of squared gradients.
    pub(crate) squares: Vec<f32>,
    /// In how many examples each bucket occurred.
    pub(crate) occurrences: Vec<u32>,
    /// Examples learned.
    pub(crate) examples: u32,
    /// Examples whose label was predicted before they were learned.
    pub(crate) correct: u32,
}

/// A label and the model's confidence in it, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction<'a> {
    pub(crate) label: &'a str,
    pub(crate) confidence: f32,
}

/// There is no room for another label.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyLabels;

type Features = Vec<(usize, f32)>;

impl Default for Model {
    fn default() -> Self {
        Self {
            labels: Vec::new(),
            weights: Vec::new(),
            squares: vec![0.0; BUCKETS],
            occurrences: vec![0; BUCKETS],
            examples: 0,
            correct: 0,
        }
    }
}

impl Model {
    /// Returns the likeliest label, or `None` from a model that has learned nothing.
    pub(crate) fn predict(&self, text: &str) -> Option<Prediction<'_>> {
        let probabilities = self.probabilities(&self.features(text));
        let (best, confidence) = likeliest(&probabilities)?;
        Some(Prediction {
            label: &self.labels[best],
            confidence,
        })
    }

    /// Learns one example.
    pub(crate) fn learn(&mut self, text: &str, label: &str) -> Result<(), TooManyLabels> {
        let features = self.features(text);
        let known = self.labels.iter().position(|known| known == label);
        let before = self.probabilities(&features);
        if known.is_some() && likeliest(&before).map(|(best, _)| best) == known {
            self.correct += 1;
        }
        let expected = match known {
            Some(index) => index,
            None => self.add_label(label)?,
        };
        self.step(&features, expected);
        for &(bucket, _) in &features {
            self.occurrences[bucket] += 1;
        }
        self.examples += 1;
        Ok(())
    }

    /// The share of examples whose label was predicted before they were learned.
    pub(crate) fn accuracy(&self) -> f32 {
        if self.examples == 0 {
            return 0.0;
        }
        self.correct as f32 / self.examples as f32
    }

    fn add_label(&mut self, label: &str) -> Result<usize, TooManyLabels> {
        if self.labels.len() == LABELS {
            return Err(TooManyLabels);
        }
        self.labels.push(label.to_owned());
        self.weights.push(vec![0.0; BUCKETS]);
        Ok(self.labels.len() - 1)
    }

    /// Log-scaled counts times inverse document frequency, scaled to length 1.
    fn features(&self, text: &str) -> Features {
        let total = (self.examples + 1) as f32;
        let mut features: Features = features::count(text)
            .into_iter()
            .map(|(bucket, count)| {
                let bucket = usize::from(bucket);
                let rarity = total / (self.occurrences[bucket] + 1) as f32;
                (bucket, (1.0 + count.ln()) * (1.0 + rarity.ln()))
            })
            .collect();
        let length = features
            .iter()
            .map(|(_, value)| value * value)
            .sum::<f32>()
            .sqrt();
        for (_, value) in &mut features {
            *value /= length;
        }
        features
    }

    fn probabilities(&self, features: &Features) -> Vec<f32> {
        let scores: Vec<f32> = self
            .weights
            .iter()
            .map(|weights| {
                features
                    .iter()
                    .map(|&(bucket, value)| weights[bucket] * value)
                    .sum()
            })
            .collect();
        let highest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let raised: Vec<f32> = scores.iter().map(|score| (score - highest).exp()).collect();
        let sum: f32 = raised.iter().sum();
        raised.into_iter().map(|value| value / sum).collect()
    }

    fn step(&mut self, features: &Features, expected: usize) {
        let mut errors = self.probabilities(features);
        errors[expected] -= 1.0;
        let squared: f32 = errors.iter().map(|error| error * error).sum();
        for &(bucket, value) in features {
            self.squares[bucket] += squared * value * value;
            let rate = RATE * value / (self.squares[bucket] + EPSILON).sqrt();
            for (weights, error) in self.weights.iter_mut().zip(&errors) {
                weights[bucket] -= rate * error;
            }
        }
    }
}

fn likeliest(probabilities: &[f32]) -> Option<(usize, f32)> {
    probabilities
        .iter()
        .copied()
        .enumerate()
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_learns_and_says_how_well() {
        let mut model = Model::default();
        assert_eq!(model.predict("anything"), None);
        for _ in 0..5 {
            model
                .learn("the striker scored a late goal", "sport")
                .unwrap();
            model
                .learn("parliament passed the budget bill", "politics")
                .unwrap();
        }
        let prediction = model.predict("a goal for the striker").unwrap();
        assert_eq!(prediction.label, "sport");
        assert!(prediction.confidence > 0.7, "{prediction:?}");
        assert_eq!(
            (model.examples, model.correct, model.accuracy()),
            (10, 7, 0.7)
        );
    }

    #[test]
    fn labels_are_bounded() {
        let mut model = Model::default();
        for index in 0..LABELS {
            model.learn("text", &index.to_string()).unwrap();
        }
        assert_eq!(model.learn("text", "one more"), Err(TooManyLabels));
        assert_eq!(model.examples as usize, LABELS);
    }
}
