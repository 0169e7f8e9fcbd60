//! How good a model is on what it has not learned yet: each example is a trial before it is a lesson (progressive
//! validation). The trials also tell what a score is worth, which gives predictions their confidence.

use serde::{Deserialize, Serialize};

/// Trials fade: a model gets better, and what counts is how good it is now. Of few they fade quickly (about the last
/// quarter counts), and this many of the last ones count at most.
const HORIZON: f64 = 1000.0;
const LEAST_HORIZON: f64 = 20.0;
const COUNTED: f64 = 0.25;
/// Where the curve begins, and for how many trials that counts: few trials tell little.
const FIRST: [f64; 2] = [4.0, -2.0];
const FIRST_COUNTS: f64 = 4.0;

/// The trials so far, faded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trials {
    total: f64,
    /// What is left of all trials, and of those that were right.
    count: f64,
    correct: f64,
    /// Slope and offset of a logistic curve, from a lead to how likely the prediction is right.
    curve: [f64; 2],
    /// How firmly the trials so far hold the curve: the log-likelihood's second derivatives.
    held: [[f64; 2]; 2],
}

impl Default for Trials {
    fn default() -> Self {
        let spread = FIRST_COUNTS / 4.0;
        Self {
            total: 0.0,
            count: 0.0,
            correct: 0.0,
            curve: FIRST,
            held: [[spread, 0.0], [0.0, spread]],
        }
    }
}

/// By how much a prediction's score leads the next one's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lead(f64);

impl Lead {
    /// Takes the best score and, where there is another label, the second.
    pub(crate) fn new(best: f32, second: Option<f32>) -> Self {
        // The root: it makes the curve fit where leads are small, measured on held-out data.
        Self(f64::from(best - second.unwrap_or(-1.0)).max(0.0).sqrt())
    }
}

impl Trials {
    /// The share of predictions that were right, of the last trials.
    pub(crate) fn accuracy(&self) -> f32 {
        if self.count == 0.0 {
            0.0
        } else {
            (self.correct / self.count) as f32
        }
    }

    /// How likely a prediction with this lead is right.
    pub(crate) fn confidence(&self, lead: Lead) -> f32 {
        logistic(self.curve, lead) as f32
    }

    /// Takes one trial: the prediction's lead, if a label was predicted at all, and whether it was right.
    pub(crate) fn note(&mut self, lead: Option<Lead>, right: bool) {
        self.total += 1.0;
        let fade = 1.0 - 1.0 / (self.total * COUNTED).clamp(LEAST_HORIZON, HORIZON);
        let right = f64::from(right);
        self.count = self.count * fade + 1.0;
        self.correct = self.correct * fade + right;
        let Some(lead) = lead else { return };
        // One step of Newton's method from where the trials before put the curve.
        let inputs = [lead.0, 1.0];
        let likely = logistic(self.curve, lead);
        let spread = (likely * (1.0 - likely)).max(1e-4);
        for (row, one) in self.held.iter_mut().zip(inputs) {
            for (held, other) in row.iter_mut().zip(inputs) {
                *held = *held * fade + spread * one * other;
            }
        }
        let [[a, b], [c, d]] = self.held;
        let determinant = (a * d - b * c).max(1e-6);
        let error = right - likely;
        self.curve[0] += error * (d * inputs[0] - b * inputs[1]) / determinant;
        self.curve[1] += error * (a * inputs[1] - c * inputs[0]) / determinant;
        // A longer lead never means less.
        self.curve[0] = self.curve[0].max(0.0);
    }
}

fn logistic([slope, offset]: [f64; 2], Lead(lead): Lead) -> f64 {
    1.0 / (1.0 + (-(slope * lead + offset)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_finds_how_likely_leads_are_right() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut trials = Trials::default();
        let truth = [3.0, -1.0];
        for _ in 0..5000 {
            let lead = Lead::new(random.f32() * 2.0, Some(0.0));
            trials.note(Some(lead), random.f64() < logistic(truth, lead));
        }
        for best in [0.1, 0.5, 1.0, 2.0] {
            let lead = Lead::new(best, Some(0.0));
            let (found, expected) = (trials.confidence(lead), logistic(truth, lead) as f32);
            assert!(
                (found - expected).abs() < 0.06,
                "{best}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn the_last_trials_count() {
        let mut trials = Trials::default();
        assert_eq!(trials.accuracy(), 0.0);
        trials.note(None, false);
        trials.note(None, true);
        assert!((trials.accuracy() - 0.5).abs() < 0.03);
        for _ in 0..10_000 {
            trials.note(None, true);
        }
        assert!(trials.accuracy() > 0.99);
    }
}
