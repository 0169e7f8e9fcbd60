//! Durations of HTTP requests by route and status.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use serving::Metrics;
use serving::metrics::Durations;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    route: String,
    status: u16,
}

#[derive(Debug, Clone)]
pub(crate) struct Requests(Durations<Answered>);

impl Requests {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let help = "Durations of HTTP requests, by route and status";
        Self(metrics.durations("http_request_duration", help))
    }

    pub(crate) fn observe(&self, route: &str, status: u16, took: Duration) {
        let route = route.to_owned();
        self.0.observe(&Answered { route, status }, took);
    }
}
