//! Request counts and durations by route and status, in Prometheus' text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(String, u16), (u64, Duration)>>,
}

impl Metrics {
    pub(crate) fn observe(&self, route: &str, status: u16, took: Duration) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, total) = requests.entry((route.to_owned(), status)).or_default();
        *count += 1;
        *total += took;
    }

    /// Renders all observations.
    pub(crate) fn render(&self) -> String {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = "# TYPE http_request_duration_seconds summary\n".to_owned();
        for ((route, status), (count, total)) in requests.iter() {
            let labels = format!("{{route=\"{route}\",status=\"{status}\"}}");
            // Writing to a string cannot fail.
            let _ = writeln!(text, "http_request_duration_seconds_count{labels} {count}");
            let _ = writeln!(
                text,
                "http_request_duration_seconds_sum{labels} {}",
                total.as_secs_f64()
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_by_route_and_status() {
        let metrics = Metrics::default();
        metrics.observe("/a", 200, Duration::from_millis(250));
        metrics.observe("/a", 200, Duration::from_millis(500));
        metrics.observe("/a", 404, Duration::from_millis(1));
        assert_eq!(
            metrics.render(),
            "# TYPE http_request_duration_seconds summary\n\
             http_request_duration_seconds_count{route=\"/a\",status=\"200\"} 2\n\
             http_request_duration_seconds_sum{route=\"/a\",status=\"200\"} 0.75\n\
             http_request_duration_seconds_count{route=\"/a\",status=\"404\"} 1\n\
             http_request_duration_seconds_sum{route=\"/a\",status=\"404\"} 0.001\n"
        );
    }
}
