//! The values of the dashboard over the last minutes, for pages that are opened later.
//!
//! One task samples the services, one model at all times, and every model whose history was asked for in the last [`SPAN`].
//! It takes less than 64 KiB: [`SAMPLES`] of 40 bytes for each of [`MODELS`] and one more.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use pspd_proto::ai::ModelMetrics;
use pspd_proto::business::{HistoryResponse, HistorySample};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::backends::Backends;
use crate::deadline::Deadline;

/// How far the history goes back.
const SPAN: Duration = Duration::from_secs(600);
/// Long, because it also costs calls while nobody looks.
const INTERVAL: Duration = Duration::from_secs(10);
const SAMPLES: usize = 60;
/// The most models; further ones have no history until another is not asked for any more.
const MODELS: usize = 16;
/// The longest name of a model, in bytes.
const NAME: usize = 64;
/// How long a sample waits for a backend's answer.
const LIMIT: Duration = Duration::from_secs(2);
/// The database, the AI service and this one, as [`crate::backends::Backends::states`] returns them.
const SERVICES: usize = 3;

/// The samples of all models.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    models: Arc<Mutex<HashMap<String, Model>>>,
}

#[derive(Debug)]
struct Model {
    asked: Instant,
    samples: VecDeque<Sample>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: Instant,
    serving: [bool; SERVICES],
    metrics: Option<Metrics>,
}

#[derive(Debug, Clone, Copy)]
struct Metrics {
    accuracy: f32,
    predictions: i32,
    confidence: f32,
}

impl History {
    /// Samples the services, the model `always`, and those that were asked for, without end.
    pub(crate) async fn keep(&self, backends: &Backends, always: &str) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sample(backends, always).await;
        }
    }

    async fn sample(&self, backends: &Backends, always: &str) {
        let backends = backends.until(Deadline::default().within(LIMIT));
        let taken = Instant::now();
        let models = self.wanted(always, taken);
        let metrics = join_all(models.iter().map(|model| backends.metrics(model)));
        let (states, metrics) = tokio::join!(backends.states(), metrics);
        let serving = states.map(|state| state.serving);
        for (model, metrics) in models.iter().zip(metrics) {
            let sample = Sample {
                taken,
                serving,
                metrics: metrics.ok().map(Into::into),
            };
            self.add(model, sample);
        }
    }

    /// The last minutes of a model and of the services, by their names.
    pub(crate) fn response(&self, names: [&str; SERVICES], model: &str) -> HistoryResponse {
        let now = Instant::now();
        let samples = self.of(model, now).into_iter().map(|sample| {
            let serving = names.into_iter().map(str::to_owned).zip(sample.serving);
            HistorySample {
                age_milliseconds: u32::try_from((now - sample.taken).as_millis())
                    .unwrap_or(u32::MAX),
                serving: serving.collect(),
                model_accuracy: sample.metrics.map(|metrics| metrics.accuracy),
                predictions_made: sample.metrics.map(|metrics| metrics.predictions),
                average_confidence: sample.metrics.map(|metrics| metrics.confidence),
            }
        });
        HistoryResponse {
            samples: samples.collect(),
        }
    }

    /// The models to sample now; forgets those that nobody asked for, except `always`.
    fn wanted(&self, always: &str, now: Instant) -> Vec<String> {
        let mut models = self.models();
        models.retain(|name, model| name == always || now - model.asked < SPAN);
        models
            .entry(always.to_owned())
            .or_insert_with(|| Model::new(now));
        models.keys().cloned().collect()
    }

    fn add(&self, model: &str, sample: Sample) {
        if let Some(model) = self.models().get_mut(model) {
            if model.samples.len() == SAMPLES {
                model.samples.pop_front();
            }
            model.samples.push_back(sample);
        }
    }

    /// The samples of a model, which is sampled from now on.
    fn of(&self, model: &str, now: Instant) -> Vec<Sample> {
        let mut models = self.models();
        let new = !models.contains_key(model);
        if new && (models.len() >= MODELS || model.len() > NAME) {
            return Vec::new();
        }
        let model = models
            .entry(model.to_owned())
            .or_insert_with(|| Model::new(now));
        model.asked = now;
        let recent = |sample: &&Sample| now - sample.taken < SPAN;
        model.samples.iter().filter(recent).copied().collect()
    }

    fn models(&self) -> MutexGuard<'_, HashMap<String, Model>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Model {
    fn new(asked: Instant) -> Self {
        let samples = VecDeque::with_capacity(SAMPLES);
        Self { asked, samples }
    }
}

impl From<ModelMetrics> for Metrics {
    fn from(metrics: ModelMetrics) -> Self {
        Self {
            accuracy: metrics.current_accuracy,
            predictions: metrics.predictions_made,
            confidence: metrics.average_confidence,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(taken: Instant) -> Sample {
        Sample {
            taken,
            serving: [true; SERVICES],
            metrics: None,
        }
    }

    #[test]
    fn the_history_is_bounded_in_samples_models_and_age() {
        assert!(size_of::<Sample>() * SAMPLES * (MODELS + 1) < 64 * 1024);
        let history = History::default();
        let start = Instant::now();
        history.of(&"x".repeat(NAME + 1), start);
        for model in 0..MODELS + 5 {
            history.of(&model.to_string(), start);
        }
        assert_eq!(history.models().len(), MODELS);
        assert!(history.models().keys().all(|model| model.len() <= NAME));
        for number in 0..2 * SAMPLES {
            history.add("0", sample(start + INTERVAL * number as u32));
            history.add("unknown", sample(start));
        }
        let end = start + INTERVAL * (2 * SAMPLES as u32 - 1);
        let kept = history.of("0", end);
        assert_eq!(kept.len(), SAMPLES);
        assert_eq!(kept[0].taken, end - INTERVAL * (SAMPLES as u32 - 1));
        assert_eq!(history.of("0", end + SPAN / 2).len(), SAMPLES / 2);
    }

    #[test]
    fn models_that_are_not_requested_are_not_sampled() {
        let history = History::default();
        let start = Instant::now();
        history.of("asked once", start);
        let mut wanted = history.wanted("default", start + SPAN / 2);
        wanted.sort();
        assert_eq!(wanted, ["asked once", "default"]);
        assert_eq!(history.wanted("default", start + SPAN), ["default"]);
        assert!(history.of("asked once", start + SPAN).is_empty());
    }
}
