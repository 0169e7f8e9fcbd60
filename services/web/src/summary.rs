//! The live dashboard: a summary of both backends at intervals, and its last minutes.

use std::time::Duration;

use futures::{Stream, StreamExt as _, stream};
use jiff::Timestamp;
use pspd_proto::business::{HistoryResponse, Summary, SummaryRequest};
use serving::trace;

use crate::deadline::Deadline;
use crate::workflows::{DEFAULT_COLLECTION, DEFAULT_MODEL, Workflows, or};

const SHORTEST_INTERVAL: Duration = Duration::from_millis(200);
/// How long a summary waits for a backend's answer.
const LIMIT: Duration = Duration::from_secs(2);

impl Workflows {
    /// Summarizes both backends. Values that a backend does not report in time are absent; its state gives the reason.
    pub(crate) async fn summary(&self, collection: &str, model_id: &str) -> Summary {
        let backends = self.backends.until(Deadline::default().within(LIMIT));
        let (states, counts, metrics) = tokio::join!(
            backends.states(),
            self.counter.of(&self.own, collection, LIMIT),
            backends.metrics(model_id),
        );
        if counts.as_ref().is_some_and(|counts| counts.documents > 0) {
            self.catalog.note(&self.own, collection);
        }
        let metrics = metrics.ok();
        Summary {
            backends: states.into(),
            documents: counts.as_ref().map(|counts| counts.documents),
            documents_by_label: counts
                .map(|counts| counts.by_label.clone())
                .unwrap_or_default(),
            model_accuracy: metrics.as_ref().map(|metrics| metrics.current_accuracy),
            predictions_made: metrics.as_ref().map(|metrics| metrics.predictions_made),
            average_confidence: metrics.as_ref().map(|metrics| metrics.average_confidence),
            timestamp: Timestamp::now().to_string(),
        }
    }

    /// One summary immediately, then one per interval until the service stops; only one if the interval is 0.
    pub(crate) fn summaries(self, request: SummaryRequest) -> impl Stream<Item = Summary> + Send {
        let collection = or(request.collection, DEFAULT_COLLECTION);
        let model_id = or(request.model_id, DEFAULT_MODEL);
        let pause = (request.interval_milliseconds > 0).then(|| {
            Duration::from_millis(request.interval_milliseconds.into()).max(SHORTEST_INTERVAL)
        });
        let context = trace::current();
        let stopped = self.shutdown.clone().cancelled_owned();
        let summaries = stream::unfold(Some(Duration::ZERO), move |wait| {
            let (workflows, collection, model_id) =
                (self.clone(), collection.clone(), model_id.clone());
            let summary = async move {
                tokio::time::sleep(wait?).await;
                Some((workflows.summary(&collection, &model_id).await, pause))
            };
            context.clone().scope(summary)
        });
        summaries.take_until(stopped)
    }

    /// Keeps the history until the service stops.
    pub(crate) async fn keep_history(&self) {
        let sampling = self.history.keep(&self.own, DEFAULT_MODEL);
        self.shutdown.run_until_cancelled(sampling).await;
    }

    /// The last minutes of a model and of the services.
    pub(crate) fn history_of(&self, model: &str) -> HistoryResponse {
        self.history.response(self.own.names(), model)
    }
}
