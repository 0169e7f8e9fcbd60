//! A text classifier that learns block by block, from new examples and from examples that it kept.
//!
//! ```text
//! block: count labels and grams, shuffle, cut into chunks that grow with the number of learned examples
//!   chunk: predict (accuracy, confidence) ─> learn, together with as many kept examples ─> add to the reservoir
//! refine: learn the kept examples again, the more often the fewer they are
//! ```
//! Nothing here waits, stores or knows other models. The order of examples within a block hardly matters, and learning
//! is deterministic.

use std::iter;
use std::ops::RangeInclusive;

use crate::features;
use crate::machine::{Example, Weights};
use crate::reservoir::{ROOM, Reservoir};
use crate::validation::{Lead, Validation};
use crate::vocabulary::{Feature, Vocabulary};

/// Limits a model's size, together with [`GRAMS`]: 32 MiB of weights.
pub(crate) const LABELS: usize = 64;
const GRAMS: usize = 1 << 17;
/// A chunk has this fraction of the examples that were learned before it.
const CHUNK: u32 = 8;
/// The number of passes over a chunk and the kept examples that are learned with it.
const PASSES: usize = 5;
/// The number of further passes over the kept examples after a block: as many as [`STEPS`] allow, within these limits.
const FURTHER_PASSES: RangeInclusive<usize> = 2..=20;
const STEPS: usize = 60_000;
/// A block has this share of those steps: its share of the kept examples, and at least this much.
const LEAST_SHARE: f64 = 0.02;

/// A text classifier.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) labels: Vec<String>,
    pub(crate) vocabulary: Vocabulary,
    pub(crate) weights: Weights,
    pub(crate) reservoir: Reservoir,
    pub(crate) validation: Validation,
    /// The number of learned examples.
    pub(crate) examples: u32,
}

/// A label and the probability that it is right, from 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prediction<'a> {
    pub(crate) label: &'a str,
    pub(crate) confidence: f32,
}

/// The model cannot have another label.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooManyLabels;

/// A text and its label.
pub(crate) type Labelled = (String, String);

impl Model {
    /// Returns the most likely label, or `None` if the model has learned nothing.
    pub(crate) fn predict(&self, text: &str) -> Option<Prediction<'_>> {
        let features = self.vocabulary.weigh(&features::count(text));
        let (best, lead) = self.best(&features)?;
        Some(Prediction {
            label: &self.labels[best],
            confidence: self.validation.confidence(lead),
        })
    }

    /// Learns a block of examples; changes nothing if there are too many labels.
    pub(crate) fn learn(&mut self, block: &[Labelled]) -> Result<(), TooManyLabels> {
        let labels = self.add_labels(block)?;
        let texts: Vec<_> = block
            .iter()
            .map(|(text, _)| features::count(text))
            .collect();
        for grams in &texts {
            self.vocabulary.count(grams);
        }
        if self.vocabulary.rows() > GRAMS + 1 {
            let moved = self.vocabulary.prune(GRAMS);
            self.weights.prune(&moved);
            self.reservoir.prune(&moved);
        }
        self.weights.grow(self.labels.len(), self.vocabulary.rows());

        let mut random = fastrand::Rng::with_seed(u64::from(self.examples));
        let mut lessons: Vec<_> = iter::zip(texts, labels).collect();
        random.shuffle(&mut lessons);
        let mut lessons = lessons.into_iter();
        while lessons.len() > 0 {
            let size = (self.examples / CHUNK).max(1) as usize;
            let chunk: Vec<Example> = lessons
                .by_ref()
                .take(size)
                .map(|(grams, label)| Example {
                    label,
                    features: self.vocabulary.weigh(&grams).into(),
                    alphas: Box::default(),
                    priority: random.u32(1..),
                })
                .collect();
            self.learn_chunk(chunk, &mut random);
        }
        self.refine(block.len(), &mut random);
        Ok(())
    }

    /// The accuracy of predictions on examples before they were learned.
    pub(crate) fn accuracy(&self) -> f32 {
        self.validation.accuracy()
    }

    fn learn_chunk(&mut self, chunk: Vec<Example>, random: &mut fastrand::Rng) {
        for example in &chunk {
            let best = if self.examples == 0 {
                None
            } else {
                self.best(&self.weights.learned(&example.features))
            };
            let right = best.is_some_and(|(label, _)| label == usize::from(example.label));
            self.validation.record(best.map(|(_, lead)| lead), right);
        }
        let known = self.reservoir.examples.len();
        let learned = chunk.len();
        self.reservoir.examples.extend(chunk);
        let mut lessons: Vec<usize> = (known..known + learned).collect();
        if known > 0 {
            lessons.extend(iter::repeat_with(|| random.usize(..known)).take(learned));
        }
        for _ in 0..PASSES {
            random.shuffle(&mut lessons);
            for &lesson in &lessons {
                self.weights.step(&mut self.reservoir.examples[lesson]);
            }
        }
        self.reservoir.trim(ROOM);
        self.examples = self
            .examples
            .saturating_add(u32::try_from(learned).unwrap_or(u32::MAX));
    }

    /// Learns the kept examples again, after a block of `learned` examples.
    fn refine(&mut self, learned: usize, random: &mut fastrand::Rng) {
        let kept = self.reservoir.examples.len();
        let passes = (STEPS / kept.max(1)).clamp(*FURTHER_PASSES.start(), *FURTHER_PASSES.end());
        let share = (learned as f64 / kept.max(1) as f64).clamp(LEAST_SHARE, 1.0);
        let mut steps = ((passes * kept) as f64 * share) as usize;
        let mut order: Vec<usize> = (0..kept).collect();
        while steps > 0 {
            random.shuffle(&mut order);
            for &example in order.iter().take(steps) {
                self.weights.step(&mut self.reservoir.examples[example]);
            }
            steps = steps.saturating_sub(kept);
        }
    }

    /// Adds the new labels, and returns the number of each example's label.
    fn add_labels(&mut self, block: &[Labelled]) -> Result<Vec<u8>, TooManyLabels> {
        let before = self.labels.len();
        let mut numbers = Vec::with_capacity(block.len());
        for (_, label) in block {
            let known = self.labels.iter().position(|known| known == label);
            if known.is_none() && self.labels.len() == LABELS {
                self.labels.truncate(before);
                return Err(TooManyLabels);
            }
            numbers.push(known.unwrap_or(self.labels.len()) as u8);
            if known.is_none() {
                self.labels.push(label.clone());
            }
        }
        Ok(numbers)
    }

    /// The best label's number, and the lead of its score.
    fn best(&self, features: &[Feature]) -> Option<(usize, Lead)> {
        let scores = self.weights.scores(features);
        let better = |one: f32, other: Option<f32>| other.is_none_or(|other| one > other);
        let (mut best, mut first, mut second) = (0, None, None);
        for (label, &score) in scores.iter().enumerate() {
            if better(score, first) {
                (best, second, first) = (label, first, Some(score));
            } else if better(score, second) {
                second = Some(score);
            }
        }
        Some((best, Lead::new(first?, second)))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn labelled(pairs: &[(&str, &str)]) -> Vec<Labelled> {
        pairs
            .iter()
            .map(|&(text, label)| (text.to_owned(), label.to_owned()))
            .collect()
    }

    pub(crate) fn news(rounds: usize) -> Vec<Labelled> {
        labelled(
            &[
                ("the striker scored a late goal", "sport"),
                ("parliament passed the budget bill", "politics"),
            ]
            .repeat(rounds),
        )
    }

    #[test]
    fn it_learns_and_reports_its_accuracy() {
        let mut model = Model::default();
        assert_eq!(model.predict("anything"), None);
        model.learn(&news(20)).unwrap();
        let prediction = model.predict("a goal for the striker").unwrap();
        assert_eq!(prediction.label, "sport");
        assert!(prediction.confidence > 0.5, "{prediction:?}");
        assert_eq!(model.examples, 40);
        assert!(
            (0.85..1.0).contains(&model.accuracy()),
            "{}",
            model.accuracy()
        );
    }

    #[test]
    fn the_order_of_labels_does_not_matter() {
        let mut sorted = news(30);
        sorted.sort_by(|one, other| one.1.cmp(&other.1));
        let mut model = Model::default();
        model.learn(&sorted).unwrap();
        for (text, label) in news(1) {
            assert_eq!(model.predict(&text).unwrap().label, label);
        }
    }

    /// The share of the held-out texts that a model gets right.
    fn share_right(model: &Model) -> f32 {
        let held_out = texts("held-out");
        let right = held_out
            .iter()
            .filter(|(text, label)| model.predict(text).unwrap().label == label)
            .count();
        right as f32 / held_out.len() as f32
    }

    #[test]
    fn one_example_per_call_learns_like_one_call() {
        let examples = texts("train");
        let (mut whole, mut single) = (Model::default(), Model::default());
        whole.learn(&examples).unwrap();
        for example in &examples {
            single.learn(std::slice::from_ref(example)).unwrap();
        }
        let (whole, single) = (share_right(&whole), share_right(&single));
        assert!((whole - single).abs() < 0.02, "{whole} and {single}");
    }

    #[test]
    fn a_second_identical_training_gains_little() {
        let mut model = Model::default();
        model.learn(&texts("train")).unwrap();
        let once = share_right(&model);
        model.learn(&texts("train")).unwrap();
        let twice = share_right(&model);
        assert!(twice - once < 0.015, "{once}, then {twice}");
    }

    #[test]
    fn topics_of_a_script_without_spaces_are_learned() {
        let mut model = Model::default();
        let news = labelled(&[
            ("球队在昨晚的足球比赛中获胜", "体育"),
            ("议会通过了新的预算法案", "政治"),
            ("前锋在比赛最后时刻进球", "体育"),
            ("政府公布了选举的结果", "政治"),
        ]);
        model.learn(&news).unwrap();
        assert_eq!(model.predict("这场足球比赛没有进球").unwrap().label, "体育");
        assert_eq!(model.predict("政府的预算").unwrap().label, "政治");
    }

    #[test]
    fn later_training_does_not_erase_earlier_labels() {
        let mut model = Model::default();
        model.learn(&news(10)).unwrap();
        for _ in 0..20 {
            model
                .learn(&labelled(&[("rain and wind from the west", "weather")]))
                .unwrap();
        }
        assert_eq!(model.predict("wind and rain").unwrap().label, "weather");
        for (text, label) in news(1) {
            assert_eq!(model.predict(&text).unwrap().label, label);
        }
    }

    /// At least two thirds of the held-out texts are right, and confidence is neither too high nor too low: the
    /// expected calibration error over ten bins, where a few hundred texts leave some noise.
    #[test]
    fn confidence_is_the_probability_of_being_right() {
        let mut model = Model::default();
        model.learn(&texts("train")).unwrap();
        let mut bins = [(0.0, 0.0); 10];
        let held_out = texts("held-out");
        let mut right = 0.0;
        for (text, label) in &held_out {
            let prediction = model.predict(text).unwrap();
            let bin = &mut bins[((prediction.confidence * 10.0) as usize).min(9)];
            bin.0 += prediction.confidence;
            bin.1 += f32::from(prediction.label == label);
            right += f32::from(prediction.label == label);
        }
        let count = held_out.len() as f32;
        let error: f32 = bins.iter().map(|(said, was)| (said - was).abs()).sum();
        assert!(right / count > 0.66, "{}", right / count);
        assert!(error / count < 0.1, "{}", error / count);
        assert!(
            (model.accuracy() - right / count).abs() < 0.1,
            "{}",
            model.accuracy()
        );
    }

    fn texts(part: &str) -> Vec<Labelled> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data");
        csv::Reader::from_path(format!("{folder}/{part}.csv"))
            .unwrap()
            .records()
            .map(|row| {
                let row = row.unwrap();
                (row[0].to_owned(), row[1].to_owned())
            })
            .collect()
    }

    #[test]
    fn the_number_of_labels_is_limited() {
        let mut model = Model::default();
        let block: Vec<Labelled> = (0..LABELS)
            .map(|index| ("text".to_owned(), index.to_string()))
            .collect();
        model.learn(&block).unwrap();
        let before = model.clone();
        let more = labelled(&[("text", "0"), ("text", "one more")]);
        assert_eq!(model.learn(&more), Err(TooManyLabels));
        assert_eq!(model, before);
    }

    #[test]
    fn the_number_of_grams_is_limited() {
        let mut model = Model::default();
        let text: String = (0..GRAMS).map(|word| format!("w{word:06} ")).collect();
        model
            .learn(&labelled(&[(&text, "long"), ("w000001 w000002", "short")]))
            .unwrap();
        assert_eq!(model.vocabulary.rows(), GRAMS + 1);
        assert_eq!(model.weights.values.len(), (GRAMS + 1) * 2);
        assert_eq!(model.predict("w000001 w000002").unwrap().label, "short");
    }
}
