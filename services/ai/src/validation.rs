//! The accuracy of a model on new examples: each example is predicted before it is learned (progressive validation).
//! The same predictions calibrate the confidence: they show how often a prediction with a given score was right.

use serde::{Deserialize, Serialize};

/// Old predictions fade, because the model improves. With few predictions they fade quickly (about the last quarter
/// counts); at most about this many count.
const HORIZON: f64 = 1000.0;
const LEAST_HORIZON: f64 = 20.0;
const COUNTED: f64 = 0.25;
/// The initial curve, and the number of predictions that it counts for.
const FIRST: [f64; 2] = [4.0, -2.0];
const FIRST_COUNTS: f64 = 4.0;

/// The predictions so far, faded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Validation {
    total: f64,
    /// The faded number of all predictions, and of correct predictions.
    count: f64,
    correct: f64,
    /// Slope and offset of a logistic curve from a lead to the probability that the prediction is right.
    curve: [f64; 2],
    /// The weight of the predictions behind the curve: the log-likelihood's second derivatives.
    held: [[f64; 2]; 2],
}

impl Default for Validation {
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

/// The difference between the best score and the second best.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lead(f64);

impl Lead {
    /// From the best score and, if there is another label, the second.
    pub(crate) fn new(best: f32, second: Option<f32>) -> Self {
        // The square root makes the curve fit small leads, as measured on held-out data.
        Self(f64::from(best - second.unwrap_or(-1.0)).max(0.0).sqrt())
    }
}

impl Validation {
    /// The share of recent predictions that were right.
    pub(crate) fn accuracy(&self) -> f32 {
        if self.count == 0.0 {
            0.0
        } else {
            (self.correct / self.count) as f32
        }
    }

    /// The probability that a prediction with this lead is right.
    pub(crate) fn confidence(&self, lead: Lead) -> f32 {
        logistic(self.curve, lead) as f32
    }

    /// Records one prediction: its lead, if a label was predicted at all, and whether it was right.
    pub(crate) fn record(&mut self, lead: Option<Lead>, right: bool) {
        self.total += 1.0;
        let fade = 1.0 - 1.0 / (self.total * COUNTED).clamp(LEAST_HORIZON, HORIZON);
        let right = f64::from(right);
        self.count = self.count * fade + 1.0;
        self.correct = self.correct * fade + right;
        let Some(lead) = lead else { return };
        // One step of Newton's method, starting at the current curve.
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
        // A longer lead is never less likely to be right.
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
    fn the_curve_fits_how_often_leads_are_right() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut validation = Validation::default();
        let truth = [3.0, -1.0];
        for _ in 0..5000 {
            let lead = Lead::new(random.f32() * 2.0, Some(0.0));
            validation.record(Some(lead), random.f64() < logistic(truth, lead));
        }
        for best in [0.1, 0.5, 1.0, 2.0] {
            let lead = Lead::new(best, Some(0.0));
            let (found, expected) = (validation.confidence(lead), logistic(truth, lead) as f32);
            assert!(
                (found - expected).abs() < 0.06,
                "{best}: {found}, not {expected}"
            );
        }
    }

    #[test]
    fn recent_predictions_count_most() {
        let mut validation = Validation::default();
        assert_eq!(validation.accuracy(), 0.0);
        validation.record(None, false);
        validation.record(None, true);
        assert!((validation.accuracy() - 0.5).abs() < 0.03);
        for _ in 0..10_000 {
            validation.record(None, true);
        }
        assert!(validation.accuracy() > 0.99);
    }
}
